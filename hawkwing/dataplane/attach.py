"""Puts the programs on interfaces and takes them off again; touches no filter but our own."""

import errno
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from hawkwing.dataplane import bpf
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.dataplane.interfaces import WITH_ETHERNET_HEADER
from hawkwing.errors import DataplaneError

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_ETH_P_ALL = 0x0003
_HANDLE = 1
_XDP_IF_NOEXIST = 1
_XDP_MODES = {"xdp": 4, "xdp-generic": 2}
_XDP_NAME = "ingress_xdp"

# Of both roles on one interface the server comes first on arrival (it learns before anything is
# stripped) and last on departure (what the client has steered is left alone).
_PRIORITY = {
    ("client", EGRESS): 48401,
    ("server", EGRESS): 48402,
    ("server", INGRESS): 48401,
    ("client", INGRESS): 48402,
}


class Interface:
    """A network interface that exists: name, index, and whether frames have an Ethernet header."""

    def __init__(self, ip: IPRoute, name: str) -> None:
        found = ip.link_lookup(ifname=name)
        if not found:
            raise DataplaneError(f"there is no interface {name!r} here")
        link = ip.link("get", index=found[0])[0]
        self.name = name
        self.index: int = found[0]
        self.raw = link["ifi_type"] not in WITH_ETHERNET_HEADER


def filter_name(role: str) -> str:
    """The name our filters carry, by which they are known again."""
    return f"hawkwing:{role}"


def is_attached(ip: IPRoute, role: str, interface: str) -> bool:
    """Are filters of this role on the interface, left by an agent before?"""
    for index in ip.link_lookup(ifname=interface):
        for parent in (EGRESS, INGRESS):
            for message in ip.get_filters(index=index, parent=parent):
                options = message.get_attr("TCA_OPTIONS")
                if options is not None and options.get_attr("TCA_BPF_NAME") == filter_name(role):
                    return True
    return False


def _has_our_name(number: int) -> bool:
    """Is this XDP program one that an agent has left? Without CAP_SYS_ADMIN a program can't be asked."""
    try:
        program = bpf.program_by_id(number)
    except OSError:
        return False
    try:
        return bpf.program_info(program).name == _XDP_NAME
    finally:
        os.close(program)


class Attachment:
    """Both filters of one role on one interface, and its XDP program where one is asked for."""

    def __init__(
        self, ip: IPRoute, role: str, interface: Interface, hook: str = "tc", ours: Collection[int] = ()
    ) -> None:
        """`ours` has the ids of programs known to be ours, by which an XDP program is recognised."""
        self._ip = ip
        self._ours = ours
        self._hook = hook
        self._role = role
        self.interface = interface
        # Whichever of our agents is the last here removes what one of us made, and nothing else.
        self._made_clsact = runtime_folder() / f"clsact-{interface.index}"

    def attach(self, egress: int, ingress: int, xdp: int | None = None) -> None:
        """Puts the programs (file descriptors) there; those of an agent that was killed are replaced."""
        self._drop_xdp()
        try:
            self._ip.tc("add", "clsact", index=self.interface.index)
            self._made_clsact.touch()
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise DataplaneError(self._sentence(error)) from error
        for parent, program in ((EGRESS, egress), (INGRESS, ingress)):
            try:
                self._ip.tc(
                    "replace-filter",
                    "bpf",
                    **self._filter(parent),
                    fd=program,
                    name=filter_name(self._role),
                    direct_action=True,
                )
            except NetlinkError as error:
                self.detach()
                raise DataplaneError(self._sentence(error)) from error

        if xdp is not None:
            self._attach_xdp(xdp)

    def _filter(self, parent: int) -> dict[str, int]:
        """What tells our filter from all others, to put it there and to take just that one off."""
        return {
            "index": self.interface.index,
            "handle": _HANDLE,
            "parent": parent,
            "prio": _PRIORITY[self._role, parent],
            "protocol": _ETH_P_ALL,
        }

    def _attach_xdp(self, program: int) -> None:
        flags = _XDP_IF_NOEXIST | _XDP_MODES[self._hook]
        try:
            self._set_xdp(program, flags)
        except NetlinkError as error:
            self.detach()
            if error.code in (errno.EBUSY, errno.EEXIST):
                raise DataplaneError(
                    f"another XDP program is on {self.interface.name} already; use --ingress-hook tc"
                ) from error
            raise DataplaneError(
                f"{self.interface.name} refuses {self._hook} ({os.strerror(error.code)}): its driver can't, "
                "or its MTU is too large for it; use --ingress-hook tc"
            ) from error

    def _set_xdp(self, program: int, flags: int) -> None:
        attributes = [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", flags)]
        self._ip.link("set", index=self.interface.index, xdp={"attrs": attributes})

    def _drop_xdp(self) -> None:
        """Removes our XDP program, also one that a killed agent has left; nobody else's."""
        state = self._ip.link("get", index=self.interface.index)[0].get_attr("IFLA_XDP")
        number = state.get_attr("IFLA_XDP_PROG_ID") if state is not None else None
        if not number:
            return
        if number in self._ours or _has_our_name(number):
            generic = state.get_attr("IFLA_XDP_SKB_PROG_ID") is not None
            self._set_xdp(-1, _XDP_MODES["xdp-generic" if generic else "xdp"])

    def _sentence(self, error: NetlinkError) -> str:
        if error.code == errno.EPERM:
            return "attaching to an interface needs CAP_NET_ADMIN: run it as root, or give it this capability"
        if error.code in (errno.ENOENT, errno.EOPNOTSUPP):
            return (
                "the kernel lacks the clsact queueing discipline or BPF filters "
                "(CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)"
            )
        return f"can't attach to {self.interface.name}: {os.strerror(error.code)}"

    def detach(self) -> None:
        """Takes our programs off, and clsact where nobody else uses it; "already gone" is fine."""
        with suppress(NetlinkError):
            self._drop_xdp()
        for parent in (EGRESS, INGRESS):
            with suppress(NetlinkError):
                self._ip.tc("del-filter", "bpf", **self._filter(parent))
        if not self._made_clsact.exists():
            return
        with suppress(NetlinkError):
            if any(self._ip.get_filters(index=self.interface.index, parent=p) for p in (EGRESS, INGRESS)):
                return
            self._ip.tc("del", "clsact", index=self.interface.index)
        self._made_clsact.unlink(missing_ok=True)


def attach_all(
    ip: IPRoute,
    role: str,
    names: Sequence[str],
    hook: str,
    programs: Mapping[str, int],
    former: Collection[int] = (),
) -> None:
    """On all of the interfaces, or on none: DataplaneError says why. `former`: ids of an agent's before."""
    attached: list[Attachment] = []
    ours = {*former, *(bpf.program_info(fd).id for fd in programs.values())}
    try:
        for interface in [Interface(ip, name) for name in names]:
            if hook != "tc" and interface.raw:
                raise DataplaneError(f"{interface.name} has no Ethernet header; use --ingress-hook tc")
            kind = "raw" if interface.raw else "ethernet"
            attachment = Attachment(ip, role, interface, hook, ours)
            attachment.attach(
                programs[f"egress_{kind}"],
                programs[f"ingress_{kind}"],
                programs["ingress_xdp"] if hook != "tc" else None,
            )
            attached.append(attachment)
    except DataplaneError:
        for attachment in attached:
            attachment.detach()
        raise


def detach_all(ip: IPRoute, role: str, names: Sequence[str], hook: str, ours: Collection[int] = ()) -> None:
    """Off every interface that is still there; `ours` are the programs' ids."""
    for name in names:
        with suppress(DataplaneError):
            Attachment(ip, role, Interface(ip, name), hook, ours).detach()

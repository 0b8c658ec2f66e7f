"""Puts the programs on interfaces and takes them off again; touches no filter but our own."""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from hawkwing.dataplane import bpf
from hawkwing.errors import DataplaneError

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_ETH_P_ALL = 0x0003
_HANDLE = 1
_WITH_ETHERNET_HEADER = frozenset({1, 772})
_SIOCGIFHWADDR = 0x8927
_XDP_IF_NOEXIST = 1
_XDP_MODES = {"xdp": 4, "xdp-generic": 2}
_XDP_NAME = "ingress_xdp"
HOOKS = ("tc", *_XDP_MODES)

# Of both roles on one interface the server comes first on arrival (it learns before anything is
# stripped) and last on departure (what the client has steered is left alone).
_PRIORITY = {
    ("client", EGRESS): 48401,
    ("server", EGRESS): 48402,
    ("server", INGRESS): 48401,
    ("client", INGRESS): 48402,
}


def check_interfaces(names: Sequence[str]) -> bool:
    """A quick word for what can't work; True where one of them has no Ethernet header."""
    if os.geteuid() != 0:
        raise DataplaneError("root rights are needed to load and attach BPF programs: use sudo")
    for name in names:
        try:
            socket.if_nametoindex(name)
        except OSError:
            raise DataplaneError(f"there is no interface {name!r} here") from None
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
        return any(_link_type(any_socket, name) not in _WITH_ETHERNET_HEADER for name in names)


def _link_type(any_socket: socket.socket, name: str) -> int:
    """ARPHRD_* of an interface (netdevice(7), SIOCGIFHWADDR)."""
    reply = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, struct.pack("16s24x", name.encode()))
    return int(struct.unpack_from("=H", reply, 16)[0])


class Interface:
    """A network interface that exists: name, index, and whether frames have an Ethernet header."""

    def __init__(self, ip: IPRoute, name: str) -> None:
        found = ip.link_lookup(ifname=name)
        if not found:
            raise DataplaneError(f"there is no interface {name!r} here")
        link = ip.link("get", index=found[0])[0]
        self.name = name
        self.index: int = found[0]
        self.raw = link["ifi_type"] not in _WITH_ETHERNET_HEADER


class Claim:
    """The right to be the one agent of a role on an interface; the kernel takes it back from the dead."""

    def __init__(self, folder: Path, role: str, interface: Interface) -> None:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._path = folder / f"{role}-{interface.name}.lock"
        self._file: IO[str] = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise DataplaneError(
                f"hawkwing {role} already runs on {interface.name} (process {owner}); stop that one first"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Gives the right back and removes its file."""
        self._path.unlink(missing_ok=True)
        self._file.close()
        with suppress(OSError):
            self._path.parent.rmdir()
            self._path.parent.parent.rmdir()


def runtime_folder(namespace: Path = Path("/proc/self/ns/net")) -> Path:
    """Where the agents of a network namespace keep their locks and sockets: one folder a namespace."""
    return Path(os.environ.get("HAWKWING_RUN", "/run/hawkwing")) / str(namespace.stat().st_ino)


def filter_name(role: str) -> str:
    """The name our filters carry, by which they are known again."""
    return f"hawkwing:{role}"


def is_attached(role: str, interface: str) -> bool:
    """Are filters of this role on the interface, left by an agent before?"""
    with IPRoute() as ip:
        for index in ip.link_lookup(ifname=interface):
            for parent in (EGRESS, INGRESS):
                for message in ip.get_filters(index=index, parent=parent):
                    options = message.get_attr("TCA_OPTIONS")
                    if options is not None and options.get_attr("TCA_BPF_NAME") == filter_name(role):
                        return True
    return False


class Attachment:
    """Both filters of one role on one interface, and its XDP program where one is asked for."""

    def __init__(self, ip: IPRoute, role: str, interface: Interface, hook: str = "tc") -> None:
        self._ip = ip
        self._hook = hook
        self._xdp_attached = False
        self._role = role
        self.interface = interface
        # Whichever of our agents is the last here removes what one of us made, and nothing else.
        self._made_clsact = runtime_folder() / f"clsact-{interface.index}"

    def attach(self, egress: int, ingress: int, xdp: int | None = None) -> None:
        """Puts the programs (file descriptors) there; those of an agent that was killed are replaced."""
        self._drop_stale_xdp()
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
                    index=self.interface.index,
                    handle=_HANDLE,
                    parent=parent,
                    prio=_PRIORITY[self._role, parent],
                    protocol=_ETH_P_ALL,
                    fd=program,
                    name=filter_name(self._role),
                    direct_action=True,
                )
            except NetlinkError as error:
                self.detach()
                raise DataplaneError(self._sentence(error)) from error

        if xdp is not None:
            self._attach_xdp(xdp)

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
        self._xdp_attached = True

    def _set_xdp(self, program: int, flags: int) -> None:
        attributes = [("IFLA_XDP_FD", program), ("IFLA_XDP_FLAGS", flags)]
        self._ip.link("set", index=self.interface.index, xdp={"attrs": attributes})

    def _drop_stale_xdp(self) -> None:
        """Removes the XDP program that a killed agent has left; nobody else's."""
        state = self._ip.link("get", index=self.interface.index)[0].get_attr("IFLA_XDP")
        number = state.get_attr("IFLA_XDP_PROG_ID") if state is not None else None
        if not number:
            return
        program = bpf.program_by_id(number)
        ours = bpf.program_info(program).name == _XDP_NAME
        os.close(program)
        if ours:
            self._set_xdp(-1, 0)

    def _sentence(self, error: NetlinkError) -> str:
        if error.code == errno.EPERM:
            return "attaching to an interface needs root rights (CAP_NET_ADMIN)"
        if error.code in (errno.ENOENT, errno.EOPNOTSUPP):
            return (
                "the kernel lacks the clsact queueing discipline or BPF filters "
                "(CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)"
            )
        return f"can't attach to {self.interface.name}: {os.strerror(error.code)}"

    def detach(self) -> None:
        """Takes our programs off, and clsact where nobody else uses it; "already gone" is fine."""
        if self._xdp_attached:
            with suppress(NetlinkError):
                self._set_xdp(-1, _XDP_MODES[self._hook])
            self._xdp_attached = False
        for parent in (EGRESS, INGRESS):
            with suppress(NetlinkError):
                self._ip.tc(
                    "del-filter",
                    "bpf",
                    index=self.interface.index,
                    handle=_HANDLE,
                    parent=parent,
                    prio=_PRIORITY[self._role, parent],
                    protocol=_ETH_P_ALL,
                )
        if not self._made_clsact.exists():
            return
        with suppress(NetlinkError):
            if any(self._ip.get_filters(index=self.interface.index, parent=p) for p in (EGRESS, INGRESS)):
                return
            self._ip.tc("del", "clsact", index=self.interface.index)
        self._made_clsact.unlink(missing_ok=True)

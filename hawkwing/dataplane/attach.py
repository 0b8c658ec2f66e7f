"""Attaches the programs of a role to an interface and detaches them; never changes other filters."""

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from hawkwing.dataplane import bpf, tc
from hawkwing.dataplane.claim import runtime_folder
from hawkwing.dataplane.interfaces import is_raw, why_not
from hawkwing.dataplane.netlink import Netlink, RefusedError
from hawkwing.dataplane.tc import EGRESS, INGRESS, Filter, Link
from hawkwing.errors import DataplaneError
from hawkwing.locks import Lock

_OURS = "hawkwing:"
_HANDLE = 1
_XDP_MODES = {"xdp": tc.XDP_DRIVER, "xdp-generic": tc.XDP_GENERIC}
_XDP_NAME = "ingress_xdp"
_MAPS_OF_ALL = {"settings", "scratches", "tallies"}
_PLACES = 64
_TRIES = 3

# If both roles are on one interface, the server is first on ingress (it learns before an SRH is
# removed) and last on egress (it does not change packets that the client has steered).
_FIRST, _LAST = 48401, 48402
_PRIORITY = {
    ("client", EGRESS): _FIRST,
    ("server", EGRESS): _LAST,
    ("server", INGRESS): _FIRST,
    ("client", INGRESS): _LAST,
}


class Program(NamedTuple):
    """One of our programs: its file descriptor, and its id in the kernel."""

    fd: int
    id: int


class Held(NamedTuple):
    """The programs that were attached to an interface, and a problem that remains despite that."""

    put: tuple[str, ...] = ()
    problem: str = ""


def filter_name(role: str) -> str:
    """The name of our filters, by which we recognise them."""
    return f"{_OURS}{role}"


def is_ours(one: Filter) -> bool:
    """Whether this is a filter of an agent of any role."""
    return one.kind == "bpf" and one.name.startswith(_OURS)


def is_attached(ip: Netlink, role: str, index: int) -> bool:
    """Whether filters of this role are on the interface, including those of a previous agent."""
    return any(_of_role(ip, role, index, parent) for parent in (EGRESS, INGRESS))


def left_behind(role: str, interface: str) -> bool:
    """Whether filters of this role are on the interface with this name."""
    with Netlink() as ip:
        link = tc.link(ip, name=interface)
        return link is not None and is_attached(ip, role, link.index)


def _of_role(ip: Netlink, role: str, index: int, parent: int) -> list[Filter]:
    found = tc.filters(ip, index, parent)
    return [one for one in found if is_ours(one) and one.name == filter_name(role) and not one.chain]


def priorities(role: str, parent: int) -> Iterator[int]:
    """The possible priorities of our filters, the usual one first; all keep the order of the roles."""
    usual = _PRIORITY[role, parent]
    step = -2 if usual == _FIRST else 2
    return iter(range(usual, usual + step * _PLACES, step))


def _role_of_xdp(number: int) -> str | None:
    """The role of an XDP program, if it is an agent's; needs CAP_SYS_ADMIN."""
    try:
        program = bpf.program_by_id(number)
    except OSError:
        return None
    try:
        info = bpf.program_info(program)
        return _owner_of_maps(info.map_ids) if info.name == _XDP_NAME else None
    except OSError:
        return None
    finally:
        os.close(program)


def _owner_of_maps(numbers: Collection[int]) -> str | None:
    """The role whose program uses these maps; None if they are not an agent's."""
    names = set()
    for number in numbers:
        table = bpf.map_by_id(number)
        try:
            names.add(bpf.map_info(table).name)
        finally:
            os.close(table)
    if not names >= _MAPS_OF_ALL:
        return None
    return "server" if "flows" in names else "client"


@contextmanager
def _alone(index: int) -> Iterator[None]:
    """Prevents other agents from creating, checking or removing the clsact of this interface."""
    lock = Lock(runtime_folder() / f"attach-{index}.lock")
    try:
        yield
    finally:
        lock.release()


def _marker(index: int) -> Path:
    """Marks the clsact of an interface as created by an agent: the last agent there removes it.

    It has the netlink port that created the clsact, and is valid only while one of our filters is on it:
    interface indexes and namespace numbers are reused, and another program's clsact has none of our filters.
    """
    return runtime_folder() / f"clsact-{index}"


def forget(index: int) -> None:
    """Removes the marker: the interface, with its clsact, is gone or in another namespace."""
    _marker(index).unlink(missing_ok=True)


def forget_former(ip: Netlink, index: int) -> None:
    """Like `forget`, unless we are attached again: the notification may be late."""
    if not _any_of_ours(ip, index):
        forget(index)


def forget_vanished(ip: Netlink) -> None:
    """Removes the markers of killed agents whose interface or clsact no longer exists."""
    for path in runtime_folder().glob("clsact-*"):
        number = path.name.removeprefix("clsact-")
        if not (number.isdecimal() and _any_of_ours(ip, int(number))):
            path.unlink(missing_ok=True)


def _any_of_ours(ip: Netlink, index: int) -> bool:
    return any(is_ours(one) for parent in (EGRESS, INGRESS) for one in tc.filters(ip, index, parent))


class Hooks:
    """The programs of one role, for any number of interfaces; the same call attaches and restores them."""

    def __init__(
        self,
        ip: Netlink,
        role: str,
        hook: str,
        programs: Mapping[str, Program],
        former: Collection[int] = (),
        others: Collection[int] = (),
    ) -> None:
        """`former`: recorded ids of programs of a previous agent of this role; `others`: of other roles."""
        self._ip = ip
        self._role = role
        self._hook = hook
        self.with_xdp = hook != "tc"
        self._programs = programs
        self._former = set(former) | {program.id for program in programs.values()}
        self._others = set(others) - self._former

    def check(self, link: Link) -> None:
        """DataplaneError if this kind of interface is not supported; changes nothing."""
        self._check_type(link)
        self._qdisc(link)

    def _check_type(self, link: Link) -> None:
        if reason := why_not(link):
            raise DataplaneError(reason)
        if self.with_xdp and is_raw(link.type):
            raise DataplaneError(f"{link.name} has no Ethernet header; use --ingress-hook tc")

    def hold(self, link: Link, first: bool = False, unsure: bool = False, maker: int | None = None) -> Held:
        """Attaches what is missing on the interface; DataplaneError with the reason if it can't be attached.

        Filters of a killed agent are replaced without losing a packet. Its XDP program is also recognised by
        its name, the `first` time. `maker` is the netlink port that has created a clsact since the last call;
        `unsure`: such a notification may have been lost.
        """
        self._check_type(link)
        kind = "raw" if is_raw(link.type) else "ethernet"
        if f"egress_{kind}" not in self._programs:
            raise DataplaneError(f"{link.name} has changed its type: restart the agent")
        judging = first or unsure or maker is not None
        with _alone(link.index) if judging else nullcontext():
            put = self._hold_filters(link, kind, first or unsure, maker)
        changed, problem = self.hold_xdp(link, first)
        return Held((*put, *(["XDP"] if changed else [])), problem)

    def _hold_filters(self, link: Link, kind: str, unsure: bool, maker: int | None) -> list[str]:
        """Attaches the tc filters; returns those that were missing."""
        put = []
        made = False
        try:
            made = self._hold_clsact(link, unsure, maker)
            for parent, direction in ((EGRESS, "egress"), (INGRESS, "ingress")):
                if self._hold_filter(link, parent, self._programs[f"{direction}_{kind}"]):
                    put.append(direction)
        except (RefusedError, DataplaneError) as error:
            if made:
                self._drop_clsact(link.index)
            if isinstance(error, RefusedError):
                raise DataplaneError(_sentence(link, error)) from error
            raise
        return put

    def has_left_xdp(self, link: Link) -> bool:
        """Whether there is an XDP program of an agent of this role, also without a record of it."""
        number = link.xdp
        if not number or number in self._others:
            return False
        return number in self._former or _role_of_xdp(number) == self._role

    def let_go(self, link: Link, by_name: bool = False) -> bool:
        """Detaches our programs, and removes clsact if it is unused; False if something is still attached.

        `by_name`: also an XDP program of an agent of this role without a record of it.
        """
        index = link.index
        if not _any_of_ours(self._ip, index):
            forget(index)
        for _ in range(_TRIES):
            with suppress(RefusedError):
                self._drop_xdp(link, by_name and self.has_left_xdp(link))
            for parent in (EGRESS, INGRESS):
                with suppress(RefusedError):
                    for one in _of_role(self._ip, self._role, index, parent):
                        tc.remove_filter(self._ip, index, parent, (one.priority, one.handle))
            if not is_attached(self._ip, self._role, index):
                with _alone(index):
                    self._drop_clsact(index)
                return True
        return False

    def _qdisc(self, link: Link) -> tc.Qdisc | None:
        """The clsact of an interface; DataplaneError if something else is in its place."""
        found = tc.qdisc(self._ip, link.index)
        if found is not None and found.kind != "clsact":
            raise DataplaneError(
                f"{link.name} has the queueing discipline {found.kind} instead of clsact: it has no "
                f"filters for egress; remove it (tc qdisc del dev {link.name} {found.kind})"
            )
        if found is not None and any(found.blocks):
            numbers = " and ".join(str(block) for block in dict.fromkeys(found.blocks) if block)
            raise DataplaneError(
                f"the clsact of {link.name} uses shared blocks ({numbers}): filters there would apply to "
                "other interfaces, too; create it without blocks"
            )
        return found

    def _hold_clsact(self, link: Link, unsure: bool, maker: int | None) -> bool:
        """Creates the clsact; True if there was none."""
        if self._qdisc(link) is None:
            tc.add_clsact(self._ip, link.index)
            _marker(link.index).write_text(f"{self._ip.port}\n")
            return True
        marker = _marker(link.index)
        theirs = unsure and not _any_of_ours(self._ip, link.index)
        if maker is not None and marker.exists():
            theirs = marker.read_text().strip() != str(maker)
        if theirs:
            marker.unlink(missing_ok=True)
        return False

    def _hold_filter(self, link: Link, parent: int, program: Program) -> bool:
        """Attaches a filter; True if it was missing."""
        mine = _of_role(self._ip, self._role, link.index, parent)
        right = next((one for one in mine if one.program == program.id), None)
        name = filter_name(self._role)
        if right is None and mine:
            place = (mine[0].priority, mine[0].handle)
            tc.replace_filter(self._ip, link.index, parent, place, program.fd, name)
        elif right is None:
            self._put_filter(link, parent, program)
        for one in mine:
            if one is not (right or mine[0]):
                tc.remove_filter(self._ip, link.index, parent, (one.priority, one.handle))
        return right is None

    def _put_filter(self, link: Link, parent: int, program: Program) -> None:
        taken = {one.priority for one in tc.filters(self._ip, link.index, parent)}
        for priority in priorities(self._role, parent):
            if priority in taken:
                continue
            try:
                tc.put_filter(
                    self._ip, link.index, parent, (priority, _HANDLE), program.fd, filter_name(self._role)
                )
            except RefusedError as error:
                if error.errno != errno.EEXIST:
                    raise
                # Another program was faster.
                continue
            return
        raise DataplaneError(f"the tc priorities around {_FIRST} on {link.name} are taken by other filters")

    def hold_xdp(self, link: Link, first: bool = False) -> tuple[bool, str]:
        """Attaches the XDP program, or replaces one of ours; whether it was missing, and a problem."""
        if not self.with_xdp:
            if first:
                with suppress(RefusedError):
                    self._drop_xdp(link, first)
            return False, ""
        program = self._programs[_XDP_NAME]
        if link.xdp == program.id:
            return False, ""
        mode = _XDP_MODES[self._hook]
        try:
            if not self._replace_xdp(link, program, mode, first):
                self._drop_xdp(link, first)
                tc.set_xdp(self._ip, link.index, program.fd, tc.XDP_NEW | mode)
        except RefusedError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                return False, f"another XDP program is on {link.name} already; use --ingress-hook tc"
            return False, (
                f"{link.name} refuses {self._hook} ({error.strerror}): its driver does not "
                "support it, or the MTU is too large; use --ingress-hook tc"
            )
        return True, ""

    def _replace_xdp(self, link: Link, program: Program, mode: int, by_name: bool) -> bool:
        """Replaces one of our XDP programs; False if it is another program's, or of the other mode."""
        same_mode = link.xdp_generic == (mode == tc.XDP_GENERIC)
        if not link.xdp or not same_mode or not self._may_drop_xdp(link.xdp, by_name):
            return False
        try:
            former = bpf.program_by_id(link.xdp)
        except OSError:
            return False
        try:
            tc.set_xdp(self._ip, link.index, program.fd, mode, former)
        finally:
            os.close(former)
        return True

    def take_back_xdp(self, index: int) -> None:
        """Removes the program that `hold_xdp` has attached."""
        link = tc.link(self._ip, index)
        if link is not None and link.xdp in {program.id for program in self._programs.values()}:
            with suppress(RefusedError):
                self._drop_xdp(link)

    def _may_drop_xdp(self, number: int, by_name: bool) -> bool:
        """Whether this XDP program belongs to an agent, including a killed one."""
        if number in self._others:
            return False
        return number in self._former or (by_name and _role_of_xdp(number) is not None)

    def _drop_xdp(self, link: Link, by_name: bool = False) -> None:
        """Removes our XDP program, including one of a killed agent, but no other."""
        number = link.xdp
        if number and self._may_drop_xdp(number, by_name):
            mode = tc.XDP_GENERIC if link.xdp_generic else tc.XDP_DRIVER
            own = next((one.fd for one in self._programs.values() if one.id == number), None)
            tc.set_xdp(self._ip, link.index, -1, mode, own)

    def _drop_clsact(self, index: int) -> None:
        marker = _marker(index)
        left = [one for parent in (EGRESS, INGRESS) for one in tc.filters(self._ip, index, parent)]
        if marker.exists() and not left:
            with suppress(RefusedError):
                tc.remove_clsact(self._ip, index)
        if not any(is_ours(one) for one in left):
            # If another program uses it, it belongs to that program from now on.
            marker.unlink(missing_ok=True)


def _sentence(link: Link, error: RefusedError) -> str:
    if error.errno == errno.EPERM:
        return "attaching to an interface needs CAP_NET_ADMIN: run it as root, or give it this capability"
    if error.errno == errno.ENODEV:
        return f"{link.name} is gone"
    if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
        return (
            "the kernel lacks the clsact queueing discipline or BPF filters "
            "(CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)"
        )
    return f"can't attach to {link.name}: {error.strerror}{f' ({error.text})' if error.text else ''}"

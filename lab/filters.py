"""Attaches programs to a node's interface with tc, before or after all others."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from pyroute2 import IPRoute

from hawkwing.dataplane.tc import EGRESS, INGRESS
from lab.network import Lab

PARENTS = {"egress": EGRESS, "ingress": INGRESS}
_ETH_P_ALL = 3
_FIRST, _LAST = 1, 0xFFFF


def _change(command: str, interface: str, direction: str, priority: int, **more: object) -> None:
    """Changes one filter, in this thread's namespace."""
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=interface)[0]
        where = {"index": index, "parent": PARENTS[direction], "prio": priority, "handle": 1}
        ip.tc(command, "bpf", protocol=_ETH_P_ALL, **where, **more)


def _add(interface: str, direction: str, priority: int, fd: int) -> None:
    _change("add-filter", interface, direction, priority, fd=fd, name="lab", direct_action=True)


@contextmanager
def _beside(lab: Lab, node: str, direction: str, priority: int, fd: int) -> Iterator[None]:
    lab.inside(node, lambda: _add("eth0", direction, priority, fd))
    try:
        yield
    finally:
        lab.inside(node, lambda: _change("del-filter", "eth0", direction, priority))


def in_front(lab: Lab, node: str, direction: str, fd: int) -> AbstractContextManager[None]:
    """Attaches a program (its file descriptor) before all others on a host's interface that has a clsact."""
    return _beside(lab, node, direction, _FIRST, fd)


def behind(lab: Lab, node: str, direction: str, fd: int) -> AbstractContextManager[None]:
    """Attaches a program after all others on a host's interface that has a clsact."""
    return _beside(lab, node, direction, _LAST, fd)


def put_on(programs: Mapping[str, int], interface: str = "eth0") -> None:
    """Attaches one program per direction, with a clsact, in this thread's namespace."""
    with IPRoute() as ip:
        ip.tc("add", "clsact", index=ip.link_lookup(ifname=interface)[0])
    for direction, fd in programs.items():
        _add(interface, direction, _FIRST, fd)


def take_off(interface: str = "eth0") -> None:
    """Removes the clsact and all programs on it, in this thread's namespace."""
    with IPRoute() as ip:
        ip.tc("del", "clsact", index=ip.link_lookup(ifname=interface)[0])

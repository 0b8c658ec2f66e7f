"""Programs on a node's interface by tc, ahead of all others there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyroute2 import IPRoute

from hawkwing.dataplane.attach import EGRESS, INGRESS
from lab.network import Lab

PARENTS = {"egress": EGRESS, "ingress": INGRESS}
_INTERFACE = "eth0"
_ETH_P_ALL = 3


def _change(command: str, direction: str, **more: object) -> None:
    """Of the first filter of a direction, in this thread's namespace."""
    with IPRoute() as ip:
        index = ip.link_lookup(ifname=_INTERFACE)[0]
        where = {"index": index, "parent": PARENTS[direction], "prio": 1, "handle": 1}
        ip.tc(command, "bpf", protocol=_ETH_P_ALL, **where, **more)


def _add(direction: str, fd: int) -> None:
    _change("add-filter", direction, fd=fd, name="lab", direct_action=True)


@contextmanager
def in_front(lab: Lab, node: str, direction: str, fd: int) -> Iterator[None]:
    """A program (its descriptor) ahead of all others on an interface that has them."""
    lab.inside(node, lambda: _add(direction, fd))
    try:
        yield
    finally:
        lab.inside(node, lambda: _change("del-filter", direction))


def put_on(programs: Mapping[str, int]) -> None:
    """One program a direction, in this thread's namespace, and the queueing discipline they hang on."""
    with IPRoute() as ip:
        ip.tc("add", "clsact", index=ip.link_lookup(ifname=_INTERFACE)[0])
    for direction, fd in programs.items():
        _add(direction, fd)


def take_off() -> None:
    """The queueing discipline, and every program with it, in this thread's namespace."""
    with IPRoute() as ip:
        ip.tc("del", "clsact", index=ip.link_lookup(ifname=_INTERFACE)[0])

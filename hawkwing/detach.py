"""`hawkwing detach`: takes off the filters of agents that were stopped with --keep, or killed."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

from pyroute2 import IPRoute

from hawkwing import handover
from hawkwing.control import socket_path
from hawkwing.dataplane import attach
from hawkwing.dataplane.claim import AgentRunsError, claimed, runtime_folder
from hawkwing.errors import DataplaneError

ROLES = ("client", "server")
_STATE = (".state", ".programs", ".sock")


def detach_left(roles: Sequence[str] = ROLES, interfaces: Sequence[str] = ()) -> list[str]:
    """What was taken off, as `client on eth0`; running agents keep theirs. No interfaces: all of them."""
    with IPRoute() as ip:
        there = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
        return list(_detach(ip, roles, [name for name in there if not interfaces or name in interfaces]))


def _detach(ip: IPRoute, roles: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    for role in roles:
        former = _noted(role)
        for name in names:
            if not attach.is_attached(ip, role, name):
                _forget(role, name)
                continue
            try:
                with claimed(role, [name]):
                    attach.detach_all(ip, role, [name], "tc", former)
                    if attach.is_attached(ip, role, name):
                        raise DataplaneError(
                            f"can't remove the filters of the {role} on {name}: it needs CAP_NET_ADMIN"
                        )
                    _remove_state(role, name)
                yield f"{role} on {name}"
            except AgentRunsError:
                continue


def _noted(role: str) -> list[int]:
    """The ids of all programs that agents of this role have noted."""
    folder = runtime_folder()
    names = [path.stem.removeprefix(f"{role}-") for path in folder.glob(f"{role}-*.programs")]
    return [number for name in names for number in handover.noted_programs(role, name)]


def _forget(role: str, name: str) -> None:
    """What a killed agent has left of an interface where nothing is attached any more."""
    if any((runtime_folder() / f"{role}-{name}{ending}").exists() for ending in _STATE):
        with suppress(AgentRunsError), claimed(role, [name]):
            _remove_state(role, name)


def _remove_state(role: str, name: str) -> None:
    handover.discard(role, name)
    socket_path(role, name).unlink(missing_ok=True)

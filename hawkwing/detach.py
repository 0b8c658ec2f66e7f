"""`hawkwing detach`: removes filters and SIDs of agents that were stopped with --keep, or killed."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress

from hawkwing import decap_slot, handover
from hawkwing.control import socket_path
from hawkwing.dataplane import attach, tc
from hawkwing.dataplane.claim import AgentRunsError, claimed, runtime_folder
from hawkwing.dataplane.local_sids import LocalSids
from hawkwing.dataplane.netlink import Netlink, RefusedError
from hawkwing.errors import DataplaneError

ROLES = ("client", "server")
_STATE = (".state", ".programs", ".sock")


def detach_left(roles: Sequence[str] = ROLES, interfaces: Sequence[str] = ()) -> list[str]:
    """Removes them; returns what they were, as words. Running agents keep theirs. No interfaces: all."""
    with Netlink() as ip:
        links = [link for link in tc.links(ip) if not interfaces or link.name in interfaces]
        detached = [f"filters of the {one}" for one in _detach(ip, roles, links)]
    if "server" in roles:
        detached += [f"SIDs of {one}" for one in _remove_sids(interfaces)]
    return detached


def _remove_sids(interfaces: Sequence[str]) -> Iterator[str]:
    kernel = LocalSids()
    try:
        for name in decap_slot.recorded():
            if not interfaces or name in interfaces:
                with suppress(AgentRunsError), claimed("server", [name]):
                    if decap_slot.clean_up(kernel, name):
                        yield f"the server on {name}"
        if not interfaces and decap_slot.tidy(kernel):
            yield "a killed server"
    except RefusedError as error:
        why = "it needs CAP_NET_ADMIN" if error.errno == errno.EPERM else error.strerror
        raise DataplaneError(f"can't remove the SIDs of a server: {why}") from None
    finally:
        kernel.close()


def _detach(ip: Netlink, roles: Sequence[str], links: Sequence[tc.Link]) -> Iterator[str]:
    for role in roles:
        hooks = attach.Hooks(ip, role, "tc", {}, _noted(role), handover.programs_of_others(role))
        for link in links:
            if not attach.is_attached(ip, role, link.index) and not hooks.has_left_xdp(link):
                _forget(role, link.name)
                continue
            try:
                with claimed(role, [link.name]):
                    if not hooks.let_go(link, by_name=True):
                        raise DataplaneError(
                            f"can't remove the filters of the {role} on {link.name}: it needs CAP_NET_ADMIN"
                        )
                    _remove_state(role, link.name)
                yield f"{role} on {link.name}"
            except AgentRunsError:
                continue


def _noted(role: str) -> list[int]:
    """The ids of all programs that agents of this role have recorded."""
    folder = runtime_folder()
    names = [path.stem.removeprefix(f"{role}-") for path in folder.glob(f"{role}-*.programs")]
    return [number for name in names for number in handover.noted_programs(role, name)]


def _forget(role: str, name: str) -> None:
    """Removes the files of a killed agent for an interface without filters."""
    if any((runtime_folder() / f"{role}-{name}{ending}").exists() for ending in _STATE):
        with suppress(AgentRunsError), claimed(role, [name]):
            _remove_state(role, name)


def _remove_state(role: str, name: str) -> None:
    handover.discard(role, name)
    socket_path(role, name).unlink(missing_ok=True)

"""`hawkwing doctor`: checks whether the agent can run here, by loading its programs."""

import platform
import resource
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hawkwing.dataplane import ahead, bytecode, refusal, tc
from hawkwing.dataplane.netlink import Netlink
from hawkwing.dataplane.trial import try_all
from hawkwing.errors import DataplaneError


class Finding(NamedTuple):
    """One requirement of the agent; `detail` is the result, or how to fix it."""

    name: str
    good: bool
    detail: str


def data_plane() -> str:
    """Loads and unloads all programs of both roles; returns their origin, or raises DataplaneError."""
    origins = set()
    for role in bytecode.ROLES:
        code, origin = bytecode.shipped(role), "shipped bytecode"
        if code is None:
            code, origin = bytecode.cached(role), "compiled earlier on this machine"
        if code is None:
            from hawkwing.dataplane.compiler import Compiling

            code, origin = Compiling(role).result(), "compiled now on this machine"
        origins.add(f"{origin}, {code.compiler}")
        for tried in try_all(role, code):
            if tried.refused:
                raise DataplaneError(tried.refused)
    count = sum(len(bytecode.programs_of(role)) for role in bytecode.ROLES)
    return f"all {count} programs load ({'; '.join(sorted(origins))})"


def warnings() -> list[str]:
    """Other programs that run before the agent's, on any interface, and can hide packets."""
    with Netlink() as ip:
        return [f"{link.name} {one}" for link in tc.links(ip) for one in ahead.of_interface(ip, link.index)]


def _kernel() -> str:
    if refusal.kernel_version() < refusal.OLDEST_KERNEL:
        raise DataplaneError(f"this kernel is {platform.release()}: HawkWing needs Linux 5.15 or newer")
    return platform.release()


def _capabilities() -> str:
    missing = refusal.needs_capabilities()
    if missing:
        raise DataplaneError(missing)
    return "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"


def _open_files() -> str:
    refusal.require_open_files()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return "no limit" if limit == resource.RLIM_INFINITY else f"{limit:,} allowed"


_CHECKS: dict[str, Callable[[], str]] = {
    "kernel": _kernel,
    "capabilities": _capabilities,
    "open files": _open_files,
    "data plane": data_plane,
}


def findings() -> Iterator[Finding]:
    """The results of all checks, up to the first one that fails."""
    for name, check in _CHECKS.items():
        try:
            yield Finding(name, True, check())
        except DataplaneError as error:
            yield Finding(name, False, str(error))
            return


def main() -> int:
    """Prints the results; returns 0 if the agent can run here, else 1."""
    good = True
    for finding in findings():
        print(f"{finding.name:<14}{'yes' if finding.good else 'no':<5}{finding.detail}")
        good &= finding.good
    for warning in warnings():
        print(f"{'warning':<19}{warning}")
    return 0 if good else 1

"""`hawkwing doctor`: can the agent run here? Found by loading the real programs, not by reading versions."""

import platform
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hawkwing.dataplane import bytecode, refusal
from hawkwing.dataplane.trial import try_all
from hawkwing.errors import DataplaneError


class Finding(NamedTuple):
    """One thing the agent needs; `detail` says what was found, or what to do about it."""

    name: str
    good: bool
    detail: str


def data_plane() -> str:
    """Loads every program of both roles and lets it go again; says what was loaded, or DataplaneError."""
    origins = set()
    for role in bytecode.ROLES:
        code, origin = bytecode.shipped(role), "shipped bytecode"
        if code is None:
            code, origin = bytecode.cached(role), "compiled here before"
        if code is None:
            from hawkwing.dataplane.compiler import Compiling

            code, origin = Compiling(role).result(), "compiled here now"
        origins.add(f"{origin}, {code.compiler}")
        for tried in try_all(role, code):
            if tried.refused:
                raise DataplaneError(tried.refused)
    count = sum(len(bytecode.programs_of(role)) for role in bytecode.ROLES)
    return f"all {count} programs load ({'; '.join(sorted(origins))})"


def _kernel() -> str:
    if refusal.kernel_version() < refusal.OLDEST_KERNEL:
        raise DataplaneError(f"this kernel is {platform.release()}: HawkWing needs Linux 5.15 or newer")
    return platform.release()


def _capabilities() -> str:
    missing = refusal.needs_capabilities()
    if missing:
        raise DataplaneError(missing)
    return "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"


_CHECKS: dict[str, Callable[[], str]] = {
    "kernel": _kernel,
    "capabilities": _capabilities,
    "data plane": data_plane,
}


def findings() -> Iterator[Finding]:
    """One after the other; what follows from something that is missing is left out."""
    for name, check in _CHECKS.items():
        try:
            yield Finding(name, True, check())
        except DataplaneError as error:
            yield Finding(name, False, str(error))
            return


def main() -> int:
    """Prints what was found; 0 when the agent can run here, else 1."""
    good = True
    for finding in findings():
        print(f"{finding.name:<14}{'yes' if finding.good else 'no':<5}{finding.detail}")
        good &= finding.good
    return 0 if good else 1

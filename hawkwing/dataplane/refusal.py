"""Why the data plane can't be compiled or loaded, in one sentence; a long log is written to a file."""

import errno
import platform
import re
import resource
import signal
import tempfile
from pathlib import Path

from hawkwing.dataplane import bpf
from hawkwing.errors import DataplaneError

OLDEST_KERNEL = (5, 15)
OPEN_FILES, LEAST_OPEN_FILES = 1024, 128
"""Maps, programs, look-ups of many names at once, and the connection to the controller."""
_TOO_OLD = f"this kernel is {platform.release()}: HawkWing needs Linux 5.15 or newer"
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}


def kernel_version() -> tuple[int, ...]:
    """Major and minor number of the running kernel."""
    return tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])


def missing_capabilities(status: Path = Path("/proc/self/status")) -> list[str]:
    """The missing ones of CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON; CAP_SYS_ADMIN includes the last two."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
    bits = int(match[1], 16) if match else 0
    held = {name for name, number in _CAPABILITIES.items() if bits >> number & 1}
    if "CAP_SYS_ADMIN" in held:
        held |= {"CAP_BPF", "CAP_PERFMON"}
    return [name for name in ("CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON") if name not in held]


def needs_capabilities() -> str:
    """A sentence with the missing capabilities; empty if none is missing."""
    missing = missing_capabilities()
    return sentence_of_missing(missing) if missing else ""


def sentence_of_missing(capabilities: list[str]) -> str:
    """What to do about missing capabilities."""
    these = "this capability" if len(capabilities) == 1 else "these capabilities"
    return f"missing {', '.join(capabilities)}: run it as root, or give it {these}"


def of_compiler(status: int, errors: str) -> str:
    """Why BCC could not compile; `status` is the exit status of its process."""
    if status == -signal.SIGKILL:
        return "the compiler of the data plane was killed: it needs some 150 MB of memory"
    if "No module named 'bcc'" in errors:
        return (
            "the C sources differ from the bytecode that HawkWing ships, and BCC, which would compile them, "
            "is missing: install Debian's or Ubuntu's package python3-bpfcc"
        )
    if "linux/types.h' file not found" in errors or "asm/types.h' file not found" in errors:
        return "the C headers are missing: install the package linux-libc-dev"
    if "Operation not permitted" in errors and needs_capabilities():
        return needs_capabilities()
    return f"BCC could not compile the data plane; its messages are in {_kept('compiler', errors)}"


def require_open_files() -> None:
    """Raises the limit of open files as needed; DataplaneError if that is not possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY and hard < OPEN_FILES else OPEN_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < LEAST_OPEN_FILES:
        raise DataplaneError(
            f"only {wanted} open files are allowed, at least {LEAST_OPEN_FILES} are needed: "
            "raise the limit (ulimit -n, or LimitNOFILE= in systemd)"
        )


def of_maps(name: str, error: OSError) -> str:
    """Why the kernel did not create a map."""
    if kernel_version() < OLDEST_KERNEL:
        return _TOO_OLD
    if error.errno == errno.EPERM:
        return (
            needs_capabilities()
            or "the kernel refuses BPF maps: a container or a security policy forbids them"
        )
    if error.errno in (errno.ENOMEM, errno.E2BIG):
        return f"the kernel has no memory for maps of this size ({name}: {error.strerror})"
    return f"the kernel refuses the BPF map {name}: {error.strerror}"


def of_program(role: str, name: str, code: bytes, error: OSError) -> str:
    """Why the kernel did not load a program; the sentence names a file with the verifier's log."""
    if kernel_version() < OLDEST_KERNEL:
        return _TOO_OLD
    if error.errno == errno.EPERM:
        return (
            needs_capabilities()
            or "the kernel refuses BPF programs: a container or a security policy forbids them"
        )
    if error.errno == errno.ENOMEM:
        return f"the kernel has no memory to load the program {name}"
    log = bpf.verifier_log(name, code, bpf.kind_of(name))
    return (
        f"this kernel ({platform.release()}) refuses the program {name} of the {role}: "
        f"{_last_word(log) or error.strerror}; please report it with the file {_kept(f'{role}-{name}', log)}"
    )


def _last_word(log: str) -> str:
    """The verifier's reason: the last line before the statistics, and before the advice of Linux 7.3."""
    lines = [
        line
        for line in log.partition("\nVerification failed: ")[0].splitlines()
        if line and not re.match(r"(processed|verification time|stack depth) ", line)
    ]
    return lines[-1].strip() if lines else ""


def _kept(name: str, text: str) -> str:
    """Writes the text to a file and returns its name, or why there is no folder for it."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"hawkwing-{name}-", suffix=".log", delete=False
        ) as file:
            file.write(text)
    except OSError as error:
        return f"nowhere, because no temporary folder can be written ({error.strerror})"
    return file.name

"""Checks what HawkWing needs on this machine by using it, not by reading configuration.

Each kernel feature is used in a temporary network namespace of a child process: this leaves nothing behind,
and loads a feature's module. Only the standard library is imported at the top, so this also works if
everything else is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import importlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.vpp import installation as vpp

OLDEST_KERNEL = (5, 15)
TOOLS = ("ip", "tc", "ethtool", "tcpdump", "iperf3", "curl", "ping")

_CLONE_NEWNET = 0x40000000
_BPF_PROG_LOAD, _BPF_PROG_TEST_RUN, _BPF_OBJ_GET_INFO_BY_FD = 5, 10, 15
_BPF_PROG_TYPE_SCHED_CLS = 3
_BPF_SYSCALL = {"x86_64": 321, "i686": 357, "armv7l": 386, "ppc64le": 361, "s390x": 351}
_BPF_SYSCALL_GENERIC = 280  # arm64, riscv64, loongarch64
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class MissingError(Exception):
    """A feature is missing; the text says why."""


class UntriedError(MissingError):
    """A check could not be run, so its result is unknown."""


@dataclass(frozen=True)
class Check:
    """One feature. `probe` uses it and returns a detail, or raises MissingError."""

    name: str
    config_option: str  # the kernel option for it; empty if it does not depend on the kernel
    needed: bool  # without it neither the agent nor the lab works
    probe: Callable[[], str]
    without: str = ""  # the effect if an optional feature is missing
    in_netns: bool = False  # the probe changes network settings: it runs in the temporary namespace
    slow: bool = False  # not part of the quick check
    quick_only: bool = False  # a fast replacement for a slow one


@dataclass(frozen=True)
class Finding:
    check: Check
    works: bool
    detail: str
    tried: bool = True

    @property
    def sentence(self) -> str:
        option = f" (kernel option {self.check.config_option})" if self.check.config_option else ""
        return f"{'no' if self.tried else 'untried:'} {self.check.name}{option}: {self.detail}"


@dataclass(frozen=True)
class Rung:
    """One of the four kinds of tests, and why it cannot run here (empty: it can run)."""

    name: str
    why_not: str


# --- probes outside a namespace ---------------------------------------------------------


def _root() -> str:
    if os.geteuid() != 0:
        raise MissingError("network namespaces and BPF programs need root privileges: use sudo")
    return ""


def _kernel() -> str:
    release = platform.release()
    numbers = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    if numbers < OLDEST_KERNEL:
        raise MissingError(f"this kernel is {release}")
    return release


def _tools() -> str:
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        raise MissingError(f"not on the PATH: {', '.join(absent)}")
    return ", ".join(TOOLS)


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = _BPF_SYSCALL.get(platform.machine(), _BPF_SYSCALL_GENERIC)
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, command, attributes, len(attributes)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _load_pass_program() -> int:
    """The file descriptor of a loaded tc program that is just `return 0`."""
    instructions = ctypes.create_string_buffer(
        struct.pack("=BBhi", 0xB7, 0, 0, 0) + struct.pack("=BBhi", 0x95, 0, 0, 0), 16
    )
    licence = ctypes.create_string_buffer(b"GPL")
    addresses = ctypes.addressof(instructions), ctypes.addressof(licence)
    attributes = struct.pack("=IIQQ", _BPF_PROG_TYPE_SCHED_CLS, 2, *addresses)
    try:
        return _bpf(_BPF_PROG_LOAD, ctypes.create_string_buffer(attributes, 128))
    except OSError as error:
        if error.errno == errno.EPERM:
            if os.geteuid() == 0:
                raise MissingError("not permitted: a container needs CAP_BPF and CAP_NET_ADMIN") from error
            raise UntriedError("needs root") from error
        raise MissingError(str(error.strerror)) from error


def _bpf_syscall() -> str:
    os.close(_load_pass_program())
    return "programs can be loaded"


def _bpf_jit() -> str:
    program = _load_pass_program()
    try:
        info = ctypes.create_string_buffer(256)
        attributes = struct.pack("=IIQ", program, len(info), ctypes.addressof(info))
        _bpf(_BPF_OBJ_GET_INFO_BY_FD, ctypes.create_string_buffer(attributes, 128))
    except OSError as error:
        raise MissingError(str(error.strerror)) from error
    finally:
        os.close(program)
    # struct bpf_prog_info: type, id, tag[8], jited_prog_len ...
    if struct.unpack_from("=I", info.raw, 16)[0] == 0:
        raise MissingError("programs are interpreted; try the sysctl net.core.bpf_jit_enable=1")
    return "programs are compiled to machine code"


def _test_run() -> str:
    program = _load_pass_program()
    packet = ctypes.create_string_buffer(bytes(64), 64)
    out = ctypes.create_string_buffer(256)
    attributes = struct.pack(
        "=IIIIQQ", program, 0, len(packet), len(out), ctypes.addressof(packet), ctypes.addressof(out)
    )
    try:
        _bpf(_BPF_PROG_TEST_RUN, ctypes.create_string_buffer(attributes, 128))
    except OSError as error:
        raise MissingError(str(error.strerror)) from error
    finally:
        os.close(program)
    return "programs can be run on a packet without an interface"


def _data_plane() -> str:
    from hawkwing.doctor import data_plane
    from hawkwing.errors import DataplaneError

    try:
        return data_plane()
    except DataplaneError as error:
        if os.geteuid() != 0:
            raise UntriedError("needs root") from error
        raise MissingError(str(error)) from error


def _bcc() -> str:
    try:
        bcc = importlib.import_module("bcc")
    except (ImportError, OSError) as error:
        raise MissingError(f"install the Debian package python3-bpfcc ({error})") from error
    if not hasattr(bcc, "BPF"):
        raise MissingError(
            "the Python module bcc is a different project: install the Debian package python3-bpfcc"
        )
    return str(bcc.__version__)


def _bcc_found() -> str:
    if importlib.util.find_spec("bcc") is None:
        raise MissingError("install the Debian package python3-bpfcc")
    return ""


def _headers() -> str:
    header = Path("/usr/include/linux/bpf.h")
    if not header.exists():
        raise MissingError(f"{header} is missing: install the Debian package linux-libc-dev")
    return str(header)


def _vpp() -> str:
    try:
        installation = vpp.find()
        return f"{installation.version()}, {installation.program}"
    except vpp.VppMissingError as error:
        raise MissingError(str(error)) from error


# --- probes inside the namespace --------------------------------------------------------


def _namespace() -> str:
    return ""  # it runs in one


def _do(*commands: str) -> str:
    for command in commands:
        try:
            done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=10)
        except FileNotFoundError:
            raise UntriedError(f"{command.split()[0]} is not installed (Debian package iproute2)") from None
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            raise MissingError(f"`{command}` failed: {said[0].removeprefix('RTNETLINK answers: ')}")
    return ""


def _ipv6() -> str:
    if not Path("/proc/net/if_inet6").exists():
        raise MissingError("the kernel has no IPv6, or was booted with ipv6.disable=1")
    for scope in ("all", "default", "lo"):
        with contextlib.suppress(OSError):  # read-only in a container, but it may already be 0
            Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("0")
    return _do("ip link set lo up", "ip -6 address add fd00::1/64 dev lo")


def _veth() -> str:
    return _do("ip link add probe0 type veth peer name probe1", "ip link delete probe0")


def _seg6() -> str:
    return _do(
        "ip link set lo up",
        "ip -6 route add fd00:1::/64 encap seg6 mode inline segs fd00::1 dev lo",
        "ip -6 route add fd00:2::/64 encap seg6local action End dev lo",
    )


def _clsact() -> str:
    return _do("tc qdisc replace dev lo clsact")


def _cls_bpf() -> str:
    # A classic BPF program: it needs no file, and uses the same classifier.
    return _do(
        "tc qdisc replace dev lo clsact",
        "tc filter add dev lo egress protocol ipv6 bpf bytecode '1,6 0 0 4294967295,'",
    )


def _large() -> str:
    from lab.linux import large

    try:
        large.build()
        if large.ask():
            return ""
    except large.UntriedError as error:
        raise UntriedError(str(error)) from error
    raise MissingError(
        "as a router this kernel drops large TCP packets (GSO) that carry an SRH (SKB_BAD_GSO)"
    )


def _tbf() -> str:
    return _do("tc qdisc replace dev lo root tbf rate 10mbit burst 10kb latency 50ms")


def _netem() -> str:
    return _do("tc qdisc replace dev lo root netem delay 1ms")


def _tun() -> str:
    try:
        device = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        raise MissingError(f"/dev/net/tun: {error.strerror}") from error
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"probe%d", _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        raise MissingError(f"/dev/net/tun: {error.strerror}") from error
    finally:
        os.close(device)
    return ""


CHECKS = [
    Check("root", "", True, _root),
    Check(f"kernel {OLDEST_KERNEL[0]}.{OLDEST_KERNEL[1]} or newer", "", True, _kernel),
    Check("command-line tools", "", True, _tools),
    Check("BCC (found)", "", True, _bcc_found, quick_only=True),
    Check("BCC", "", True, _bcc, slow=True),
    Check("kernel headers for C", "", True, _headers),
    Check("BPF system call", "CONFIG_BPF_SYSCALL", True, _bpf_syscall),
    Check("HawkWing's programs", "", True, _data_plane, slow=True),
    Check(
        "BPF compiler (JIT)",
        "CONFIG_BPF_JIT",
        False,
        _bpf_jit,
        without="packets need more processor time",
        slow=True,
    ),
    Check("BPF test run", "", False, _test_run, without="no data plane tests", slow=True),
    Check("network namespaces", "CONFIG_NET_NS", True, _namespace, in_netns=True),
    Check("IPv6", "CONFIG_IPV6", True, _ipv6, in_netns=True),
    Check("veth", "CONFIG_VETH", True, _veth, in_netns=True),
    Check("segment routing (seg6, seg6local)", "CONFIG_IPV6_SEG6_LWTUNNEL", True, _seg6, in_netns=True),
    Check("clsact", "CONFIG_NET_SCH_INGRESS", True, _clsact, in_netns=True),
    Check("BPF classifier", "CONFIG_NET_CLS_BPF", True, _cls_bpf, in_netns=True),
    Check(
        "large packets with an SRH",
        "",
        False,
        _large,
        "the lab works, but TCP in it is slower: its hosts send packets of the MTU at most (tso off)",
        in_netns=True,
        slow=True,
    ),
    Check("token bucket", "CONFIG_NET_SCH_TBF", False, _tbf, "links have no rate", in_netns=True, slow=True),
    Check(
        "netem",
        "CONFIG_NET_SCH_NETEM",
        False,
        _netem,
        "links have no delay",
        in_netns=True,
        slow=True,
    ),
    Check("TUN", "CONFIG_TUN", False, _tun, "no tun devices", in_netns=True, slow=True),
    Check("VPP", "", False, _vpp, "no VPP routers; the kernel's routers can be used instead", slow=True),
]


def _answer(check: Check) -> Finding:
    try:
        return Finding(check, True, check.probe())
    except MissingError as why:
        return Finding(check, False, str(why), tried=not isinstance(why, UntriedError))
    except Exception as error:
        return Finding(check, False, f"{type(error).__name__}: {error}")


def _answer_in_netns(checks: Sequence[Check]) -> list[Finding]:
    """Runs the probes in a child process with its own network namespace."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET) == 0:
                answers = [_answer(check) for check in checks]
                outcome: object = [(answer.works, answer.detail, answer.tried) for answer in answers]
            else:
                outcome = ctypes.get_errno()
            with os.fdopen(writer, "w") as pipe:
                json.dump(outcome, pipe)
            status = 0
        finally:
            os._exit(status)  # never back into the caller's code
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    report = json.loads(text or "0")
    if isinstance(report, list):
        return [Finding(check, *answer) for check, answer in zip(checks, report, strict=True)]
    if report == errno.EPERM:
        container = "not permitted: a container needs CAP_SYS_ADMIN"
        why, tried = (container, True) if os.geteuid() == 0 else ("needs root", False)
    else:
        why, tried = os.strerror(report) if report else "the checks crashed", True
    refused = Finding(checks[0], False, why, tried)
    return [refused, *(Finding(check, False, "needs a network namespace", False) for check in checks[1:])]


def findings(quick: bool = False) -> list[Finding]:
    """The results of all checks, in their order; `quick` skips the slow and optional ones."""
    chosen = [check for check in CHECKS if not (check.slow if quick else check.quick_only)]
    inside = [check for check in chosen if check.in_netns]
    found = {answer.check.name: answer for answer in _answer_in_netns(inside)}
    found |= {check.name: _answer(check) for check in chosen if not check.in_netns}
    return [found[check.name] for check in chosen]


def missing_features(quick: bool = False) -> list[str]:
    """One sentence for each required feature that is missing; without root only that."""
    if os.geteuid() != 0:
        return [_answer(CHECKS[0]).sentence]
    lacking = [finding for finding in findings(quick) if finding.check.needed and not finding.works]
    reasons = [
        finding for finding in lacking if finding.tried
    ] or lacking  # the others are consequences of these
    return [finding.sentence for finding in reasons]


def rungs(found: Iterable[Finding] | None = None) -> list[Rung]:
    """Which of the four kinds of tests can run on this machine."""
    failed = {
        finding.check.name: finding
        for finding in (findings() if found is None else found)
        if not finding.works
    }

    def why_not(checks: Iterable[Check]) -> str:
        absent = [name for name in (check.name for check in checks) if name in failed]
        # Without root most checks were not run: listing them would hide the reason.
        absent = [name for name in absent if failed[name].tried] or absent
        return ", ".join(f"no {name}" for name in absent)

    named = {check.name: check for check in CHECKS}
    unit: list[Check] = []
    dataplane = [
        named[name] for name in ("root", "BCC", "kernel headers for C", "BPF system call", "BPF test run")
    ]
    lab = [check for check in CHECKS if check.needed]
    return [
        Rung("unit", why_not(unit)),
        Rung("data plane", why_not(dataplane)),
        Rung("lab", why_not(lab)),
        Rung("VPP", why_not([*lab, named["VPP"]])),
    ]


def _rows(found: Iterable[Finding]) -> list[tuple[str, str, str]]:
    rows = []
    for finding in found:
        check = finding.check
        if finding.works:
            rows.append((check.name, "yes", finding.detail))
            continue
        verdict = ("no" if finding.tried else "unknown") + ("" if check.needed else " (optional)")
        details = [finding.detail]
        details += [check.config_option] if check.config_option else []
        details += [f"without it: {check.without}"] if check.without else []
        rows.append((check.name, verdict, "; ".join(details)))
    return rows


def _print_plain(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    print(f"{title}:")
    for name, verdict, detail in rows:
        print(f"  {name:<{widths[0]}}  {verdict:<{widths[1]}}  {detail}".rstrip())


def _print_table(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False)
    for name, verdict, detail in rows:
        colour = "green" if verdict == "yes" else "red" if verdict == "no" else "yellow"
        table.add_row(name, Text(verdict, style=colour), Text(detail))
    Console().print(table)


def doctor() -> int:
    """Prints all results; returns 0 if nothing that is required is missing, else 1."""
    found = findings()
    tests = [(rung.name, "no" if rung.why_not else "yes", rung.why_not) for rung in rungs(found)]
    pretty = sys.stdout.isatty() and importlib.util.find_spec("rich") is not None
    show = _print_table if pretty else _print_plain
    show("This machine", _rows(found))
    show("Tests that run here", tests)
    lacking = [finding for finding in found if finding.check.needed and not finding.works]
    print("Required features are missing." if lacking else "Nothing required is missing.")
    return 1 if lacking else 0


def main() -> None:
    raise SystemExit(doctor())


if __name__ == "__main__":
    main()

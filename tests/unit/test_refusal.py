"""What a process may do, told from its capabilities, and what is said where it may not."""

import errno
import platform
import re
import resource
import signal
from pathlib import Path

import pytest

from hawkwing.dataplane import refusal
from hawkwing.dataplane.refusal import missing_capabilities
from hawkwing.errors import DataplaneError

ADMIN, SYS_ADMIN, PERFMON, BPF = 1 << 12, 1 << 21, 1 << 38, 1 << 39


@pytest.mark.parametrize(
    ("bits", "missing"),
    [
        (ADMIN | PERFMON | BPF, []),
        (ADMIN | SYS_ADMIN, []),
        ((1 << 41) - 1, []),
        (ADMIN | BPF, ["CAP_PERFMON"]),
        (PERFMON | BPF, ["CAP_NET_ADMIN"]),
        (SYS_ADMIN, ["CAP_NET_ADMIN"]),
        (0, ["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"]),
    ],
)
def test_what_is_missing(tmp_path: Path, bits: int, missing: list[str]) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapPrm:\t{0:016x}\nCapEff:\t{bits:016x}\nCapBnd:\t{0:016x}\n")
    assert missing_capabilities(status) == missing


def test_one_and_several_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing, end in (
        (["CAP_BPF"], "this capability"),
        (["CAP_BPF", "CAP_PERFMON"], "these capabilities"),
    ):
        monkeypatch.setattr(refusal, "missing_capabilities", lambda missing=missing: missing)
        told = f"missing {', '.join(missing)}: run it as root, or give it {end}"
        assert refusal.needs_capabilities() == told
        assert refusal.of_maps("flows", OSError(errno.EPERM, "no")) == told
        assert refusal.of_compiler(1, "Operation not permitted") == told


def test_a_policy_that_no_capability_helps_against(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal, "missing_capabilities", list)
    assert refusal.of_maps("flows", OSError(errno.EPERM, "no")).startswith("the kernel refuses BPF maps: ")
    assert refusal.of_program("server", "sweep", b"", OSError(errno.EPERM, "no")).startswith(
        "the kernel refuses BPF programs: "
    )


def test_memory_and_the_rest() -> None:
    assert refusal.of_maps("flows", OSError(errno.ENOMEM, "Cannot allocate memory")) == (
        "the kernel has no memory for maps of this size (flows: Cannot allocate memory)"
    )
    assert refusal.of_maps("flows", OSError(errno.EINVAL, "Invalid argument")) == (
        "the kernel refuses the BPF map flows: Invalid argument"
    )


def test_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert refusal.of_compiler(-signal.SIGKILL, "").startswith("the compiler of the data plane was killed: ")
    assert refusal.of_compiler(1, "No module named 'bcc'") == (
        "the C sources differ from the bytecode that HawkWing ships, and BCC, which would compile them, "
        "is missing: install Debian's or Ubuntu's package python3-bpfcc"
    )
    for header in ("linux/types.h", "asm/types.h"):
        assert refusal.of_compiler(1, f"fatal: '{header}' file not found") == (
            "the C headers are missing: install the package linux-libc-dev"
        )
    monkeypatch.setattr(refusal, "missing_capabilities", lambda: ["CAP_BPF"])
    told = refusal.of_compiler(1, "a long story")
    file = Path(told.rpartition(" ")[2])
    assert re.fullmatch(r"hawkwing-compiler-\w+\.log", file.name)
    assert told == f"BCC could not compile the data plane; its messages are in {file}"
    assert file.read_text() == "a long story"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM, errno.EINVAL])
def test_an_old_kernel_is_the_reason_for_all(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(refusal, "kernel_version", lambda: (5, 14))
    told = f"this kernel is {platform.release()}: HawkWing needs Linux 5.15 or newer"
    error = OSError(number, "no")
    assert refusal.of_maps("flows", error) == refusal.of_program("server", "sweep", b"", error) == told
    monkeypatch.setattr(refusal, "kernel_version", lambda: (5, 15))
    monkeypatch.setattr(refusal.bpf, "verifier_log", lambda *_: "")
    assert refusal.of_maps("flows", error) != told
    assert refusal.of_program("server", "sweep", b"", error) != told


def test_the_running_kernel_has_a_version() -> None:
    assert platform.release().startswith(".".join(map(str, refusal.kernel_version())))
    assert len(refusal.kernel_version()) == 2


def test_a_status_without_capabilities_has_none(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\n")
    assert missing_capabilities(tmp_path / "status") == ["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"]


def test_a_program_that_the_verifier_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its last word before the statistics is in the sentence, and all of it in a file."""
    log = "0: (95) exit\nR0 !read_ok\n\nprocessed 1 insns (limit 1000000)\nverification time 5 usec\n"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(refusal.bpf, "verifier_log", lambda *_: log)
    error = OSError(errno.EINVAL, "Invalid argument")
    told = refusal.of_program("client", "egress_raw", b"", error)
    file = Path(told.rpartition(" ")[2])
    assert file.read_text() == log and file.name.startswith("hawkwing-client-egress_raw-")
    assert told == (
        f"this kernel ({platform.release()}) refuses the program egress_raw of the client: R0 !read_ok; "
        f"please report it with the file {file}"
    )
    monkeypatch.setattr(refusal.bpf, "verifier_log", lambda *_: "")
    assert ": Invalid argument; please" in refusal.of_program("client", "egress_raw", b"", error)
    assert refusal.of_program("client", "egress_raw", b"", OSError(errno.ENOMEM, "no")) == (
        "the kernel has no memory to load the program egress_raw"
    )


def test_a_log_that_can_be_kept_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert refusal.of_compiler(1, "x").endswith(
        "are in nowhere, because no temporary folder can be written (No such file or directory)"
    )


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ((256, 4096), (1024, 4096)),
        ((256, 512), (512, 512)),
        ((1024, 4096), None),
        ((4096, 4096), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
        ((256, resource.RLIM_INFINITY), (1024, resource.RLIM_INFINITY)),
        ((128, 128), None),
    ],
)
def test_open_files(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], wanted: tuple[int, int] | None
) -> None:
    changed: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda kind, both: changed.append((kind, both)))
    refusal.require_open_files()
    assert changed == ([(resource.RLIMIT_NOFILE, wanted)] if wanted else [])


def test_too_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (64, 127))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(DataplaneError) as told:
        refusal.require_open_files()
    assert str(told.value) == (
        "only 127 open files are allowed, at least 128 are needed: "
        "raise the limit (ulimit -n, or LimitNOFILE= in systemd)"
    )

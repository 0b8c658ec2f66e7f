"""What a process may do, told from its capabilities, and what is said where it may not."""

import errno
import signal
from pathlib import Path

import pytest

from hawkwing.dataplane import refusal
from hawkwing.dataplane.refusal import missing_capabilities

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
    assert "python3-bpfcc" in refusal.of_compiler(1, "No module named 'bcc'")
    assert "linux-libc-dev" in refusal.of_compiler(1, "fatal: 'linux/types.h' file not found")
    told = refusal.of_compiler(1, "a long story")
    file = Path(told.rpartition(" ")[2])
    assert told == f"BCC could not compile the data plane; its messages are in {file}"
    assert file.read_text() == "a long story"

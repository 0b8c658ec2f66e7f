"""What decides which kernel is tried, how it starts, and what counts as well done."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hawkwing.dataplane.bytecode import ROLES, programs_of
from lab.kernels import report
from lab.kernels.archive import Kernel, newest, releases_in
from lab.kernels.initramfs import cpio
from lab.kernels.report import Attempt
from lab.kernels.steps import Outcome, applicable, chosen_steps, compilers, judged, refused
from lab.network import LabError

PACKAGES = [
    "linux-image-5.10.0-46-amd64",
    "linux-image-5.15.0-25-generic",
    "linux-image-5.15.0-204-generic",
    "linux-image-6.1-amd64",
    "linux-image-6.1.0-0.deb11.52-amd64",
    "linux-image-6.1.0-56-amd64",
    "linux-image-6.1.0-56-cloud-amd64",
    "linux-image-6.1.0-56-rt-amd64",
    "linux-image-6.12.95+deb13-amd64",
    "linux-image-6.12.118+deb12-amd64",
    "linux-image-6.12.118+deb13-amd64",
    "linux-image-6.12.118+deb13-amd64-dbg",
    "linux-image-7.3.4+deb13-amd64",
    "linux-image-unsigned-7.4.0-1-generic",
    "linux-modules-7.4.0-1-generic",
]


@pytest.mark.parametrize(
    ("name", "release"),
    [
        ("5.10", "5.10.0-46-amd64"),
        ("5.15", "5.15.0-204-generic"),
        ("5.15.0-25", "5.15.0-25-generic"),
        ("6.1", "6.1.0-56-amd64"),
        ("6.12", "6.12.118+deb13-amd64"),
        ("newest", "7.3.4+deb13-amd64"),
        ("6.2", None),
    ],
)
def test_a_kernel_is_the_newest_whose_release_begins_with_its_name(name: str, release: str | None) -> None:
    assert newest(releases_in(PACKAGES), name) == release


@pytest.mark.skipif(shutil.which("cpio") is None, reason="needs cpio")
def test_cpio_reads_the_first_files_of_a_machine(tmp_path: Path) -> None:
    entries = [("bin", 0o040755, b""), ("bin/one", 0o100755, b"#!1\n"), ("three", 0o100644, b"abc")]
    subprocess.run(["cpio", "-i", "--quiet"], input=cpio(entries), cwd=tmp_path, check=True)
    assert (tmp_path / "bin" / "one").read_bytes() == b"#!1\n"
    assert (tmp_path / "bin" / "one").stat().st_mode == 0o100755
    assert (tmp_path / "three").read_bytes() == b"abc"


def test_every_file_of_the_archive_begins_at_a_multiple_of_four() -> None:
    archive = cpio([("a", 0o100644, b"12345"), ("bcd", 0o100644, b"")])
    positions = [at for at in range(len(archive)) if archive.startswith(b"070701", at)]
    assert len(positions) == 3 and all(at % 4 == 0 for at in positions)
    assert len(archive) % 4 == 0


def trial(refusal: str = "", verified: int = 50_000) -> str:
    """A trial's report, in which all programs fare alike."""
    programs = [
        {
            "role": role,
            "program": name,
            "length": 9,
            "verified": 0 if refusal else verified,
            "refused": refusal,
        }
        for role in ROLES
        for name in programs_of(role)
    ]
    return json.dumps({"kernel": "x", "compilers": {}, "programs": programs})


TOO_OLD = "this kernel is 5.10.0: HawkWing needs Linux 5.15 or newer"


@pytest.mark.parametrize(
    ("text", "too_old", "ok"),
    [
        (trial(), False, True),
        (trial(verified=100_000), False, True),
        (trial(verified=100_001), False, False),
        (trial(verified=0), False, False),
        (trial("the verifier says no"), False, False),
        (trial(TOO_OLD), False, False),
        (trial(TOO_OLD), True, True),
        (trial("the verifier says no"), True, False),
        (trial(f"{TOO_OLD}\nand more"), True, False),
        (trial(), True, False),
        ("", False, False),
        ("Traceback", True, False),
        (json.dumps({"programs": []}), False, False),
        (json.dumps({"programs": json.loads(trial())["programs"][1:]}), False, False),
    ],
)
def test_a_trial_is_judged(text: str, too_old: bool, ok: bool) -> None:
    assert judged(text, too_old)[0] == ok


@pytest.mark.parametrize(
    ("said", "status", "ok"),
    [
        (f"hawkwing: {TOO_OLD}\n", "1\n", True),
        (f"hawkwing: {TOO_OLD}\n", "0\n", False),
        (f"first\nhawkwing: {TOO_OLD}\n", "1\n", False),
        ("hawkwing: Operation not permitted\n", "1\n", False),
        ("", "", False),
    ],
)
def test_the_agent_refuses_an_old_kernel_in_one_sentence(said: str, status: str, ok: bool) -> None:
    assert refused(said, status)[0] == ok


def test_an_old_kernel_is_only_asked_to_refuse() -> None:
    old, new = (Kernel(name, f"{name}.0-1-amd64", Path("/none")) for name in ("5.10", "5.15"))
    assert applicable(old, ["load", "dataplane", "lab"]) == ["load"]
    assert applicable(old, ["lab"]) == []
    assert applicable(new, ["load", "lab"]) == ["load", "lab"]


def test_steps_keep_their_order_and_unknown_ones_are_named() -> None:
    assert chosen_steps(None) == ["load", "dataplane", "lab", "links"]
    assert chosen_steps("lab, load") == ["load", "lab"]
    with pytest.raises(LabError, match="'demo' is not a step, use load, dataplane, lab, links"):
        chosen_steps("demo")


def test_a_folder_without_bytecode_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=f"{tmp_path} has no bytecode"):
        compilers(tmp_path)


def test_bytecode_of_other_sources_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bcc-0.1"
    folder.mkdir()
    for role in ROLES:
        (folder / f"{role}.json").write_text("{}")
    with pytest.raises(LabError, match=r"bcc-0\.1/client\.json"):
        compilers(tmp_path)


def test_a_table_and_the_end_of_a_failure(tmp_path: Path) -> None:
    log = tmp_path / "load.log"
    log.write_text("one\ntwo\n")
    good, bad = Outcome(True, "10 of 10 load", log, 20), Outcome(False, "8 of 10 load", log, 30)
    attempts = [
        Attempt("6.1", "6.1.0-56-amd64", "", {"load": {"shipped": good}}),
        Attempt("6.8", "6.8.0-1-generic", "", {"load": {"shipped": bad}}),
        Attempt("9.9", missing="there is no kernel 9.9"),
    ]
    assert [attempt.succeeded for attempt in attempts] == [True, False, False]
    assert report.table(attempts, ["shipped"], ["load"]).row_count == 2
    told = list(report.failures(attempts))
    assert told[0].splitlines() == [
        f"6.8.0-1-generic, shipped: load failed; the end of {log}:",
        "  one",
        "  two",
    ]
    assert told[1] == "9.9: not tried: there is no kernel 9.9"

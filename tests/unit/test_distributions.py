"""Bare distributions: what apt's and pip's settings say, what is tried, and how it is told."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from rich.console import Console

from lab.distributions import apt, catalogue, report, roots, steps
from lab.distributions.chroot import Chroot, pip_environment
from lab.distributions.steps import Attempt, Outcome
from lab.network import LabError

DEBIAN = apt.Source(("http://mirror.test/debian",), ("bookworm", "bookworm-updates"), ("main",))


# --- apt's sources ------------------------------------------------------------------------------


def test_a_list_has_an_entry_a_line() -> None:
    text = """\
# deb http://mirror.test/old bookworm main
deb http://mirror.test/debian bookworm main contrib  # as installed
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://other.test/debian/ trixie main

deb-src http://mirror.test/debian bookworm main
deb cdrom:[Debian GNU/Linux 12.0.0 _Bookworm_ - Official]/ bookworm main
"""
    first, second, disc = apt.parse_list(text)
    assert first == apt.Source(("http://mirror.test/debian",), ("bookworm",), ("main", "contrib"))
    assert second == apt.Source(("https://other.test/debian/",), ("trixie",), ("main",))
    assert apt.archive([disc], "debian", "bookworm") is None


def test_deb822_has_an_entry_a_paragraph() -> None:
    text = """\
Types: deb deb-src
# the first of them is near
URIs: http://near.test/debian
 http://far.test/debian
Suites: bookworm
\tbookworm-updates
components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc: def

Enabled: no
Types: deb
URIs: http://disabled.test/debian
Suites: bookworm
Components: main


Types: deb-src
URIs: http://source.test/debian
Suites: bookworm
Components: main
"""
    suites = ("bookworm", "bookworm-updates")
    assert apt.parse_deb822(text) == [
        apt.Source(("http://near.test/debian", "http://far.test/debian"), suites, ("main",))
    ]


def test_both_forms_are_read_from_a_folder(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.test/ubuntu noble main\n")
    (parts / "b.list").write_text("deb http://b.test/ubuntu noble main\n")
    (parts / "c.sources").write_text("Types: deb\nURIs: http://c.test\nSuites: noble\nComponents: main\n")
    (parts / "d.list.disabled").write_text("deb http://d.test/ubuntu noble main\n")
    found = [source.uris[0] for source in apt.read_sources(tmp_path)]
    assert found == ["http://a.test/ubuntu", "http://b.test/ubuntu", "http://c.test"]
    assert apt.read_sources(tmp_path / "nowhere") == []


def test_the_mirror_is_the_one_of_the_release_itself() -> None:
    others = [
        apt.Source(("https://packages.test/debian/12/prod",), ("bookworm",), ("main",)),
        apt.Source(("https://docker.test/linux/debian",), ("bookworm",), ("stable",)),
        apt.Source(("http://mirror.test/debian-security",), ("bookworm-security",), ("main",)),
        apt.Source(("https://node.test/node_20.x",), ("nodistro",), ("main",)),
    ]
    assert apt.archive([*others, DEBIAN], "debian", "bookworm") == "http://mirror.test/debian"
    assert apt.archive([DEBIAN], "debian", "trixie") is None
    assert apt.archive(others[1:], "debian", "bookworm") is None


def test_a_release_may_go_by_what_it_is() -> None:
    sid = apt.Source(("http://mirror.test/debian/",), ("unstable",), ("main",))
    assert apt.archive([sid], "debian", "forky") == "http://mirror.test/debian"


def test_a_mirror_in_an_unusual_folder_is_one_too() -> None:
    odd = apt.Source(("mirror+file:/etc/apt/mirrors.txt", "https://proxy.test/apt/u"), ("noble",), ("main",))
    assert apt.archive([odd], "ubuntu", "noble") == "https://proxy.test/apt/u"


def test_of_apts_settings_those_of_the_network_are_kept() -> None:
    dump = """\
Acquire "";
Acquire::Check-Date "false";
Acquire::http "";
Acquire::http::Proxy "http://proxy.test:3142";
Acquire::https::Proxy::mirror.test "DIRECT";
Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";
Acquire::Retries "";
Acquire::Languages "none";
DPkg::Post-Invoke:: "rm -f /var/cache/apt/*.bin";
"""
    assert apt.network_settings(dump) == [
        'Acquire::Check-Date "false"',
        'Acquire::http::Proxy "http://proxy.test:3142"',
        'Acquire::https::Proxy::mirror.test "DIRECT"',
    ]


# --- pip's settings -----------------------------------------------------------------------------


def test_of_pips_settings_those_of_the_network_are_kept() -> None:
    settings = """\
:env:.find-links='/opt/wheels'
:env:.index-url='https://first.test/simple'
global.cert='/home/me/ca.pem'
global.constraint='/etc/constraints.txt'
global.extra-index-url='file:///opt/pypi/simple https://extra.test/simple'
global.index-url='https://second.test/simple'
install.trusted-host='first.test'
"""
    assert pip_environment(settings) == {
        "PIP_INDEX_URL": "https://first.test/simple",
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
        "PIP_EXTRA_INDEX_URL": "https://extra.test/simple",
        "PIP_TRUSTED_HOST": "first.test",
    }
    assert pip_environment("global.extra-index-url='file:///opt/pypi/simple'\n") == {}


# --- what is tried ------------------------------------------------------------------------------


def test_distributions_are_chosen_by_name() -> None:
    assert [one.name for one in catalogue.chosen("ubuntu2404, debian13,ubuntu2404")] == [
        "ubuntu2404",
        "debian13",
    ]
    assert {one.name for one in catalogue.chosen(None)} >= {
        "debian12",
        "debian13",
        "ubuntu2204",
        "ubuntu2404",
    }
    with pytest.raises(LabError, match="'fedora' is not a known distribution, use debian12, debian13, "):
        catalogue.chosen("debian12,fedora")


def test_a_distributions_sources() -> None:
    assert catalogue.named("ubuntu2404").sources("http://m.test/ubuntu") == [
        "deb http://m.test/ubuntu noble main universe",
        "deb http://m.test/ubuntu noble-updates main universe",
    ]
    assert catalogue.named("debiansid").sources("http://m.test/debian") == [
        "deb http://m.test/debian sid main"
    ]


@pytest.mark.parametrize(
    ("there", "maker"),
    [({"mmdebstrap", "debootstrap"}, "mmdebstrap"), ({"debootstrap"}, "debootstrap"), (set(), None)],
)
def test_debootstrap_does_where_mmdebstrap_cannot_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: set[str], maker: str | None
) -> None:
    for name in there | {"apt-get"}:
        (tmp_path / name).write_text('#!/bin/sh\necho "E: no network"\nexit 100\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if maker:
        assert roots.usable_maker(tmp_path / "log") == maker
    else:
        with pytest.raises(roots.RootError, match="can't install mmdebstrap: no network"):
            roots.usable_maker(tmp_path / "log")


def test_steps_are_done_after_the_installation_in_our_order() -> None:
    assert steps.chosen_steps("demo,load") == ["install", "load", "demo"]
    assert steps.chosen_steps(None) == ["install", "load", "demo", "unit", "dataplane"]
    with pytest.raises(LabError, match="'bench' is not a step, use install, load, "):
        steps.chosen_steps("demo,bench")


def test_how_pytest_closed_is_in_its_last_line() -> None:
    text = (
        "12 passed in the first part\n...\n=== 1 failed, 652 passed, 2 skipped in 37.20s (0:00:37) ===\nbye\n"
    )
    assert steps.counts_in(text) == {"failed": 1, "passed": 652, "skipped": 2}
    assert steps.counts_in("ImportError: no module named pytest\n") == {}


def test_programs_are_counted() -> None:
    text = """\
client  egress_ethernet    2,417 instructions  loads, 31,022 instructions verified
client  ingress_ethernet   3,022 instructions  refused: back-edge from insn 7 to 3
server  egress_ethernet    1,900 instructions  loads, 9,100 instructions verified
kernel 6.18.0, compiled by BCC 0.31.0
"""
    assert steps.programs_in(text) == "2 load, most verified 31,022, 1 refused"
    assert steps.programs_in("No module named bcc\n") == ""


@pytest.mark.parametrize(
    ("library", "release"),
    [
        ("/usr/lib/x86_64-linux-gnu/libLLVM-14.so.1", "14"),
        ("/usr/lib/x86_64-linux-gnu/libLLVM.so.19.1", "19"),
        ("/usr/lib/llvm-18/lib/libLLVM.so.1", "18"),
        ("", "?"),
    ],
)
def test_the_release_of_llvm_is_in_its_librarys_path(library: str, release: str) -> None:
    assert steps.llvm_release(library) == release


def test_the_committed_state_is_cloned(tmp_path: Path) -> None:
    bundle = tmp_path / "project.bundle"
    with pytest.raises(LabError, match=r"needs (a git clone of the project|git, )"):
        steps.git_bundle(tmp_path, bundle)


# --- how it is told -----------------------------------------------------------------------------


def _attempts(folder: Path) -> list[Attempt]:
    log = folder / "demo.log"
    log.write_text("\n".join(f"line {number}" for number in range(20)) + "\n")
    well, failed = Outcome(True, 12.4, log, "3 passed"), Outcome(False, 7.0, log)
    debian, ubuntu = catalogue.named("debian13"), catalogue.named("ubuntu2404")
    return [
        Attempt(debian, bcc="0.31.0", llvm="19", outcomes={"install": well, "demo": failed}),
        Attempt(ubuntu, missing="can't make it: no network"),
    ]


def test_the_table_has_a_row_for_each(tmp_path: Path) -> None:
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    console.print(report.table(_attempts(tmp_path), ["install", "demo", "unit"]))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.export_text().splitlines()]
    assert ["Debian 13", "0.31.0", "19", "ok, 12 s", "FAILED, 7 s", "not tried"] in rows
    assert ["", "", "", "3 passed", "", ""] in rows
    assert ["Ubuntu 24.04", "-", "-", "not tried", "not tried", "not tried"] in rows


def test_failures_are_told_with_the_end_of_their_logs(tmp_path: Path) -> None:
    failed, missing = report.failures(_attempts(tmp_path))
    assert failed.splitlines()[0] == f"debian13: demo failed; the end of {tmp_path}/demo.log:"
    assert failed.splitlines()[1:] == [f"  line {number}" for number in range(8, 20)]
    assert missing == "ubuntu2404: not tried: can't make it: no network"


def test_success_is_every_step_done_and_well(tmp_path: Path) -> None:
    attempt = _attempts(tmp_path)[0]
    assert attempt.succeeded(["install"])
    assert not attempt.succeeded(["install", "demo"])
    assert not attempt.succeeded(["install", "unit"])


# --- inside a root file system ------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")
def test_a_command_inside_leaves_nothing(tmp_path: Path) -> None:
    """This machine's own root file system is one as good as any."""
    shared, log, mounts = tmp_path / "shared", tmp_path / "log", Path("/proc/self/mounts")
    shared.mkdir()
    before = mounts.read_text()
    script = 'touch /run/left /mnt/kept; sleep 60 & ls /run/left; echo "$MARK"; echo $PPID; exit 7'
    chroot = Chroot(Path("/"), {"PATH": os.environ["PATH"], "MARK": str(tmp_path)})
    assert chroot.run(["sh", "-c", script], log, "/tmp", share=(shared, "/mnt")) == 7
    left, mark, parent = log.read_text().split()
    # Process numbers of its own: Ubuntu's new coreutils have some processes in between.
    assert (left, mark) == ("/run/left", str(tmp_path)) and int(parent) < 100
    assert (shared / "kept").exists()
    assert not Path("/run/left").exists()
    assert mounts.read_text() == before
    assert _processes_with(f"MARK={tmp_path}".encode()) == []


def _processes_with(variable: bytes) -> list[str]:
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if variable in environ.read_bytes().split(b"\0"):
                found.append(environ.parent.name)
    return found

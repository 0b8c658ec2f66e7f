"""The script `run`: what it says when something is missing, and that it stays out of the way when nothing is.

It runs in a stand-in clone whose PATH holds fakes of apt, dpkg and the lab's commands, and whose .venv holds
a fake Python that writes down how it was called: no network, no package manager, root only where it is said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.wait import PATIENCE

RUN = Path(__file__).parents[2] / "run"
NOBODY = 65534
LAB_COMMANDS = ("curl", "ethtool", "iperf3", "ip", "ping", "tc", "tcpdump")
SHELL_TOOLS = (
    "bash",
    "cp",
    "flock",
    "grep",
    "mktemp",
    "mv",
    "paste",
    "readlink",
    "rm",
    "sed",
    "sh",
    "sleep",
    "tail",
)
FAKE_PYTHON = """#!/bin/sh
case $2 in
  pip) echo pip >>.venv/pip-calls; eval "${FAKE_PIP:-}" ;;
  lab) printf '%s\\n' "$PWD" "$HAWKWING_CWD" "$@" ;;
esac
"""

pytestmark = pytest.mark.skipif(
    not all(
        Path(path).exists()
        for path in (
            "/usr/include/linux/bpf.h",
            "/usr/lib/python3/dist-packages/bcc",
            "/etc/ssl/certs/ca-certificates.crt",
        )
    ),
    reason="the packages linux-libc-dev, python3-bpfcc and ca-certificates are not all installed",
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only then does `run` reach for apt")


class Clone:
    """A stand-in clone: `run` and its requirements, a .venv with the fake Python, and a PATH of fakes."""

    def __init__(self, home: Path) -> None:
        self.root = home / "a clone"
        self.bin = home / "bin"
        self.venv = self.root / ".venv"
        (self.venv / "bin").mkdir(parents=True)
        self.bin.mkdir()
        self.logs = home / "logs"
        self.logs.mkdir()
        self.logs.chmod(0o777)
        shutil.copy(RUN, self.root / "run")
        (self.root / "pyproject.toml").write_text('[project]\nname = "stand-in"\n')
        (self.root / "constraints.txt").write_text("something==1.0\n")
        python = Path("/usr/bin/python3").resolve()
        if python.name in ("python3.9", "python3.10"):
            python = Path("/usr/bin/python3.11").resolve()
        (self.venv / "made-for").write_text(f"{self.root}:{python}")
        self.script(self.venv / "bin" / "python", FAKE_PYTHON)
        for tool in SHELL_TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
        for command in LAB_COMMANDS:
            self.fake(command, "exit 0")

    @staticmethod
    def script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def fake(self, command: str, body: str) -> None:
        self.script(self.bin / command, f"#!/bin/sh\n{body}\n")

    def lose(self, command: str, dpkg_knows_it: bool = False) -> None:
        """Takes a command away; the fake dpkg-query reports its package as gone (or, wrongly, as there)."""
        (self.bin / command).unlink()
        grumble = "" if dpkg_knows_it else f'[ "$package" = {command} ] ||'
        self.fake("dpkg-query", f'shift 3; for package; do {grumble} echo "ii  $package"; done')
        self.fake("apt-get", f'echo "$@" >>"{self.bin}/apt-calls"; eval "${{FAKE_APT:-}}"')

    def start(
        self, *arguments: str, by: str = "", unprivileged: bool = False, **env: str
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [by or str(self.root / "run"), *arguments],
            env={"PATH": str(self.bin), "TMPDIR": str(self.logs), **env},
            cwd=self.root.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=NOBODY if unprivileged and os.geteuid() == 0 else None,
        )

    def run(self, *arguments: str, unprivileged: bool = False, **env: str) -> tuple[int, str, str]:
        started = self.start(*arguments, unprivileged=unprivileged, **env)
        out, err = started.communicate(timeout=PATIENCE)
        return started.returncode, out, err

    @property
    def pip_calls(self) -> int:
        calls = self.venv / "pip-calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    @property
    def apt_calls(self) -> str:
        calls = self.bin / "apt-calls"
        return calls.read_text() if calls.exists() else ""


@pytest.fixture
def clone() -> Iterator[Clone]:
    """A fresh stand-in clone that an unprivileged user can read too, e.g. `clone.run("--list")`."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name).resolve()
        home.chmod(0o755)
        yield Clone(home)


@pytest.fixture
def complete(clone: Clone) -> Clone:
    """A stand-in clone in which everything has been installed once."""
    status, _, err = clone.run("--list")
    assert (status, err) == (0, "installing the Python packages of pyproject.toml into .venv\n")
    return clone


def test_hands_its_arguments_to_invoke_in_the_projects_folder(complete: Clone) -> None:
    status, out, err = complete.run("--list", "two words", "")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        str(complete.root),
        str(complete.root.parent),
        *("-m", "lab", "--list", "two words", ""),
    ]


def test_without_arguments_lists_the_tasks(complete: Clone) -> None:
    assert complete.run()[1].splitlines()[-1] == "--list"


def test_works_through_a_symbolic_link_and_from_another_shell(complete: Clone) -> None:
    link = complete.bin / "hawkwing-run"
    link.symlink_to(complete.root / "run")
    assert complete.start("--list", by=str(link)).communicate()[0].startswith(f"{complete.root}\n")
    assert complete.start(str(complete.root / "run"), "--list", by="/bin/sh").communicate()[1] == ""


def test_adds_little_when_everything_is_there(complete: Clone) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        complete.run("--list")
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.3
    assert complete.pip_calls == 1


@pytest.mark.parametrize(
    ("name", "line"), [("pyproject.toml", 'version = "2"\n'), ("constraints.txt", "other==2.0\n")]
)
def test_installs_again_when_the_requirements_change(complete: Clone, name: str, line: str) -> None:
    with (complete.root / name).open("a") as file:
        file.write(line)
    assert complete.run("--list")[0] == 0
    assert complete.run("--list")[0] == 0
    assert complete.pip_calls == 2


def test_a_browser_brings_the_package_that_steers_it(complete: Clone) -> None:
    asked = complete.venv / "asked"
    keep = f'echo "$*" >"{asked}"'
    complete.fake("chromium", "exit 1")
    assert complete.run("--list", FAKE_PIP=keep)[0] == 0
    assert asked.read_text().endswith(" -e .[lab,lint,view,browser]\n")
    (complete.bin / "chromium").unlink()
    assert complete.run("--list", FAKE_PIP=keep)[0] == 0
    assert asked.read_text().endswith(" -e .[lab,lint,view]\n")
    assert complete.run("--list")[0] == 0 and complete.pip_calls == 3


def test_two_at_once_install_once(clone: Clone) -> None:
    both = [clone.start("--list", FAKE_PIP="sleep 0.3") for _ in range(2)]
    said = sorted(each.communicate(timeout=PATIENCE)[1] for each in both)
    assert [each.returncode for each in both] == [0, 0]
    assert said == [
        "installing the Python packages of pyproject.toml into .venv\n",
        "waiting for another ./run to finish installing\n",
    ]
    assert clone.pip_calls == 1


def test_no_network_for_pip_is_one_sentence_and_is_repaired_by_the_next_start(clone: Clone) -> None:
    refused = "echo 'NewConnectionError: [Errno -3] Temporary failure in name resolution'; exit 1"
    status, out, err = clone.run("--list", FAKE_PIP=refused)
    assert (status, out) == (1, "")
    assert err.splitlines()[1:] == [
        "run: no network: pip cannot fetch the packages that pyproject.toml names"
    ]
    assert clone.run("--list")[0] == 0
    assert not list(clone.logs.iterdir())


def test_a_failure_of_pip_shows_the_end_of_what_it_said(clone: Clone) -> None:
    status, _, err = clone.run("--list", FAKE_PIP="echo WARNING: noise; echo ERROR: no space left; exit 1")
    assert status == 1
    assert "run: pip cannot install the packages that pyproject.toml names; the end of" in err
    assert err.endswith(":\n  ERROR: no space left\n")


def test_other_systems_are_refused(clone: Clone) -> None:
    status, _, err = clone.run("demo", OSTYPE="darwin23")
    assert (status, err) == (1, "run: needs Linux: eBPF and network namespaces exist nowhere else\n")


def test_without_apt_it_names_what_is_missing(complete: Clone) -> None:
    (complete.bin / "tcpdump").unlink()
    status, _, err = complete.run("demo")
    assert (status, err) == (
        1,
        "run: needs Debian 12, Ubuntu 22.04 or newer to install what is missing here: tcpdump\n",
    )


def test_installing_packages_needs_root(complete: Clone) -> None:
    complete.lose("tcpdump")
    status, _, err = complete.run("lab.exec", "host-a", unprivileged=True)
    assert (status, err) == (1, "run: needs root: type 'sudo ./run lab.exec host-a'\n")
    assert complete.apt_calls == ""


def test_tasks_need_root_and_looking_around_does_not(complete: Clone) -> None:
    assert complete.run("demo", unprivileged=True)[2] == "run: needs root: type 'sudo ./run demo'\n"
    for harmless in (["--list"], ["doctor"], ["demo", "--help"], ["--help", "demo"]):
        assert complete.run(*harmless, unprivileged=True)[0] == 0


def test_a_package_without_its_files_is_named(complete: Clone) -> None:
    complete.lose("tcpdump", dpkg_knows_it=True)
    status, _, err = complete.run("demo")
    assert status == 1
    assert err.startswith("run: missing although its package is installed")
    assert err.endswith(": tcpdump\n")


@as_root
def test_a_removed_package_is_installed_again(complete: Clone) -> None:
    complete.lose("tcpdump")
    status, _, err = complete.run("--list", FAKE_APT=f"cp '{complete.bin}/ip' '{complete.bin}/tcpdump'")
    assert (status, err) == (0, "installing tcpdump\n")
    update, install = complete.apt_calls.splitlines()
    assert update.endswith("update")
    assert install.endswith("install tcpdump")
    assert complete.pip_calls == 1


@as_root
def test_no_network_for_apt_is_one_sentence(complete: Clone) -> None:
    complete.lose("tcpdump")
    status, _, err = complete.run(
        "demo", FAKE_APT="echo 'E: Failed to fetch: Temporary failure resolving'; exit 100"
    )
    assert status == 1
    assert err.splitlines()[1:] == ["run: no network: apt-get cannot fetch tcpdump"]


@as_root
def test_a_failure_of_apt_shows_the_end_of_what_it_said(complete: Clone) -> None:
    complete.lose("tcpdump")
    status, _, err = complete.run("demo", FAKE_APT="echo 'E: dpkg was interrupted'; exit 100")
    assert status == 1
    assert "run: apt-get update failed, and tcpdump cannot be installed without it; the end of" in err
    assert err.endswith("  E: dpkg was interrupted\n")

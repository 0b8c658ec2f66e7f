"""Programs that lab and tests call are there on a bare machine, once `run` has installed its packages."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2]
#: What each Debian and Ubuntu has, by package; openssl comes with ca-certificates, which `run` installs.
ALWAYS = {
    "apt": "apt-cache apt-config apt-get",
    "coreutils": "cat chmod cp cut dd env head id ls mkdir mv paste readlink rm sleep tail true uname wc",
    "dash": "sh",
    "dpkg": "dpkg dpkg-deb",
    "bash": "bash",
    "grep": "grep",
    "libc-bin": "getent",
    "mount": "mount umount",
    "openssl": "openssl",
    "sed": "sed",
    "tar": "tar",
    "util-linux": "flock nsenter setpriv unshare",
}
#: Words that begin a list here and are no program in it.
WORDS = {"node", "install", "["}
#: What a task installs itself, or a test is skipped without.
OWN = {
    "lab/distributions/roots.py": {"debootstrap", "mmdebstrap"},
    "lab/distributions/steps.py": {"git"},
    "lab/kernels/archive.py": {"depmod"},
    "lab/kernels/initramfs.py": {"modprobe", "zstd"},
    "lab/packages/image.py": {"git"},
    "tests/integration/test_capture.py": {"tshark"},
    "tests/integration/test_live.py": {"tshark"},
    "tests/packages/conftest.py": {"systemd"},
    "tests/packages/containers.py": {"crun"},
    "tests/unit/test_packaged_texts.py": {"fish", "groff", "zsh"},
    "tests/unit/test_service_units.py": {"systemd-analyze"},
    "tests/unit/test_dashboard.py": {"promtool"},
    "tests/unit/test_kernels.py": {"cpio"},
    "tests/unit/test_metrics.py": {"promtool"},
}


def installed_by_run() -> set[str]:
    """The commands that `run` looks for, one for each package that it installs for them."""
    (line,) = re.findall(r"^commands=\((.*)\)$", (PROJECT / "run").read_text(), re.MULTILINE)
    return set(line.split())


def called(file: Path) -> Iterator[tuple[str, int]]:
    """(program, line) of the lists in a file that begin with one; to be known as one, it has to be here."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.List) and len(node.elts) > 1 and isinstance(node.elts[0], ast.Constant):
            name = node.elts[0].value
            if isinstance(name, str) and name not in WORDS and shutil.which(name):
                yield name, node.lineno


def test_no_program_is_called_that_may_be_missing() -> None:
    known = installed_by_run() | {name for names in ALWAYS.values() for name in names.split()}
    folders = ("hawkwing", "fake_hawkeye", "lab", "tests")
    files = [PROJECT / "tasks.py", *(file for folder in folders for file in (PROJECT / folder).rglob("*.py"))]
    missing = [
        f"{file}:{line}: {name}"
        for file in files
        for name, line in called(file)
        if name not in known | OWN.get(str(file.relative_to(PROJECT)), set())
    ]
    assert missing == []

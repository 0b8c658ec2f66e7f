"""The units of the Debian package: few privileges, and what a restart and a stop are to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hawkwing.cli import DEFAULT_CONFIG, parser

PROJECT = Path(__file__).parents[2]
UNITS = sorted((PROJECT / "packaging/systemd").glob("*.service"))
STOPPED = PROJECT / "packaging/stopped"
MOST_EXPOSURE = 3.0


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def systemd_analyzes_files() -> bool:
    """From version 250 on."""
    if not shutil.which("systemd-analyze"):
        return False
    done = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    found = re.match(r"systemd (\d+)", done.stdout)
    return found is not None and int(found[1]) >= 250


def test_there_is_one_for_each_role() -> None:
    assert [unit.name for unit in UNITS] == ["hawkwing-client@.service", "hawkwing-server@.service"]


@pytest.mark.skipif(not systemd_analyzes_files(), reason="no systemd-analyze that reads files")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_exposure(unit: Path) -> None:
    threshold = f"--threshold={MOST_EXPOSURE * 10:.0f}"
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", threshold, str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert float(re.findall(r"exposure level for .*: ([0-9.]+)", done.stdout)[0]) <= MOST_EXPOSURE


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_call_what_there_is(unit: Path) -> None:
    role = unit.name.removeprefix("hawkwing-").partition("@")[0]
    (start,) = values(unit, "ExecStart")
    words = start.replace("%i", "eth0").removesuffix(" $HAWKWING_OPTIONS").split()
    assert words[0] == "/usr/bin/hawkwing"
    arguments = parser().parse_args(words[1:])
    assert (arguments.command, arguments.interface, arguments.keep) == (role, ["eth0"], True)
    assert arguments.config == DEFAULT_CONFIG
    (reload,) = values(unit, "ExecReload")
    arguments = parser().parse_args(reload.replace("%i", "eth0").split()[1:])
    assert (arguments.command, arguments.role, arguments.interface) == ("reload", role, ["eth0"])
    assert values(unit, "CapabilityBoundingSet") == ["CAP_NET_ADMIN CAP_BPF CAP_PERFMON"]
    assert values(unit, "Type") == ["notify"] and values(unit, "WatchdogSec")


@pytest.mark.parametrize(
    ("jobs", "result", "detached"),
    [
        ("1 hawkwing-client@eth0.service restart running", "success", False),
        ("1 hawkwing-client@eth0.service stop running", "success", True),
        ("1 hawkwing-client@eth0.service stop running", "timeout", True),
        ("", "success", True),
        ("", "signal", False),
        ("", "watchdog", False),
        ("", "exit-code", False),
    ],
)
def test_filters_stay_for_a_restart_and_go_with_a_stop(
    tmp_path: Path, jobs: str, result: str, detached: bool
) -> None:
    """The script itself, with stand-ins for the two programs that it calls."""
    calls = tmp_path / "calls"
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho '{jobs}'\n")
    (tmp_path / "hawkwing").write_text(f'#!/bin/sh\necho "$@" >{calls}\n')
    script = tmp_path / "stopped"
    script.write_text(STOPPED.read_text().replace("/usr/bin/hawkwing", str(tmp_path / "hawkwing")))
    for file in tmp_path.iterdir():
        file.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SERVICE_RESULT": result}
    argv = ["sh", str(script), "hawkwing-client@eth0.service", "client", "eth0"]
    subprocess.run(argv, env=environment, check=True)
    assert calls.exists() == detached
    if detached:
        assert calls.read_text() == "detach client -i eth0\n"

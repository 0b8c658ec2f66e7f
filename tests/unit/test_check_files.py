"""`hawkwing check`: every way to name the file, and what programs get."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hawkwing import cli
from hawkwing.check import Finding, check_file, line_of

PROJECT = Path(__file__).resolve().parents[2]
GOOD = """\
services:
  web:
    ipv6_addresses: ["fcbb:cc00:2::a"]
    applications: [{port: 80, sid: ["fcbb:bb00:1::2"]}]
"""
WRONG = GOOD.replace("80", "99999").replace("fcbb:bb00:1::2", "10.0.0.1")
SYNTAX = "services: [\n"
WARNED = GOOD.replace("sid: [", "intents: [{intent: low-latency}], x: [").replace(
    ', x: ["fcbb:bb00:1::2"]', ""
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A place for a configuration."""
    return tmp_path / "a file:1.yaml"


def check(*arguments: str, text: str | None = None, stdin: int | None = None) -> tuple[int, str, str]:
    """Exit status, output and errors of `hawkwing check`, with `text` on its standard input."""
    argv = [sys.executable, "-m", "hawkwing", "check", *arguments]
    result = subprocess.run(
        argv, cwd=PROJECT, input=text, stdin=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    return result.returncode, result.stdout, result.stderr


def test_the_file_with_and_without_its_option(file: Path) -> None:
    file.write_text(GOOD)
    good = (0, f"{file}: valid, 1 service with 1 application\n", "")
    assert check(str(file)) == check("--config", str(file)) == check("-c", str(file)) == good
    both = check(str(file), "--config", str(file))
    assert both[0] == 2 and "not allowed with" in both[2]


def test_standard_input() -> None:
    assert check("-", text=GOOD) == (0, "stdin: valid, 1 service with 1 application\n", "")
    status, output, errors = check("-", text=WRONG)
    assert (status, output) == (1, "")
    assert [line[:18] for line in errors.splitlines()] == ["stdin:4: services."] * 2 + ["2 errors"]


def test_standard_input_that_is_closed() -> None:
    script = 'exec "$0" -m hawkwing check - <&-'
    result = subprocess.run(
        ["sh", "-c", script, sys.executable], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "stdin: is closed, a configuration is needed\n"


def test_without_an_argument_it_is_the_agents_own_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(GOOD)
    assert cli.parser().parse_args(["check", "--help"][:1]).file is None
    assert Path("/etc/hawkwing/config.yaml") == cli.DEFAULT_CONFIG
    monkeypatch.setattr(cli, "DEFAULT_CONFIG", file)
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out.startswith(f"{file}: valid")


def test_for_programs(file: Path) -> None:
    file.write_text(WRONG)
    status, output, errors = check("--json", str(file))
    assert (status, errors) == (1, "")
    found = json.loads(output)
    assert [(one["severity"], one["file"], one["line"]) for one in found] == [("error", str(file), 4)] * 2
    assert found[0]["message"].startswith("services.web.applications[0].port: 99999 ")
    assert {*found[0]} == {"severity", "file", "line", "message"}
    file.write_text(GOOD)
    assert check("--json", str(file)) == (0, "[]\n", "")


def test_for_programs_what_has_no_line(file: Path) -> None:
    absent = json.loads(check("--json", str(file))[1])
    assert absent == [{"severity": "error", "file": str(file), "line": None, "message": "no such file"}]
    file.write_text(GOOD)
    (variable,) = check_file(file, {"HAWKWING_HAWKEYE_PORT": "x"}).findings
    assert (variable.severity, variable.file, variable.line) == ("error", None, None)
    assert line_of(variable) == variable.message and variable.message.startswith("HAWKWING_HAWKEYE_PORT: ")


@pytest.mark.parametrize("text", [SYNTAX, WRONG, ""])
def test_an_error_reads_as_the_agent_says_it(file: Path, text: str) -> None:
    file.write_text(text)
    argv = [sys.executable, "-m", "hawkwing", "client", "-i", "lo", "--config", str(file)]
    if os.geteuid() == 0:
        agent = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
        assert agent.stderr == check(str(file))[2] != ""


def test_warnings_of_both_kinds(file: Path) -> None:
    file.write_text(WARNED)
    report = check_file(file, {})
    assert report.good and report.findings
    assert all(isinstance(one, Finding) and one.severity == "warning" for one in report.findings)
    assert all(one.file == str(file) for one in report.findings)
    status, output, errors = check(str(file))
    assert status == 0 and output.startswith(f"{file}: valid")
    assert errors.startswith(f"{file}:4: warning: ") and len(errors.splitlines()) == len(report.findings)
    status, output, errors = check("--json", str(file))
    assert (status, errors) == (0, "")
    assert [one["message"] for one in json.loads(output)] == [one.message for one in report.findings]

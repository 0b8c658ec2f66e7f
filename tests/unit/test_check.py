"""`hawkwing check`, and what a wrong file looks like to whoever gives a command."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hawkwing.check import Finding, check_file, line_of
from hawkwing.cli import main
from hawkwing.config import load_config
from hawkwing.control import ControlServer, ask
from hawkwing.errors import ConfigError, HawkwingError
from tests.unit.mistakes import HEAD, port
from tests.unit.test_config import EXAMPLE, LEAST


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("hawk.yaml")


def check(file: Path, text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    file.write_text(text)
    status = main(["check", "--config", str(file)])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_one_of_each(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(file, port("80"), capsys) == (0, "hawk.yaml: valid, 1 service with 1 application\n", "")


def test_several(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = port("80") + "      - {port: 81, sid: [fcbb::1, fcbb::1]}\n"
    assert check(
        file, text + text.replace("services:\n", "").replace("wb", "wc").replace("web", "wec"), capsys
    ) == (
        0,
        "hawk.yaml: valid, 2 services with 4 applications, 2 warnings\n",
        "hawk.yaml:7: warning: services.web.applications[1].sid[1]: fcbb::1 is given twice in a row\n"
        "hawk.yaml:13: warning: services.wec.applications[1].sid[1]: fcbb::1 is given twice in a row\n",
    )


def test_an_error_begins_with_file_and_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(file, "services\n", capsys) == (1, "", "hawk.yaml:1: services has no colon\n")


def test_several_errors_are_counted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _out, said = check(file, HEAD + "      - {port: 0}\n", capsys)
    assert status == 1
    assert said.splitlines() == [
        "hawk.yaml:5: services.web.applications[0]: needs sid, paths or intents",
        "hawk.yaml:5: services.web.applications[0].port: 0 is not a port a packet can have, use 1 to 65535",
        "2 errors",
    ]


def test_an_empty_file_gets_one_message(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(file, "", capsys) == (1, "", f"hawk.yaml:1: is empty, {LEAST}\n")


def test_what_an_empty_file_is_told_can_be_used(file: Path) -> None:
    file.write_text(LEAST.partition("\n")[2])
    assert load_config(file).services["web"].applications[0].port == 80


def test_the_example_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(EXAMPLE)]) == 0
    assert capsys.readouterr().out.startswith(f"{EXAMPLE}: valid, 3 services with 7 applications, ")


def test_from_a_shell(file: Path) -> None:
    file.write_text("services:\n\tweb:\n")
    argv = [sys.executable, "-m", "hawkwing", "check", "-c", str(file)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "hawk.yaml:2: indented with a tab, YAML allows spaces only\n"


def test_a_running_agent_passes_on_the_lines_as_they_are(tmp_path: Path) -> None:
    def reload(_request: object) -> str:
        raise ConfigError(["hawk.yaml:1: one", "hawk.yaml:2: two"])

    def other(_request: object) -> str:
        raise HawkwingError("a sentence")

    found: list[Exception] = []

    def asked(what: str) -> None:
        try:
            ask(tmp_path / "agent.sock", {"ask": what})
        except HawkwingError as error:
            found.append(error)

    async def serve() -> None:
        server = ControlServer(tmp_path / "agent.sock", {"reload": reload, "other": other})
        await server.start()
        for what in ("reload", "other", "something"):
            thread = threading.Thread(target=asked, args=(what,))
            thread.start()
            await asyncio.to_thread(thread.join)
        server.close()

    asyncio.run(serve())
    first, second, third = found
    assert isinstance(first, ConfigError) and first.problems == ["hawk.yaml:1: one", "hawk.yaml:2: two"]
    assert not isinstance(second, ConfigError) and str(second) == "a sentence"
    assert str(third) == "unknown request (different version?)"


def test_the_examples_in_the_readme_are_valid(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", (EXAMPLE.parents[1] / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 4
    for text in examples:
        assert check(file, text, capsys) == (0, "hawk.yaml: valid, 1 service with 1 application\n", "")


def test_a_finding_in_json_has_these_fields() -> None:
    found = Finding("error", "hawk.yaml", 3, "is missing")
    assert found.as_json() == {
        "severity": "error",
        "file": "hawk.yaml",
        "line": 3,
        "message": "is missing",
    }


def test_a_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    report = check_file(Path("-"), {})
    assert (report.file, report.good) == ("stdin", False)
    assert [line_of(one) for one in report.findings] == ["stdin: is closed, a configuration is needed"]
    assert report.findings[0].severity == "error"

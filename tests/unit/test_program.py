"""`./run` as a program: its help, the ways to write a task, and the ends it can come to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.program import rewritten

PROJECT = Path(__file__).resolve().parents[2]
TASKS = ("lab.exec", "lab.heal", "lab.capture", "lab.impair", "lab.status", "demo")


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`./run ARGUMENTS` without the installing."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *arguments],
        cwd=PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("lab.exec host-a ping -c 1 host-b", ["lab.exec", "host-a", "ping -c 1 host-b"]),
        ("lab.exec host-a ls", ["lab.exec", "host-a", "ls"]),
        ("lab.exec --name x host-a ip -6 route", ["lab.exec", "--name", "x", "host-a", "ip -6 route"]),
        ("lab.exec host-a --name=x ip -6 route", ["lab.exec", "host-a", "--name=x", "ip -6 route"]),
        ("lab.exec host-a ip -6 route --name x", ["lab.exec", "host-a", "--name", "x", "ip -6 route"]),
        ("lab.exec vpp1 ip -6 route --kernel", ["lab.exec", "vpp1", "--kernel", "ip -6 route"]),
        ("lab.exec host-a -- tool --name x", ["lab.exec", "host-a", "tool --name x"]),
        ("lab.exec host-a demo --help", ["lab.exec", "host-a", "demo --help"]),
        ("lab.exec -n host-a -c ls", ["lab.exec", "-n", "host-a", "-c", "ls"]),
        ("lab.heal vpp2-vpp4", ["lab.heal", "--link", "vpp2-vpp4"]),
        ("lab.heal --name x vpp2-vpp4", ["lab.heal", "--name", "x", "--link", "vpp2-vpp4"]),
        ("lab.heal vpp2-vpp4 --name demo", ["lab.heal", "--link", "vpp2-vpp4", "--name", "demo"]),
        ("lab.heal --link vpp2-vpp4", ["lab.heal", "--link", "vpp2-vpp4"]),
        ("lab.heal", ["lab.heal"]),
        ("lab.heal one two", ["lab.heal", "--link", "one", "two"]),
        ("lab.heal lab.status", ["lab.heal", "lab.status"]),
        ("lab.capture one two", ["lab.capture", "--link", "one", "--link", "two"]),
        ("lab.capture --stop", ["lab.capture", "--stop"]),
        ("lab.impair one --latency 80ms", ["lab.impair", "one", "--latency", "80ms"]),
        ("lab.impair --help", ["--help", "lab.impair"]),
        ("lab.exec --help", ["--help", "lab.exec"]),
        ("lab.exec host-a -h", ["--help", "lab.exec"]),
        ("--list lab", ["--list", "lab"]),
        ("lab.status --name demo", ["lab.status", "--name", "demo"]),
        ("--echo demo lab.status", ["--echo", "demo", "lab.status"]),
    ],
)
def test_words_as_invoke_takes_them(written: str, taken: list[str]) -> None:
    assert rewritten(written.split(), TASKS) == taken


def test_a_command_in_one_word_stays_as_it_is_and_several_are_quoted() -> None:
    assert rewritten(["lab.exec", "host-a", "echo $HOME; ls"], TASKS)[-1] == "echo $HOME; ls"
    assert rewritten(["lab.exec", "host-a", "echo", "two words"], TASKS)[-1] == "echo 'two words'"


def test_help_and_list_are_of_this_project() -> None:
    for words in (["--help"], ["--list"], ["--help", "lab.exec"], ["lab.impair", "--help"], ["--version"]):
        shown = run(*words)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "invoke" not in shown.stdout.lower() and "core" not in shown.stdout.lower(), words
    assert run("--version").stdout.startswith("HawkWing ")
    told = run("--help").stdout
    assert "./run lab.up" in told and "lab.list" in told and "HAWKWING_LAB" in told
    told = run("lab.impair", "--help").stdout
    assert told.startswith("Usage: ./run lab.impair LINK [OPTIONS]") and "80ms" in told


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nonsense"], "No idea what 'nonsense' is!"),
        (["lab.heal", "a", "b"], "No idea what 'b' is!"),
        (["test.fuzz", "--count", "x"], "'x' is not a number"),
        (["lab.exec", "host-a"], "'lab.exec' did not receive required positional arguments: 'command'"),
        (
            ["lab.status", "--name", "hawké"],
            "hawkwing lab: 'hawké' is not a valid name: use letters, digits and hyphens",
        ),
        (["lab.status", "--name", "no-lab"], "hawkwing lab: lab no-lab is not up, start it"),
        (["lab.graph", "--topology", "no.yaml"], "hawkwing lab: "),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], sentence: str) -> None:
    result = run(*words)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(sentence) and len(result.stderr.splitlines()) == 1


def test_the_lab_that_is_meant_where_none_is_named() -> None:
    assert "lab from-there is not up" in run("lab.status", HAWKWING_LAB="from-there").stderr
    assert "lab named is not up" in run("lab.status", "--name", "named", HAWKWING_LAB="from-there").stderr


@pytest.mark.parametrize("words", [["--help"], ["--list"], ["lab.graph"], ["doctor"]])
def test_reader_that_has_gone(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "lab", *words],
            cwd=PROJECT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("module", ["invoke", "yaml"])
@pytest.mark.parametrize("words", [["lab.graph"], ["demo"], ["bench"], ["lab.up"]])
def test_interrupted_while_importing(module: str, words: list[str], tmp_path: Path) -> None:
    text = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / f"{module}.py").write_text(text)
    result = run(*words, PYTHONPATH=str(tmp_path), HAWKWING_LAB="interrupted")
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr.endswith(": interrupted\n") and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_tests_end_with_a_line_and_their_fixtures_taken_down(number: signal.Signals, tmp_path: Path) -> None:
    """The session is one of its own, with this project's conftest."""
    (tmp_path / "conftest.py").write_text((PROJECT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import os, signal, pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def made():\n    yield\n    os.kill(os.getpid(), signal.SIGINT)\n"
        f"    open({str(tmp_path / 'gone')!r}, 'w')\n"
        f"def test_it(made):\n    os.kill(os.getpid(), {int(number)})\n"
        "def test_never():\n    assert False\n"
    )
    argv = [
        sys.executable,
        "-m",
        "tests",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    result = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 128 + number
    assert (tmp_path / "gone").exists()
    assert f"Ended: {number.name} !" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr and "FAILED" not in result.stdout


def test_tests_interrupted_while_pytest_is_imported(tmp_path: Path) -> None:
    text = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"
    (tmp_path / "pytest.py").write_text(text)
    result = run("test.unit", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "run: interrupted\n")

"""How commands end: one line for a signal, none where the reader has gone, and nothing half tidied up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hawkwing import ending

PROJECT = Path(__file__).resolve().parents[2]
HAWKWING = [sys.executable, "-m", "hawkwing"]
GOOD = """\
services:
  web:
    ipv6_addresses: ["fcbb:cc00:2::a"]
    applications: [{port: 80, sid: ["fcbb:bb00:1::2"]}]
"""
#: Stands in for a module: the user presses Ctrl-C while it is imported.
INTERRUPTING = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A configuration file without faults."""
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return file


def hawkwing(*arguments: str | Path, **options: object) -> "subprocess.CompletedProcess[str]":
    """Runs the command as a user would."""
    settings: dict[str, object] = {"stdout": subprocess.PIPE, "env": dict(os.environ)} | options
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [*HAWKWING, *map(str, arguments)],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        **settings,
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["check", "--help"], ["version"], ["--version"], ["status"]]
)
def test_reader_that_has_gone_is_no_failure_to_tell(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = hawkwing(*arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


def test_reader_of_a_check_that_has_gone(good: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = hawkwing("check", "--config", good, stdout=writer)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("arguments", [["--help"], ["version"]])
def test_output_that_finds_no_room_is_one_sentence(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        result = hawkwing(*arguments, stdout=full)
    sentence = "hawkwing: can't write the output: No space left on device\n"
    assert (result.returncode, result.stderr) == (1, sentence)


@pytest.mark.parametrize("module", ["argparse", "yaml", "pydantic"])
def test_interrupted_while_importing_it_says_so_in_a_line(module: str, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / f"{module}.py").write_text(INTERRUPTING)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    result = hawkwing("check", "--config", good, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "hawkwing: interrupted\n")


def program(body: str) -> "subprocess.CompletedProcess[str]":
    """Runs some lines that know `ending`, and `kill(number)` for a signal to themselves."""
    head = "import os, signal, sys\nfrom hawkwing import ending\nkill = lambda n: os.kill(os.getpid(), n)\n"
    return subprocess.run(
        [sys.executable, "-c", head + body],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "status", "line"),
    [
        ("SIGINT", 130, "it: interrupted\n"),
        ("SIGTERM", 143, "it: ended by SIGTERM\n"),
        ("SIGHUP", 129, "it: ended by SIGHUP\n"),
    ],
)
def test_a_signal_ends_it_tidily(name: str, status: int, line: str) -> None:
    result = program(f"ending.tidily('it')\ntry:\n  kill(signal.{name})\nfinally:\n  print('tidy')")
    assert (result.returncode, result.stdout, result.stderr) == (status, "tidy\n", line)


def test_what_is_shielded_is_done_to_its_end_first() -> None:
    body = "ending.tidily('it')\nwith ending.shielded():\n  kill(signal.SIGTERM); kill(signal.SIGINT)\n"
    result = program(f"{body}  print('whole')\nprint('never')")
    assert (result.returncode, result.stdout, result.stderr) == (143, "whole\n", "it: ended by SIGTERM\n")


def test_what_tidies_up_after_a_signal_is_not_ended_by_that_signal_again() -> None:
    body = "ending.tidily('it')\ntry:\n  kill(signal.SIGTERM)\nfinally:\n"
    result = program(f"{body}  with ending.shielded():\n    kill(signal.SIGINT)\n  print('tidy')")
    assert (result.returncode, result.stdout, result.stderr) == (143, "tidy\n", "it: ended by SIGTERM\n")


def test_a_signal_that_a_library_swallowed_is_not_forgotten() -> None:
    body = "ending.tidily('it')\ntry:\n  kill(signal.SIGTERM)\nexcept BaseException:\n  pass\n"
    result = program(f"{body}print('on')\nending.check()\nprint('never')")
    assert (result.returncode, result.stdout) == (143, "on\n")


def test_a_signal_that_python_swallowed_is_not_shown_as_a_fault_and_not_forgotten() -> None:
    """In a destructor or a weak reference's callback; what else is raised there is shown as ever."""
    dying = "class Dying:\n  def __del__(self):\n    {}\nDying()\n"
    head = "ending.tidily('it')\n" + dying.format("1 / 0") + dying.format("kill(signal.SIGTERM)")
    result = program(f"{head}print('on')\nending.check()\nprint('never')")
    assert (result.returncode, result.stdout) == (143, "on\n")
    assert result.stderr.count("Exception ignored") == 1 and "ZeroDivisionError" in result.stderr
    assert "SystemExit" not in result.stderr


def test_from_then_on_undisturbed_its_children_too() -> None:
    body = "ending.tidily('it')\nending.undisturbed()\nkill(signal.SIGINT); kill(signal.SIGTERM)\n"
    body += "import subprocess\nchild = 'import os, signal; os.kill(os.getpid(), signal.SIGTERM); print(1)'\n"
    result = program(f"{body}sys.exit(subprocess.run([sys.executable, '-c', child]).returncode)")
    assert (result.returncode, result.stdout, result.stderr) == (0, "1\n", "")


def test_nohup_stays() -> None:
    body = (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nending.tidily('it')\nkill(signal.SIGHUP)\nprint('on')"
    )
    assert program(body).stdout == "on\n"


def test_what_is_done_is_not_interrupted_while_python_ends() -> None:
    body = (
        "import atexit\natexit.register(lambda: kill(signal.SIGINT))\nwith ending.at_once('it', last=True):\n"
    )
    for work in ("pass", "ending.tidily('it')"):
        result = program(f"{body}  {work}\nprint('done')")
        assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with ending.at_once("it"):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


FOLLOWED = """
import asyncio
async def live():
    loop, heard = asyncio.get_running_loop(), []
    stop = ending.told(loop, heard.append)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        kill(number)
    while len(heard) < 3:
        await asyncio.sleep(0.01)
    print([signal.Signals(number).name for number in heard])
    stop()
ending.tidily('it')
"""


def test_a_loop_hears_of_signals_and_closing_it_gives_none_back_to_the_system() -> None:
    """The loop's own handlers would: the second signal then ends the process, whatever it is at."""
    result = program(
        f"{FOLLOWED}asyncio.run(live())\nkill(signal.SIGTERM); kill(signal.SIGHUP)\nprint('tidy')"
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "['SIGHUP', 'SIGTERM', 'SIGINT']\ntidy\n"


def test_signals_reach_the_loop_also_through_other_threads() -> None:
    """The kernel may give a signal to any thread, such as one of gRPC's; the loop waits meanwhile."""
    thread = (
        "import threading\n"
        "hold = threading.Event()\n"
        "def other():\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, ending.SIGNALS)\n"
        "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
        "    hold.wait(20)\n"
        "async def waits():\n"
        "    done = asyncio.Event()\n"
        "    stop = ending.told(asyncio.get_running_loop(), lambda number: done.set())\n"
        "    threading.Thread(target=other).start()\n"
        "    await asyncio.wait_for(done.wait(), 10)\n"
        "    stop(); hold.set(); print('heard')\n"
        "asyncio.run(waits())\n"
    )
    result = program(FOLLOWED + thread)
    assert (result.returncode, result.stdout, result.stderr) == (0, "heard\n", "")

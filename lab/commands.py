"""Runs commands to their end, with their output as text or on this terminal."""

import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hawkwing import ending
from lab.errors import CommandError
from lab.process import last_words


def run_to_end(
    command: Sequence[str], environment: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Status and output; subprocess.TimeoutExpired after `timeout` seconds. Ends with this process."""
    process: subprocess.Popen[str] | None = None
    try:
        with ending.shielded():
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        output, errors = process.communicate(timeout=timeout)
    except BaseException:
        if process is not None:
            process.kill()
            process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def run_checked(
    shown: Sequence[str],
    node: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    check: bool,
) -> "subprocess.CompletedProcess[str]":
    """The same, with a CommandError that has the command and the node."""
    try:
        done = run_to_end(command, environment, timeout)
    except subprocess.TimeoutExpired:
        raise CommandError(f"{shlex.join(shown)} in {node} did not end within {timeout:g} s") from None
    if check and done.returncode:
        said = last_words(done.stderr.strip() or done.stdout)
        raise CommandError(f"{shlex.join(shown)} failed in {node} (exit status {done.returncode}): {said}")
    return done


def run_part(command: Sequence[str]) -> int:
    """Exit status of a helper program: only we handle signals, and it is killed when they end us."""
    with ending.put_off():
        process = subprocess.Popen(command)
    try:
        return process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def on_terminal(command: Sequence[str], environment: Mapping[str, str], cwd: Path | None) -> int:
    """The exit status. The command handles Ctrl-C; if we have to end, it ends, too."""
    process: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _frame: object) -> None:
        # The command has received Ctrl-C, too, and handles it.
        if process is not None and number != signal.SIGINT:
            process.terminate()
            # Shells ignore SIGTERM.
            process.send_signal(signal.SIGHUP)

    before = {number: signal.signal(number, hand_on) for number in ending.SIGNALS}
    try:
        process = subprocess.Popen(command, env=environment, cwd=cwd)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status

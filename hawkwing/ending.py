"""Ends commands early: after a signal, with one line, or because the output is closed."""

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OUTPUT_LOST = (errno.EPIPE, errno.ENOSPC, errno.EIO)


def _failure(number: int) -> BaseException:
    return SystemExit(128 + number)


def _prefixed(program: str, text: str) -> str:
    return f"{program}: {text}"


@dataclass
class _State:
    """The signals received so far; global, like the handlers."""

    asked: int = 0
    raised: bool = False
    exception: BaseException | None = None
    shields: int = 0
    failure: Callable[[int], BaseException] = _failure
    once: bool = False
    line: Callable[[str, str], str] = _prefixed

    def ask(self, program: str, number: int) -> None:
        if not self.asked:
            self.asked = number
            _say(program, number)
        if not self.shields and not (self.raised and self.once):
            self.fail()

    def fail(self) -> None:
        self.raised = True
        self.exception = self.failure(self.asked)
        raise self.exception


_state = _State()


def _say(program: str, number: int) -> None:
    if not program:
        return
    word = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    with suppress(OSError):
        # Not through sys.stderr: the signal may have interrupted a write to it.
        os.write(2, f"{_state.line(program, word)}\n".encode())


def say_in(line: Callable[[str, str], str]) -> None:
    """Sets the function that formats a signal's line from program and text."""
    _state.line = line


@contextmanager
def at_once(program: str, last: bool = False) -> Iterator[None]:
    """Ctrl-C ends the process at once, while there is nothing to clean up.

    With `last`, signals are ignored afterwards: they must not interrupt Python's own shutdown, which would
    print errors about threads and modules.
    """

    def leave(number: int, _frame: FrameType | None) -> None:
        _say(program, number)
        # No exception: one that is raised during an import can be swallowed, or shown.
        os._exit(128 + number)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if last:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)


def tidily(program: str, failure: Callable[[int], BaseException] = _failure, once: bool = False) -> None:
    """From now on SIGNALS raise `failure`, only the first one if `once`, so the command can clean up.

    SIGHUP stays ignored if it was (nohup). Without a `program` no line is printed.
    """
    _state.failure, _state.once = failure, once
    _quiet_where_swallowed()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: _state.ask(program, number))


def _quiet_where_swallowed() -> None:
    """Python prints exceptions in destructors and callbacks of weak references, and continues.

    The signal's exception is not printed: `check` raises it again.
    """
    others = sys.unraisablehook

    def show(unraisable: "sys.UnraisableHookArgs") -> None:
        if _state.exception is None or unraisable.exc_value is not _state.exception:
            others(unraisable)

    sys.unraisablehook = show


def check() -> None:
    """Raises the exception of a signal again, which libraries may have swallowed."""
    if _state.asked:
        _state.fail()


@contextmanager
def shielded() -> Iterator[None]:
    """Defers signals: one that arrives inside raises its exception at the end."""
    _state.shields += 1
    try:
        yield
    finally:
        _state.shields -= 1
    if _state.asked and not _state.raised and not _state.shields:
        _state.fail()


@contextmanager
def put_off() -> Iterator[None]:
    """Blocks SIGNALS until its end, also for processes that are started inside."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def told(loop: "AbstractEventLoop", heard: Callable[[int], None]) -> Callable[[], None]:
    """From now on SIGNALS call `heard` in the loop, and raise nothing; call the result to ignore them.

    Not with the loop's own handlers: closing a loop restores the default ones, which end the process during
    its clean-up.
    """
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)

    def drain() -> None:
        for number in reader.recv(64):
            heard(number)

    def stop() -> None:
        signal.set_wakeup_fd(-1)
        loop.remove_reader(reader)
        reader.close()
        writer.close()

    loop.add_reader(reader, drain)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    return stop


@contextmanager
def noted() -> Iterator[socket.socket]:
    """Inside, SIGINT and SIGTERM raise nothing; the result becomes readable when one has arrived."""
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda _number, _frame: None) for number in numbers]
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        reader.close()
        writer.close()


def undisturbed() -> None:
    """From now on SIGNALS have no effect, neither here nor in processes that are started."""
    for number in SIGNALS:
        # A function, because ignored signals would stay ignored in other programs.
        signal.signal(number, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def output_of(program: str, work: Callable[[], int]) -> int:
    """The exit status of `work`, after its output is written; no message if the reader has gone."""
    try:
        try:
            return work()
        finally:
            _flush()
    except OSError as error:
        if not is_lost_output(error):
            raise
        return _output_lost(program, error)


def is_lost_output(error: OSError) -> bool:
    """Whether an error concerns the output: errors of files and sockets are handled where they occur."""
    return error.errno in _OUTPUT_LOST and error.filename is None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _output_lost(program: str, error: OSError) -> int:
    status = 128 + signal.SIGPIPE
    if not isinstance(error, BrokenPipeError):
        status = 1
        with suppress(OSError):
            os.write(2, f"{program}: can't write the output: {error.strerror}\n".encode())
    # Python would try again when it ends, and complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    return status

"""The log's lines: with a prefix or as JSON, without endless repetitions."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from hawkwing import ending

_TIMES, _SECONDS = 3, 60.0
_MOST_REMEMBERED = 1000


class Repetitions:
    """A filter that passes a line three times a minute; later it reports how often it was suppressed."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: For each line: start of its minute, number of occurrences, number of suppressed ones.
        self._seen: dict[tuple[int, str], tuple[float, int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False: suppress the line."""
        key = record.levelno, record.getMessage()
        now = self._now()
        begun, times, left_out = self._seen.pop(key, (now, 0, 0))
        if now - begun >= _SECONDS:
            if left_out:
                record.msg, record.args = f"{key[1]} ({left_out} more like this in between)", None
            begun, times, left_out = now, 0, 0
        shown = times < _TIMES
        self._seen[key] = begun, times + 1, left_out + (not shown)
        while len(self._seen) > _MOST_REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        return shown


class Prefixed(logging.Formatter):
    """`hawkwing: warning: ...`, without colours."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, unless it has an exception."""
        prefix = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"hawkwing: {prefix}{super().format(record)}"


class JsonLines(logging.Formatter):
    """One JSON object per line, with role and interface, because a host can have several agents."""

    def __init__(self, role: str, interfaces: Sequence[str]) -> None:
        super().__init__()
        self._whose = {"role": role, "interface": ",".join(interfaces)}

    def format(self, record: logging.LogRecord) -> str:
        """The object; with the key `exception` if there is one."""
        more = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return self.line(record.levelname.lower(), record.getMessage(), record.created, **more)

    def line(self, level: str, message: str, at: float | None = None, **more: str) -> str:
        """The object for a message outside the log; `at` is Unix time, by default now."""
        when = datetime.fromtimestamp(time.time() if at is None else at, UTC)
        stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return json.dumps({"time": stamp, "level": level, "message": message, **self._whose, **more})


def to_standard_error(verbose: bool, json_lines: JsonLines | None = None) -> None:
    """Configures logging for an agent; with `json_lines` also the line of a signal."""
    handler = logging.StreamHandler()
    handler.setFormatter(json_lines or Prefixed())
    if json_lines is not None:
        ending.say_in(lambda _program, text: json_lines.line("info", text))
    if not verbose:
        handler.addFilter(Repetitions())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])

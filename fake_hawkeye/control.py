"""A client for the control socket, for tests and interactive use."""

import contextlib
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Control:
    """Controls a running controller; a refused command is a ValueError with the controller's sentence.

    with Control(path) as control:
        control.set_path("fcbb:cc00:2::a", [{"intent": "low-latency"}], ["fcbb:bb00:1::2"])
    """

    def __init__(self, path: Path | str, timeout: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rwb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the controller is not changed."""
        self._file.close()
        self._socket.close()

    def set_path(
        self,
        destination: str,
        intents: Sequence[Mapping[str, Any]],
        sids: Sequence[str] | None = None,
        *,
        source: str | None = None,
        error: str | None = None,
    ) -> int:
        """Sets a path, or a refusal with the text `error`; returns the number of pushed results."""
        entry = {
            "destination": str(destination),
            "source": source,
            "intents": [dict(intent) for intent in intents],
            "sids": None if sids is None else [str(sid) for sid in sids],
            "error": error,
        }
        return int(self._ask("set", **entry)["pushed"])

    def sessions(self) -> list[dict[str, Any]]:
        """The open streams, each with `session`, `peer`, `half_closed` and `asked`."""
        return list(self._ask("sessions")["sessions"])

    def requests(self) -> list[dict[str, Any]]:
        """All requests so far, oldest first; `time` in Unix seconds."""
        return list(self._ask("requests")["requests"])

    def end_streams(self, code: str = "UNKNOWN", message: str = "") -> int:
        """Ends every open stream with this status; returns their number."""
        return int(self._ask("end_streams", code=code, message=message)["ended"])

    def raw_push(self, result: Mapping[str, Any]) -> int:
        """Pushes any PathResult, in protobuf's JSON format, on every open stream; returns their number."""
        return int(self._ask("raw_push", result=dict(result))["pushed"])

    def set_link(self, link: str, **metrics: float | bool) -> None:
        """Changes a link's `latency`, `bandwidth`, `loss`, `jitter`, `utilization`, `igp` or `up`."""
        self._ask("link", link=link, **metrics)

    def set_service(self, service: str, router: str, healthy: bool) -> None:
        """Sets the health of a service's instance at this router."""
        self._ask("service", service=service, router=router, healthy=healthy)

    def network(self) -> dict[str, Any]:
        """All `links` with their metrics and all `services` with their health."""
        return self._ask("network")

    def recalculate(self) -> int:
        """Recalculates at once instead of after the batch time; returns the number of pushed results."""
        return int(self._ask("recalculate")["pushed"])

    def fault(self, fault: str, **details: Any) -> None:
        """Changes the next answer, or the next `times`, optionally only those about `destination`.

        late (`seconds`), never, wrong (`sids`), empty, stranger (`address`), twice, end (`code`, `message`).
        """
        if "sids" in details:
            details["sids"] = [str(sid) for sid in details["sids"]]
        for name in {"destination", "address"} & details.keys():
            details[name] = str(details[name])
        self._ask("fault", fault=fault, **details)

    def go_away(self, grace: float = 0.0) -> None:
        """Sends GOAWAY; open streams end after `grace` seconds, new ones are served."""
        self._ask("fault", fault="goaway", seconds=grace)

    def refuse(self, seconds: float | None = None) -> None:
        """Aborts all streams and refuses connections, for some seconds or until `clear_faults`."""
        self._ask("fault", fault="refuse", seconds=seconds)

    def clear_faults(self) -> None:
        """Restores correct answers, and accepts connections again."""
        self._ask("fault", fault="clear")

    def die(self) -> None:
        """Kills the controller like `kill -9`, without clean-up."""
        with contextlib.suppress(ConnectionError):
            self._ask("fault", fault="die")

    def _ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        self._file.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
        self._file.flush()
        line = self._file.readline()
        if not line:
            raise ConnectionError("the controller closed its control socket")
        reply: dict[str, Any] = json.loads(line)
        if not reply.pop("ok"):
            raise ValueError(reply["error"])
        return reply

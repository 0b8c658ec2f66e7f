"""Restarts the mock controller of a lab, or pushes a path from it."""

from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path

from fake_hawkeye.control import Control
from fake_hawkeye.paths import TableError, load_table
from lab.network import Lab, LabError
from lab.process import stop


def restart(lab: Lab, table: Path | None, computing: bool = True, options: Sequence[str] = ()) -> str:
    """Stops the running controller and starts one with this table; returns where it listens."""
    if table is not None:
        # Before the stop: if the table is invalid, the running controller stays.
        try:
            load_table(table)
        except TableError as error:
            raise LabError(str(error)) from error
    running = lab.processes().get(lab.hawkeye.name)
    if running is not None:
        stop([running])
    process = lab.start_hawkeye(table, computing, options)
    process.wait_for("listening on")
    return f"controller on {process.output().strip().splitlines()[-1].removeprefix('listening on ')}"


def like_options(release: str | None) -> list[str]:
    """The options for a controller that behaves like this release of HawkEye."""
    if release not in (None, "1.0.1"):
        raise LabError(f"{release!r} is not a release that the mock controller can behave like, use 1.0.1")
    return ["--like", release] if release else []


def push_path(lab: Lab, text: str) -> str:
    """`DESTINATION=INTENT,..=SID,..`: sets the running controller's path for this query and pushes it."""
    parts = text.split("=")
    if len(parts) != 3:
        raise LabError(f"{text!r} is not of the form DESTINATION=INTENT,INTENT=SID,SID")
    destination, intents, sids = parts[0], parts[1].split(","), [sid for sid in parts[2].split(",") if sid]
    try:
        IPv6Address(destination)
        for sid in sids:
            IPv6Address(sid)
    except ValueError as error:
        raise LabError(f"{error} in {text!r}") from None
    if not lab.control_socket.exists():
        raise LabError("no controller is running in this lab, start it with './run hawkeye'")
    with Control(lab.control_socket) as control:
        control.set_path(destination, [{"intent": name} for name in intents], sids)
    return f"{destination} ({', '.join(intents)}): {', '.join(sids) or 'no path'}"

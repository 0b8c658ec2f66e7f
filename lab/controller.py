"""The mock controller of a lab: started anew with a table, or told to push."""

from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path

from fake_hawkeye.control import Control
from fake_hawkeye.paths import TableError, load_table
from lab.network import Lab, LabError
from lab.process import stop


def restart(lab: Lab, table: Path | None, computing: bool = True, options: Sequence[str] = ()) -> str:
    """Stops the running controller and starts one with this table; a sentence that says so."""
    if table is not None:
        # Before anything is stopped: the running one stays where the table is wrong.
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


def push_path(lab: Lab, text: str) -> str:
    """`DESTINATION=INTENT,..=SID,..`: the running controller's path for that from now on, pushed at once."""
    parts = text.split("=")
    if len(parts) != 3:
        raise LabError(f"write DESTINATION=INTENT,INTENT=SID,SID and not {text!r}")
    destination, intents, sids = parts[0], parts[1].split(","), [sid for sid in parts[2].split(",") if sid]
    try:
        IPv6Address(destination)
        for sid in sids:
            IPv6Address(sid)
    except ValueError as error:
        raise LabError(f"{error} in {text!r}") from None
    if not lab.control_socket.exists():
        raise LabError("no controller runs in this lab: start it with './run hawkeye'")
    with Control(lab.control_socket) as control:
        control.set_path(destination, [{"intent": name} for name in intents], sids)
    return f"{destination} ({', '.join(intents)}): {', '.join(sids) or 'no path'}"

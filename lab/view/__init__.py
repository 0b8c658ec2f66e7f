"""The lab in a browser: `./run lab.view`."""

import signal
from pathlib import Path

from lab.network import Lab


def run(name: str, listen: str | None = None, picture: Path | None = None) -> int:
    """Serves the page of a lab until Ctrl-C, or writes a picture of it; returns the exit status."""
    from lab.view.browser import Browser, require
    from lab.view.server import DEFAULT, Server, read_place

    place = read_place(listen or ("127.0.0.1:0" if picture else DEFAULT))
    if picture is not None:
        require()
    Lab(name).require_up()
    with Server(name, place) as server:
        if picture is not None:
            with Browser() as browser:
                browser.picture(server.url, picture)
            print(picture)
            return 0
        print(f"lab {name}: {server.url}   (Ctrl-C ends)", flush=True)
        while True:
            signal.pause()

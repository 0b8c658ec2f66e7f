"""The start-up configuration of one VPP instance: small, without hugepages, and asleep when idle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

API_SOCKET, CLI_SOCKET, STATS_SOCKET = "api.sock", "cli.sock", "stats.sock"
_SHARED_MEMORY = Path("/dev/shm")
_HEAP, _BUFFERS, _STATS = "64M", 4096, "4M"


def startup_text(name: str, folder: Path, core: int, plugins: Path, wanted: Iterable[str]) -> str:
    """`name` sets its shared memory apart, `folder` takes its sockets, `core` is the one it runs on.

    No poll-sleep-usec: its interfaces interrupt, so that it sleeps in epoll between packets and still answers
    at once; a fixed sleep would be added at each hop.
    """
    enabled = "\n".join(f"  plugin {plugin} {{ enable }}" for plugin in wanted)
    return f"""\
unix {{
  nodaemon
  nosyslog
  nobanner
  runtime-dir {folder}
  cli-listen {folder / CLI_SOCKET}
}}
api-segment {{ prefix {name} }}
socksvr {{ socket-name {folder / API_SOCKET} }}
statseg {{
  socket-name {folder / STATS_SOCKET}
  size {_STATS}
  page-size 4K
}}
cpu {{ main-core {core} }}
memory {{
  main-heap-size {_HEAP}
  main-heap-page-size 4K
}}
buffers {{
  buffers-per-numa {_BUFFERS}
  page-size 4K
}}
plugins {{
  path {plugins}
  plugin default {{ disable }}
{enabled}
}}
"""


def shared_memory(name: str) -> list[Path]:
    """The instance's files in the memory that processes share; a killed one leaves them."""
    files = (_SHARED_MEMORY / f"{name}-{kind}" for kind in ("global_vm", "vpe-api"))
    return [file for file in files if file.exists()]

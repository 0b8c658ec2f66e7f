"""The start-up configuration of a VPP instance: little memory, no hugepages, no load when idle."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

API_SOCKET, CLI_SOCKET, STATS_SOCKET = "api.sock", "cli.sock", "stats.sock"
_SHARED_MEMORY = Path("/dev/shm")
_HEAP, _BUFFERS, _STATS = "64M", 4096, "4M"


def startup_text(name: str, folder: Path, plugins: Path, wanted: Iterable[str]) -> str:
    """`name` is the prefix of its shared memory, `folder` is for its sockets.

    No poll-sleep-usec: its interfaces use interrupts, so that it sleeps in epoll between packets and still
    forwards at once; a fixed sleep would add delay at each hop.
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
    """The instance's shared memory files, which a killed instance leaves over."""
    files = (_SHARED_MEMORY / f"{name}-{kind}" for kind in ("global_vm", "vpe-api"))
    return [file for file in files if file.exists()]

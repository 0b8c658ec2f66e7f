"""Live captures: pcapng on standard output, for Wireshark and tshark in a pipe.

Each link is captured at both ends, and each end is a separate interface in the output, named LINK@NODE. So a
packet appears twice, where it leaves and where it arrives; if it is lost in between, once.
"""

import errno
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from hawkwing import ending, pcapng
from lab.capture import find_link
from lab.network import Lab, LabError
from lab.pcap import PcapStream
from lab.process import last_words, marked_environment
from lab.topology import Interface
from lab.wait import patient

_PIECE = 1 << 18
_STARTED_WITHIN, _ENDED_WITHIN = 60.0, 3.0
_DROPPED = re.compile(r"^(\d+) packets? dropped by kernel$", re.MULTILINE)


class _End:
    """tcpdump at one end of a link, which writes to a pipe."""

    def __init__(self, lab: Lab, interface: Interface, number: int) -> None:
        self.number = number
        self.name = f"{interface.link.name}@{interface.node}"
        self.description = f"{interface.name} of {interface.node}, link {interface.link.name}, lab {lab.name}"
        self._address = bytes.fromhex(interface.hardware_address.replace(":", ""))
        self._stream = PcapStream()
        self._said: str | None = None
        argv = ["tcpdump", "-i", interface.name, "-w", "-", "-U", "--immediate-mode", "-Z", "root"]
        self._process = subprocess.Popen(
            lab.command(interface.node, [*argv, "--time-stamp-precision=nano"]),
            env=marked_environment(lab.name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Only we handle Ctrl-C.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.descriptor = self._process.stdout.fileno()

    @property
    def begun(self) -> bool:
        """Whether it captures."""
        return self._stream.begun

    def read(self) -> list[tuple[int, bytes]]:
        """The captured frames: their times and blocks; LabError if it has ended."""
        data = os.read(self.descriptor, _PIECE)
        if not data:
            raise LabError(f"the capture on {self.name} ended: {last_words(self.stop())}")
        return self._frames(data)

    def _frames(self, data: bytes) -> list[tuple[int, bytes]]:
        return [(one.time, self._block(one)) for one in self._stream.feed(data)]

    def _block(self, record: pcapng.Record) -> bytes:
        return pcapng.packet(self.number, record, outbound=record.data[6:12] == self._address)

    def terminate(self) -> None:
        """Makes it write all captured packets, and end."""
        self._process.terminate()

    def rest(self) -> list[tuple[int, bytes]]:
        """Waits for its end; returns the remaining frames."""
        if self._said is not None:
            return []
        try:
            output, said = self._process.communicate(timeout=patient(_ENDED_WITHIN))
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, said = self._process.communicate()
        self._said = said.decode(errors="replace")
        return self._frames(output)

    def stop(self) -> str:
        """Stops it; returns its messages."""
        self.terminate()
        self.rest()
        return self._said or ""


def follow(lab: Lab, names: Sequence[str], output: int = 1) -> None:
    """Writes all packets of the named links, or of all links, to a descriptor, until a signal.

    BrokenPipeError when the reader has gone, LabError when the lab is removed.
    """
    if os.isatty(output):
        raise LabError(
            "--live writes pcapng for another program: add `| wireshark -k -i -`, `| tshark -r -` or `> FILE`"
        )
    links = list(dict.fromkeys(find_link(lab, name) for name in names)) or list(lab.topology.links)
    interfaces = [link.interface(node) for link in links for node in link.nodes]
    ends: list[_End] = []
    try:
        for interface in interfaces:
            with ending.shielded():
                ends.append(_End(lab, interface, len(ends)))
        _Follower(ends, output).run()
    finally:
        with ending.shielded():
            said = [(end.name, end.stop()) for end in ends]
        for name, words in said:
            if (match := _DROPPED.search(words)) and match[1] != "0":
                print(f"hawkwing lab: {name}: the kernel dropped {match[1]} packets", file=sys.stderr)


class _Follower:
    def __init__(self, ends: Sequence[_End], output: int) -> None:
        self._ends = {end.descriptor: end for end in ends}
        self._output = output
        self._waiting = pcapng.InOrder()
        self._poll = select.poll()
        for descriptor in self._ends:
            self._poll.register(descriptor, select.POLLIN)
        # No event is requested: poll always reports a closed reader.
        self._poll.register(output, 0)

    def run(self) -> None:
        """Runs until a signal or an error; then writes all captured packets."""
        end = time.monotonic() + patient(_STARTED_WITHIN)
        while not all(one.begun for one in self._ends.values()):
            if time.monotonic() > end:
                raise LabError(f"the captures did not start within {patient(_STARTED_WITHIN):g} s")
            self._read(0.1)
        blocks = [pcapng.section()]
        blocks += [pcapng.interface(one.name, one.description) for one in self._ends.values()]
        self._write(b"".join(blocks))
        try:
            while True:
                self._read(pcapng.HELD_NS / 1e9 if self._waiting else None)
                self._write(b"".join(self._waiting.release(time.time_ns())))
        except BrokenPipeError:
            raise
        except BaseException:
            with ending.shielded(), suppress(OSError):
                for tap in self._ends.values():
                    tap.terminate()
                for tap in self._ends.values():
                    for one in tap.rest():
                        self._waiting.add(*one)
                self._write(b"".join(self._waiting.release(None)))
            raise

    def _read(self, timeout: float | None) -> None:
        ending.check()
        for descriptor, events in self._poll.poll(None if timeout is None else int(timeout * 1000)):
            if descriptor == self._output:
                if events & (select.POLLERR | select.POLLHUP):
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                continue
            for one in self._ends[descriptor].read():
                self._waiting.add(*one)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view) :]

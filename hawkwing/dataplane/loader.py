"""Compiles and loads with BCC, in a process of its own: LLVM's 100 MB end with it.

The process sends what it loaded as file descriptors over a Unix socket and exits; programs and maps
live on in whoever holds them. Needs no kernel headers package: bpf/kernel has the few files that BCC
includes, over the user-space headers, since the programs use stable structures only.
"""

import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from hawkwing.dataplane import bpf, cache
from hawkwing.dataplane.layout import limits, structures
from hawkwing.dataplane.source import flattened, source_folder
from hawkwing.errors import DataplaneError

ROLES = ("client", "server")
_MAX_HEADER = 65536
_MAX_DESCRIPTORS = 64


@dataclass(frozen=True)
class Capacities:
    """Entries the maps have room for."""

    policies: int = 4096
    services: int = 16384
    routes: int = 65536
    names: int = 16384
    flows: int = 65536

    @property
    def buckets(self) -> int:
        """Of the flow table: three ways of four are in use when it holds `flows`."""
        ways = limits()["HW_WAYS"]
        return -(-self.flows * 4 // (3 * ways))

    @property
    def flow_bytes(self) -> int:
        """What the flow table takes."""
        return self.buckets * ctypes.sizeof(structures()["flow_bucket"])


class Loaded(NamedTuple):
    """File descriptors by name; whoever gets them closes them. `inherited` maps were in use before."""

    programs: dict[str, int]
    maps: dict[str, int]
    inherited: frozenset[str] = frozenset()


class Loading:
    """A loader at work; `result` waits for it. Started early, it compiles while the agent reads its files."""

    def __init__(self, role: str, capacities: Capacities, raw_links: bool = False, xdp: bool = False) -> None:
        self._wanted = {"role": role, "raw_links": raw_links, "xdp": xdp, **asdict(capacities)}
        self._key = cache_key(role, raw_links, xdp, capacities)
        self._compiled = cache.read(self._key)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._early: Loaded | None = None
        self._thread = threading.Thread(target=self._load_early)
        if self._compiled is None:
            self._start()
        else:
            # The kernel verifies for a while; nothing here needs the interpreter meanwhile.
            self._thread.start()

    def _load_early(self) -> None:
        self._early = self._load_cached({})

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        descriptor, arguments = str(theirs.fileno()), json.dumps(self._wanted)
        command = [sys.executable, "-P", "-m", "hawkwing.dataplane.loader", descriptor, arguments]
        # A file, not a pipe: what the verifier says can be longer than a pipe holds, and nobody reads yet.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=self._errors
        )
        theirs.close()

    def result(self, inherited: Mapping[str, int] = MappingProxyType({})) -> Loaded:
        """Programs and maps, or DataplaneError with the reason.

        The programs use the `inherited` maps where all of them still have the right form, else none.
        """
        if self._thread.ident is not None:
            self._thread.join()
        early, self._early = self._early, None
        loaded = early if early is not None and not inherited else self._load_cached(inherited)
        if early is not None and loaded is not early:
            for fd in [*early.programs.values(), *early.maps.values()]:
                os.close(fd)
        if loaded is None:
            loaded = self._compile()
            self._compiled = cache.read(self._key)
            again = self._load_cached(inherited) if inherited else None
            if again is not None and again.inherited:
                for fd in [*loaded.programs.values(), *loaded.maps.values()]:
                    os.close(fd)
                loaded = again
        for name, fd in inherited.items():
            if name not in loaded.inherited:
                os.close(fd)
        return loaded

    def _load_cached(self, inherited: Mapping[str, int]) -> Loaded | None:
        if self._compiled is None:
            return None
        fitting = cache.fitting(self._compiled, inherited)
        try:
            return Loaded(*cache.load(self._compiled, fitting), frozenset(fitting))
        except OSError:
            # Another kernel may refuse it; what it says to a fresh compilation is what counts.
            return None

    def _compile(self) -> Loaded:
        if self._socket is None:
            self._start()
        assert self._socket is not None and self._process is not None
        with self._socket:
            header, descriptors, _flags, _address = socket.recv_fds(
                self._socket, _MAX_HEADER, _MAX_DESCRIPTORS
            )
        status = self._process.wait()
        errors = self._read_errors()
        if not header and status == -signal.SIGKILL:
            raise DataplaneError("the compiler of the data plane was killed: it needs some 150 MB of memory")
        if not header:
            raise DataplaneError(_explain(errors))
        names = json.loads(header)
        if "error" in names:
            raise DataplaneError(_explain(names["error"] + "\n" + errors))
        programs, maps = names["programs"], names["maps"]
        fds = dict(zip([*programs, *maps], descriptors, strict=True))
        return Loaded({n: fds[n] for n in programs}, {n: fds[n] for n in maps})

    def _read_errors(self) -> str:
        with self._errors:
            self._errors.seek(0)
            return self._errors.read().decode(errors="replace")

    def abandon(self) -> None:
        """Ends a loader whose result is no longer wanted, or has been taken."""
        if self._process is not None and self._process.returncode is None and self._socket is not None:
            self._socket.close()
            self._process.kill()
            self._process.wait()


def _tail(text: str, most: int = 4000) -> str:
    return text if len(text) <= most else "... " + text[-most:]


def _flags(role: str, raw_links: bool, xdp: bool, capacities: Capacities) -> list[str]:
    flags = [
        f"-DHW_{role.upper()}",
        f"-DHW_POLICIES={capacities.policies}",
        f"-DHW_SERVICES={capacities.services}",
        f"-DHW_ROUTES={capacities.routes}",
        f"-DHW_NAMES={capacities.names}",
        f"-DHW_BUCKETS={capacities.buckets}",
        "-Wno-unused-function",
    ]
    if raw_links:
        flags.append("-DHW_RAW_LINKS")
    if xdp:
        flags.append("-DHW_XDP")
    return flags


def cache_key(role: str, raw_links: bool, xdp: bool, capacities: Capacities) -> str:
    """The compiled programs' name in the cache."""
    return cache.key(flattened(), *_flags(role, raw_links, xdp, capacities))


def _explain(errors: str) -> str:
    """One sentence for what went wrong; the whole of it where no sentence is known."""
    if "No module named 'bcc'" in errors:
        return "BCC's Python module is missing: install Debian's or Ubuntu's package python3-bpfcc"
    if "linux/types.h' file not found" in errors or "asm/types.h' file not found" in errors:
        return "the C headers are missing: install the package linux-libc-dev"
    if "Operation not permitted" in errors:
        return "the kernel refused to load BPF programs: root rights (CAP_BPF, CAP_NET_ADMIN) are needed"
    if "Cannot allocate memory" in errors or "could not open bpf map" in errors.lower():
        reason = re.findall(r"(?:error|map): ?(.*)", errors)
        return "the kernel has no memory for maps of this size" + (
            f" ({reason[-1].strip()})" if reason else ""
        )
    return "the data plane could not be compiled or loaded: " + _tail(errors.strip())


def compiled(text: str, flags: Sequence[str] = ()) -> Any:
    """BCC's module of a program that may include what ours do; LLVM stays in this process."""
    os.environ["BCC_KERNEL_SOURCE"] = str(source_folder() / "kernel")
    from bcc import BPF

    architecture = next(Path("/usr/include").glob("*-linux-gnu*/asm"), Path("/usr/include/asm")).parent
    return BPF(text=text, cflags=[f"-I{architecture}", "-I/usr/include", *flags])


def compile_and_load(role: str, raw_links: bool, xdp: bool, capacities: Capacities) -> Loaded:
    """Compiles for one role and loads every program; only for a process that may keep LLVM in memory."""
    flags = _flags(role, raw_links, xdp, capacities)
    kinds = ["ethernet", "raw"] if raw_links else ["ethernet"]
    module = compiled(flattened(), flags)
    from bcc import lib

    programs = {}
    for direction in ("egress", "ingress"):
        for kind in kinds:
            name = f"{direction}_{kind}"
            programs[name] = module.load_func(name.encode(), bpf.SCHED_CLS).fd
    lib.bpf_table_name.restype = ctypes.c_char_p
    lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    if xdp:
        programs["ingress_xdp"] = module.load_func(b"ingress_xdp", bpf.XDP).fd
    count = range(lib.bpf_num_tables(module.module))
    maps = {
        lib.bpf_table_name(module.module, i).decode(): lib.bpf_table_fd_id(module.module, i) for i in count
    }
    numbers = {fd: number for number, fd in enumerate(maps.values())}
    code = {name: cache.symbolic(module.dump_func(name.encode()), numbers) for name in programs}
    infos = [bpf.map_info(fd)._replace(name=name) for name, fd in maps.items()]
    cache.write(cache_key(role, raw_links, xdp, capacities), cache.Compiled(infos, code))
    # The descriptors are this process's own: the module object must outlive them.
    _KEEP.append(module)
    return Loaded(programs, maps)


_KEEP: list[object] = []


def main() -> int:
    """`python -m hawkwing.dataplane.loader FD JSON`: sends the descriptors over socket FD."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    wanted = json.loads(sys.argv[2])
    role, raw_links, xdp = wanted.pop("role"), wanted.pop("raw_links"), wanted.pop("xdp")
    # LLVM's complaints belong to the error text, whichever descriptor they are printed on.
    os.dup2(2, 1)
    try:
        loaded = compile_and_load(role, raw_links, xdp, Capacities(**wanted))
    except Exception as error:
        channel.sendall(json.dumps({"error": _tail(f"{error}")}).encode())
        return 1
    header = {"programs": list(loaded.programs), "maps": list(loaded.maps)}
    descriptors = [*loaded.programs.values(), *loaded.maps.values()]
    socket.send_fds(channel, [json.dumps(header).encode()], descriptors)
    # LLVM's own tidying up takes longer than the kernel's.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

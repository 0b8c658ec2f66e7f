"""Compiles with BCC, in a process of its own: LLVM's 100 MB of memory end with it.

Needs no kernel headers package: bpf/kernel has the few files that BCC includes, over the user-space headers,
since the programs use stable structures only.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hawkwing.dataplane import bpf, refusal
from hawkwing.dataplane.bytecode import Bytecode, dumps, loads, programs_of, source_digest, with_maps
from hawkwing.dataplane.source import flattened, source_folder
from hawkwing.errors import DataplaneError


def module_of(text: str, flags: Sequence[str] = ()) -> Any:
    """BCC's module of a program that may include what ours do; LLVM stays in this process."""
    os.environ["BCC_KERNEL_SOURCE"] = str(source_folder() / "kernel")
    from bcc import BPF

    architecture = next(Path("/usr/include").glob("*-linux-gnu*/asm"), Path("/usr/include/asm")).parent
    return BPF(text=text, cflags=[f"-I{architecture}", "-I/usr/include", *flags])


def compile_role(role: str) -> Bytecode:
    """All programs of a role. BCC makes the maps, with one entry each; Exception says why it can't."""
    module = module_of(flattened(), [f"-DHW_{role.upper()}", "-Wno-unused-function"])
    import bcc

    bcc.lib.bpf_table_name.restype = ctypes.c_char_p
    bcc.lib.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    numbers, maps = {}, []
    for index in range(bcc.lib.bpf_num_tables(module.module)):
        fd = bcc.lib.bpf_table_fd_id(module.module, index)
        name = bcc.lib.bpf_table_name(module.module, index).decode()
        numbers[fd] = index
        maps.append(bpf.map_info(fd)._replace(id=0, name=name))
    programs = {name: with_maps(module.dump_func(name.encode()), numbers) for name in programs_of(role)}
    return Bytecode(source_digest(), f"BCC {bcc.__version__}", maps, programs)


class Compiling:
    """A compiler at work; `result` waits for it as long as it lives."""

    def __init__(self, role: str) -> None:
        # Files, not pipes: nobody reads yet. In memory: there may be no temporary folder.
        self._output = os.fdopen(os.memfd_create("output"), "w+b")
        self._errors = os.fdopen(os.memfd_create("errors"), "w+b")
        command = [sys.executable, "-P", "-m", "hawkwing.dataplane.compiler", role]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._errors
        )

    def result(self) -> Bytecode:
        """DataplaneError says why there is none."""
        status = self.process.wait()
        with self._output, self._errors:
            self._output.seek(0)
            self._errors.seek(0)
            output, errors = self._output.read(), self._errors.read().decode(errors="replace")
        code = loads(output.decode()) if status == 0 else None
        if code is None:
            raise DataplaneError(refusal.of_compiler(status, errors))
        return code

    def abandon(self) -> None:
        """Ends it; one that has ended is left alone."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()


def main() -> int:
    """`python -m hawkwing.dataplane.compiler ROLE`: prints the bytecode file; errors on standard error."""
    output = os.dup(1)
    # LLVM's complaints belong to the error text, whichever descriptor they are printed on.
    os.dup2(2, 1)
    try:
        text = dumps(compile_role(sys.argv[1]))
    except Exception as error:
        print(error, file=sys.stderr)
        return 1
    with os.fdopen(output, "w") as file:
        file.write(text)
    # LLVM's own tidying up takes longer than the kernel's.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

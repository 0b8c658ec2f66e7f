"""Compiles with BCC, in a separate process, which frees LLVM's 100 MB of memory at its end.

Needs no kernel headers package: bpf/kernel has the few files that BCC includes, in addition to the user-space
headers, because the programs use only stable structures.
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
    """BCC's module of a program with the same includes as ours; LLVM stays in this process."""
    os.environ["BCC_KERNEL_SOURCE"] = str(source_folder() / "kernel")
    from bcc import BPF

    architecture = next(Path("/usr/include").glob("*-linux-gnu*/asm"), Path("/usr/include/asm")).parent
    return BPF(text=text, cflags=[f"-I{architecture}", "-I/usr/include", *flags])


def compile_role(role: str) -> Bytecode:
    """Compiles all programs of a role. BCC creates the maps, with one entry each; Exception on errors."""
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
    """A running compiler; `result` waits for its end."""

    def __init__(self, role: str) -> None:
        # Files, not pipes, which need a reader. In memory, because a temporary folder may be missing.
        self._output = os.fdopen(os.memfd_create("output"), "w+b")
        self._errors = os.fdopen(os.memfd_create("errors"), "w+b")
        command = [sys.executable, "-P", "-m", "hawkwing.dataplane.compiler", role]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._errors
        )

    def result(self) -> Bytecode:
        """The compiled programs; DataplaneError with the reason if it failed."""
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
        """Stops the compiler, if it still runs."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()


def main() -> int:
    """`python -m hawkwing.dataplane.compiler ROLE`: prints the bytecode file; errors on standard error."""
    output = os.dup(1)
    # LLVM's messages belong to the error text, whichever descriptor it prints them on.
    os.dup2(2, 1)
    try:
        text = dumps(compile_role(sys.argv[1]))
    except Exception as error:
        print(error, file=sys.stderr)
        return 1
    with os.fdopen(output, "w") as file:
        file.write(text)
    # LLVM's own clean-up takes longer than the kernel's.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

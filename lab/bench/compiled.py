"""Small tc programs of the bench, compiled by BCC: this process keeps LLVM, the measured ones do not."""

import os
from collections.abc import Iterable

from hawkwing.dataplane import bpf, loader
from hawkwing.dataplane.source import source_folder


class Compiled:
    """Loaded programs: file descriptors by name, until `close`."""

    def __init__(self, text: str, names: Iterable[str]) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(source_folder() / "kernel")
        from bcc import BPF

        self._module = BPF(text=text, cflags=[f"-I{loader._architecture_headers()}", "-I/usr/include"])
        self.programs = {name: self._module.load_func(name.encode(), bpf.SCHED_CLS).fd for name in names}

    def close(self) -> None:
        """Unloads them."""
        self._module.cleanup()

"""Small tc programs of the bench, compiled by BCC; LLVM's memory stays in this process."""

from collections.abc import Iterable

from hawkwing.dataplane import bpf, compiler


class Compiled:
    """Loaded programs: file descriptors by name, until `close`."""

    def __init__(self, text: str, names: Iterable[str]) -> None:
        self._module = compiler.module_of(text)
        self.programs = {name: self._module.load_func(name.encode(), bpf.SCHED_CLS).fd for name in names}

    def close(self) -> None:
        """Unloads them."""
        self._module.cleanup()

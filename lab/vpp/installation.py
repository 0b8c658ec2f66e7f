"""Where VPP is on this machine: on the PATH, or under a prefix. Only the standard library is imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: A prefix such as /opt/vpp, with bin/vpp and what belongs to it below.
PREFIX_VARIABLE = "HAWKWING_VPP_PREFIX"
_PLUGINS = ("af_packet_plugin.so", "ping_plugin.so")


class VppMissingError(RuntimeError):
    """There is no usable VPP; the text is one sentence that says how to get it."""


@dataclass(frozen=True)
class Installation:
    """The programs and files of one installed VPP."""

    program: Path
    console: Path
    plugins: Path
    api: Path
    libraries: tuple[Path, ...]

    @property
    def environment(self) -> dict[str, str]:
        """What its programs need in their environment to find their libraries."""
        former = os.environ.get("LD_LIBRARY_PATH")
        folders = [*map(str, self.libraries), *([former] if former else [])]
        return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}

    @property
    def present_plugins(self) -> list[str]:
        """Those of the plugins we use that are there; a version that has one built in lacks its file."""
        return [name for name in _PLUGINS if (self.plugins / name).exists()]

    def version(self) -> str:
        """As its program tells it, such as 25.06-release; raises VppMissingError where it doesn't run."""
        try:
            done = subprocess.run(
                [self.program, "--version"],
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise VppMissingError(f"{self.program} doesn't run: {error}") from error
        match = re.search(r"\bv?(\d+\.\d+\S*)", done.stdout)
        return match[1] if match else done.stdout.strip().splitlines()[0]


def find(prefix: str | None = None) -> Installation:
    """The VPP under `prefix`, else under the variable's prefix, else on the PATH; or VppMissingError."""
    prefix = prefix or os.environ.get(PREFIX_VARIABLE)
    if prefix:
        root = Path(prefix).expanduser().resolve()
        program = next((p for p in (root / "bin/vpp", root / "usr/bin/vpp") if os.access(p, os.X_OK)), None)
        if program is None:
            raise VppMissingError(f"there is no program bin/vpp under {root}")
    else:
        found = shutil.which("vpp")
        if found is None:
            raise VppMissingError(
                "VPP is not on the PATH: install vpp and vpp-plugin-core from fd.io's package repository, "
                f"or give the prefix it is under with --vpp-prefix or {PREFIX_VARIABLE}"
            )
        program = Path(found).resolve()
    return _around(program, explicit=bool(prefix))


def _around(program: Path, explicit: bool) -> Installation:
    root = program.parent.parent
    console = program.with_name("vppctl")
    places = ("lib/*/vpp_plugins", "lib/vpp_plugins", "lib64/vpp_plugins")
    found = (file.parent for place in places for file in sorted(root.glob(f"{place}/{_PLUGINS[0]}")))
    plugins = next(found, None)
    api = root / "share/vpp/api"
    lacking = [
        what
        for what, there in (
            (f"the program {console}", os.access(console, os.X_OK)),
            (
                f"a folder lib/vpp_plugins under {root} with af_packet_plugin.so (package vpp-plugin-core)",
                plugins,
            ),
            (f"the folder {root}/share/vpp/api (package vpp)", api.is_dir()),
        )
        if not there
    ]
    if lacking:
        raise VppMissingError(f"{program} is not the whole of VPP: it lacks {' and '.join(lacking)}")
    assert plugins is not None
    # Packages put libraries where the loader looks; what was built under a prefix may need a hint.
    folders = {plugins.parent, *(folder for name in ("lib", "lib64") if (folder := root / name).is_dir())}
    libraries = tuple(sorted(folders)) if explicit else ()
    return Installation(program, console, plugins, api, libraries)

"""Finds VPP on the PATH or under a prefix. Only the standard library is imported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: A prefix such as /opt/vpp, with bin/vpp below it.
PREFIX_VARIABLE = "HAWKWING_VPP_PREFIX"
_PLUGINS = ("af_packet_plugin.so", "ping_plugin.so")


class VppMissingError(RuntimeError):
    """There is no usable VPP; the text says how to get it."""


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
        """The environment variables for its programs to find their libraries."""
        former = os.environ.get("LD_LIBRARY_PATH")
        folders = [*map(str, self.libraries), *([former] if former else [])]
        return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}

    @property
    def present_plugins(self) -> list[str]:
        """The plugins in use that have a file; some versions have one built in."""
        return [name for name in _PLUGINS if (self.plugins / name).exists()]

    def version(self) -> str:
        """Its version, such as 25.06-release; VppMissingError if the program does not run."""
        try:
            done = subprocess.run(
                [self.program, "--version"],
                env={**os.environ, **self.environment},
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise VppMissingError(f"{self.program} does not run: {error}") from error
        if done.returncode == 0:
            match = re.search(r"\bv?(\d+\.\d+\S*)", done.stdout)
            return match[1] if match else done.stdout.strip().splitlines()[0]
        # Releases without this option have started, and have their version in the program.
        known = re.search(rb"\bvpp v(\d+\.\d+\S*) built by", self.program.read_bytes())
        if known and "unknown input" in done.stderr:
            return known[1].decode()
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise VppMissingError(f"{self.program} does not run: {words[-1]}")


def find(prefix: str | None = None) -> Installation:
    """VPP under `prefix`, else under the variable's prefix, else on the PATH; or VppMissingError."""
    prefix = prefix or os.environ.get(PREFIX_VARIABLE)
    if prefix:
        root = Path(prefix).expanduser().resolve()
        program = next((p for p in (root / "bin/vpp", root / "usr/bin/vpp") if os.access(p, os.X_OK)), None)
        if program is None:
            raise VppMissingError(f"{root} has no program bin/vpp")
    else:
        found = shutil.which("vpp")
        if found is None:
            raise VppMissingError(
                "VPP is not on the PATH: install vpp and vpp-plugin-core from fd.io's package repository, "
                f"or set its prefix with --vpp-prefix or {PREFIX_VARIABLE}"
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
        raise VppMissingError(f"{program} is not a complete VPP, missing: {' and '.join(lacking)}")
    assert plugins is not None
    # Packages install libraries in the loader's path; a VPP under a prefix may need the path.
    folders = {plugins.parent, *(folder for name in ("lib", "lib64") if (folder := root / name).is_dir())}
    libraries = tuple(sorted(folders)) if explicit else ()
    return Installation(program, console, plugins, api, libraries)

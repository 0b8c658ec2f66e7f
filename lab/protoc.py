"""Generates the Python code for proto/intent.proto: `python -m lab.protoc`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "hawkwing/controller"
FILES = ("intent_pb2.py", "intent_pb2.pyi", "intent_pb2_grpc.py")

_ROOT = Path(__file__).resolve().parent.parent


def regenerate(into: Path) -> None:
    """Writes FILES to the folder `into`, always with the same bytes; RuntimeError if protoc fails."""
    with tempfile.TemporaryDirectory() as out:
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc"),
            # The folder is mounted at the package's path, so that the generated import is absolute.
            f"--proto_path={PACKAGE}={_ROOT / 'proto'}",
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            f"{PACKAGE}/intent.proto",
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"protoc could not compile proto/intent.proto: {run.stderr.strip()}")
        for name in FILES:
            shutil.copyfile(Path(out, PACKAGE, name), into / name)


if __name__ == "__main__":
    regenerate(_ROOT / PACKAGE)
    sys.stdout.write(f"wrote {', '.join(FILES)} in {PACKAGE}\n")

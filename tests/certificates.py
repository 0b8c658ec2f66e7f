"""Certificates for tests, made by openssl."""

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificate(
    folder: Path, name: str, signer: str | None = None, password: str | None = None
) -> tuple[Path, Path]:
    """NAME.pem and NAME.key: an authority's, or a controller's signed by the authority `signer`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, pem = folder / f"{name}.key", folder / f"{name}.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-passout", f"pass:{password}"] if password else ["-nodes"]
    argv += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(pem)]
    if signer:
        argv += ["-CA", str(folder / f"{signer}.pem"), "-CAkey", str(folder / f"{signer}.key")]
        argv += ["-addext", "subjectAltName=IP:fcbb:cc00:5::f", "-addext", "basicConstraints=CA:FALSE"]
    made = subprocess.run(argv, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this openssl can't make certificates: {made.stderr.splitlines()[-1]}")
    return pem, key

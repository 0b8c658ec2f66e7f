"""Crashes of HawkEye 1.0.1: the whole process ends."""

import os
import sys


class CrashError(Exception):
    """The whole controller panics; the text says about what."""


def crash(text: str) -> None:
    """Ends the process as a panic in Go does: status 2, nothing is cleaned up."""
    sys.stderr.write(f"panic: {text}\n")
    sys.stderr.flush()
    os._exit(2)

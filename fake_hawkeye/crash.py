"""Crashes of HawkEye 1.0.1: the whole process ends."""

import os
import sys


class CrashError(Exception):
    """The whole controller panics; the text is the reason."""


def crash(text: str) -> None:
    """Ends the process like a panic in Go: status 2, no clean-up."""
    sys.stderr.write(f"panic: {text}\n")
    sys.stderr.flush()
    os._exit(2)

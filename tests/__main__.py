"""`python -m tests`: pytest, with a line instead of a traceback for Ctrl-C from the first moment on."""

import sys

from hawkwing import ending


def _session() -> int:
    import pytest

    return int(pytest.main())


if __name__ == "__main__":
    with ending.at_once("run"):
        sys.exit(ending.output_of("run", _session))

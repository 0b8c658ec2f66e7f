"""`python -m lab`, which is `./run`: Ctrl-C is one line from the first moment on."""

import sys

from hawkwing import ending


def main() -> int:
    """The tasks; their exit status."""
    with ending.at_once("run", last=True):
        return ending.output_of("run", _tasks)


def _tasks() -> int:
    from lab.program import run

    return run()


if __name__ == "__main__":
    sys.exit(main())

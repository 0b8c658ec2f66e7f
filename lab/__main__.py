"""`python -m lab`, called by `./run`: Ctrl-C prints one line from the beginning."""

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

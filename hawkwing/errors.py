"""The exceptions a user can meet; each carries one clear sentence and ends a command with status 1.

HawkwingError
 ├── ConfigError      a configuration file, with every problem found in it
 ├── DataplaneError   compiling, loading or attaching the BPF programs
 └── ControllerError  the controller's address or credentials
"""


class HawkwingError(Exception):
    """Base of all errors whose text is meant for the user."""


class DataplaneError(HawkwingError):
    """The kernel, or BCC, can't do what the data plane needs."""


class ControllerError(HawkwingError):
    """The controller can't be used as configured."""


class ConfigError(HawkwingError):
    """A configuration file is wrong; `problems` holds one line per fault, all found at once."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

"""The exceptions shown to users: each has one clear sentence and ends a command with status 1.

HawkwingError
 ├── ConfigError      a configuration file, with all errors in it
 ├── DataplaneError   compiling, loading or attaching the BPF programs
 │    └── AgentRunsError  (dataplane/claim.py) another agent has the interface
 └── ControllerError  the controller's address or credentials
"""


class HawkwingError(Exception):
    """Base of all errors whose text is shown to the user."""


class DataplaneError(HawkwingError):
    """The kernel or BCC lacks something that the data plane needs."""


class ControllerError(HawkwingError):
    """The controller can't be used with this configuration."""


class ConfigError(HawkwingError):
    """A configuration file is wrong; `problems` has one entry per error."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

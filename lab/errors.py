"""What a user of the lab can meet; each is told in one sentence.

LabError
 └── CommandError  a command in a node failed; the text has its words
"""


class LabError(Exception):
    """Something a lab's user can mend, in one sentence."""


class CommandError(LabError):
    """A command in a node failed, or took too long."""

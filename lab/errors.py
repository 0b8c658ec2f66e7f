"""Errors of the lab that the user can correct, each in one sentence.

LabError
 └── CommandError  a command in a node failed; the text has its output
"""


class LabError(Exception):
    """An error that the user can correct, in one sentence."""


class CommandError(LabError):
    """A command in a node failed, or took too long."""

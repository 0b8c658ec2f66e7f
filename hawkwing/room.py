"""Counts of everything that takes space in the data plane: numbers in use, or limits."""

from typing import NamedTuple


class Room(NamedTuple):
    """Numbers in use, or limits.

    An application counts once for each address of its service, and once for its name. `selections` are
    different sets of several paths for an application. `queries` are requests to a controller: each answer
    may have another segment list.
    """

    addresses: int = 0
    names: int = 0
    applications: int = 0
    lists: int = 0
    selections: int = 0
    queries: int = 0


MOST = Room(
    addresses=1 << 18,
    names=1 << 16,
    applications=1 << 19,
    lists=(1 << 17) - 1,
    selections=1 << 15,
)
"""Limits of a file. Addresses that are learned from names are counted in addition."""

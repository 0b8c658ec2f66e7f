"""How much there is of what takes room in the data plane, or may be."""

from typing import NamedTuple


class Room(NamedTuple):
    """So many there are, or so many there may be.

    An application counts once for each address of its service, and once for its name. `selections` are
    different sets of several paths for an application. `queries` are the
    requests to a controller, each of which may bring another segment list.
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
"""What any file may have. Addresses that are learned from names come in addition."""

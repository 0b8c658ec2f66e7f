"""Names of nodes by SID, for paths as people read them. Pure.

A label belongs to one SID. So a container of compressed SIDs is unpacked first: each of its C-SIDs, behind
the block, has a label of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Address
from types import MappingProxyType
from typing import Any

from hawkwing.csid import Block, unpack

_NONE: Mapping[IPv6Address, str] = MappingProxyType({})


def path_text(nodes: Sequence[str]) -> str:
    """A path as it is shown; empty where there is none."""
    return " > ".join(nodes)


def path_of(told: Mapping[str, Any]) -> str:
    """The path of what an agent has told: by names if it has labels."""
    return path_text(told.get("nodes", told["sids"]))


class Labels:
    """The labels of a configuration."""

    def __init__(self, names: Mapping[IPv6Address, str] = _NONE, blocks: Sequence[Block] = ()) -> None:
        self._names = names
        self._blocks = blocks

    def __bool__(self) -> bool:
        return bool(self._names)

    def nodes(self, sids: Sequence[IPv6Address]) -> list[str]:
        """A path in travel order: the label of each SID, else the SID; without any labels as it is."""
        if not self._names:
            return [str(sid) for sid in sids]
        return [self._names.get(sid) or str(sid) for sid in unpack(sids, self._blocks)]

    def of_texts(self, sids: object) -> dict[str, str]:
        """Those of SIDs as text, by what was asked for; what is no SID has none."""
        found = {}
        for text in sids if isinstance(sids, list) else ():
            with suppress(ValueError):
                if isinstance(text, str) and (label := self._names.get(IPv6Address(text))):
                    found[text] = label
        return found

    def path(self, sids: Sequence[IPv6Address]) -> str:
        """The same as text."""
        return path_text(self.nodes(sids))


NO_LABELS = Labels()

"""Names of nodes by SID, for readable paths. No I/O.

A label belongs to one SID. A container of compressed SIDs is unpacked first: each of its C-SIDs (with the
block's prefix) has its own label.
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
    """A path as text; empty if there is none."""
    return " > ".join(nodes)


def path_of(told: Mapping[str, Any]) -> str:
    """The path in an agent's answer: with names if it has labels."""
    return path_text(told.get("nodes", told["sids"]))


def key_of_path(told: Mapping[str, Any]) -> str:
    """What the counters of a path in an agent's answer are known by: its SIDs, there and back."""
    text = path_text(told["sids"])
    return f"{text}, back over {path_text(told['return_sids'])}" if told.get("return_sids") else text


class Labels:
    """The labels of a configuration."""

    def __init__(self, names: Mapping[IPv6Address, str] = _NONE, blocks: Sequence[Block] = ()) -> None:
        self._names = names
        self._blocks = blocks

    def __bool__(self) -> bool:
        return bool(self._names)

    def nodes(self, sids: Sequence[IPv6Address]) -> list[str]:
        """A path in travel order: the label of each SID, or the SID; unchanged without labels."""
        if not self._names:
            return [str(sid) for sid in sids]
        return [self._names.get(sid) or str(sid) for sid in unpack(sids, self._blocks)]

    def of_texts(self, sids: object) -> dict[str, str]:
        """The labels of SIDs given as text; texts that are not SIDs are ignored."""
        found = {}
        for text in sids if isinstance(sids, list) else ():
            with suppress(ValueError):
                if isinstance(text, str) and (label := self._names.get(IPv6Address(text))):
                    found[text] = label
        return found

    def path(self, sids: Sequence[IPv6Address]) -> str:
        """A path as text, with labels."""
        return path_text(self.nodes(sids))


NO_LABELS = Labels()

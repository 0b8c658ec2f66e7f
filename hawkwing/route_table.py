"""Routes of the data plane: which path, or selection of several paths, packets to a port of a group have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from hawkwing.dataplane.layout import limits
from hawkwing.dataplane.plane import DataPlane
from hawkwing.policies import EMPTY_SLOT, PolicyTable
from hawkwing.selections import Selection, SelectionTable, Wanted
from hawkwing.sids import SidList

_PROTOCOLS = (6, 17)
Held: TypeAlias = SidList | Selection
"""A segment list as in packets, or a selection of several."""


class Group:
    """The routes of one address or name."""

    __slots__ = ("number", "paths")

    def __init__(self, number: int) -> None:
        self.number = number
        #: By port.
        self.paths: dict[int, Held] = {}


class RouteTable:
    """Sets and removes routes, with the policies and selections that they need."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._policies = PolicyTable(plane.maps["policies"].info.max_entries, plane.set_policy)
        self._selections = SelectionTable(
            plane.maps["selections"].info.max_entries,
            1 << limits()["HW_BUCKET_BITS"],
            self._policies,
            plane.set_selection,
        )

    def signing(self, signed: bool) -> Iterator[None]:
        """Whether packets are signed: in steps, writes once more what depends on this and on the key."""
        yield from self._selections.signing(signed)
        if self._plane.is_key_new:
            yield from self._policies.rewriting(self._plane.sign_policy)
            self._plane.remove_old_keys()

    def set(self, group: Group, port: int, wanted: Wanted) -> None:
        """Sets the new paths before it releases the old ones, so that no packet is without a path.

        OSError or DataplaneError if there is no room; the old paths are then still in use.
        """
        old = group.paths.get(port)
        if old is not None and wanted == (old.wanted if isinstance(old, Selection) else _alone(old)):
            return
        new = self._acquire(wanted, old)
        try:
            if isinstance(new, Selection):
                self._plane.select_route(group.number, port, _PROTOCOLS, new.number)
            else:
                slot = self._policies.slot_of(new)
                self._plane.set_route(group.number, port, _PROTOCOLS, EMPTY_SLOT if slot is None else slot)
        except OSError:
            self._release(new)
            if old is None:
                # The route of one of the two protocols may be set.
                self._plane.remove_route(group.number, port, _PROTOCOLS)
            raise
        group.paths[port] = new
        if old is not None:
            self._release(old)

    def clear(self, group: Group, port: int) -> None:
        """Removes the route of a port, if it has one."""
        if port in group.paths:
            self._plane.remove_route(group.number, port, _PROTOCOLS)
            self._release(group.paths.pop(port))

    def slot_of(self, sids: SidList) -> int | None:
        """The slot of a list as in packets; 0 for an empty list, None if the list is not in use."""
        return self._policies.slot_of(sids)

    def lists(self) -> list[SidList]:
        """All segment lists that have a slot."""
        return self._policies.lists()

    def lists_of_selections(self) -> dict[SidList, int]:
        """The segment lists of applications with several paths, with their slots."""
        return self._selections.lists()

    @property
    def selection_changes(self) -> int:
        """Increases when `lists_of_selections` may have changed."""
        return self._selections.changes

    @staticmethod
    def buckets(group: Group, port: int) -> Sequence[SidList]:
        """The segment list of each bucket; empty if the route has one path or none."""
        held = group.paths.get(port, ())
        return held.buckets if isinstance(held, Selection) else ()

    def _acquire(self, wanted: Wanted, before: Held | None) -> Held:
        if len(wanted.lists) > 1:
            return self._selections.acquire(wanted, before if isinstance(before, Selection) else None)
        sids = wanted.lists[0] if wanted.lists else ()
        self._policies.acquire(sids)
        return sids

    def _release(self, held: Held) -> None:
        if isinstance(held, Selection):
            self._selections.release(held)
        else:
            self._policies.release(held)


def _alone(sids: SidList) -> Wanted:
    return Wanted(((sids, 1),) if sids else ())

"""Measures paths by probes and the host's TCP connections, and compares the results with the intents."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from hawkwing.choice import Choice, Chooser, Figures
from hawkwing.config_models import Application
from hawkwing.dataplane.plane import UNKNOWN, DataPlane
from hawkwing.desired import Choosing, Desired, choosing
from hawkwing.selections import Candidate
from hawkwing.sids import SidList

LOOK = 1.0
"""Minimum seconds between two looks; with longer probe intervals, a look per interval."""
_WINDOW = 30
"""Looks over which the loss of probes is computed."""
_FEWEST = 20
"""Minimum number of probes for which a loss is computed."""
_NO_CHOICE = Choice(())


class LossWindow:
    """Counts the probes that were sent and returned during the last looks."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, int]] = deque(maxlen=_WINDOW + 1)

    def add(self, sent: int, received: int) -> None:
        """Adds the current totals; lower totals than before mean that counting has restarted."""
        if self._looks and (sent < self._looks[-1][0] or received < self._looks[-1][1]):
            self._looks.clear()
        self._looks.append((sent, received))

    @property
    def percent(self) -> float | None:
        """The probes in the window that did not return, in percent; None: too few probes.

        About as many probes are in flight at the start of the window as at its end, so they cancel out.
        """
        if len(self._looks) < 2:
            return None
        sent, received = (self._looks[-1][at] - self._looks[0][at] for at in (0, 1))
        if sent < _FEWEST:
            return None
        # The numbers in flight can differ by one.
        lost = sent - received
        return 100 * lost / sent if lost > 1 else 0.0


class Measured:
    """Figures of paths, and the paths that are selected by them."""

    def __init__(
        self,
        plane: DataPlane,
        slot_of: Callable[[SidList], int | None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plane = plane
        self._slot_of = slot_of
        self._now = now
        self._probed = False
        self._windows: dict[SidList, LossWindow] = {}
        self._choosers: dict[Choosing, Chooser] = {}
        self._choices: dict[Choosing, Choice] = {}
        self._controllers: set[tuple[Choosing, SidList]] = set()

    def figures(self, sids: SidList) -> Figures:
        """The current measurements of a path; latency is from probes if they are sent, else from TCP."""
        slot = self._slot_of(sids)
        if not slot:
            return Figures()
        traffic = self._plane.traffic(slot)
        rate = traffic.rate * 8 / 1000 if traffic.rate is not None else None
        health = self._plane.health(slot, time.monotonic_ns()) if self._probed else UNKNOWN
        taken = health.round_trip if self._probed else traffic.round_trip
        return Figures(
            alive=health.state != "dead",
            latency=taken * 1e6 / 2 if taken is not None else None,
            jitter=health.jitter * 1e6 if health.jitter is not None else None,
            loss=self.loss(sids),
            rate=rate,
        )

    def loss(self, sids: SidList) -> float | None:
        """Recently lost probes of a path, in percent; None: unknown."""
        window = self._windows.get(sids)
        return window.percent if window is not None else None

    def look(
        self,
        desired: Desired,
        controllers: Iterable[tuple[Choosing, SidList]],
        sent: Mapping[int, int],
        reachable: Callable[[SidList], bool],
    ) -> bool:
        """Compares all figures once; True if a selection has changed.

        `controllers` has the paths of a controller that is not connected: they must keep the limits, too.
        """
        before = self._outcome
        self._probed = desired.probes is not None
        self._controllers = set(controllers)
        lists = {one.sids for candidates, _intents in desired.choices for one in candidates}
        lists |= {sids for _key, sids in self._controllers}
        self._count_probes(lists, sent)
        figures = {sids: self.figures(sids) for sids in lists}
        for gone in self._choosers.keys() - desired.choices:
            del self._choosers[gone]
            self._choices.pop(gone, None)
        for key in desired.choices:
            candidates, intents = key
            chooser = self._choosers.setdefault(key, Chooser(intents))
            watched = {one.sids for one in candidates} | {
                sids for other, sids in self._controllers if other == key
            }
            for sids in watched:
                chooser.watch(sids, figures[sids])
            usable = [one for one in candidates if reachable(one.sids)] or list(candidates)
            self._choices[key] = chooser.choose(usable, figures, self._now())
        return before != self._outcome

    def _count_probes(self, lists: Iterable[SidList], sent: Mapping[int, int]) -> None:
        counted = {}
        for sids in lists if self._probed else ():
            slot = self._slot_of(sids)
            if not slot:
                continue
            counted[sids] = self._windows.get(sids) or LossWindow()
            counted[sids].add(sent.get(slot, 0), self._plane.health(slot, time.monotonic_ns()).received)
        self._windows = counted

    @property
    def _outcome(self) -> tuple[dict[Choosing, Sequence[Candidate]], set[tuple[Choosing, SidList]]]:
        return {key: choice.active for key, choice in self._choices.items()}, self._left

    @property
    def _left(self) -> set[tuple[Choosing, SidList]]:
        return {
            (key, sids)
            for key, sids in self._controllers
            if key in self._choosers and self._choosers[key].why_left(sids)
        }

    def _choice(self, application: Application) -> Choice:
        key = choosing(application)
        return self._choices.get(key, _NO_CHOICE) if key is not None else _NO_CHOICE

    def chosen(self, application: Application) -> Sequence[Candidate]:
        """The candidates selected for an application; empty if nothing was compared."""
        return self._choice(application).active

    def reason(self, application: Application) -> str:
        """Why these candidates were selected, with figures."""
        return self._choice(application).reason

    def why_left(self, application: Application, sids: SidList) -> str:
        """The limit that a path breaks, with figures; empty if it breaks none."""
        key = choosing(application)
        chooser = self._choosers.get(key) if key is not None else None
        return chooser.why_left(sids) if chooser is not None else ""

    def is_left(self, application: Application, sids: SidList) -> bool:
        """Whether this path of a controller that is not connected breaks a limit."""
        key = choosing(application)
        return (key, sids) in self._controllers and bool(self.why_left(application, sids))

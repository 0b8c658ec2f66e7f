"""Reads the lab for the page repeatedly, and performs the actions of the page's buttons."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from hawkwing.errors import HawkwingError
from lab.errors import LabError
from lab.graph import latency_text
from lab.impair import drain, fail, heal, impair, restore
from lab.names import Names
from lab.network import Lab
from lab.topology import Topology, TopologyError
from lab.view import follow
from lab.view.journal import Journal, Kind, changes, moved
from lab.view.layout import Layout, tall, wide
from lab.view.losses import Losses
from lab.view.reading import Reader, Snapshot
from lab.view.recordings import Recordings
from lab.view.scene import Rates, Scene
from lab.view.stream import Stream
from lab.view.tables import LOSSY, SLOW
from lab.view.ways import Application, applications

_INTERVAL = 0.4
Answer = dict[str, str]


class View:
    """A thread that reads the lab; `heard` is called with each new scene."""

    def __init__(self, name: str, heard: Callable[[Scene], None]) -> None:
        self.name = name
        self.scene = Scene(name, "reading the lab")
        self._heard = heard
        self._reader = Reader(name)
        self._journal, self._rates, self._losses = Journal(), Rates(), Losses()
        self._recordings = Recordings()
        self._stream: Stream | None = None
        self._followed: follow.Followed | None = None
        self._before: Snapshot | None = None
        self._drawn: tuple[Topology, dict[str, Layout]] | None = None
        self._problem = ""
        self._soon, self._ended = threading.Event(), False
        self._acts: Mapping[str, Callable[[Lab, str], Answer]] = {
            "slow": self._slow,
            "lossy": self._lossy,
            "down": lambda lab, link: self._change(f"You set {link} down", lambda: fail(lab, link)),
            "heal": lambda lab, link: self._change(f"You healed {link}", lambda: heal(lab, link)),
            "heal-all": lambda lab, _: self._change("You healed all links", lambda: heal(lab)),
            "drain": lambda lab, node: self._change(f"You drained {node}", lambda: drain(lab, node)),
            "restore": lambda lab, node: self._change(f"You restored {node}", lambda: restore(lab, node)),
            "request": self._request,
            "stream": self._toggle_stream,
            "record": self._record,
            "save": self._save,
        }
        self._thread = threading.Thread(target=self._run, daemon=True)

    # --- reading

    def start(self) -> None:
        """Starts reading; returns when the first scene exists."""
        self._look()
        self._thread.start()

    def close(self) -> None:
        """Stops reading, requests and captures."""
        self._ended = True
        self._soon.set()
        self._thread.join()
        if self._stream is not None:
            self._stream.stop()
        self._recordings.close()
        self._reader.close()

    def _run(self) -> None:
        while not self._ended:
            self._soon.wait(_INTERVAL)
            self._soon.clear()
            if not self._ended:
                self._look()

    def _look(self) -> None:
        try:
            self._readable(self._reader.read())
        except (LabError, TopologyError, HawkwingError, OSError, RuntimeError) as error:
            # A lab with this name may be started again.
            self._unreadable(str(error))
        except (KeyError, TypeError, ValueError) as error:
            self._unreadable(f"an agent or the controller has another version: {error!r}")

    def _unreadable(self, problem: str) -> None:
        if problem != self._problem:
            self._journal.add("trouble", problem)
        self._problem, self._before = problem, None
        self._rates, self._losses = Rates(), Losses()
        self._show(Scene(self.name, problem, log=self._journal.entries))

    def _readable(self, snapshot: Snapshot) -> None:
        if self._problem:
            self._journal.add("agent", f"lab {self.name} can be read again")
            self._problem = ""
        before = self._before or snapshot
        for kind, text in changes(before, snapshot):
            self._journal.add(kind, text)
        if told := self._losses.add(snapshot, moved(before, snapshot)):
            self._journal.add("packet", told)
        self._before = snapshot
        self._rates.add(snapshot)
        topology = snapshot.topology
        if self._drawn is None or self._drawn[0] is not topology:
            self._drawn = topology, {"wide": wide(topology), "tall": tall(topology)}
        rates = {(x.name, node): self._rates.sent(x.name, node) for x in topology.links for node in x.nodes}
        scene = Scene(
            self.name,
            "",
            snapshot,
            Names(topology),
            self._drawn[1],
            applications(snapshot),
            rates,
            self._journal.entries,
            self._followed,
            self._recordings.links,
            self._stream.key if self._stream else "",
        )
        self._show(scene)

    def _show(self, scene: Scene) -> None:
        self.scene = scene
        self._heard(scene)

    # --- log

    def tell(self, kind: Kind, text: str) -> None:
        """Adds a sentence to the page's log."""
        self._journal.add(kind, text)
        self._soon.set()

    def show(self, followed: follow.Followed) -> None:
        """Shows this packet, link by link."""
        self._followed = followed
        self._soon.set()

    # --- actions

    def act(self, does: str, target: str) -> Answer:
        """Performs the action of a button; the log has the result."""
        act = self._acts.get(does)
        if act is None:
            return {"error": "unknown button"}
        try:
            lab = Lab(self.name)
            lab.require_up()
            return act(lab, target)
        except (LabError, HawkwingError, TimeoutError, RuntimeError, OSError, ValueError) as error:
            self._journal.add("trouble", str(error))
            return {"error": str(error)}
        finally:
            self._soon.set()

    def _change(self, text: str, change: Callable[[], list[str]]) -> Answer:
        """Changes the lab. The next snapshot logs the effects; here only failures are added."""
        self._journal.add("you", text)
        for sentence in change():
            if sentence.startswith(("this kernel has no", "controller refused", "no controller")):
                self._journal.add("you", sentence)
        return {}

    def _slow(self, lab: Lab, link: str) -> Answer:
        text = f"You made {link} slow ({latency_text(SLOW)})"
        return self._change(text, lambda: impair(lab, link, latency=SLOW))

    def _lossy(self, lab: Lab, link: str) -> Answer:
        text = f"You made {link} lossy ({LOSSY:g} %)"
        return self._change(text, lambda: impair(lab, link, loss=LOSSY))

    def _application(self, key: str) -> Application:
        found = next((one for one in self.scene.applications if one.key == key), None)
        if found is None:
            raise LabError("this application no longer exists")
        return found

    def _request(self, lab: Lab, key: str) -> Answer:
        one = self._application(key)
        followed = follow.send(lab, one.host, one.service, one.address, one.port)
        self._followed = followed
        path = [hop.receiver for hop in followed.request]
        self._journal.add("packet", f"Request to {one.name}: {followed.outcome}, via {' > '.join(path)}")
        return {}

    def _toggle_stream(self, lab: Lab, key: str) -> Answer:
        running, self._stream = self._stream, None
        if running is not None:
            running.stop()
            told = f"{running.answered} requests answered, {running.failed} failed"
            self._journal.add("packet", told)
        if running is None or running.key != key:
            one = self._application(key)
            self._stream = Stream(lab.namespace(one.host), key, one.address, one.port)
            self._journal.add("you", f"You started requests to {one.name}, ten a second")
        return {}

    def _record(self, lab: Lab, link: str) -> Answer:
        self._recordings.start(lab, link)
        self._journal.add("you", f"Capturing both ends of {link}")
        return {}

    def _save(self, lab: Lab, link: str) -> Answer:
        self._recordings.stop(link)
        self._journal.add("you", f"The capture of {link} is ready")
        return {"download": f"captures/{link}.pcapng"}

"""Impairs, fails and heals links of a running lab, and tells the controller.

Each function returns what it did, one sentence each. The current impairments are saved in the run directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute

from fake_hawkeye.control import Control
from hawkwing.locks import locked_file
from lab.capture import find_link
from lab.impairments import Metrics, check_metrics
from lab.linux.kernel import set_solicitations
from lab.linux.loss import set_loss
from lab.network import Lab, LabError
from lab.reroute import reroute
from lab.topology import Interface, Link

_BURST_SECONDS, _LEAST_BURST = 0.01, 32 * 1024
_QUEUE = "50ms"
_LEAST_PACKETS, _PACKET = 8, 1514
_FILE = "impairments.json"
_IFF_UP = 1


class _State:
    """The failed links, and the changed metrics of each link: now, and from the lab's start."""

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = json.loads(file.read_text()) if file.exists() else {}
        self.failed: list[str] = kept.get("failed", [])
        self.impaired: dict[str, Metrics] = kept.get("impaired", {})
        self.start: dict[str, Metrics] = kept.get("start", {})

    def save(self) -> None:
        temporary = self._file.with_suffix(".new")
        state = {"failed": self.failed, "impaired": self.impaired, "start": self.start}
        temporary.write_text(json.dumps(state, indent=1))
        temporary.replace(self._file)


def current(lab: Lab) -> tuple[list[str], dict[str, Metrics]]:
    """The failed links, and the changed metrics of impaired ones."""
    state = _State(lab.run / _FILE)
    return state.failed, state.impaired


def begin(lab: Lab, impairments: Mapping[str, Metrics]) -> list[str]:
    """Impairs links of a lab that is being built; `heal` restores them to these metrics."""
    state = _State(lab.run / _FILE)
    state.start = {name: dict(metrics) for name, metrics in impairments.items()}
    state.impaired = {name: dict(metrics) for name, metrics in impairments.items()}
    state.save()
    done = []
    for name, metrics in impairments.items():
        link = find_link(lab, name)
        done += [*_shape(lab, link, dict(metrics)), _tell(lab, link, **metrics)]
    return list(dict.fromkeys(done))


def impair(
    lab: Lab,
    link: str,
    latency: int | None = None,
    bandwidth: int | None = None,
    loss: float | None = None,
) -> list[str]:
    """Sets a link's latency (microseconds), bandwidth (kbit/s) and loss (percent), each in both directions.

    None leaves a metric unchanged.
    """
    wanted = {"latency": latency, "bandwidth": bandwidth, "loss": loss}
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        raise LabError("nothing to change: give --latency, --bandwidth or --loss")
    try:
        check_metrics(changes)
    except ValueError as error:
        raise LabError(str(error)) from None
    found = find_link(lab, link)
    with _state(lab) as state:
        metrics = state.impaired.setdefault(found.name, {})
        metrics |= changes
        state.save()
        done = _shape(lab, found, metrics)
    return [*done, _tell(lab, found, **changes)]


def fail(lab: Lab, link: str) -> list[str]:
    """Sets a link down at both ends, and reroutes."""
    return _fail(lab, [find_link(lab, link)])


def drain(lab: Lab, node: str) -> list[str]:
    """Sets all links of a node down, and reroutes once."""
    return _fail(lab, _links_of(lab, node))


def _links_of(lab: Lab, node: str) -> list[Link]:
    lab.namespace(node)  # LabError if there is no such node
    return [interface.link for interface in lab.topology.nodes[node].interfaces]


def _fail(lab: Lab, links: Sequence[Link]) -> list[str]:
    with _state(lab) as state:
        state.failed += [link.name for link in links if link.name not in state.failed]
        state.save()
        for interface in (end for link in links for end in _ends(link)):
            _set_link(lab, interface, up=False)
        changed = reroute(lab.topology, lab.namespace, lab.kinds, state.failed)
    done = [*(f"{link.name}: down at both ends" for link in links), _rerouted(changed)]
    return [*done, *(_tell(lab, link, up=False) for link in links)]


def heal(lab: Lab, link: str | None = None) -> list[str]:
    """Restores a link's settings from the lab's start; without a link, those of all changed links."""
    return _heal(lab, [find_link(lab, link)] if link else None)


def restore(lab: Lab, node: str) -> list[str]:
    """Restores the settings of all links of a node from the lab's start."""
    return _heal(lab, _links_of(lab, node))


def _heal(lab: Lab, links: Sequence[Link] | None) -> list[str]:
    with _state(lab) as state:
        if links is None:
            changed = [name for name, now in state.impaired.items() if now != state.start.get(name)]
            names = list(dict.fromkeys([*state.failed, *changed, *_found_down(lab)]))
            links = [find_link(lab, name) for name in names]
        done = [sentence for found in links for sentence in _mend(lab, state, found)]
        done.append(_rerouted(reroute(lab.topology, lab.namespace, lab.kinds, state.failed)))
    for found in links:
        metrics = {"latency": found.latency, "bandwidth": found.bandwidth, "loss": found.loss}
        done.append(_tell(lab, found, up=True, **(metrics | state.start.get(found.name, {}))))
    return done


def _mend(lab: Lab, state: _State, link: Link) -> list[str]:
    done = [f"{link.name}: up at both ends"]
    for interface in _ends(link):
        _set_link(lab, interface, up=True)
    if link.name in state.impaired:
        done += _shape(lab, link, state.start.get(link.name, {}))
        del state.impaired[link.name]
        if link.name in state.start:
            state.impaired[link.name] = dict(state.start[link.name])
    if link.name in state.failed:
        state.failed.remove(link.name)
    state.save()
    return done


@contextmanager
def _state(lab: Lab) -> Iterator[_State]:
    lab.require_up()
    # If the lab is removed and built again meanwhile, `locked_file` locks the new lab's file.
    with locked_file(lab.run / "impairments.lock"):
        yield _State(lab.run / _FILE)


def _rerouted(nodes: list[str]) -> str:
    return f"routes changed on {', '.join(nodes)}" if nodes else "no routes changed"


# --- up and down


def _ends(link: Link) -> list[Interface]:
    return [link.interface(node) for node in link.nodes]


def _set_link(lab: Lab, interface: Interface, up: bool) -> None:
    lab.inside(interface.node, lambda: lab.kinds[interface.node].set_link(interface, up))


def _found_down(lab: Lab) -> list[str]:
    """Links with an end that is down for any reason."""

    def up_here() -> set[str]:
        with IPRoute() as ip:
            return {one.get_attr("IFLA_IFNAME") for one in ip.get_links() if one["flags"] & _IFF_UP}

    up = {node: lab.inside(node, up_here) for node in lab.topology.nodes}
    return [link.name for link in lab.topology.links if any(e.name not in up[e.node] for e in _ends(link))]


# --- impairments


def _shape(lab: Lab, link: Link, metrics: Metrics) -> list[str]:
    """Replaces the queueing disciplines at both ends according to these metrics."""
    netem = []
    if metrics.get("latency"):
        netem += ["delay", f"{metrics['latency']}us"]
    if metrics.get("loss"):
        netem += ["loss", f"{metrics['loss']}%"]
    done: list[str] = []
    for interface in _ends(link):
        _tc(lab, interface, "del", "root")
        _set_loss(lab, interface, 0)
        parent = ["root"]
        _solicit(lab, interface, metrics)
        if netem:
            if _tc(lab, interface, "add", "root", "handle", "1:", "netem", *netem):
                parent = ["parent", "1:1"]
                done.append(f"{interface.node}: {' '.join(netem)} towards {interface.peer_node}")
            else:
                done += _without_netem(lab, interface, metrics)
        if "bandwidth" in metrics:
            rate = int(metrics["bandwidth"])
            burst = max(_LEAST_BURST, int(rate * 1000 / 8 * _BURST_SECONDS))
            shaper = ["tbf", "rate", f"{rate}kbit", "burst", str(burst), "latency", _QUEUE]
            if _tc(lab, interface, "add", *parent, "handle", "10:", *shaper):
                if lab.kinds[interface.node].largest_packet is not None:
                    _drop_without_error(lab, interface, rate)
                done.append(f"{interface.node}: {rate} kbit/s towards {interface.peer_node}")
            else:
                done.append("this kernel has no tbf: only the controller knows the bandwidth")
    return list(dict.fromkeys(done))


def _without_netem(lab: Lab, interface: Interface, metrics: Metrics) -> Iterator[str]:
    if metrics.get("latency"):
        yield "this kernel has no netem: only the controller knows the latency"
    if metrics.get("loss"):
        _set_loss(lab, interface, metrics["loss"])
        yield f"{interface.node}: loss {metrics['loss']}% towards {interface.peer_node} (by BPF)"


def _set_loss(lab: Lab, interface: Interface, percent: float) -> None:
    lab.inside(interface.node, lambda: set_loss(interface.name, percent))


def _drop_without_error(lab: Lab, interface: Interface, rate: int) -> None:
    """Makes a shaper with a full queue drop the oldest packet, which is no error for the sender.

    VPP keeps a refused packet in its ring, and does not retry before it sends the next one. The limit of the
    queue is in packets, some of which are large.
    """
    limit = max(_LEAST_PACKETS, int(rate * 1000 / 8 * _BURST_SECONDS) // _PACKET)
    _tc(lab, interface, "add", "parent", "10:1", "handle", "20:", "pfifo_head_drop", "limit", str(limit))


def _solicit(lab: Lab, interface: Interface, metrics: Metrics) -> None:
    latency, loss = int(metrics.get("latency", 0)), metrics.get("loss", 0)
    lab.inside(interface.node, lambda: set_solicitations(interface.name, latency, loss))


def _tc(lab: Lab, interface: Interface, verb: str, *arguments: str) -> bool:
    """False if the kernel lacks the queueing discipline; deleting a missing one is no error."""
    command = ["tc", "qdisc", verb, "dev", interface.name, *arguments]
    outcome = lab.execute(interface.node, command, check=False)
    if outcome.returncode == 0 or (verb == "del" and "handle of zero" in outcome.stderr):
        return True
    if "qdisc kind is unknown" in outcome.stderr:
        return False
    raise LabError(f"{' '.join(command)} failed in {interface.node}: {outcome.stderr.strip()}")


# --- the controller


def _tell(lab: Lab, link: Link, **metrics: float | bool) -> str:
    try:
        with Control(lab.control_socket) as control:
            control.set_link(link.name, **metrics)
    except OSError:
        return "no controller is running"
    except ValueError as error:
        return f"controller refused the change: {error}"
    return f"controller told: {link.name} {_shown(metrics)}"


def _shown(metrics: Mapping[str, float | bool]) -> str:
    """Such as `is down` or `is up with latency 300, bandwidth 1000000, loss 0`."""
    values = ", ".join(f"{name} {value}" for name, value in metrics.items() if name != "up")
    if "up" not in metrics:
        return f"has {values}"
    return f"is {'up' if metrics['up'] else 'down'}{' with ' + values if values else ''}"

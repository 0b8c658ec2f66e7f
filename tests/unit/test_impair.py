"""Links that fail, heal and get worse: routes by calculation, and a tiny lab in namespaces (root only)."""

import itertools
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml

from fake_hawkeye.control import Control
from hawkwing.dataplane import bpf, tc
from hawkwing.dataplane.netlink import Netlink
from lab.impair import current, drain, fail, heal, impair, restore
from lab.linux.kernel import set_sysctl
from lab.network import Lab, LabError
from lab.process import stop
from lab.reroute import remaining_routes
from lab.routing import routes
from lab.topology import Topology
from lab.view.kernel import Kernel
from lab.wait import wait_until

_IPV6_RECVERR = 25
LINKS = {
    # the SIDs of r1 and r2 are bound to the link between them, which comes first
    "r1-r2": ("2001:db8:12::/64", 10),
    "r1-r3": ("2001:db8:13::/64", 10),
    "r3-r2": ("2001:db8:32::/64", 10),
    "a-r1": ("2001:db8:a::/64", 10),
    "b-r2": ("2001:db8:b::/64", 10),
}


def document(name: str) -> dict[str, Any]:
    """Hosts a and b on two corners of a triangle of routers; a runs a controller."""
    nodes: dict[str, Any] = {
        f"r{number}": {"kind": "router", "loopback": f"fd01:{number}::1/128", "sid": f"fd01:{number}::2"}
        for number in (1, 2, 3)
    }
    nodes["a"] = {"kind": "host", "service_address": "fd00:a::1/48", "hawkeye": {"port": 5001}}
    nodes["b"] = {"kind": "host", "service_address": "fd00:b::1/48"}
    links = []
    for link, (prefix, igp) in LINKS.items():
        one, other = link.split("-")
        ends = [f"{here}:{'eth0' if here in 'ab' else there}" for here, there in ((one, other), (other, one))]
        links.append(
            {
                "endpoints": ends,
                "prefix": prefix,
                "addresses": ["::1", "::2"],
                "igp": igp,
                "latency": 100,
                "bandwidth": 100000,
            }
        )
    return {"name": name, "nodes": nodes, "links": links}


# --- what is left of the routes


def via(table: dict[str, list[Any]], node: str, prefix: str) -> list[str] | None:
    found = [route for route in table[node] if route.prefix == IPv6Network(prefix)]
    return [hop.interface for hop in found[0].next_hops] if found else None


def test_routes_go_round_a_failed_link() -> None:
    topology = Topology.model_validate(document("tiny"))
    assert via(remaining_routes(topology, []), "r1", "fd00:b::/48") == ["r2"]
    rest = remaining_routes(topology, ["r1-r2"])
    assert via(rest, "r1", "fd00:b::/48") == ["r3"]
    assert via(rest, "r1", "fd01:2::2/128") == ["r3"]
    assert via(rest, "r1", LINKS["r1-r2"][0]) is None


def test_what_is_cut_off_has_no_routes_across() -> None:
    topology = Topology.model_validate(document("tiny"))
    rest = remaining_routes(topology, ["r1-r2", "r1-r3", "b-r2"])
    assert rest["b"] == []
    assert via(rest, "r1", "fd00:b::/48") is None
    assert via(rest, "r2", "fd00:b::/48") is None
    assert via(rest, "r2", "fd01:1::2/128") is None
    assert via(rest, "r3", "fd01:2::2/128") == ["r2"]
    assert via(rest, "a", "::/0") == ["eth0"]


def test_nothing_failed_leaves_the_labs_own_routes() -> None:
    topology = Topology.model_validate(document("tiny"))
    assert remaining_routes(topology, []) == routes(topology)


# --- in namespaces

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root privileges")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The triangle, up, with a controller that computes; nothing is left of it in the end."""
    name = f"impair-{os.getpid()}"
    folder = tmp_path_factory.mktemp("lab")
    file = folder / "topology.yaml"
    file.write_text(yaml.safe_dump(document(name)))
    lab = Lab(name, file)
    try:
        lab.up()
        for scope in ("all", "eth0"):  # the host takes packets that still have their SRH
            lab.inside("b", partial(set_sysctl, f"net/ipv6/conf/{scope}/seg6_enabled", 1))
        yield lab
    finally:
        lab.down()
        assert lab.remains() == []


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """The lab with all links well, before and after."""
    yield shared
    heal(shared)


def state(lab: Lab) -> dict[str, list[str]]:
    """Every node's addresses and static and connected routes, but for what has a MAC address in it."""
    found = {}
    for node in lab.topology.nodes:
        lines = lab.execute(node, ["ip", "-6", "route", "show", "table", "all"]).stdout.splitlines()
        lines += lab.execute(node, ["ip", "-6", "-o", "addr", "show", "scope", "global"]).stdout.splitlines()
        lines += lab.execute(node, ["tc", "qdisc", "show"]).stdout.splitlines()
        found[node] = sorted(
            " ".join(line.split()) for line in lines if "fe80" not in line and "ff00" not in line
        )
    return found


def settled(lab: Lab, before: dict[str, list[str]]) -> bool:
    return state(lab) == before


def reaches(lab: Lab, node: str, address: str) -> bool:
    return lab.execute(node, ["ping", "-6", "-c1", "-W1", "-n", address], check=False).returncode == 0


def reaches_through(lab: Lab, sid: str) -> bool:
    """A ping from a to b whose packets go by way of a SID."""
    route = ["ip", "-6", "route", "replace", "fd00:b::1/128"]
    encap = ["encap", "seg6", "mode", "inline", "segs", sid, "via", "2001:db8:a::2", "dev", "eth0"]
    lab.execute("a", [*route, *encap])
    try:
        return reaches(lab, "a", "fd00:b::1")
    finally:
        lab.execute("a", ["ip", "-6", "route", "del", "fd00:b::1/128"])


@needs_root
def test_a_failed_link_is_gone_round_and_healed_without_a_trace(lab: Lab) -> None:
    before = state(lab)
    assert all(reaches_through(lab, f"fd01:{number}::2") for number in (1, 2, 3))
    done = fail(lab, "r2-r1")
    assert done[:2] == ["r1-r2: down at both ends", "routes changed on r1, r2, r3"]
    assert done[2] == "controller told: r1-r2 is down"
    assert "state DOWN" in lab.execute("r1", ["ip", "link", "show", "r2"]).stdout
    assert reaches(lab, "a", "fd00:b::1")
    assert all(reaches_through(lab, f"fd01:{number}::2") for number in (1, 2, 3))
    assert fail(lab, "r1-r2")[1] == "no routes changed"
    heal(lab, "r1-r2")
    wait_until(lambda: settled(lab, before), 5, "addresses and routes as they were")
    assert all(reaches_through(lab, f"fd01:{number}::2") for number in (1, 2, 3))


@needs_root
def test_a_node_is_drained_and_restored_without_a_trace(lab: Lab) -> None:
    before = state(lab)
    done = drain(lab, "r3")
    assert done[:2] == ["r1-r3: down at both ends", "r3-r2: down at both ends"]
    assert done[2].startswith("routes changed on r1, r2")
    assert done[3:] == ["controller told: r1-r3 is down", "controller told: r3-r2 is down"]
    assert reaches(lab, "a", "fd00:b::1") and not reaches(lab, "r1", "fd01:3::1")
    restore(lab, "r3")
    wait_until(lambda: settled(lab, before), 5, "addresses and routes as they were")
    assert reaches_through(lab, "fd01:3::2")
    with pytest.raises(LabError, match="has no node 'r4'"):
        drain(lab, "r4")


@needs_root
def test_links_fail_and_heal_one_by_one(lab: Lab) -> None:
    before = state(lab)
    for link in ("r1-r2", "r1-r3", "a-r1"):
        fail(lab, link)
    assert not reaches(lab, "a", "fd00:b::1")
    assert lab.execute("a", ["ip", "-6", "route", "show", "default"]).stdout == ""
    heal(lab, "a-r1")
    assert not reaches(lab, "a", "fd00:b::1")
    heal(lab, "r1-r3")
    wait_until(lambda: reaches(lab, "a", "fd00:b::1"), 5, "b answers by way of r3")
    heal(lab)
    wait_until(lambda: settled(lab, before), 5, "addresses and routes as they were")


@needs_root
@pytest.mark.parametrize("link", ["a-r1", None])
@pytest.mark.parametrize("ends", [[("a", "eth0"), ("r1", "a")], [("a", "eth0")], [("r1", "a")]])
def test_a_link_that_somebody_took_down_is_healed_too(
    lab: Lab, ends: list[tuple[str, str]], link: str | None
) -> None:
    before = state(lab)
    for node, interface in ends:
        lab.execute(node, ["ip", "link", "set", "dev", interface, "down"])
    assert not reaches(lab, "a", "fd00:b::1")
    heal(lab, link)
    wait_until(lambda: settled(lab, before), 5, "addresses and routes as they were")


@needs_root
def test_a_rate_is_shaped_at_both_ends(lab: Lab) -> None:
    before = state(lab)
    done = impair(lab, "a-r1", bandwidth=2000)
    if "no tbf" in done[0]:
        pytest.skip("this kernel has no tbf (CONFIG_NET_SCH_TBF)")
    assert done[:2] == ["a: 2000 kbit/s towards r1", "r1: 2000 kbit/s towards a"]
    for node, interface in (("a", "eth0"), ("r1", "a")):
        assert "rate 2Mbit" in lab.execute(node, ["tc", "qdisc", "show", "dev", interface]).stdout
    heal(lab, "a-r1")
    assert settled(lab, before)


def solicitations(lab: Lab) -> list[int]:
    """Milliseconds between those at a for its router, and how many there are."""
    names = ("retrans_time_ms", "ucast_solicit", "mcast_solicit")
    folder = Path("/proc/sys/net/ipv6/neigh/eth0")
    return lab.inside("a", lambda: [int((folder / name).read_text()) for name in names])


@needs_root
def test_neighbours_have_the_time_to_answer(lab: Lab) -> None:
    """Else the kernel gives them up on a link with some latency, and drops packets."""
    before = solicitations(lab)
    impair(lab, "a-r1", latency=100_000)
    assert solicitations(lab) == [before[0] + 200, *before[1:]]
    impair(lab, "a-r1", loss=30)
    assert solicitations(lab) == [before[0] + 200, 10, 10]
    heal(lab)
    assert solicitations(lab) == before


@needs_root
def test_delay_is_made_or_its_want_is_said_once(lab: Lab) -> None:
    before = state(lab)
    done = impair(lab, "a-r1", latency=20000, loss=1)
    lacking = [line for line in done if "no netem" in line]
    made = lab.execute("a", ["tc", "qdisc", "show", "dev", "eth0"]).stdout
    assert ("delay 20" in made) is not bool(lacking)
    assert len(lacking) <= 1
    impair(lab, "a-r1", bandwidth=5000)
    assert ("delay 20" in lab.execute("a", ["tc", "qdisc", "show", "dev", "eth0"]).stdout) is not bool(
        lacking
    )
    heal(lab)
    assert settled(lab, before)


def lost(lab: Lab, count: int) -> int:
    """How many of so many datagrams from a to b are lost; their sender never sees an error."""

    def endpoint() -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        made.setblocking(False)
        return made

    with lab.inside("a", endpoint) as near, lab.inside("b", endpoint) as far:
        far.bind(("fd00:b::1", 0))
        found: set[int] = set()

        def send(number: int) -> None:
            near.sendto(number.to_bytes(4, "big"), far.getsockname()[:2])
            with suppress(BlockingIOError):
                while True:
                    found.add(int.from_bytes(far.recv(4), "big"))

        for number in range(count):
            send(number)
        following = itertools.count(count)

        def is_past() -> bool:
            send(next(following))
            return max(found, default=0) >= count

        wait_until(is_past, 10, "a datagram behind all others")
    return count - sum(1 for number in found if number < count)


@needs_root
@pytest.mark.parametrize("link", ["a-r1", "r1-r2"])
def test_loss_is_made_by_every_kernel(lab: Lab, link: str) -> None:
    """A third of the packets, one way: within five standard deviations of what chance allows."""
    count, share = 600, 0.3
    before = state(lab)
    assert lost(lab, count) == 0
    done = impair(lab, link, loss=share * 100)
    assert len([line for line in done if "loss 30" in line and "towards" in line]) == 2, done
    assert abs(lost(lab, count) - count * share) < 5 * (count * share * (1 - share)) ** 0.5
    impair(lab, link, loss=0)
    assert lost(lab, count) == 0
    heal(lab)
    assert settled(lab, before)


@needs_root
def test_what_is_lost_is_counted(lab: Lab) -> None:
    done = impair(lab, "r1-r2", loss=50)
    if not any("by BPF" in line for line in done):
        pytest.skip("this kernel has netem, which counts by itself")
    missing = lost(lab, 200)
    with closing(Kernel(lab.namespace("r1"))) as kernel:
        port = kernel.read()[0]["r2"]
    assert port.shapers == ("loss",)
    # Datagrams sent to find the end may be lost, too.
    assert missing <= port.dropped <= missing + 60
    heal(lab)
    with closing(Kernel(lab.namespace("r1"))) as kernel:
        assert kernel.read()[0]["r2"].shapers == ()


@needs_root
def test_others_filters_stay(lab: Lab) -> None:
    """Somebody's clsact and filter on the same interface."""
    nothing = bytes.fromhex("b7000000000000009500000000000000")

    def put() -> None:
        with Netlink() as ip:
            found = tc.link(ip, name="eth0")
            assert found is not None
            tc.add_clsact(ip, found.index)
            program = bpf.load_program("theirs", nothing)
            tc.put_filter(ip, found.index, tc.EGRESS, (7, 1), program, "theirs")
            os.close(program)

    def names() -> list[str]:
        with Netlink() as ip:
            found = tc.link(ip, name="eth0")
            assert found is not None
            return [one.name for one in tc.filters(ip, found.index, tc.EGRESS)]

    lab.inside("a", put)
    done = impair(lab, "a-r1", loss=50)
    if any("by BPF" in line for line in done):
        assert lab.inside("a", names) == ["theirs", "loss"]
    heal(lab)
    assert lab.inside("a", names) == ["theirs"]
    lab.execute("a", ["tc", "qdisc", "del", "dev", "eth0", "clsact"])


@needs_root
def test_the_controller_is_told(lab: Lab) -> None:
    assert impair(lab, "r1-r2", loss=1)[-1] == "controller told: r1-r2 has loss 1"
    with Control(lab.control_socket) as control:
        control.die()
    assert impair(lab, "r1-r2", loss=1)[-1] == "no controller is running"
    argv = [
        sys.executable,
        "-m",
        "fake_hawkeye",
        "--address",
        "fd00:a::1",
        "--control",
        str(lab.control_socket),
    ]
    lab.start("a", "computing", [*argv, "--topology", str(lab.topology_file)]).wait_for("listening on")

    def link() -> dict[str, Any]:
        with Control(lab.control_socket) as control:
            return dict(control.network()["links"]["r1-r2"])

    assert impair(lab, "r1-r2", loss=2, latency=7)[-1] == "controller told: r1-r2 has latency 7, loss 2"
    fail(lab, "r1-r2")
    assert (link()["up"], link()["latency"], link()["loss"]) == (False, 7, 2)
    told = "controller told: r1-r2 is up with latency 100, bandwidth 100000, loss 0"
    assert heal(lab)[-1] == told
    assert (link()["up"], link()["latency"], link()["loss"]) == (True, 100, 0)


@needs_root
def test_what_cannot_be_done_is_said(lab: Lab) -> None:
    with pytest.raises(LabError, match="has no link 'r1-b', it has r1-r2"):
        fail(lab, "r1-b")
    with pytest.raises(LabError, match="nothing to change: give --latency"):
        impair(lab, "r1-r2")
    for wrong in ({"latency": -1}, {"bandwidth": 0}, {"loss": 100}):
        with pytest.raises(LabError, match="latency must be 0 or more"):
            impair(lab, "r1-r2", **wrong)


@needs_root
def test_a_lab_that_is_not_up_is_said(tmp_path: Path) -> None:
    file = tmp_path / "topology.yaml"
    file.write_text(yaml.safe_dump(document("down")))
    with pytest.raises(LabError, match="is not up"):
        fail(Lab(f"down-{os.getpid()}", file), "r1-r2")


# --- from the start


@pytest.fixture
def impaired(tmp_path: Path) -> Iterator[Lab]:
    """A lab that is up, impaired from its start; nothing is left of it in the end."""
    name = f"start-{os.getpid()}"
    file, bad = tmp_path / "topology.yaml", tmp_path / "impair.yaml"
    file.write_text(yaml.safe_dump(document(name)))
    bad.write_text("r1-a: {bandwidth: 2Mbit}\nb-r2: {latency: 20ms}\nr1-r2: {loss: 3%}\n")
    lab = Lab(name, file)
    try:
        assert lab.up(bad)
        yield lab
    finally:
        lab.down()
        assert lab.remains() == []


def shaped(lab: Lab, node: str = "a") -> str:
    return lab.execute(node, ["tc", "qdisc", "show", "dev", "eth0"]).stdout


def round_trip(lab: Lab) -> float:
    """The time of a ping from a to b in milliseconds."""
    said = lab.execute("a", ["ping", "-6", "-n", "-c3", "-i0.2", "-W2", "fd00:b::1"]).stdout
    return float(said.rsplit(" = ", 1)[1].split("/")[0])


@needs_root
def test_impaired_from_the_start_and_healed_to_it(impaired: Lab) -> None:
    links = {"a-r1": {"bandwidth": 2000}, "b-r2": {"latency": 20000}, "r1-r2": {"loss": 3.0}}
    assert current(impaired) == ([], links)
    lacking = [line for line in impaired.impaired if "this kernel has no" in line]
    if not any("tbf" in line for line in lacking):
        assert "a: 2000 kbit/s towards r1" in impaired.impaired
        assert "rate 2Mbit" in shaped(impaired)
    if not any("netem" in line for line in lacking):
        assert "b: delay 20000us towards r2" in impaired.impaired
        assert round_trip(impaired) >= 40
    with Control(impaired.control_socket) as control:
        told = control.network()["links"]
        assert (told["a-r1"]["bandwidth"], told["b-r2"]["latency"], told["r1-r2"]["loss"]) == (2000, 20000, 3)
    with pytest.raises(LabError, match=r"is already up: use '\./run lab\.impair'"):
        impaired.up(Path("other.yaml"))

    before = state(impaired)
    impair(impaired, "a-r1", bandwidth=9000, latency=1000)
    assert current(impaired)[1]["a-r1"] == {"bandwidth": 9000, "latency": 1000}
    fail(impaired, "r1-r2")
    done = heal(impaired)
    assert "controller told: a-r1 is up with latency 100, bandwidth 2000, loss 0" in done
    assert "controller told: r1-r2 is up with latency 100, bandwidth 100000, loss 3.0" in done
    assert current(impaired) == ([], links)
    wait_until(lambda: settled(impaired, before), 5, "addresses, routes and rates as they were")
    assert heal(impaired) == ["no routes changed"]


@needs_root
def test_a_broken_lab_is_rebuilt_with_its_impairments(impaired: Lab) -> None:
    before = current(impaired)
    stop([impaired.processes()["a"]])
    again = Lab(impaired.name)
    assert again.state() == "broken"
    assert again.up()
    assert current(again) == before and again.impaired == impaired.impaired
    again.down()


@needs_root
def test_a_wrong_file_is_told_before_anything_is_made(tmp_path: Path) -> None:
    file, bad = tmp_path / "topology.yaml", tmp_path / "impair.yaml"
    file.write_text(yaml.safe_dump(document("wrong")))
    bad.write_text("r1-r9: {loss: 1%}\n")
    lab = Lab(f"wrong-{os.getpid()}", file)
    with pytest.raises(LabError, match=r"impair\.yaml:1: r1-r9: is not a link"):
        lab.up(bad)
    assert lab.remains() == []

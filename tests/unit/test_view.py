"""The lab's page: what it draws of a lab that is made up here, and which requests its server accepts."""

import functools
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv6Address
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.names import Names
from lab.reroute import remaining_routes
from lab.routing import Route
from lab.topology import Topology, load_topology
from lab.view.drawing import lanes_of
from lab.view.journal import changes, moved
from lab.view.kernel import Port, Routes
from lab.view.layout import BOX_HEIGHT, BOX_WIDTH, LABEL_HEIGHT, LABEL_WIDTH, Box, Layout, tall, wide
from lab.view.losses import Losses
from lab.view.markup import markup, tag
from lab.view.page import regions, whole
from lab.view.reading import Agent, Snapshot, as_set, packets_of_vpp
from lab.view.scene import Rates, Scene, short
from lab.view.server import Server, read_place
from lab.view.ways import ActivePath, Step, applications, way

HAWK = load_topology(Path(__file__).parents[2] / "lab" / "hawk.yaml")
HOST_B = "fcbb:cc00:2::a"
FAST = ["fcbb:bb00:1::2", "fcbb:bb00:2::2", "fcbb:bb00:4::2", "fcbb:bb00:6::2"]
SLOW = ["fcbb:bb00:1::2", "fcbb:bb00:3::2", "fcbb:bb00:5::2", "fcbb:bb00:6::2"]


@functools.cache
def routes_without(failed: tuple[str, ...]) -> dict[str, list[Route]]:
    return remaining_routes(HAWK, failed)


def snapshot(failed: tuple[str, ...] = (), agents: tuple[Agent, ...] = (), **more: Any) -> Snapshot:
    """The development network with these links down, as its kernels would tell it."""
    ends = [(link, link.interface(node)) for link in HAWK.links for node in link.nodes]
    ports: dict[str, dict[str, Port]] = {name: {} for name in HAWK.nodes}
    for link, end in ends:
        ports[end.node][end.name] = Port(link.name not in failed, 0, 0, 0)
    wanted = routes_without(failed)
    routes = {
        name: Routes(as_set(HAWK, wanted, name), dict.fromkeys(getattr(node, "sids", ()), 0))
        for name, node in HAWK.nodes.items()
    }
    return Snapshot(0.0, HAWK, ports, routes, {}, agents=agents, arrived=0, **more)


def client(sids: list[str], origin: str = "controller", sent: int = 0, service: str = "web") -> Agent:
    binding = {
        "service": service,
        "address": HOST_B,
        "port": 80,
        "intents": ["low-latency"],
        "origin": origin,
        "sids": sids,
        "source": "fcbb:cc00:1::a",
        "since": 0.0,
        "path_sent": {"packets": sent, "bytes": 0},
    }
    counters = {"egress": {"STEERED": {"packets": sent, "bytes": 0}}, "ingress": {}}
    status = {"pid": 1, "counters": counters, "bindings": [binding], "controller": {"state": "connected"}}
    return Agent("host-a", "client", "eth0", status)


def server_agent(*paths: list[str]) -> Agent:
    counters: dict[str, Any] = {"egress": {}, "ingress": {}}
    listed = [{"sids": sids, "packets": 7, "bytes": 0} for sids in paths]
    return Agent("host-b", "server", "eth0", {"pid": 2, "counters": counters, "paths": listed})


def scene(now: Snapshot) -> Scene:
    layouts = {"wide": wide(now.topology), "tall": tall(now.topology)}
    return Scene("hawk", "", now, Names(now.topology), layouts, applications(now))


# --- places


@pytest.mark.parametrize("layout", [wide(HAWK), tall(HAWK)], ids=["wide", "tall"])
def test_no_label_covers_another_or_a_node(layout: Layout) -> None:
    boxes = {f"node {name}": Box(*at, BOX_WIDTH, BOX_HEIGHT) for name, at in layout.nodes.items()}
    boxes |= {f"link {name}": Box(*at, LABEL_WIDTH, LABEL_HEIGHT) for name, at in layout.labels.items()}
    found = [(one, other) for one, other in combinations(boxes, 2) if boxes[one].overlap(boxes[other])]
    assert found == []
    outside = Box(layout.width / 2, layout.height / 2, layout.width, layout.height)
    assert all(abs(box.overlap(outside) - box.width * box.height) < 1 for box in boxes.values())


@pytest.mark.parametrize("layout", [wide(HAWK), tall(HAWK)], ids=["wide", "tall"])
def test_no_label_covers_a_link(layout: Layout) -> None:
    found = []
    for link in HAWK.links:
        a, b = layout.line(*link.nodes)
        along = [Box(a.x + (b.x - a.x) * i / 20, a.y + (b.y - a.y) * i / 20, 12, 12) for i in range(21)]
        labels = {name: Box(*at, LABEL_WIDTH, LABEL_HEIGHT) for name, at in layout.labels.items()}
        found += [(link.name, name) for name, box in labels.items() if any(map(box.overlap, along))]
    assert found == []


def test_boxes_overlap_by_what_they_have_in_common() -> None:
    small, large = Box(0, 0, 2, 2), Box(1, 0, 10, 10)
    assert small.overlap(large) == 4 and small.overlap(Box(1, 1, 2, 2)) == 1
    assert small.overlap(Box(2, 0, 2, 2)) == 0


def test_the_drawings_fit_desktop_and_phone() -> None:
    assert wide(HAWK).width <= 1240 and wide(HAWK).height <= 330
    assert tall(HAWK).width <= 370


# --- ways


def links(steps: tuple[Step, ...]) -> list[str]:
    return [f"{step.sender}>{step.receiver}" for step in steps]


def segments(sids: list[str]) -> list[IPv6Address]:
    return [IPv6Address(sid) for sid in [*sids, HOST_B]]


def test_way_of_a_segment_list() -> None:
    found = way(snapshot(), "host-a", segments(SLOW))
    assert links(found.steps) == [
        "host-a>site-a",
        "site-a>vpp1",
        "vpp1>vpp3",
        "vpp3>vpp5",
        "vpp5>vpp6",
        "vpp6>site-b",
        "site-b>host-b",
    ]
    assert found.problem is None and not found.equal_routes


def test_way_with_equal_routes_has_both() -> None:
    found = way(snapshot(), "host-a", segments(["fcbb:bb00:6::2"]))
    assert found.equal_routes and found.problem is None
    assert {"vpp1>vpp2", "vpp1>vpp3", "vpp4>vpp6", "vpp5>vpp6"} <= set(links(found.steps))


def test_way_round_a_failed_link_and_way_that_ends() -> None:
    assert "vpp1>vpp2" in links(way(snapshot(("vpp3-vpp5",)), "host-a", segments(SLOW)).steps)
    cut = way(snapshot(("site-b-host-b",)), "host-a", segments(FAST))
    assert cut.problem == "vpp6 has no route to fcbb:cc00:2::a" and links(cut.steps)[-1] == "vpp4>vpp6"
    unknown = replace(snapshot(), routes={})
    assert way(unknown, "host-a", segments(FAST)).problem == "the routes of host-a are unknown"


def test_a_link_that_is_down_before_its_routes_are_changed() -> None:
    now = snapshot()
    ports = {**now.ports, "vpp2": {**now.ports["vpp2"], "vpp4": Port(False, 0, 0, 0)}}
    found = way(replace(now, ports=ports), "host-a", segments(FAST))
    assert found.problem == "vpp2-vpp4 is down" and links(found.steps)[-1] == "vpp1>vpp2"


def only_path(now: Snapshot) -> ActivePath:
    """The only path of the only application."""
    ((one,),) = (application.paths for application in applications(now))
    return one


def several_paths(upper: float, lower: float) -> Agent:
    """A client whose flows are divided among two paths; one without a share is on standby."""
    found = client(FAST, "backup")
    assert found.status is not None
    told = [
        {
            "sids": sids,
            "segments": sids,
            "share_percent": share,
            "sent": {"packets": 10 + number, "bytes": 0},
            "health": {"state": "alive", "rtt_ms": 12.34, "loss_percent": 2.0},
            "tcp": {"rtt_ms": None},
            "state": "in use" if share else "its latency of 90 ms exceeds 40 ms",
            "name": name,
        }
        for number, (name, sids, share) in enumerate((("upper", FAST, upper), ("lower", SLOW, lower)))
    ]
    (binding,) = found.status["bindings"]
    binding["active"] = [one for one in told if one["share_percent"]]
    binding["standby"] = [one for one in told if not one["share_percent"]]
    binding["reason"] = "measured latency of 6 ms"
    return found


def test_replies_take_the_learned_path() -> None:
    one = only_path(snapshot(agents=(client(FAST), server_agent(SLOW[::-1], FAST[::-1]))))
    assert one.reply is not None and one.reply_packets == 7
    assert links(one.reply.steps)[2:5] == ["vpp6>vpp4", "vpp4>vpp2", "vpp2>vpp1"]


def test_containers_are_followed_sid_by_sid() -> None:
    """Of compressed SIDs: the way is that of each, the list is as it is sent."""
    csids = {router.csid.network_address: 0 for router in HAWK.routers if router.csid is not None}
    now = snapshot(agents=(client(["fcbb:bb00:1:3:5:6::"]), server_agent(["fcbb:bb00:6:5:3:1::"])))
    routes = {
        name: replace(found, sids={**found.sids, **{sid: 0 for sid in csids if Names(HAWK)(sid) == name}})
        for name, found in now.routes.items()
    }
    one = only_path(replace(now, routes=routes))
    assert Names(HAWK).path(one.sids) == "vpp1 > vpp3 > vpp5 > vpp6"
    assert one.segments == (IPv6Address("fcbb:bb00:1:3:5:6::"),)
    assert one.request is not None and one.request.problem is None
    assert links(one.request.steps)[1:5] == ["site-a>vpp1", "vpp1>vpp3", "vpp3>vpp5", "vpp5>vpp6"]
    assert one.reply is not None and links(one.reply.steps)[2:5] == ["vpp6>vpp5", "vpp5>vpp3", "vpp3>vpp1"]


@pytest.mark.parametrize(
    ("agents", "note"),
    [
        ((client(FAST),), "no hawkwing server runs on host-b"),
        ((client(FAST), server_agent(SLOW[::-1])), "host-b has not learned it yet"),
        (
            (client(FAST), Agent("host-b", "server", "eth0", None)),
            "hawkwing server on host-b does not answer",
        ),
        ((client([], "none"), server_agent()), "requests have no SRH"),
    ],
)
def test_replies_whose_path_is_unknown(agents: tuple[Agent, ...], note: str) -> None:
    one = only_path(snapshot(agents=agents))
    assert one.reply is None and one.reply_note == note


# --- what is drawn


def test_lanes_of_requests_and_replies() -> None:
    now = scene(snapshot(agents=(client(FAST), server_agent(FAST[::-1]))))
    lanes = lanes_of(now)
    assert [(one.reply, one.sender) for one in lanes["vpp2-vpp4"]] == [(False, "vpp2"), (True, "vpp4")]
    assert lanes["vpp1-vpp3"] == []


def test_all_paths_of_an_application_are_lit_in_its_colour() -> None:
    learned = server_agent(FAST[::-1], SLOW[::-1])
    both = lanes_of(scene(snapshot(agents=(several_paths(60, 40), learned))))
    for link, one, other in (("vpp2-vpp4", "vpp2", "vpp4"), ("vpp3-vpp5", "vpp3", "vpp5")):
        assert [(lane.number, lane.reply, lane.sender) for lane in both[link]] == [
            (0, False, one),
            (0, True, other),
        ]
    one_left = lanes_of(scene(snapshot(agents=(several_paths(100, 0), learned))))
    assert one_left["vpp2-vpp4"] and one_left["vpp3-vpp5"] == []


def test_a_card_shows_shares_figures_and_standby() -> None:
    both = regions(scene(snapshot(agents=(several_paths(60, 40),))))["applications"]
    assert "upper, 60 % of the flows, from the file, 12.3 ms, 2 % lost, " in both
    assert "lower, 40 % of the flows" in both and "measured latency of 6 ms" in both
    assert "Standby" not in both
    one_left = regions(scene(snapshot(agents=(several_paths(100, 0),))))["applications"]
    assert "upper, 100 % of the flows" in one_left and "% of the flows" in one_left
    assert "Standby" in one_left and "its latency of 90 ms exceeds 40 ms" in one_left
    assert "vpp1 &gt; vpp3 &gt; vpp5 &gt; vpp6" in one_left
    plain = regions(scene(snapshot(agents=(client(FAST),))))["applications"]
    assert "of the flows" not in plain and "Standby" not in plain


def test_the_log_says_which_paths_are_in_use() -> None:
    both, one_left = (snapshot(agents=(several_paths(*shares),)) for shares in ((60, 40), (100, 0)))
    assert moved(both, one_left) and not moved(both, both)
    told = [text for _kind, text in changes(both, one_left)]
    assert told == ["web port 80: path moved to vpp1 > vpp2 > vpp4 > vpp6, from the file"]
    told = [text for _kind, text in changes(one_left, both)]
    assert told == [
        "web port 80: path moved to vpp1 > vpp2 > vpp4 > vpp6 and vpp1 > vpp3 > vpp5 > vpp6, from the file"
    ]


def test_what_could_not_be_read_is_unknown() -> None:
    drawn = regions(scene(Snapshot(0.0, HAWK)))
    assert drawn["links"].count("unknown") >= 14 * 6 and drawn["nodes"].count(">unknown<") >= 9
    assert "packets unknown" in drawn["map"] and "controller unknown" in drawn["status"]


def test_a_lab_that_is_down_is_told() -> None:
    page = whole(Scene("hawk", "lab hawk is not up"))
    assert page.count("lab hawk is not up") == 2 and "<svg" not in page


def test_names_from_a_configuration_are_no_markup() -> None:
    hostile = "<img src=x onerror=alert(1)>\"'"
    page = whole(scene(snapshot(agents=(client(FAST, service=hostile),))))
    assert "<img" not in page and "&lt;img" in page
    assert tag("p", hostile, title=hostile).count("<") == 2
    assert markup("a<b", tag("i", None, ["c", 1]), None) == "a&lt;b<i>c1</i>"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (99_999, "99,999"),
        (123_456, "123k"),
        (1_234_567, "1.2M"),
        (12_345_678, "12M"),
        (5e9, "5.0G"),
    ],
)
def test_counts_have_room_in_the_drawing(count: float, text: str) -> None:
    assert short(count) == text


def test_rates_are_of_about_a_second() -> None:
    rates = Rates()

    def at(seconds: float, sent: int) -> Snapshot:
        ports = {"vpp1": {"vpp2": Port(True, 0, sent, 0)}}
        return replace(snapshot(), at=seconds, ports=ports)

    rates.add(at(0.0, 100))
    assert rates.sent("vpp1-vpp2", "vpp1") is None
    for seconds, sent in ((0.5, 110), (1.0, 120), (1.5, 150), (2.0, 180)):
        rates.add(at(seconds, sent))
    assert rates.sent("vpp1-vpp2", "vpp1") == 60
    assert rates.sent("vpp1-vpp2", "vpp2") is None


# --- the log


def told(before: Snapshot, now: Snapshot) -> list[str]:
    return [text for _kind, text in changes(before, now)]


def test_the_log_tells_what_changed() -> None:
    old, new = client(SLOW, "backup"), client(FAST)
    before, now = snapshot(agents=(old,)), snapshot(("vpp3-vpp5",), agents=(new, server_agent(FAST[::-1])))
    assert told(before, now) == [
        "vpp3-vpp5 is down",
        "hawkwing server on host-b runs on eth0",
        "web port 80: path moved to vpp1 > vpp2 > vpp4 > vpp6, from the controller",
        "host-b learned the reverse path vpp6 > vpp4 > vpp2 > vpp1",
    ]
    pushed = snapshot(agents=(client(SLOW),))
    assert told(pushed, snapshot(agents=(new,)))[0] == "the controller pushed a path for web port 80"
    assert moved(before, now) and not moved(now, now) and told(now, now) == []
    assert told(now, replace(now, agents=()))[0] == "hawkwing client on host-a has stopped"


def test_the_log_tells_what_the_controller_believes_and_the_kernel_has() -> None:
    metrics = {"latency": 3000, "bandwidth": 120000, "loss": 0.0}
    before = snapshot(controller={"vpp2-vpp4": metrics})
    ports = {**before.ports, "vpp2": {**before.ports["vpp2"], "vpp4": Port(True, 0, 0, 0, ("netem",))}}
    changed = {"vpp2-vpp4": {**metrics, "latency": 80000, "loss": 5.0}}
    assert told(before, replace(before, controller=changed, ports=ports)) == [
        "vpp2-vpp4: latency 3 ms → 80 ms (told to the controller)",
        "vpp2-vpp4: loss 0 % → 5 % (told to the controller)",
        "vpp2-vpp4: the kernel of vpp2 has netem",
    ]
    assert told(before, replace(before, controller=None)) == ["the controller has stopped"]


@pytest.mark.parametrize(
    ("sent", "arrived", "sentence"),
    [
        # On its way at one reading, and there at the next.
        ([10, 20, 30, 40], [10, 19, 29, 40], "0 of 20 packets lost while the path moved"),
        (
            [10, 20, 30, 40, 50, 60, 70, 80],
            [10, 20, 27, 37, 46, 57, 67, 76],
            "3 of 60 packets lost while the path moved",
        ),
        ([10, 10, 10, 10, 10, 10, 10, 10], [10] * 8, None),
    ],
)
def test_losses_while_a_path_moved(sent: list[int], arrived: list[int], sentence: str | None) -> None:
    losses, found = Losses(), []
    losses.add(replace(snapshot(agents=(client(FAST, sent=0),)), arrived=0), False)
    for number, (out, back) in enumerate(zip(sent, arrived, strict=True)):
        now = replace(snapshot(agents=(client(FAST, sent=out),)), arrived=back)
        found.append(losses.add(now, number == 2))
    assert [text for text in found if text] == ([sentence] if sentence else [])


def test_nothing_is_said_of_losses_that_cannot_be_counted() -> None:
    losses = Losses()
    silent = Agent("host-b", "server", "eth0", None)
    for number in range(8):
        now = snapshot(agents=(client(FAST, sent=number * 10), silent))
        assert losses.add(replace(now, arrived=None), number == 2) is None


def test_counters_of_vpp() -> None:
    text = """\
              Name               Idx    State  MTU (L3/IP4/IP6/MPLS)     Counter          Count
host-vpp1                         1      up          1500/0/0/0     rx packets                    84
                                                                    rx bytes                    9000
                                                                    tx packets                    77
host-vpp4                         2      up          1500/0/0/0
local0                            0     down          0/0/0/0       drops                          3
loop0                             3      up          9000/0/0/0     tx packets                     5
"""
    assert packets_of_vpp(text) == {"vpp1": (84, 77), "vpp4": (0, 0)}


# --- the server


@pytest.mark.parametrize(
    "text", ["8642", "host:80", "::1:80", "127.0.0.1:", "127.0.0.1:70000", "[::1]", "1.2.3.4:-1"]
)
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(LabError, match="is not an address with a port"):
        read_place(text)


@pytest.fixture(scope="module")
def local() -> Iterator[Server]:
    with Server("no-such-lab", read_place("127.0.0.1:0")) as server:
        yield server


def ask(
    url: str, headers: Mapping[str, str] | None = None, body: object = None
) -> tuple[int, str, Mapping[str, str]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def test_the_page_and_its_parts_need_nothing_else(local: Server) -> None:
    status, page, headers = ask(local.url)
    assert status == 200 and "no-such-lab is not up" in page
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    for part in ("page.css", "page.js", "icon.svg"):
        status, text, _ = ask(local.url + part)
        assert status == 200
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "https://" not in text


def test_pages_of_other_sites_are_kept_out(local: Server) -> None:
    port = local.url.rsplit(":", 1)[1].strip("/")
    json_body = {"Content-Type": "application/json"}
    button = {"do": "heal-all", "target": ""}
    assert ask(local.url, {"Host": f"evil.example:{port}"})[0] == 403
    assert ask(f"{local.url}do", {**json_body, "Origin": "http://evil.example"}, button)[0] == 403
    assert ask(f"{local.url}do", {"Content-Type": "text/plain"}, button)[0] == 415
    status, answer, _ = ask(f"{local.url}do", {**json_body, "Origin": local.url.strip("/")}, button)
    assert status == 409 and "no-such-lab is not up" in answer
    assert ask(f"{local.url}do", json_body, {"do": "rm", "target": "/"})[0] == 409
    assert ask(f"{local.url}do", json_body, ["do"])[0] == 400
    assert ask(f"{local.url}captures/..%2f..%2fpasswd.pcapng")[0] == 404


def test_beyond_the_loopback_the_token_is_needed() -> None:
    with Server("no-such-lab", read_place("0.0.0.0:0")) as server:
        assert server.token is not None and len(server.token) >= 32 and server.token in server.url
        bare = server.url.partition("?")[0].replace("0.0.0.0", "127.0.0.1")
        for wrong in (bare, f"{bare}page.js", f"{bare}events", f"{bare}?token={server.token}x"):
            assert ask(wrong)[:2] == (403, "the token is missing: use the whole URL that lab.view printed\n")
        status, _, headers = ask(f"{bare}?token={server.token}")
        assert status == 200
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert ask(f"{bare}page.js", {"Cookie": cookie.partition(";")[0]})[0] == 200


def test_on_the_loopback_there_is_no_token(local: Server) -> None:
    assert local.token is None and local.url.startswith("http://127.0.0.1:")


def test_a_port_in_use_is_one_sentence(local: Server) -> None:
    port = local.url.rsplit(":", 1)[1].strip("/")
    with pytest.raises(LabError, match=f"can't listen on 127.0.0.1 port {port}: Address already in use"):
        Server("no-such-lab", read_place(f"127.0.0.1:{port}"))


def test_topologies_of_few_nodes_can_be_drawn() -> None:
    nodes = {
        "a": {"kind": "host", "service_address": "fd00:a::1/48"},
        "r": {"kind": "router", "loopback": "fd01::1/128", "sid": "fd01::2"},
    }
    link = {"endpoints": ["a:eth0", "r:a"], "prefix": "2001:db8::/64", "addresses": ["::1", "::2"]}
    link |= {"igp": 10, "latency": 100, "bandwidth": 100000}
    topology = Topology.model_validate({"name": "tiny", "nodes": nodes, "links": [link]})
    assert regions(scene(Snapshot(0.0, topology)))["map"].count("<svg") == 2

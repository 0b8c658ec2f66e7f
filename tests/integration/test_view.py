"""The page of `lab.view` in a real Chromium: what it shows is what kernels, agents and captures say."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet6 import IPv6ExtHdrSegmentRouting
from scapy.utils import PcapNgReader

from lab.impair import heal
from lab.names import Names
from lab.network import Lab
from lab.packets import segments, segments_left
from lab.view.browser import DESKTOP, PHONE, Browser, missing
from lab.view.server import Server, read_place
from lab.wait import patient, wait_until
from lab.wire import Capture, tcp_port
from tests.labs import running

from .conftest import HAWKWING, Agents
from .onwire import R1, R2, R3, R4, R5, R6, B
from .test_intents import LOW_LATENCY

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())
FAST, SLOW = ["vpp1-vpp2", "vpp2-vpp4", "vpp4-vpp6"], ["vpp1-vpp3", "vpp3-vpp5", "vpp5-vpp6"]
SITES = ["host-a-site-a", "site-a-vpp1", "vpp6-site-b", "site-b-host-b"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(lab: Lab) -> Iterator[Server]:
    with Server(lab.name, read_place("127.0.0.1:0")) as server:
        yield server


@contextmanager
def opened(lab: Lab, server: Server, browser: Browser, card: str) -> Iterator[Any]:
    """The page once a card has this text; scripts and loading must not fail."""
    page = browser.open(server.url)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.set_default_timeout(patient(20) * 1000)
    page.locator(".cards", has_text=card).wait_for()
    yield page
    page.context.close()
    heal(lab)
    assert faults == []


@pytest.fixture
def page(lab: Lab, server: Server, browser: Browser, agents: Agents) -> Iterator[Any]:
    """With a client that asks the controller, and a server."""
    agents.server()
    agents.client(LOW_LATENCY)
    with opened(lab, server, browser, "from the controller") as page:
        yield page


def lit(page: Any, kind: str = "request") -> list[str]:
    """The links with a lane of the application, as drawn."""
    lanes = page.locator(f"svg.wide g[data-link]:has(.lane.{kind}.a0)")
    return sorted(lanes.evaluate_all("all => all.map(one => one.dataset.link)"))


def binding(lab: Lab) -> dict[str, Any]:
    """As the agent itself tells it."""
    told = json.loads(lab.execute("host-a", [*HAWKWING, "status", "--json"]).stdout)
    found: dict[str, Any] = told[0]["bindings"][0]
    return found


def fetch(lab: Lab) -> None:
    lab.execute("host-a", ["curl", "-g", "-s", "-m", f"{patient(5):g}", f"http://[{B}]/"])


def button(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def watch_for(page: Any, link: str) -> None:
    """The page notes when the link gets a lane of a request."""
    page.evaluate(
        """link => {
          window.appeared = 0;
          const lane = `svg.wide [data-link="${link}"] .lane.request`;
          const note = () => {
            if (!window.appeared && document.querySelector(lane)) window.appeared = Date.now();
          };
          const all = {subtree: true, childList: true, attributes: true};
          new MutationObserver(note).observe(document.body, all);
        }""",
        link,
    )


def test_a_click_makes_a_link_slow_and_the_lit_path_moves(lab: Lab, page: Any, capture: Capture) -> None:
    assert lit(page) == sorted([*FAST, *SITES])
    fetch(lab)
    wait_until(lambda: lit(page, "reply") == sorted([*FAST, *SITES]), 10, "the replies' path")
    delays = []
    for name, link, links in (
        ("Make vpp2-vpp4 slow", SLOW[0], SLOW),
        ("Heal vpp2-vpp4", FAST[0], FAST),
    ):
        watch_for(page, link)
        button(page, name).click()
        wait_until(lambda links=links: lit(page) == sorted([*links, *SITES]), 30, "the lit path to move")
        now = binding(lab)
        delays.append(page.evaluate("window.appeared") / 1000 - now["since"])
        path = page.locator(".cards dd.path").first
        assert path.inner_text() == Names(lab.topology).path(now["sids"])
        capture.forget()
        fetch(lab)
        there = {frame.link for frame in capture.frames(tcp_port(80))}
        assert sorted(there) == sorted([*links, *SITES]), "what is lit is where the packets are"
        latency = page.locator("#link-vpp2-vpp4 td[data-label=latency]").inner_text()
        assert latency == ("80 ms" if links is SLOW else "3 ms")
    # On a busy machine one of the two may take longer.
    assert min(delays) < patient(1)
    log = page.locator("#log")
    for text in ("You made vpp2-vpp4 slow", "the controller pushed a path", "path moved to vpp1 > vpp3"):
        assert log.get_by_text(text).first.is_visible()


SEVERAL = f"""
services:
  b:
    ipv6_addresses: ["{B}"]
    applications:
      - port: 80
        paths:
          - {{name: upper, sid: ["{R1}", "{R2}", "{R4}", "{R6}"]}}
          - {{name: lower, sid: ["{R1}", "{R3}", "{R5}", "{R6}"]}}
        intents: [{{intent: low-packet-loss}}]
probes: {{interval: 20}}
"""


def test_a_click_makes_a_link_lossy_and_flows_leave_its_path(
    lab: Lab, server: Server, browser: Browser, agents: Agents
) -> None:
    agents.server()
    agents.client(SEVERAL)
    with opened(lab, server, browser, "% of the flows") as page:
        wait_until(lambda: len(binding(lab)["active"]) == 1, 60, "one path to be chosen")
        here = binding(lab)["active"][0]
        links, others = (FAST, SLOW) if here["name"] == "upper" else (SLOW, FAST)
        wait_until(lambda: lit(page) == sorted([*links, *SITES]), 30, "the chosen path to be lit")
        button(page, f"Make {links[1]} lossy").click()

        def left() -> dict[str, Any] | None:
            """The lossy path, once the other one is used and lit: on a busy machine that may change again."""
            if lit(page) != sorted([*others, *SITES]):
                return None
            standby: list[dict[str, Any]] = binding(lab)["standby"]
            return standby[0] if [one["sids"] for one in standby] == [here["sids"]] else None

        gone = wait_until(left, 90, "the lit path to move")
        assert gone is not None and gone["health"]["loss_percent"] > 1
        card = page.locator(".cards li").first
        assert "100 % of the flows" in card.inner_text() and "Standby" in card.inner_text()
        # Only while enough probes return on the lossy path is there something to compare.
        wait_until(lambda: "measured loss of" in card.inner_text(), 60, "the reason of the choice")
        dropped = page.locator(f"#link-{links[1]} td[data-label=dropped]")
        wait_until(lambda: int(dropped.inner_text().split()[0]) > 0, 10, "lost packets to be shown")
        assert "on the wire" in dropped.inner_text()


def test_the_numbers_are_those_of_the_kernel_and_of_the_agent(lab: Lab, page: Any) -> None:
    for _ in range(3):
        fetch(lab)

    ends = [
        (link.name, node, link.interface(node).name) for link in lab.topology.links for node in link.nodes
    ]

    def sent() -> list[int]:
        counted = {}
        for node in lab.topology.nodes:
            told = lab.execute(node, ["ip", "-json", "-statistics", "link", "show"]).stdout
            counted[node] = {one["ifname"]: int(one["stats64"]["tx"]["packets"]) for one in json.loads(told)}
        return [counted[node][name] for _link, node, name in ends]

    def shown() -> list[int]:
        cells = page.locator("td .sent").evaluate_all(
            """all => all.map(one => [one.closest("tr").id, one.dataset.node, one.innerText])"""
        )
        found = {(row.removeprefix("link-"), node): int(text) for row, node, text in cells}
        return [found[link, node] for link, node, _name in ends]

    def as_in_the_kernel() -> bool:
        """Between two readings of the kernel, as there is always a packet of somebody."""
        before = sent()
        page.wait_for_timeout(patient(1) * 1000)
        seen = shown()
        return all(a <= b <= c for a, b, c in zip(before, seen, sent(), strict=True))

    wait_until(as_in_the_kernel, 30, "the kernel's counters on the page")
    count = page.locator(".cards .count").first
    wait_until(
        lambda: int(count.inner_text()) == binding(lab)["path_sent"]["packets"], 5, "the agent's count"
    )
    assert int(count.inner_text()) > 0

    def sids_shown() -> dict[str, int]:
        cells = page.locator("[data-sid]").evaluate_all("all => all.map(a => [a.dataset.sid, a.innerText])")
        return {sid: int(text) for sid, text in cells}

    def sids_counted() -> dict[str, int]:
        return {str(sid): n for counted in lab.sid_packets().values() for sid, n in counted.items()}

    wait_until(lambda: sids_shown() == sids_counted(), 10, "the SIDs' counters")
    assert sids_shown()["fcbb:bb00:1::2"] > 0


def test_a_request_is_followed_as_it_was_captured(lab: Lab, page: Any, capture: Capture) -> None:
    capture.forget()
    button(page, "Send a request to web port 80 and follow it").click()
    tables = page.locator("#followed table")
    tables.nth(1).wait_for()
    assert page.locator("#followed").get_by_text("HTTP 200").is_visible()
    names = Names(lab.topology)
    packets = [one for one in capture.packets(tcp_port(80)) if len(one["TCP"].payload) > 0]
    for number, port in ((0, "dport"), (1, "sport")):
        first = next(one for one in packets if getattr(one["TCP"], port) == 80)
        same = [
            one
            for one in packets
            if (one["TCP"].sport, one["TCP"].seq) == (first["TCP"].sport, first["TCP"].seq)
        ]
        expected = [
            [
                str(one["IPv6"].dst),
                str(segments_left(one)) if segments(one) else "-",
                _listed(names, segments(one)),
            ]
            for one in same
        ]
        rows = tables.nth(number).locator("tbody tr").all()
        shown = [row.locator("td").all_inner_texts() for row in rows]
        assert [[row[2], row[3], row[4].strip()] for row in shown] == expected
        assert [{*row[0].split(" → ")} for row in shown] == [
            {*next(link.nodes for link in lab.topology.links if link.name == one.link)} for one in same
        ]
    assert expected[0][1] == "5", "segments left on the first link of the reply"


def _listed(names: Names, sids: list[str]) -> str:
    return " ".join(names(IPv6Address(sid)) for sid in sids) or "no SRH"


def test_a_links_capture_is_downloaded(lab: Lab, page: Any, tmp_path: Path) -> None:
    button(page, "Capture vpp1-vpp2").click()
    save = button(page, "Save the capture of vpp1-vpp2 as pcapng")
    save.wait_for()
    fetch(lab)
    with page.expect_download() as download:
        save.click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "vpp1-vpp2.pcapng"
    steered = [one for one in PcapNgReader(str(file)) if IPv6ExtHdrSegmentRouting in one]
    assert steered and any(one["IPv6"].dst == "fcbb:bb00:2::2" for one in steered)


def test_a_node_is_drained_and_restored(lab: Lab, page: Any) -> None:
    button(page, "Drain vpp2").click()
    wait_until(lambda: lit(page) == sorted([*SLOW, *SITES]), 30, "the path to leave vpp2")
    assert page.locator("svg.wide .link.down").count() == 2
    fetch(lab)
    button(page, "Restore vpp2").click()
    wait_until(lambda: lit(page) == sorted([*FAST, *SITES]), 30, "the path to come back")
    assert page.locator("svg.wide .link.down").count() == 0


def test_a_lab_that_is_removed_and_built_again(new_lab: Callable[..., Lab], browser: Browser) -> None:
    lab = new_lab("again")
    with running(lab), Server(lab.name, read_place("127.0.0.1:0")) as server:
        page = browser.open(server.url)
        page.locator("svg.wide").wait_for()
        lab.down()
        page.locator("#map", has_text=f"lab {lab.name} is not up").wait_for()
        assert page.locator("svg, tbody").count() == 0, "nothing old is shown"
        lab.up()
        page.locator("svg.wide").wait_for()
        page.locator("#log li", has_text=f"lab {lab.name} can be read again").wait_for()
        page.context.close()


def test_keyboard_names_and_sizes(server: Server, browser: Browser, page: Any) -> None:
    unnamed = "all => all.filter(one => !one.getAttribute('aria-label') && !one.innerText.trim()).length"
    assert page.locator("button, a[href]").evaluate_all(unnamed) == 0
    names = page.locator("button").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    assert len(set(names)) == len(names), "each button's name says what it changes"
    boxes = page.get_by_role("checkbox", name="web port 80 on the map")
    boxes.uncheck()
    assert page.locator("svg.wide .lane.a0:visible").count() == 0
    boxes.check()
    assert page.locator("svg.wide .lane.a0:visible").count() >= 7
    # A link of the drawing leads to its row, and its buttons are the next stops.
    page.locator("svg.wide a[href='#link-vpp2-vpp4']").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Make vpp2-vpp4 slow"
    # The page changes below the focus, which stays.
    page.wait_for_timeout(patient(1) * 1000)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Make vpp2-vpp4 slow"
    for size in (DESKTOP, PHONE):
        for dark in (False, True):
            other = browser.open(server.url, size, dark, calm=True)
            assert other.evaluate("document.documentElement.scrollWidth") <= size[0]
            drawn = other.locator("svg.wide" if size == DESKTOP else "svg.tall")
            assert drawn.is_visible()
            assert _covered(drawn) == []
            other.context.close()


def _covered(drawn: Any) -> list[list[str]]:
    """Texts of the drawing that cover one another, or a node that is not theirs."""
    script = """svg => {
      const parts = [...svg.querySelectorAll('text, .node rect')].map(e => [e, e.getBoundingClientRect()]);
      const found = [];
      for (const [i, [a, p]] of parts.entries())
        for (const [b, q] of parts.slice(i + 1)) {
          if (a.parentNode === b.parentNode) continue;
          if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 1 && q.top < p.bottom - 1)
            found.push([a.textContent, b.textContent]);
        }
      return found;
    }"""
    found: list[list[str]] = drawn.evaluate(script)
    return found

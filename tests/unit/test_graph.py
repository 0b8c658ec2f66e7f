import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest

from lab.graph import GLYPH, LINE, LINK_FONT, NODE_FONT, mermaid, svg
from lab.topology import Topology, load_topology

HAWK = Path(__file__).parents[2] / "lab" / "hawk.yaml"
SVG = "{http://www.w3.org/2000/svg}"
PATH = ["host-a", "site-a", "vpp1", "vpp2", "vpp4", "vpp6", "site-b", "host-b"]


class Box(NamedTuple):
    what: str
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


@pytest.fixture(scope="module")
def hawk() -> Topology:
    """The development network."""
    return load_topology(HAWK)


@pytest.fixture(scope="module")
def picture(hawk: Topology) -> ElementTree.Element:
    """The development network's SVG, parsed."""
    return ElementTree.fromstring(svg(hawk))


def boxes(picture: ElementTree.Element, kind: str) -> Iterator[Box]:
    for group in picture.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if rect is not None and kind in group.attrib["class"].split():
            x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
            text = group.find(f"{SVG}text")
            assert text is not None
            yield Box(str(text.text), x, y, x + width, y + height)


def test_every_node_and_link_is_named(hawk: Topology, picture: ElementTree.Element) -> None:
    texts = [element.text for element in picture.iter(f"{SVG}text")]
    for host in hawk.hosts:
        assert texts.count(host.name) == 1
        assert texts.count(str(host.address)) == 1
    for router in hawk.routers:
        assert texts.count(router.name) == 1
        assert texts.count(str(router.sid)) == 1
    for link in hawk.links:
        assert texts.count(str(link.prefix)) == 1
    assert len(list(picture.iter(f"{SVG}line"))) == len(hawk.links)
    assert "igp 10 · 2.5 ms" in texts
    assert "1.2 Gbit/s" in texts


def test_nothing_overlaps(picture: ElementTree.Element) -> None:
    drawn = [*boxes(picture, "node"), *boxes(picture, "link")]
    assert len(drawn) == 28
    for one, other in combinations(drawn, 2):
        assert not one.overlaps(other), f"{one} and {other}"


def test_everything_is_within_the_picture(picture: ElementTree.Element) -> None:
    width, height = (float(picture.attrib[key]) for key in ("width", "height"))
    for box in [*boxes(picture, "node"), *boxes(picture, "link")]:
        assert box.left >= 0
        assert box.top >= 0
        assert box.right <= width
        assert box.bottom <= height


def test_texts_fit_their_boxes(picture: ElementTree.Element) -> None:
    for group in picture.iter(f"{SVG}g"):
        rect, texts = group.find(f"{SVG}rect"), group.findall(f"{SVG}text")
        if rect is None:
            continue
        font = NODE_FONT if "node" in group.attrib["class"] else LINK_FONT
        assert max(len(text.text or "") for text in texts) * font * GLYPH <= float(rect.attrib["width"])
        assert len(texts) * LINE <= float(rect.attrib["height"])


def test_lines_pass_no_foreign_node(picture: ElementTree.Element) -> None:
    nodes = list(boxes(picture, "node"))
    for line in picture.iter(f"{SVG}line"):
        x1, y1, x2, y2 = (float(line.attrib[key]) for key in ("x1", "y1", "x2", "y2"))
        points = [(x1 + (x2 - x1) * step / 500, y1 + (y2 - y1) * step / 500) for step in range(501)]
        touched = {
            box.what
            for box in nodes
            for x, y in points
            if box.left < x < box.right and box.top < y < box.bottom
        }
        assert len(touched) == 2


def test_left_to_right_with_the_ring_in_the_middle(picture: ElementTree.Element) -> None:
    at = {box.what: box for box in boxes(picture, "node")}
    order = [at[name].left for name in PATH]
    assert order == sorted(set(order))
    assert at["vpp2"].left == at["vpp3"].left
    assert at["vpp2"].top < at["vpp1"].top < at["vpp3"].top
    assert at["vpp4"].top < at["vpp6"].top < at["vpp5"].top
    assert at["host-a"].left == at["dns"].left == min(box.left for box in at.values())


def test_svg_path(hawk: Topology) -> None:
    picture = ElementTree.fromstring(svg(hawk, PATH))
    assert {box.what for box in boxes(picture, "path") if box.what in hawk.nodes} == set(PATH)
    lines = [
        group
        for group in picture.iter(f"{SVG}g")
        if group.attrib["class"] == "link path" and group.find(f"{SVG}line") is not None
    ]
    assert len(lines) == len(PATH) - 1
    assert "path" not in {
        group.attrib["class"] for group in ElementTree.fromstring(svg(hawk)).iter(f"{SVG}g")
    }


def test_mermaid(hawk: Topology) -> None:
    text = mermaid(hawk)
    assert text.startswith("flowchart LR\n")
    assert text.count(" ---|") == len(hawk.links)
    assert 'n_host_a(["host-a<br/>fcbb:cc00:1::a"]):::host' in text
    assert 'n_vpp1["vpp1<br/>fcbb:bb00:1::2"]:::core' in text
    assert 'n_site_b["site-b<br/>fcbb:aa00:2::2"]:::site' in text
    assert 'n_vpp1 ---|"2001:db8:12::/64<br/>igp 10 · 2 ms<br/>100 Mbit/s"| n_vpp2' in text
    assert "linkStyle" not in text


def test_mermaid_path(hawk: Topology) -> None:
    text = mermaid(hawk, PATH)
    assert "class n_host_a,n_host_b,n_site_a,n_site_b,n_vpp1,n_vpp2,n_vpp4,n_vpp6 path" in text
    styled = re.search(r"linkStyle ([0-9,]+) ", text)
    assert styled is not None
    assert {hawk.links[int(index)].name for index in styled[1].split(",")} == {
        hawk.link(one, other).name for one, other in pairwise(PATH)
    }


@pytest.mark.parametrize(
    ("path", "reason"),
    [(["vpp1", "vpp6"], "no link between vpp1 and vpp6"), (["vpp9"], "unknown node 'vpp9'")],
)
def test_impossible_path(hawk: Topology, path: list[str], reason: str) -> None:
    for draw in (svg, mermaid):
        with pytest.raises(ValueError, match=reason):
            draw(hawk, path)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_other_shapes_are_drawn_without_overlap(tmp_path: Path, size: int) -> None:
    """A full mesh of routers with two hosts on the first."""
    names = [f"r{number}" for number in range(size)]
    ends = [(f"{one}:{other}", f"{other}:{one}") for one, other in combinations(names, 2)]
    ends += [("r0:x", "x:eth0"), ("r0:y", "y:eth0")]
    nodes = [
        f"  {name}: {{kind: router, loopback: 'fcbb:bb00:{i}::1/128', sid: 'fcbb:bb00:{i}::2'}}"
        for i, name in enumerate(names)
    ]
    nodes += [
        f"  {name}: {{kind: host, service_address: 'fcbb:cc00:{i}::1/48'}}" for i, name in enumerate("xy")
    ]
    links = [
        f"  - {{endpoints: ['{one}', '{other}'], prefix: '2001:db8:{i}::/64', addresses: ['::1', '::2'],"
        " igp: 1, latency: 1, bandwidth: 1, loss: 5}"
        for i, (one, other) in enumerate(ends)
    ]
    path = tmp_path / "mesh.yaml"
    path.write_text("\n".join(["name: mesh", "nodes:", *nodes, "links:", *links]))
    topology = load_topology(path)
    drawn = svg(topology)
    assert "1 kbit/s · 5 %" in drawn
    for one, other in combinations(boxes(ElementTree.fromstring(drawn), "node"), 2):
        assert not one.overlaps(other)
    assert mermaid(topology).count(" ---|") == len(ends)

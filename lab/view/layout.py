"""The positions of nodes, links and labels on the page: lab.graph's columns, in two sizes.

WIDE goes from left to right, TALL from top to bottom, for phones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

from lab.graph import positions_of
from lab.topology import Topology

BOX_WIDTH, BOX_HEIGHT = 92.0, 52.0
LABEL_WIDTH, LABEL_HEIGHT = 54.0, 40.0
CORRIDOR = 13.0
"""Half of the width of a link and the lanes beside it."""
_MARGIN = 10.0
_GAP = 3.0


class Point(NamedTuple):
    x: float
    y: float


class Box(NamedTuple):
    """A rectangle, given by its centre."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: Box) -> float:
        """The area of the overlap with another box."""
        across = min(self.width, other.width, (self.width + other.width) / 2 - abs(self.x - other.x))
        down = min(self.height, other.height, (self.height + other.height) / 2 - abs(self.y - other.y))
        return max(0.0, across) * max(0.0, down)


@dataclass(frozen=True)
class Layout:
    """Sizes in SVG units, which are pixels if the window is large enough."""

    width: float
    height: float
    nodes: Mapping[str, Point]
    labels: Mapping[str, Point]

    def line(self, one: str, other: str, offset: float = 0.0) -> tuple[Point, Point]:
        """The line between the borders of two nodes, shifted by the offset to the right of its direction."""
        a, b = self.nodes[one], self.nodes[other]
        length = hypot(b.x - a.x, b.y - a.y) or 1.0
        along = Point((b.x - a.x) / length, (b.y - a.y) / length)
        moved = Point(-along.y * offset, along.x * offset)
        begin, end = _beyond(along, moved), length - _beyond(Point(-along.x, -along.y), moved)
        return (
            Point(a.x + moved.x + along.x * begin, a.y + moved.y + along.y * begin),
            Point(a.x + moved.x + along.x * end, a.y + moved.y + along.y * end),
        )


def _beyond(along: Point, moved: Point) -> float:
    """The distance from a node's centre at which a shifted line leaves the node's box."""
    ways = []
    for direction, begin, half in (
        (along.x, moved.x, BOX_WIDTH / 2 + 1),
        (along.y, moved.y, BOX_HEIGHT / 2 + 1),
    ):
        if abs(direction) > 1e-9:
            ways.append((half if direction > 0 else -half) / direction - begin / direction)
    return min(ways)


def wide(topology: Topology) -> Layout:
    """The layout from left to right, for a window of 1280 pixels."""
    positions = positions_of(topology)
    columns = max(position.column for position in positions.values())
    pitch = (1216 - BOX_WIDTH - 2 * _MARGIN) / max(1, columns)
    pitch = min(220.0, max(BOX_WIDTH + LABEL_WIDTH + 2 * _GAP, pitch))
    return _placed(
        topology, {name: Point(one.column * pitch, one.y * 0.95) for name, one in positions.items()}
    )


def tall(topology: Topology) -> Layout:
    """The layout from top to bottom, for a phone."""
    positions = positions_of(topology)
    return _placed(
        topology, {name: Point(one.y * 1.02, one.column * 112.0) for name, one in positions.items()}
    )


def _placed(topology: Topology, rough: Mapping[str, Point]) -> Layout:
    """Shifts everything into view, and places the labels."""
    labels = _labels(topology, Layout(0, 0, rough, {}))
    boxes = [Box(*point, BOX_WIDTH, BOX_HEIGHT) for point in rough.values()]
    boxes += [Box(*point, LABEL_WIDTH, LABEL_HEIGHT) for point in labels.values()]
    whole = _around(boxes)
    left, top = whole.x - whole.width / 2 - _MARGIN, whole.y - whole.height / 2 - _MARGIN

    def moved(points: Mapping[str, Point]) -> dict[str, Point]:
        return {name: Point(round(at.x - left, 1), round(at.y - top, 1)) for name, at in points.items()}

    size = round(whole.width + 2 * _MARGIN), round(whole.height + 2 * _MARGIN)
    return Layout(*size, moved(rough), moved(labels))


def _around(boxes: Sequence[Box]) -> Box:
    left, right = min(one.x - one.width / 2 for one in boxes), max(one.x + one.width / 2 for one in boxes)
    top, bottom = min(one.y - one.height / 2 for one in boxes), max(one.y + one.height / 2 for one in boxes)
    return Box((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def _labels(topology: Topology, layout: Layout) -> dict[str, Point]:
    """Places each label beside its link, with the least overlap, and inside the picture."""
    nodes = [Box(*point, BOX_WIDTH + _GAP, BOX_HEIGHT + _GAP) for point in layout.nodes.values()]
    corridors = {link.name: list(_corridor(layout, *link.nodes)) for link in topology.links}
    whole = _around(nodes)
    placed: dict[str, Point] = {}
    for link in topology.links:
        others = [box for name, boxes in corridors.items() if name != link.name for box in boxes]
        taken = [Box(*point, LABEL_WIDTH + _GAP, LABEL_HEIGHT + _GAP) for point in placed.values()]

        def covered(point: Point, boxes: Iterable[Box] = (*nodes, *others, *taken)) -> float:
            label = Box(*point, LABEL_WIDTH, LABEL_HEIGHT)
            return (
                sum(label.overlap(box) for box in boxes) * 100
                + label.width * label.height
                - label.overlap(whole)
            )

        placed[link.name] = min(_beside(layout, *link.nodes), key=covered)
    return placed


def _beside(layout: Layout, one: str, other: str) -> Iterator[Point]:
    a, b = layout.line(one, other)
    length = hypot(b.x - a.x, b.y - a.y) or 1.0
    normal = Point(-(b.y - a.y) / length, (b.x - a.x) / length)
    reach = abs(normal.x) * LABEL_WIDTH / 2 + abs(normal.y) * LABEL_HEIGHT / 2 + CORRIDOR
    for more in (0, 6, 14, 24, 36):
        for part in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8):
            for side in (-1, 1):
                away = side * (reach + more)
                yield Point(
                    a.x + (b.x - a.x) * part + normal.x * away, a.y + (b.y - a.y) * part + normal.y * away
                )


def _corridor(layout: Layout, one: str, other: str) -> Iterator[Box]:
    """Small boxes along a link."""
    a, b = layout.line(one, other)
    count = max(1, int(hypot(b.x - a.x, b.y - a.y) / 8))
    for index in range(count + 1):
        part = index / count
        yield Box(a.x + (b.x - a.x) * part, a.y + (b.y - a.y) * part, 2 * CORRIDOR, 2 * CORRIDOR)

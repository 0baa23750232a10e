"""Labels: names of regions and numbers of streams, put where they fit, hide little, and lie on no other label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .svg import LINE, Box, Canvas, Point, fitted, polyline, text_width

TITLE_SIZE, TEXT_SIZE, BADGE_SIZE = 18.0, 15.0, 13.0
PADDING = 4.0
BADGE_RADIUS = 11.0
LONG_POINTS = 18  # points of an arrow, six units apart, from which on a badge hides only a part of it


@dataclass(frozen=True)
class Label:
    """Lines of text, the first one large and bold, and how large compared with the usual."""

    lines: tuple[str, ...]
    part: float = 1.0

    @property
    def size(self) -> tuple[float, float]:
        """Width and height with a margin around."""
        first, *rest = self.lines
        title, text = TITLE_SIZE * self.part, TEXT_SIZE * self.part
        width = max([text_width(first, title, bold=True), *(text_width(line, text) for line in rest)])
        return width + 2 * PADDING, (title + text * len(rest)) * LINE + PADDING


@dataclass
class Shown:
    """What is already on the map: frame, regions, points better not hidden, and boxes of labels and arrow heads."""

    frame: Box
    regions: Sequence[Box]
    arrows: Sequence[Point]
    taken: list[Box] = field(default_factory=list)

    def free(self, box: Box) -> bool:
        return self.frame.holds(box) and not any(box.overlaps(other) for other in self.taken)


def region_label(canvas: Canvas, shown: Shown, region: Box, wishes: Sequence[Label]) -> None:
    """Write the first label that fits on a region and hides nothing, else the one that hides least.

    Where none fits, the last one stands beside the region with a pointer.
    """
    room = region.grown(-4)
    found: list[tuple[int, Box, Label]] = []
    for label in wishes:
        places = [(box.grown(5).touches(shown.arrows), box) for box in _inside(room, label.size) if shown.free(box)]
        if places:
            hidden, box = min(places, key=lambda place: place[0])
            found.append((hidden, box, label))
            if not hidden:
                break
    if found:
        _, box, label = min(found, key=lambda each: each[0])
        return _write(canvas, shown, box, label)
    label = wishes[-1]
    beside = [box for box in _around(region, label.size) if shown.free(box)]
    if not beside:
        return None
    clear = [box for box in beside if not any(box.overlaps(other) for other in shown.regions)]
    box = (clear or beside)[0]
    canvas.add("path", d=polyline([box.centre, region.centre]), stroke="#1a1a1a", stroke_width="1", class_="pointer")
    return _write(canvas, shown, box, label)


def _inside(room: Box, size: tuple[float, float]) -> Iterator[Box]:
    """Places in a region: the middle first, then rows from the middle outwards."""
    w, h = size
    if w > room.w or h > room.h:
        return
    for part in (0.5, 0.35, 0.65, 0.2, 0.8, 0.05, 0.95, 0.0, 1.0):
        for side in (0.5, 0.0, 1.0):
            yield Box(room.x + (room.w - w) * side, room.y + (room.h - h) * part, w, h)


def _around(region: Box, size: tuple[float, float]) -> Iterator[Box]:
    """Places outside a region, nearest first."""
    w, h = size
    x, y = region.centre
    for away in range(8, 200, 12):
        yield Box(x - w / 2, region.y + region.h + away, w, h)
        yield Box(x - w / 2, region.y - away - h, w, h)
        yield Box(region.x + region.w + away, y - h / 2, w, h)
        yield Box(region.x - away - w, y - h / 2, w, h)


def _write(canvas: Canvas, shown: Shown, box: Box, label: Label) -> None:
    canvas.rect(box, rx=4, fill="#ffffff", fill_opacity="0.82")
    shown.taken.append(box)
    x, y = box.x + box.w / 2, box.y + PADDING / 2
    for i, line in enumerate(label.lines):
        size = (TEXT_SIZE if i else TITLE_SIZE) * label.part
        canvas.text(x, y + size * LINE / 2, line, size, anchor="middle", bold=not i, class_="label")
        y += size * LINE


def badge(canvas: Canvas, shown: Shown, points: Sequence[Point], text: str) -> None:
    """A number in a circle: on a long arrow near its middle, else beside it; away from all labels."""
    r = BADGE_RADIUS
    on = points[: len(points) // 2 + 1]  # not on its head
    order = range(len(on) - 1, -1, -1)
    shifts = [(dx * away, dy * away) for away in (20.0, 34.0, 50.0, 70.0) for dx, dy in _AROUND]
    if len(points) >= LONG_POINTS or len(points) == 1:
        shifts.insert(0, (0.0, 0.0))
    for dx, dy in shifts:
        for i in order:
            x, y = points[i][0] + dx, points[i][1] + dy
            box = Box(x - r, y - r, 2 * r, 2 * r)
            if shown.free(box):
                shown.taken.append(box)
                draw_badge(canvas, x, y, text)
                return


_AROUND = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7))


def draw_badge(canvas: Canvas, x: float, y: float, text: str) -> None:
    """The circle with its number."""
    canvas.add(
        "circle", cx=float(x), cy=float(y), r=BADGE_RADIUS - 1, fill="#ffffff", stroke="#1a1a1a", stroke_width="1.5"
    )
    canvas.text(
        x, y, fitted(text, BADGE_SIZE, 2 * BADGE_RADIUS), BADGE_SIZE, anchor="middle", bold=True, class_="badge"
    )

"""Floorplan: a picture of where everything lies, as SVG: regions, what is dead, and the streams between regions.

The map is at true scale, one square a PE. Where the program fills only a part of a large wafer the map shows that part
and a small picture beside it the whole wafer. Streams follow their real lanes; the lanes between two regions share one
wide arrow with a number, which a table beside the map explains. The same program gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..ir.program import EAST, WEST, EdgePort, PlacedProgram, Rect, Region
from .bundles import Bundle, bundles, corners, ports
from .labels import Label, Shown, badge, region_label
from .panel import draw_panel
from .summary import Runnable, as_dict
from .svg import Box, Canvas, Point, fitted, number, polyline
from .tables import dead_line

# Okabe and Ito's colours, told apart by colour-blind readers too; black and yellow are left out for signs and text.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
WAFER, UNUSED, DEAD, STREAM, CACHE = "#ececea", "#ffffff", "#1a1a1a", "#2b2b2b", "#8a8a8a"
MAP_PIXELS = 700.0
LEFT, TOP, GAP, RIGHT, BOTTOM = 58.0, 112.0, 34.0, 20.0, 46.0
PANEL_PIXELS = 420.0
ZOOM_SHARE = 0.4  # of the wafer: below, only the part in use is shown
PORT_WEIGHT = 10  # points of an arrow that a label had rather hide than a port
LEAST_ARROW_PIXELS = 46.0
GRID_PIXELS = 5.0  # the least size of a PE at which their squares are drawn


@dataclass(frozen=True, slots=True)
class View:
    """The part of the wafer on the map, in PEs from column ``x`` and row ``y``, and where that lies in the picture."""

    x: int
    y: int
    w: int
    h: int
    scale: float

    def at(self, x: float, y: float) -> Point:
        """The upper left corner of a PE; ``x + 0.5`` is its middle."""
        return LEFT + (x - self.x) * self.scale, TOP + (y - self.y) * self.scale

    def box(self, rect: Rect) -> Box:
        x, y = self.at(rect.x, rect.y)
        return Box(x, y, rect.w * self.scale, rect.h * self.scale)

    @property
    def frame(self) -> Box:
        return Box(LEFT, TOP, self.w * self.scale, self.h * self.scale)


def write_svg(program: Runnable | PlacedProgram, path: str | Path) -> None:
    """Draw the floorplan into a file."""
    Path(path).write_text(svg_text(program), encoding="utf-8")


def svg_text(program: Runnable | PlacedProgram) -> str:
    """The floorplan as the text of an SVG file."""
    placed = program if isinstance(program, PlacedProgram) else program.placed
    return draw(placed, as_dict(program)).document(f"Floorplan of {placed.model} on {placed.target['name']}")


def draw(program: PlacedProgram, facts: Mapping[str, Any]) -> Canvas:
    """The picture, from the program and its summary. Of several wafers the first that holds a region is drawn."""
    wafer = min((r.rect.wafer for r in program.regions), default=0)
    regions = [r for r in program.regions if r.rect.wafer == wafer]
    moving = bundles(program, wafer)
    view = view_of(program, regions, moving)
    canvas = Canvas(LEFT + view.frame.w + GAP + PANEL_PIXELS + RIGHT, TOP + view.frame.h + BOTTOM)
    colours = region_colours(facts)
    draw_title(canvas, facts)
    draw_axes(canvas, view)
    canvas.add("clipPath", f"<rect {frame_attributes(view.frame)}/>", id="map")
    canvas.open(clip_path="url(#map)")
    canvas.rect(view.frame, fill=WAFER)
    for region in regions:
        draw_region(canvas, view, region, colours[region.id])
    if view.scale >= GRID_PIXELS:
        draw_grid(canvas, view)
    draw_dead(canvas, view, program, wafer)
    for bundle in sorted(moving, key=lambda b: not b.state):
        draw_bundle(canvas, view, bundle, max(b.words for b in moving))
    draw_ports(canvas, view, program, wafer)
    canvas.close()
    canvas.rect(view.frame, fill="none", stroke=DEAD, stroke_width=1.5)
    dead = [(row[1], row[2]) for row in program.defects.get("dead_cores", ()) if row[0] == wafer]
    numbers = draw_labels(canvas, view, regions, moving, facts, dead)
    panel = Box(LEFT + view.frame.w + GAP, TOP, PANEL_PIXELS, view.frame.h)
    whole = (view.w, view.h) == (program.target["width"], program.target["height"])
    part = None if whole else Box(view.x, view.y, view.w, view.h)
    bottom = draw_panel(canvas, panel, facts, colours, numbers, part)
    canvas.height = max(canvas.height, bottom + BOTTOM / 2)
    return canvas


def region_colours(facts: Mapping[str, Any]) -> dict[str, str]:
    """A colour for each region: regions of one layer share it, neighbouring layers differ."""
    titles = list(dict.fromkeys(row["title"] for row in facts["regions"]))
    return {row["id"]: PALETTE[titles.index(row["title"]) % len(PALETTE)] for row in facts["regions"]}


def view_of(program: PlacedProgram, regions: list[Region], moving: tuple[Bundle, ...]) -> View:
    """The whole wafer, or the part in use where that is small."""
    width, height = program.target["width"], program.target["height"]
    corner = [(r.rect.x, r.rect.y, r.rect.x + r.rect.w, r.rect.y + r.rect.h) for r in regions]
    inner = [b for b in moving if "host" not in (b.source, b.destination)]
    corner += [(x, y, x + 1, y + 1) for b in inner for lane in b.lanes for x, y in corners(lane.path)]
    low, high = (np.array(corner or [(0, 0, width, height)])[:, part] for part in (slice(0, 2), slice(2, 4)))
    (x0, y0), (x1, y1) = low.min(axis=0).tolist(), high.max(axis=0).tolist()
    margin = max(2, round(0.06 * max(x1 - x0, y1 - y0)))
    x0, y0, x1, y1 = max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)
    if (x1 - x0) * (y1 - y0) >= ZOOM_SHARE * width * height:
        x0, y0, x1, y1 = 0, 0, width, height
    return View(x0, y0, x1 - x0, y1 - y0, MAP_PIXELS / max(x1 - x0, y1 - y0))


def draw_title(canvas: Canvas, facts: Mapping[str, Any]) -> None:
    room = canvas.width - LEFT - RIGHT
    pes, timing = facts["pes"], facts["timing"]
    canvas.text(LEFT, 30, fitted(f"{facts['model']} on {facts['target']['name']}", 26, room, bold=True), 26, bold=True)
    words = (
        f"{len(facts['regions'])} regions on {pes['used']:,} of {pes['live']:,} live PEs ({pes['share_of_live']:.0%})"
    )
    if timing and timing["cycles"] is not None:
        words += f" · {timing['cycles']:,} cycles, {timing['seconds'] * 1e6:,.1f} µs at {timing['clock_ghz']} GHz"
        words += f" with {timing['n_past']} tokens in the cache" if facts["past_max"] else ""
    canvas.text(LEFT, 60, fitted(words, 16, room), 16)
    canvas.text(LEFT, 83, fitted(dead_line(facts["defects"]), 16, room), 16)


def draw_axes(canvas: Canvas, view: View) -> None:
    """Ticks with PE columns and rows."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if s * view.scale >= 60)
    frame = view.frame
    for x in range(-(-view.x // step) * step, view.x + view.w, step):
        px = view.at(x + 0.5, 0)[0]
        canvas.add("path", d=f"M{number(px)} {number(frame.y + frame.h)}v5", stroke=DEAD)
        canvas.text(px, frame.y + frame.h + 14, str(x), 13, anchor="middle")
    for y in range(-(-view.y // step) * step, view.y + view.h, step):
        py = view.at(0, y + 0.5)[1]
        canvas.add("path", d=f"M{number(frame.x)} {number(py)}h-5", stroke=DEAD)
        canvas.text(frame.x - 9, py, str(y), 13, anchor="end")
    canvas.text(frame.x + frame.w / 2, frame.y + frame.h + 33, "PE column x", 14, anchor="middle")
    at = (number(14.0), number(frame.y + frame.h / 2))
    turn = f"rotate(-90 {at[0]} {at[1]})"
    canvas.add("text", "PE row y", x=at[0], y=at[1], font_size="14", text_anchor="middle", transform=turn)


def draw_region(canvas: Canvas, view: View, region: Region, colour: str) -> None:
    """The rectangle, and in it the PEs of the mesh, row by row in runs, and the detours between them."""
    box = view.box(region.rect)
    canvas.open(class_="region", id=f"region-{region.id}")
    canvas.rect(box, fill=UNUSED)
    canvas.rect(box, fill=colour, fill_opacity="0.1")
    canvas.add("path", d=runs(view, region), fill=colour, fill_opacity="0.32")
    if region.detours:
        ways, width = ways_around(view, region), number(max(view.scale * 0.12, 0.8))
        canvas.add("path", d=ways, fill="none", stroke=colour, stroke_width=width, class_="detours")
    canvas.rect(
        Box(box.x + 1, box.y + 1, max(box.w - 2, 0.5), max(box.h - 2, 0.5)), fill="none", stroke=colour, stroke_width=3
    )
    canvas.close()


def runs(view: View, region: Region) -> str:
    """The PEs of a region as path data: one rectangle for each run of neighbours in a row."""
    parts: list[str] = []
    order = np.lexsort((region.xs.ravel(), region.ys.ravel()))
    xs, ys = region.xs.ravel()[order], region.ys.ravel()[order]
    starts = np.flatnonzero(np.concatenate([[True], (np.diff(xs) != 1) | (np.diff(ys) != 0)]))
    lengths = np.diff(np.append(starts, len(xs)))
    size = number(view.scale)
    for x, y, length in zip(xs[starts].tolist(), ys[starts].tolist(), lengths.tolist(), strict=True):
        px, py = view.at(x, y)
        wide = number(length * view.scale)
        parts.append(f"M{number(px)} {number(py)}h{wide}v{size}h-{wide}z")
    return "".join(parts)


def ways_around(view: View, region: Region) -> str:
    """The detours of a region as path data, from router to router."""
    points = [[view.at(x + 0.5, y + 0.5) for x, y in detour.path.tolist()] for detour in region.detours]
    return "".join("M" + "L".join(f"{number(x)} {number(y)}" for x, y in path) for path in points)


def draw_grid(canvas: Canvas, view: View) -> None:
    """Thin lines between PEs, as one path."""
    frame = view.frame
    down = (
        f"M{number(view.at(x, 0)[0])} {number(frame.y)}v{number(frame.h)}" for x in range(view.x + 1, view.x + view.w)
    )
    across = (
        f"M{number(frame.x)} {number(view.at(0, y)[1])}h{number(frame.w)}" for y in range(view.y + 1, view.y + view.h)
    )
    canvas.add("path", d="".join([*down, *across]), stroke="#ffffff", stroke_width="0.8", stroke_opacity="0.8")


def draw_dead(canvas: Canvas, view: View, program: PlacedProgram, wafer: int) -> None:
    """Dead cores as squares, dead routers as crosses, dead links as bars between two PEs; at least 2.4 units wide."""
    size = max(view.scale * 0.72, 2.4)
    for kind in ("dead_cores", "dead_routers", "dead_links"):
        rows = [row for row in program.defects.get(kind, ()) if row[0] == wafer and in_view(view, row[1], row[2])]
        marks = "".join(mark(kind, view.at(row[1] + 0.5, row[2] + 0.5), size, view.scale, row[3:]) for row in rows)
        name = kind.replace("_", "-")
        if kind == "dead_cores":
            canvas.add("path", d=marks, fill=DEAD, class_=name, data_count=len(rows))
        else:
            width = max(size * 0.22, 1.2)
            canvas.add(
                "path",
                d=marks,
                fill="none",
                stroke="#c1121f",
                stroke_width=float(width),
                class_=name,
                data_count=len(rows),
            )


def in_view(view: View, x: int, y: int) -> bool:
    return view.x <= x < view.x + view.w and view.y <= y < view.y + view.h


def mark(kind: str, middle: Point, size: float, scale: float, direction: list[int]) -> str:
    """The path data of one sign."""
    x, y = middle
    full = number(size)
    if kind == "dead_cores":
        return f"M{number(x - size / 2)} {number(y - size / 2)}h{full}v{full}h-{full}z"
    if kind == "dead_routers":
        corner = f"M{number(x - size / 2)} {number(y - size / 2)}"
        return f"{corner}l{full} {full}m0 -{full}l-{full} {full}"
    if direction[0] == EAST:
        return f"M{number(x + scale / 2)} {number(y - size / 2)}v{full}"
    return f"M{number(x - size / 2)} {number(y + scale / 2)}h{full}"


def draw_bundle(canvas: Canvas, view: View, bundle: Bundle, most_words: int) -> None:
    """Every lane as a thin line, and along the middle one an arrow as wide as the bundle's words ask for."""
    colour = CACHE if bundle.state else STREAM
    canvas.open(class_="bundle", stroke=colour, fill="none", stroke_linejoin="round")
    for lane in bundle.lanes:
        points = middles(view, corners(lane.path))
        canvas.add("path", d=polyline(points), class_="lane", stroke_width="1.1", stroke_opacity="0.55")
    points = arrow_points(view, bundle)
    if len(points) > 1:
        width = 2.5 + 5.5 * (bundle.words / most_words) ** 0.5
        width = min(width, 3.0) if bundle.state else width
        shaft, head = arrow(points, width)
        dash = "5 4" if bundle.state else None
        canvas.add("path", d=polyline(shaft), stroke="#ffffff", stroke_width=float(width + 3), stroke_opacity="0.85")
        canvas.add("path", d=polyline(shaft), stroke_width=float(width), stroke_dasharray=dash, class_="arrow")
        canvas.add("path", d=polyline(head) + "z", fill=colour, stroke="#ffffff", stroke_width="1")
    canvas.close()


def middles(view: View, cells: list[tuple[int, int]]) -> list[Point]:
    return [view.at(x + 0.5, y + 0.5) for x, y in cells]


def arrow_points(view: View, bundle: Bundle) -> list[Point]:
    """The middle lane's corners. A lane of a hop or two is drawn longer, so that its arrow can be seen."""
    points = middles(view, corners(bundle.main.path))
    length = sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in pairwise(points))
    if len(points) == 1 or length >= LEAST_ARROW_PIXELS:
        return points
    more = LEAST_ARROW_PIXELS - length
    ahead = 0.0 if isinstance(bundle.main.destination, EdgePort) else more
    behind = 0.0 if isinstance(bundle.main.source, EdgePort) else more
    if ahead and behind:
        ahead = behind = more / 2
    return [_beyond(points[1], points[0], behind), *points[1:-1], _beyond(points[-2], points[-1], ahead)]


def _beyond(start: Point, end: Point, by: float) -> Point:
    """The end moved on by so much in the direction from the start."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max((dx * dx + dy * dy) ** 0.5, 1e-9)
    return end[0] + dx / length * by, end[1] + dy / length * by


def arrow(points: list[Point], width: float) -> tuple[list[Point], list[Point]]:
    """Shaft and head of an arrow through points."""
    long, half = width * 1.2 + 6, width * 0.7 + 4
    neck = _beyond(points[-2], points[-1], -long)
    dx, dy = (points[-1][0] - neck[0]) / long, (points[-1][1] - neck[1]) / long
    head = [points[-1], (neck[0] - dy * half, neck[1] + dx * half), (neck[0] + dy * half, neck[1] - dx * half)]
    return [*points[:-1], neck], head


def draw_ports(canvas: Canvas, view: View, program: PlacedProgram, wafer: int) -> None:
    """The edge ports in use, as triangles at the wafer's edge that point the way the words go."""
    for port, inwards in ports(program, wafer):
        if not in_view(view, port.x, port.y):
            continue
        size = max(view.scale * 0.9, 7.0)
        x, y = view.at(port.x + (port.side == EAST), port.y + 0.5)
        way = size if (port.side == WEST) == inwards else -size
        tail = x + (0 if inwards else size if port.side == WEST else -size)
        points = [(tail, y - size * 0.6), (tail, y + size * 0.6), (tail + way, y)]
        canvas.add("path", d=polyline(points) + "z", fill="#ffffff", stroke=DEAD, stroke_width="1.6", class_="port")


def draw_labels(
    canvas: Canvas,
    view: View,
    regions: list[Region],
    moving: tuple[Bundle, ...],
    facts: Mapping[str, Any],
    dead: list[tuple[int, int]],
) -> list[tuple[int, Bundle]]:
    """Names on regions and numbers on arrows, none on another; gives the numbers. Caches have none."""
    moving = tuple(bundle for bundle in moving if not bundle.state)
    arrows = [arrow_points(view, bundle) for bundle in moving]
    boxes = [view.box(region.rect) for region in regions]
    visible = [point for points in arrows for point in (along(points) if len(points) > 1 else points * PORT_WEIGHT)]
    visible += [view.at(x + 0.5, y + 0.5) for x, y in dead]
    heads = [Box(points[-1][0] - 8, points[-1][1] - 8, 16, 16) for points in arrows if len(points) > 1]
    shown = Shown(view.frame, boxes, visible, heads)
    rows = {row["id"]: row for row in facts["regions"]}
    cycles = (facts["timing"] or {}).get("regions", {})
    for region, box in zip(regions, boxes, strict=True):
        region_label(canvas, shown, box, label_wishes(rows[region.id], cycles.get(region.id, {}).get("step_cycles")))
    for i, points in enumerate(arrows, 1):
        badge(canvas, shown, along(points), str(i))
    return list(enumerate(moving, 1))


def label_wishes(row: Mapping[str, Any], cycles: int | None) -> list[Label]:
    """What may stand on a region, the fullest first."""
    title, mesh = f"{row['id']} {row['title']}", f"{row['rows']} × {row['columns']} PEs"
    times = () if cycles is None else (f"{cycles:,} cycles",)
    full, tall = (title, mesh, *times), (row["id"], row["title"], f"{row['pes']:,} PEs", *times)
    wishes = [Label(lines, part) for part in (1.0, 0.85) for lines in (full, tall)]
    return [*wishes, Label((title,)), *(Label(lines, 0.85) for lines in ((title,), tall[:2], tall[:1]))]


def along(points: list[Point], every: float = 6.0) -> list[Point]:
    """Points along a line, evenly spaced."""
    found = points[:1]
    for a, b in pairwise(points):
        count = max(1, int((abs(a[0] - b[0]) + abs(a[1] - b[1])) / every))
        found += [(a[0] + (b[0] - a[0]) * k / count, a[1] + (b[1] - a[1]) * k / count) for k in range(1, count + 1)]
    return found


def frame_attributes(box: Box) -> str:
    return " ".join(f'{name}="{number(getattr(box, key))}"' for name, key in zip(_SIDES, "xywh", strict=True))


_SIDES = ("x", "y", "width", "height")

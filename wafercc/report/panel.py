"""Panel: what stands beside the map: regions, streams, what the signs mean, and the whole wafer around a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .bundles import Bundle
from .labels import draw_badge
from .svg import Box, Canvas, fitted, polyline

SIZE, ROW = 15.0, 25.0
HEAD = 16.0
MOST_ROWS = 10
INSET_PIXELS = 150.0
CACHE_LINE = {"stroke": "#8a8a8a", "stroke_width": "2.5", "stroke_dasharray": "5 4"}
DARK, RED = "#1a1a1a", "#c1121f"


def draw_panel(
    canvas: Canvas,
    room: Box,
    facts: Mapping[str, Any],
    colours: Mapping[Any, str],
    numbers: Sequence[tuple[int, Bundle]],
    zoom: Box | None,
) -> float:
    """Draw all parts from the top down; gives where the last one ends."""
    y = _regions(canvas, room, room.y, facts, colours)
    y = _streams(canvas, room, y + ROW * 0.6, facts, numbers)
    y = _signs(canvas, room, y + ROW * 0.6, facts)
    return y if zoom is None else _inset(canvas, room, y + ROW * 0.6, facts, colours, zoom)


def _head(canvas: Canvas, room: Box, y: float, title: str, columns: Sequence[tuple[float, str]]) -> float:
    canvas.text(room.x, y + ROW / 2, title, HEAD, bold=True)
    for right, name in columns:
        canvas.text(room.x + right, y + ROW / 2, name, 13, anchor="end", fill="#555555")
    return y + ROW


def _regions(canvas: Canvas, room: Box, y: float, facts: Mapping[str, Any], colours: Mapping[Any, str]) -> float:
    used = (facts["timing"] or {}).get("regions", {})
    y = _head(canvas, room, y, "Regions", [(250, "PEs"), (345, "SRAM KiB"), (420, "cycles")])
    for row in facts["regions"][:MOST_ROWS]:
        middle = y + ROW / 2
        colour = colours[row["id"]]
        canvas.rect(Box(room.x, middle - 8, 16, 16), fill=colour, fill_opacity="0.32", stroke=colour, stroke_width=2.5)
        canvas.text(room.x + 25, middle, fitted(f"{row['id']} {row['title']}", SIZE, 172), SIZE)
        canvas.text(room.x + 250, middle, f"{row['pes']:,}", SIZE, anchor="end")
        canvas.text(room.x + 345, middle, f"{row['sram_bytes']['total'] / 1024:.1f}", SIZE, anchor="end")
        cycles = used.get(row["id"], {}).get("step_cycles")
        canvas.text(room.x + 420, middle, "" if cycles is None else f"{cycles:,}", SIZE, anchor="end")
        y += ROW
    return _rest(canvas, room, y, len(facts["regions"]) - MOST_ROWS, "regions")


def _streams(
    canvas: Canvas, room: Box, y: float, facts: Mapping[str, Any], numbers: Sequence[tuple[int, Bundle]]
) -> float:
    columns = [(225.0, "words"), (287.0, "lanes"), (362.0, "colours"), (420.0, "hops")]
    y = _head(canvas, room, y, "Streams", columns)
    for n, bundle in numbers[:MOST_ROWS]:
        middle = y + ROW / 2
        draw_badge(canvas, room.x + 10, middle, str(n))
        canvas.text(room.x + 25, middle, fitted(f"{bundle.source} → {bundle.destination}", SIZE, 130), SIZE)
        counts = (bundle.words, len(bundle.lanes), bundle.colours, bundle.hops)
        for (right, _), count in zip(columns, counts, strict=True):
            canvas.text(room.x + right, middle, f"{count:,}", SIZE, anchor="end")
        y += ROW
    y = _rest(canvas, room, y, len(numbers) - MOST_ROWS, "streams")
    caches = [row["words"] for row in facts["streams"] if row["state"]]
    if not caches:
        return y
    words = f"dashed: {len(caches)} cache moves, {sum(caches):,} words, not timed"
    canvas.text(room.x + 25, y + ROW / 2, fitted(words, 14, 395), 14)
    canvas.add("path", d=polyline([(room.x - 1, y + ROW / 2), (room.x + 21, y + ROW / 2)]), **CACHE_LINE)
    return y + ROW


def _rest(canvas: Canvas, room: Box, y: float, count: int, what: str) -> float:
    if count <= 0:
        return y
    canvas.text(room.x + 25, y + ROW / 2, f"and {count} more {what}: wafercc show", SIZE, fill="#555555")
    return y + ROW


def _signs(canvas: Canvas, room: Box, y: float, facts: Mapping[str, Any]) -> float:
    """One row a sign: how it looks, what it means."""
    y = _head(canvas, room, y, "Signs", [])
    defects = facts["defects"]
    rows = [
        ("used", "PE of a region; paler: in its rectangle, unused"),
        ("unused", "live PE that holds nothing"),
        ("dead_cores", f"dead core ({defects['dead_cores']:,}); its router may live"),
        ("dead_routers", f"dead router ({defects['dead_routers']:,})"),
        ("dead_links", f"dead link ({defects['dead_links']:,})"),
        ("stream", "stream: thin lines its lanes, wider for more words"),
        ("port", "edge port: words from and to the host"),
    ]
    for kind, words in rows:
        if defects.get(kind, 1):
            _sign(canvas, kind, room.x + 10, y + ROW / 2)
            canvas.text(room.x + 32, y + ROW / 2, words, 14)
            y += ROW * 0.9
    canvas.text(room.x, y + ROW / 2, "A word is 32 bits; a hop is one link between routers.", 13, fill="#555555")
    y += ROW * 0.8
    canvas.text(room.x, y + ROW / 2, "SRAM per PE. Cycles: a region's steps, slowest PE each.", 13, fill="#555555")
    return y + ROW


def _sign(canvas: Canvas, kind: str, x: float, y: float) -> None:
    match kind:
        case "used":
            canvas.rect(Box(x - 7, y - 7, 14, 14), fill="#0072B2", fill_opacity="0.32")
        case "unused":
            canvas.rect(Box(x - 7, y - 7, 14, 14), fill="#ececea", stroke="#bbbbbb")
        case "dead_cores":
            canvas.rect(Box(x - 5, y - 5, 10, 10), fill=DARK)
        case "dead_routers":
            canvas.add("path", d=f"M{x - 5} {y - 5}l10 10m0 -10l-10 10", stroke=RED, stroke_width="2.2")
        case "dead_links":
            canvas.add("path", d=f"M{x} {y - 6}v12", stroke=RED, stroke_width="2.6")
        case "stream":
            lanes = "".join(polyline([(x - 11, y + dy), (x + 11, y + dy)]) for dy in (-6, 6))
            canvas.add("path", d=lanes, stroke="#2b2b2b", stroke_width="1.1", stroke_opacity="0.55")
            canvas.add("path", d=f"M{x - 11} {y}h14", stroke="#2b2b2b", stroke_width="4")
            canvas.add("path", d=f"M{x + 11} {y}l-9 -6v12z", fill="#2b2b2b")
        case _:
            canvas.add("path", d=f"M{x - 6} {y - 6}v12l12 -6z", fill="#ffffff", stroke=DARK, stroke_width="1.6")


def _inset(
    canvas: Canvas, room: Box, y: float, facts: Mapping[str, Any], colours: Mapping[Any, str], zoom: Box
) -> float:
    """The whole wafer with its regions, and a frame around the part on the map."""
    target = facts["target"]
    y = _head(canvas, room, y, "The whole wafer", [])
    scale = INSET_PIXELS / max(target["width"], target["height"])
    whole = Box(room.x, y, target["width"] * scale, target["height"] * scale)
    canvas.rect(whole, fill="#ececea", stroke=DARK, stroke_width=1)
    for row in facts["regions"]:
        rect = row["rect"]
        box = Box(whole.x + rect["x"] * scale, whole.y + rect["y"] * scale, rect["w"] * scale, rect["h"] * scale)
        canvas.rect(box, fill=colours[row["id"]])
    part = Box(whole.x + zoom.x * scale, whole.y + zoom.y * scale, zoom.w * scale, zoom.h * scale)
    canvas.rect(part.grown(1.5), fill="none", stroke=RED, stroke_width=2, class_="zoom")
    words = (
        f"{target['width']} × {target['height']} PEs",
        f"map (red): {zoom.w} × {zoom.h} PEs",
        f"{facts['pes']['share_of_live']:.1%} of live PEs used",
    )
    for i, line in enumerate(words):
        canvas.text(whole.x + whole.w + 18, whole.y + ROW / 2 + i * ROW, line, 14)
    return whole.y + max(whole.h, ROW * len(words))

"""Text: the lanes of a routing as lines that read back.

First how often nets gave way, and how many colours the collectives of each region keep: those of a region that keeps
fewer than they would take are packed more tightly. Then the streams that share their lanes, and those lanes: colour,
share of the value, both ends, and the corners of the path.

    yields 0
    region r0 keeps 5
    stream "input_ids to r0"
    lane colour 20 from port 0,5 west to r0 rows 0-31 trunk 0 gate 5 path 0,5 12,5 12,9
    stream "x to r1"
    lane colour 19 elements 0-15 of dimension 2 from r0 rows 0-3 trunk 31 gate 1 to r1 rows 0-3 trunk 0 gate 1 path ...

A stream that stays in one region stands as ``in place``. Collectives and the router table are not written: they follow
from the blocks, the embedding and the lanes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from wafercc.errors import TextError
from wafercc.ir.block import RegionId
from wafercc.ir.lines import Excerpt, Line, read_lines, word_text
from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, EdgePort, Fan, IntArray, Lane, Region, StreamId
from wafercc.ir.routing import Routing
from wafercc.targets import Target

from .relay import Written

SIDES = {"north": NORTH, "east": EAST, "south": SOUTH, "west": WEST}
NAMES = {side: name for name, side in SIDES.items()}
TEETH: dict[str, Literal["y", "x"]] = {"rows": "y", "columns": "x"}


def print_routing(routing: Routing) -> str:
    """The text of a routing."""
    lines = [f"yields {routing.yields}"]
    lines += [f"region {word_text(region)} keeps {budget.local}" for region, budget in routing.budget.items()]
    sharing: dict[tuple[str, ...], list[StreamId]] = {}
    for stream in routing.streams:
        lanes = tuple(_lane(lane) for lane in stream.lanes)
        sharing.setdefault(lanes or (f"in place {stream.id}",), []).append(stream.id)
    for lanes, streams in sharing.items():
        lines += [f"stream {word_text(stream)}" for stream in streams]
        lines += ["in place"] if lanes[0].startswith("in place") else lanes
    return "\n".join(lines) + "\n"


def _lane(lane: Lane) -> str:
    words = [f"lane colour {lane.colour}"]
    if lane.dim is not None:
        words.append(f"elements {_run(lane.lo, lane.hi)} of dimension {lane.dim}")
    corners = " ".join(f"{x},{y}" for x, y in _corners(lane.path).tolist())
    return f"{' '.join(words)} from {_end(lane.source)} to {_end(lane.destination)} path {corners}"


def _end(end: Fan | EdgePort) -> str:
    match end:
        case EdgePort():
            return f"port {end.x},{end.y} {NAMES[end.side]}" + (f" wafer {end.wafer}" if end.wafer else "")
        case Fan():
            teeth = {along: name for name, along in TEETH.items()}[end.along]
            return f"{word_text(end.region)} {teeth} {_run(end.lo, end.hi)} trunk {end.trunk} gate {end.gate}"


def _run(lo: int, hi: int) -> str:
    """The numbers ``lo .. hi-1``."""
    return f"{lo}-{hi - 1}" if hi - lo > 1 else str(lo)


def _corners(path: IntArray) -> IntArray:
    """Both ends of a path and where it turns."""
    steps = np.diff(path, axis=0)
    turns = np.flatnonzero((steps[1:] != steps[:-1]).any(axis=1)) + 1
    return path[sorted({0, *turns.tolist(), len(path) - 1})]


def parse_routing(
    text: Excerpt, streams: Sequence[StreamId], regions: Mapping[RegionId, Region], target: Target
) -> Written:
    """What the text of a routing says.

    Raises:
        TextError: a line is not of a routing, names what does not exist, or lies outside the wafer; a stream or region
        is missing.
    """
    yields: int | None = None
    keep: dict[RegionId, int] = {}
    found: dict[StreamId, list[Lane]] = {}
    sharing: list[StreamId] = []
    open_ = False  # whether the next stream shares the lanes of those before it
    reader = _Reader(regions, target)
    for line in read_lines(text, Line):
        if line.accept("yields"):
            yields = line.number("a number")
        elif line.accept("region"):
            region = reader.region(line)
            line.expect("keeps")
            keep[region] = line.number("a number of colours")
        elif line.accept("stream"):
            stream = StreamId(line.label("a stream"))
            if stream not in streams:
                raise line.error(f"there is no stream {stream}")
            if stream in found:
                raise line.error(f"stream {stream} has its lanes already")
            sharing = [*sharing, stream] if open_ else [stream]
            found[stream] = []
            open_ = True
        elif line.accept("lane") and sharing:
            lane = reader.lane(line)
            for stream in sharing:
                found[stream].append(lane)
            open_ = False
        elif line.accept("in"):
            line.expect("place")
            open_ = False
        else:
            line.fail("stream, lane or in place" if sharing else "yields, region or stream")
        line.end()
    if yields is None:
        raise TextError("expected 'yields' with a number", where=text.where(0))
    for what, all_, said in (("region", list(regions), list(keep)), ("stream", list(streams), list(found))):
        if missing := [name for name in all_ if name not in said]:
            raise TextError(f"{what} {missing[0]} is missing", where=text.end)
    return Written({stream: tuple(found[stream]) for stream in streams}, keep, yields)


class _Reader:
    """Reads lanes against the regions and the wafer that they lie on."""

    def __init__(self, regions: Mapping[RegionId, Region], target: Target) -> None:
        self.regions, self.target = regions, target
        self.ports = {(int(x), int(y), int(side)) for side, x, y in target.ports()}

    def lane(self, line: Line) -> Lane:
        line.expect("colour")
        colour = line.number("a colour")
        if colour >= self.target.router.colours:
            raise line.error(f"colour {colour}; programs may use 0 to {self.target.router.colours - 1}")
        dim, lo, hi = None, 0, 0
        if line.accept("elements"):
            lo, hi = self.run(line, "elements, as in 0-15")
            line.expect("of")
            line.expect("dimension")
            dim = line.number("a dimension")
        line.expect("from")
        source = self.end(line)
        line.expect("to")
        destination = self.end(line)
        line.expect("path")
        return Lane(source, destination, self.path(line), colour, dim, lo, hi)

    def end(self, line: Line) -> Fan | EdgePort:
        if line.accept("port"):
            x, y = self.place(line)
            side = SIDES.get(line.take("word", "north, east, south or west"))
            wafer = line.number("a wafer") if line.accept("wafer") else 0
            if side is None or (x, y, side) not in self.ports:
                raise line.error(f"{self.target.name} has no such edge port at ({x}, {y})")
            return EdgePort(wafer, x, y, side)
        name = self.region(line, "port or a region")
        region = self.regions[name]
        teeth = line.take("word", "rows or columns")
        if teeth not in TEETH:
            raise line.error(f"expected rows or columns, found {teeth!r}")
        lo, hi = self.run(line, "lines, as in 0-31")
        line.expect("trunk")
        trunk = line.number("a line")
        line.expect("gate")
        gate = line.number("a line")
        lines, across = (region.rows, region.columns) if teeth == "rows" else (region.columns, region.rows)
        if not lo <= gate < hi <= lines or trunk >= across:
            raise line.error(
                f"{teeth} {lo}-{hi - 1}, gate {gate} and trunk {trunk} do not lie in region {name} "
                f"of {region.columns} columns x {region.rows} rows"
            )
        return Fan(name, TEETH[teeth], lo, hi, trunk, gate)

    def region(self, line: Line, expected: str = "a region") -> RegionId:
        """The name of a region that there is."""
        name = RegionId(line.label(expected))
        if name not in self.regions:
            raise line.error(f"there is no region {name}")
        return name

    def run(self, line: Line, expected: str) -> tuple[int, int]:
        """One run ``lo-hi``, as (lo, hi + 1)."""
        (first, last), *more = line.runs(expected)
        if more or last < first:
            raise line.error(f"expected one run of {expected}")
        return first, last + 1

    def place(self, line: Line) -> tuple[int, int]:
        x = line.number("a column")
        line.expect(",")
        y = line.number("a row")
        if x >= self.target.width or y >= self.target.height:
            raise line.error(f"({x}, {y}) is not on the {self.target.width} x {self.target.height} grid")
        return x, y

    def path(self, line: Line) -> IntArray:
        """Every router between corners that lie in one row or column with the next."""
        corners = [self.place(line)]
        while line.peek()[0] != "end":
            corners.append(self.place(line))
        points = [corners[0]]
        for x, y in corners[1:]:
            last_x, last_y = points[-1]
            if (x == last_x) == (y == last_y):
                raise line.error(f"({x}, {y}) is not in one row or column with ({last_x}, {last_y}) before it")
            step_x, step_y = int(np.sign(x - last_x)), int(np.sign(y - last_y))
            count = abs(x - last_x) + abs(y - last_y)
            points += [(last_x + step_x * i, last_y + step_y * i) for i in range(1, count + 1)]
        return np.array(points, np.int32)

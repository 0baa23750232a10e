"""Placement: which rectangle of which wafer each region gets; and the request that placement answers.

Text, one line each, which `parse_placement` reads back; a region's mesh is rows x columns, its rectangle width x
height + column + row:

    objective 38.5 baseline 41.0 bound 36.0 solver "windows 2, optimal 2, improved 1"
    reach 2 detours 4
    region r0 28x30 at 31x28+0+0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import TextError
from .block import RegionId
from .lines import Excerpt, Line, excerpt_of, read_lines, word_text
from .program import Rect

HOST: Literal["host"] = "host"
End = RegionId | Literal["host"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A logical mesh a region could have: ``rows`` x ``columns`` live PEs, and what choosing it costs in cycles."""

    rows: int
    columns: int
    cost_cycles: int = 0

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    @property
    def pes(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class RegionRequest:
    """A region to place: its shapes in order of preference (at least one), and the wafer it belongs on."""

    id: RegionId
    shapes: tuple[Shape, ...]
    wafer: int = 0

    def __post_init__(self) -> None:
        assert self.shapes and all(s.rows > 0 and s.columns > 0 for s in self.shapes), f"region {self.id} has no shape"


@dataclass(frozen=True, slots=True)
class Flow:
    """Words that travel from one region (or the host) to another (or the host), on the path that counts."""

    source: End
    destination: End
    words: int


@dataclass(frozen=True)
class PlaceRequest:
    """What placement is asked: regions in the order data runs through them, their flows, and fixed rectangles."""

    regions: tuple[RegionRequest, ...]
    flows: tuple[Flow, ...] = ()
    pins: Mapping[RegionId, Rect] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = {r.id for r in self.regions}
        assert len(known) == len(self.regions), "region ids differ"
        ends = {end for flow in self.flows for end in (flow.source, flow.destination)} - {HOST}
        assert ends <= known and set(self.pins) <= known, "flows and pins name regions of the request"


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """How good a placement is, in cycles, and who found it.

    ``objective``: hop cycles between the centres of regions that exchange words, and to the nearest port for the
    host, plus the cost of the chosen shapes. ``baseline``: the best snake (None if no snake is legal). ``bound``: no
    legal placement is below.
    ``solver``: what CP-SAT contributed.
    """

    objective: float
    baseline: float | None
    bound: float
    solver: str

    @property
    def gap(self) -> float:
        """Objective over bound, less one."""
        return 0.0 if self.objective <= self.bound else (self.objective - self.bound) / max(self.bound, 0.5)


@dataclass(frozen=True)
class Placement:
    """Where each region sits. Rectangles never overlap, and the chosen shape embeds in each of them.

    ``reach``: the largest jog that those embeddings may make; ``detour_hops``: the most hops that a detour of theirs
    may take beyond the path it replaces, 0 if they make none.
    """

    rects: Mapping[RegionId, Rect]
    shapes: Mapping[RegionId, Shape]
    report: PlacementReport
    reach: int
    detour_hops: int

    def rect(self, region: RegionId) -> Rect:
        return self.rects[region]

    def __str__(self) -> str:
        report = self.report
        baseline = "none" if report.baseline is None else f"{report.baseline:.1f}"
        lines = [
            f'objective {report.objective:.1f} baseline {baseline} bound {report.bound:.1f} solver "{report.solver}"',
            f"reach {self.reach} detours {self.detour_hops}",
        ]
        for region, rect in self.rects.items():
            shape = self.shapes[region]
            cost = f" cost {shape.cost_cycles}" if shape.cost_cycles else ""
            lines.append(f"region {word_text(region)} {shape} at {rect}{cost}")
        return "\n".join(lines) + "\n"


def parse_placement(text: str | Excerpt) -> Placement:
    """The inverse of ``str(Placement)``.

    Raises:
        TextError: a line is not of a placement, or places a region again.
    """
    report: PlacementReport | None = None
    reach = detour_hops = 0
    rects: dict[RegionId, Rect] = {}
    shapes: dict[RegionId, Shape] = {}
    for line in read_lines(text, Line):
        if line.accept("objective"):
            report = _parse_report(line)
        elif line.accept("reach"):
            reach = line.number("a number of columns")
            line.expect("detours")
            detour_hops = line.number("a number of hops")
        elif line.accept("region"):
            region = RegionId(line.label("a region"))
            if region in rects:
                raise line.error(f"region {region} has a place already")
            rects[region], shapes[region] = _parse_place(line)
        else:
            line.fail("objective, reach or region")
        line.end()
    if report is None:
        raise TextError("expected 'objective', found the end of the text", where=excerpt_of(text).end)
    return Placement(rects, shapes, report, reach, detour_hops)


def _parse_report(line: Line) -> PlacementReport:
    numbers: dict[str, float | None] = {}
    for word in ("objective", "baseline", "bound"):
        if word != "objective":
            line.expect(word)
        absent = word == "baseline" and line.accept("none")
        numbers[word] = None if absent else float(line.take("float", "a number of cycles with a point"))
    line.expect("solver")
    objective, baseline, bound = numbers.values()
    assert objective is not None and bound is not None
    return PlacementReport(objective, baseline, bound, line.label("what the solver did, in quotes"))


def _parse_place(line: Line) -> tuple[Rect, Shape]:
    rows, columns, *more = line.size("rows x columns, as in 28x30")
    line.expect("at")
    w, h, *place = line.size("a rectangle, as in 31x28+0+0")
    if more or len(place) < 2:
        raise line.error("a region is written as: region r0 28x30 at 31x28+0+0")
    if min(rows, columns, w, h) < 1:
        raise line.error("a region has at least one row and one column")
    x, y, wafer = (*place, 0)[:3]
    cost = line.number("a number of cycles") if line.accept("cost") else 0
    return Rect(wafer, x, y, w, h), Shape(rows, columns, cost)

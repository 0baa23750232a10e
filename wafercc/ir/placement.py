"""Placement: which rectangle of which wafer each region gets; and the request that placement answers.

Text, one line each, which `parse_placement` reads back:

    objective 38.5 baseline 41.0 bound 36.0 solver "windows 2, optimal 2, improved 1"
    region r0 30x28 at 31x28+0+0
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .block import RegionId
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
    """Where each region sits. Rectangles never overlap, and the chosen shape embeds in each of them."""

    rects: Mapping[RegionId, Rect]
    shapes: Mapping[RegionId, Shape]
    report: PlacementReport

    def rect(self, region: RegionId) -> Rect:
        return self.rects[region]

    def __str__(self) -> str:
        report = self.report
        baseline = "none" if report.baseline is None else f"{report.baseline:.1f}"
        lines = [
            f'objective {report.objective:.1f} baseline {baseline} bound {report.bound:.1f} solver "{report.solver}"'
        ]
        for region, rect in self.rects.items():
            shape = self.shapes[region]
            cost = f" cost {shape.cost_cycles}" if shape.cost_cycles else ""
            lines.append(f"region {region} {shape} at {rect}{cost}")
        return "\n".join(lines)


_HEAD = re.compile(r'objective (\S+) baseline (\S+) bound (\S+) solver "([^"]*)"')
_LINE = re.compile(r"region (\S+) (\d+)x(\d+) at (\d+)x(\d+)\+(\d+)\+(\d+)(?:@(\d+))?(?: cost (\d+))?")


def parse_placement(text: str) -> Placement:
    """The inverse of ``str(Placement)``.

    Raises:
        ValueError: a line is not of a placement.
    """
    head, *rest = text.strip().splitlines()
    found = _HEAD.fullmatch(head.strip())
    if not found:
        raise ValueError(f"not the head of a placement: {head!r}")
    baseline = None if found[2] == "none" else float(found[2])
    report = PlacementReport(float(found[1]), baseline, float(found[3]), found[4])
    rects: dict[RegionId, Rect] = {}
    shapes: dict[RegionId, Shape] = {}
    for line in rest:
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise ValueError(f"not a placed region: {line!r}")
        rows, columns, w, h, x, y, wafer, cost = (int(n or 0) for n in match.groups()[1:])
        region = RegionId(match[1])
        rects[region] = Rect(wafer, x, y, w, h)
        shapes[region] = Shape(rows, columns, cost)
    return Placement(rects, shapes, report)

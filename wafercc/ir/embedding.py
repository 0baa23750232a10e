"""Embedding: where each logical PE of each region sits on the wafer, around what is dead.

Logical row i lies on one physical row, rows in increasing y, columns in increasing x. Row neighbours are joined
along their row, column neighbours by going down the upper PE's column to the lower row and then along that row; the
offset between them, the *jog*, stays within a reach. A *straight* embedding has no jog at all, so every logical
column is one physical column. Neighbours that a dead router or link would cut off from each other are joined by a
*detour*.

Text, which `parse_embedding` reads back: of each region the physical rows, the columns of its first logical row, those
of every logical row that has others than the one above it, and the routers of each detour, from a PE to the next one
along its row (x) or column (y).

    region r0 in 31x28+0+0  # 28 rows, 30 columns, 1 jogs
    rows 0-27
    columns 0-12 14-30
    row 9 columns 0-11 13-30
    detour x row 3 column 7 path 7,3 7,4 8,4 8,3
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .block import RegionId
from .lines import Excerpt, Line, read_lines, word_text
from .program import Detour, IntArray, Rect, Region


@dataclass(frozen=True, eq=False)
class RegionEmbedding:
    """One region's p x q mesh inside its rectangle: physical columns ``xs[p, q]``, rows ``ys[p, q]``, detours."""

    rect: Rect
    xs: IntArray
    ys: IntArray
    detours: tuple[Detour, ...] = ()

    def __post_init__(self) -> None:
        assert self.xs.shape == self.ys.shape and self.xs.ndim == 2
        self.xs.setflags(write=False)
        self.ys.setflags(write=False)
        for detour in self.detours:
            detour.path.setflags(write=False)

    @property
    def jogs(self) -> int:
        """Column steps that change their physical column."""
        return int(np.count_nonzero(np.diff(self.xs, axis=0)))

    @property
    def straight(self) -> bool:
        return self.jogs == 0

    @property
    def bounds(self) -> Rect:
        """The smallest rectangle around its PEs and the links between them."""
        pes = [self.xs.min(), self.ys.min()], [self.xs.max(), self.ys.max()]
        corners = np.array([*pes, *(corner for d in self.detours for corner in (d.path.min(0), d.path.max(0)))])
        x, y = corners.min(axis=0).tolist()
        right, bottom = corners.max(axis=0).tolist()
        return Rect(self.rect.wafer, x, y, right - x + 1, bottom - y + 1)

    def region(self, region: RegionId) -> Region:
        """The region as the placed program stores it."""
        return Region(region, self.rect, self.xs, self.ys, self.detours)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a mesh cannot be laid into a rectangle, with the numbers."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True)
class Embedding:
    """Every region's embedding. Complete if it exists."""

    regions: Mapping[RegionId, RegionEmbedding]

    def __str__(self) -> str:
        return "".join(map(_text, self.regions, self.regions.values()))


def _text(region: RegionId, embedding: RegionEmbedding) -> str:
    xs, ys = embedding.xs, embedding.ys
    assert bool((ys == ys[:, :1]).all()), f"a logical row of region {region} lies on one physical row"
    about = f"{len(xs)} rows, {len(xs[0])} columns, {'straight' if embedding.straight else f'{embedding.jogs} jogs'}"
    about += f", {len(embedding.detours)} detours" if embedding.detours else ""
    lines = [
        f"region {word_text(region)} in {embedding.rect}  # {about}",
        f"rows {_runs(ys[:, 0])}",
        f"columns {_runs(xs[0])}",
    ]
    changed = np.flatnonzero((xs[1:] != xs[:-1]).any(axis=1)) + 1
    lines += [f"row {row} columns {_runs(xs[row])}" for row in changed.tolist()]
    for d in embedding.detours:
        path = " ".join(f"{x},{y}" for x, y in d.path.tolist())
        lines.append(f"detour {d.along} row {d.row} column {d.column} path {path}")
    return "\n".join(lines) + "\n"


def _runs(line: IntArray) -> str:
    """Increasing numbers as runs."""
    ends = np.flatnonzero(np.diff(line) != 1)
    firsts, lasts = line[[0, *(ends + 1)]], line[[*ends, len(line) - 1]]
    return " ".join(f"{a}-{b}" if a != b else str(a) for a, b in zip(firsts.tolist(), lasts.tolist(), strict=True))


def parse_embedding(text: str | Excerpt) -> Embedding:
    """The inverse of ``str(Embedding)``. Whether the PEs are alive is not judged here.

    Raises:
        TextError: a line is not of an embedding, or its rows and columns do not fit its rectangle.
    """
    found: dict[RegionId, RegionEmbedding] = {}
    reader: _Reader | None = None
    for line in read_lines(text, Line):
        if line.accept("region"):
            if reader is not None:
                found[reader.region] = reader.embedding()
            reader = _Reader(line)
            if reader.region in found:
                raise line.error(f"region {reader.region} is embedded already")
        elif reader is None:
            line.fail("region")
        else:
            reader.read(line)
        line.end()
    if reader is not None:
        found[reader.region] = reader.embedding()
    return Embedding(found)


class _Reader:
    """One region, line by line."""

    def __init__(self, line: Line) -> None:
        self.line, self.region = line, RegionId(line.label("a region"))
        line.expect("in")
        w, h, *place = line.size("a rectangle, as in 31x28+0+0")
        if len(place) < 2:
            raise line.error("a rectangle is written as: 31x28+0+0")
        x, y, wafer = (*place, 0)[:3]
        self.rect = Rect(wafer, x, y, w, h)
        self.ys: list[int] = []
        self.xs: dict[int, list[int]] = {}
        self.detours: list[Detour] = []

    def read(self, line: Line) -> None:
        rect = self.rect
        if line.accept("rows"):
            self.ys = _increasing(line, rect.y, rect.y + rect.h, "row")
            return
        if line.accept("detour"):
            self.detours.append(self._detour(line))
            return
        row = 0
        if line.accept("row"):
            row = line.number("a logical row")
            if not max(self.xs, default=len(self.ys)) < row < len(self.ys):
                raise line.error(f"row {row} does not follow the one before it below {len(self.ys)} rows")
        line.expect("columns")
        self.xs[row] = _increasing(line, rect.x, rect.x + rect.w, "column")
        if len(self.xs[row]) != len(self.xs[0]):
            raise line.error(f"{len(self.xs[row])} columns; the first row has {len(self.xs[0])}")

    def embedding(self) -> RegionEmbedding:
        if not self.ys or 0 not in self.xs:
            raise self.line.error(f"region {self.region} has no rows or no columns")
        starts = np.array(sorted(self.xs))
        which = np.searchsorted(starts, np.arange(len(self.ys)), side="right") - 1
        xs = np.array([self.xs[row] for row in starts.tolist()], np.int32)[which]
        ys = np.repeat(np.array(self.ys, np.int32)[:, None], xs.shape[1], axis=1)
        return RegionEmbedding(self.rect, xs, ys, tuple(self.detours))

    def _detour(self, line: Line) -> Detour:
        along: Literal["x", "y"] = "x" if line.accept("x") else "y"
        if along == "y":
            line.expect("y")
        line.expect("row")
        row = line.number("a logical row")
        line.expect("column")
        column = line.number("a logical column")
        line.expect("path")
        path: list[tuple[int, int]] = []
        while line.peek()[0] != "end":
            x = line.number("a column of the wafer")
            line.expect(",")
            y = line.number("a row of the wafer")
            if path and abs(x - path[-1][0]) + abs(y - path[-1][1]) != 1:
                raise line.error(f"({x}, {y}) is not beside ({path[-1][0]}, {path[-1][1]}) before it")
            path.append((x, y))
        if len(path) < 2:
            raise line.error("a detour joins two PEs")
        return Detour(along, row, column, np.array(path, np.int32))


def _increasing(line: Line, least: int, end: int, what: str) -> list[int]:
    """The numbers of increasing runs inside ``least .. end-1``."""
    numbers: list[int] = []
    for first, last in line.runs(f"{what}s, as in 0-12 14-30"):
        if first > last or (numbers and first <= numbers[-1]):
            raise line.error(f"{what} {first} does not come after {numbers[-1] if numbers else last}")
        if first < least or last >= end:
            raise line.error(f"{what}s {first}-{last} are not inside the rectangle's {least}-{end - 1}")
        numbers.extend(range(first, last + 1))
    return numbers

"""Rule 2: regions lie inside the wafer, apart, on live PEs, and their logical neighbours are joined.

Two neighbours are joined by the standard path (along their row; down the upper one's column, then along the lower
one's row) or by a detour that the region lists for them, at most one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..ir.program import EAST, SOUTH, PlacedProgram, Region
from .machine import Machine
from .violation import Violation, pes

RULE = 2
REACH = 2  # the largest offset of a column between neighbouring rows


def check_regions(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Rectangles inside the grid and disjoint; PEs inside their rectangle, live, in order; neighbours joined."""
    yield from _disjoint(program)
    for region in program.regions:
        outside = tuple(_inside(region, machine))
        yield from outside
        if not outside:
            yield from _in_order(region)
            yield from _alive(region, machine)
            paths = tuple(_detour_paths(region))
            yield from paths
            if not paths:
                yield from _detours_alive(region, machine)
                yield from _joined(region, machine)


def sound(region: Region, machine: Machine) -> bool:
    """Whether a region's lines can be walked: its PEs on the grid and in order, its detours paths between them."""
    problems = (_inside(region, machine), _in_order(region))
    return not any(any(found) for found in problems) and not any(_detour_paths(region))


def _disjoint(program: PlacedProgram) -> Iterator[Violation]:
    """Sweep over x: a rectangle is compared with those that are open where it starts."""
    open_: list[Region] = []
    for region in sorted(program.regions, key=lambda r: (r.rect.wafer, r.rect.x)):
        a = region.rect
        open_ = [r for r in open_ if r.rect.wafer == a.wafer and r.rect.x + r.rect.w > a.x]
        for other in open_:
            b = other.rect
            if a.y < b.y + b.h and b.y < a.y + a.h:
                yield Violation(RULE, f"regions {other.id} and {region.id}", f"overlap: {b} and {a}")
        open_.append(region)


def _inside(region: Region, machine: Machine) -> Iterator[Violation]:
    """The rectangle on the wafer, every PE in the rectangle."""
    where, rect, x, y = f"region {region.id}", region.rect, region.xs, region.ys
    if x.shape != y.shape or x.ndim != 2 or not x.size:
        yield Violation(RULE, where, f"its embedding has shapes {x.shape} and {y.shape}")
        return
    if not 0 <= rect.wafer < machine.wafers:
        yield Violation(RULE, where, f"on wafer {rect.wafer}; there are {machine.wafers}")
    if min(rect.x, rect.y) < 0 or rect.x + rect.w > machine.width or rect.y + rect.h > machine.height:
        yield Violation(RULE, where, f"its rectangle {rect} leaves the {machine.width}x{machine.height} grid")
    out = (x < rect.x) | (x >= rect.x + rect.w) | (y < rect.y) | (y >= rect.y + rect.h)
    if out.any():
        yield Violation(RULE, where, f"{pes(x[out], y[out])} outside its rectangle {rect}")


def _in_order(region: Region) -> Iterator[Violation]:
    """A logical row lies on one physical row, columns increase along it, rows increase, jogs stay within reach."""
    where, x, y = f"region {region.id}", region.xs, region.ys
    bent = y != y[:, :1]
    if bent.any():
        yield Violation(RULE, where, f"{pes(x[bent], y[bent])} off the physical row of their logical row")
    falls = np.diff(x, axis=1) <= 0
    if falls.any():
        yield Violation(RULE, where, f"{pes(x[:, 1:][falls], y[:, 1:][falls])} not right of the PE before in the row")
    rises = np.diff(y, axis=0) <= 0
    if rises.any():
        yield Violation(RULE, where, f"{pes(x[1:][rises], y[1:][rises])} not below the PE before in the column")
    jogs = abs(np.diff(x, axis=0))
    far = jogs > REACH
    if far.any():
        problem = f"{pes(x[1:][far], y[1:][far])} {int(jogs.max())} columns from the PE above; the reach is {REACH}"
        yield Violation(RULE, where, problem)


def _alive(region: Region, machine: Machine) -> Iterator[Violation]:
    dead = ~machine.core_alive[region.rect.wafer][region.ys, region.xs]
    if dead.any():
        yield Violation(RULE, f"region {region.id}", f"{pes(region.xs[dead], region.ys[dead])} dead, yet holding tiles")


def _detour_paths(region: Region) -> Iterator[Violation]:
    """A detour leads from a PE to the next of its line, at most one for each pair, in steps of one router, through no
    router twice, inside the rectangle.
    """
    rect, seen = region.rect, set()
    for detour in region.detours:
        row, column, along, path = detour.row, detour.column, detour.along, detour.path.astype(np.int64)
        next_row, next_column = (row, column + 1) if along == "x" else (row + 1, column)
        where = f"region {region.id}, detour from logical PE ({row}, {column}) along {along}"
        if not (row >= 0 and next_row < region.rows and column >= 0 and next_column < region.columns):
            yield Violation(RULE, where, f"the region has no such neighbours; it is {region.rows}x{region.columns}")
            continue
        if (along, row, column) in seen:
            yield Violation(RULE, where, "a second one for these neighbours")
        seen.add((along, row, column))
        ends = [(int(region.xs[at]), int(region.ys[at])) for at in ((row, column), (next_row, next_column))]
        if len(path) < 2 or [tuple(path[i].tolist()) for i in (0, -1)] != ends:
            yield Violation(RULE, where, f"does not lead from PE {ends[0]} to PE {ends[1]}")
            continue
        x, y = path.T
        gap = np.flatnonzero(abs(np.diff(x)) + abs(np.diff(y)) != 1)
        if gap.size:
            before, after = (tuple(path[gap[0] + i].tolist()) for i in (0, 1))
            yield Violation(RULE, where, f"has a gap between routers {before} and {after}")
        out = (x < rect.x) | (x >= rect.x + rect.w) | (y < rect.y) | (y >= rect.y + rect.h)
        if out.any():
            yield Violation(RULE, where, f"leaves the rectangle {rect} at {pes(x[out], y[out])}")
        if len(np.unique(path, axis=0)) < len(path):
            yield Violation(RULE, where, "passes a router twice")


def _detours_alive(region: Region, machine: Machine) -> Iterator[Violation]:
    """Every link of a detour works, and so does every router."""
    wafer = region.rect.wafer
    for detour in region.detours:
        (x, y), (dx, dy) = detour.path[:-1].T, np.diff(detour.path, axis=0).T
        west, north = x + np.minimum(dx, 0), y + np.minimum(dy, 0)  # the router that each link is counted with
        whole = np.where(
            dx != 0, machine.link_alive[EAST][wafer, north, west], machine.link_alive[SOUTH][wafer, north, west]
        )
        dead = detour.path[~machine.router_alive[wafer, detour.path[:, 1], detour.path[:, 0]]]
        where = f"region {region.id}, detour from logical PE ({detour.row}, {detour.column}) along {detour.along}"
        if len(dead):
            yield Violation(RULE, where, f"crosses the dead router of {pes(dead[:, 0], dead[:, 1])}")
        elif not whole.all():
            yield Violation(RULE, where, f"crosses a dead link next to {pes(x[~whole], y[~whole])}")


def _joined(region: Region, machine: Machine) -> Iterator[Violation]:
    """Row neighbours along their row; column neighbours down the upper one's column, then along the lower one's row;
    but not those with a detour.

    A stretch is whole if the running count of broken links is the same at both its ends.
    """
    wafer = region.rect.wafer
    east, south = machine.link_alive[EAST][wafer], machine.link_alive[SOUTH][wafer]
    broken_east = np.zeros((machine.height, machine.width + 1), np.int64)
    np.cumsum(~east, axis=1, out=broken_east[:, 1:])
    broken_south = np.zeros((machine.height + 1, machine.width), np.int64)
    np.cumsum(~south, axis=0, out=broken_south[1:])
    x, y = region.xs, region.ys
    cut = broken_east[y[:, :-1], x[:, :-1]] != broken_east[y[:, :-1], x[:, 1:]]
    detoured = {along: [(d.row, d.column) for d in region.detours if d.along == along] for along in ("x", "y")}
    for at in detoured["x"]:
        cut[at] = False
    if cut.any():
        where = pes(x[:, :-1][cut], y[:, :-1][cut])
        yield Violation(RULE, f"region {region.id}", f"{where} cut off from the next PE of the row by a dead link")
    upper_x, upper_y, lower_x, lower_y = x[:-1], y[:-1], x[1:], y[1:]
    left, right = np.minimum(upper_x, lower_x), np.maximum(upper_x, lower_x)
    cut = broken_south[upper_y, upper_x] != broken_south[lower_y, upper_x]
    cut |= broken_east[lower_y, left] != broken_east[lower_y, right]
    for at in detoured["y"]:
        cut[at] = False
    if cut.any():
        where = pes(upper_x[cut], upper_y[cut])
        yield Violation(RULE, f"region {region.id}", f"{where} cut off from the next PE of the column by a dead link")

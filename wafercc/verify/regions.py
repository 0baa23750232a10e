"""Rule 2: regions lie inside the wafer, apart, on live PEs, and their logical neighbours are joined."""

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
            yield from _joined(region, machine)


def sound(region: Region, machine: Machine) -> bool:
    """Whether a region's lines can be walked: its PEs on the grid and in order."""
    return not any(_inside(region, machine)) and not any(_in_order(region))


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


def _joined(region: Region, machine: Machine) -> Iterator[Violation]:
    """Row neighbours along their row; column neighbours down the upper one's column, then along the lower one's row.

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
    if cut.any():
        where = pes(x[:, :-1][cut], y[:, :-1][cut])
        yield Violation(RULE, f"region {region.id}", f"{where} cut off from the next PE of the row by a dead link")
    upper_x, upper_y, lower_x, lower_y = x[:-1], y[:-1], x[1:], y[1:]
    left, right = np.minimum(upper_x, lower_x), np.maximum(upper_x, lower_x)
    cut = broken_south[upper_y, upper_x] != broken_south[lower_y, upper_x]
    cut |= broken_east[lower_y, left] != broken_east[lower_y, right]
    if cut.any():
        where = pes(upper_x[cut], upper_y[cut])
        yield Violation(RULE, f"region {region.id}", f"{where} cut off from the next PE of the column by a dead link")

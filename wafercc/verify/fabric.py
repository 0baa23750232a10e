"""Fabric: routers along the lines of a region, and router configuration as rows of integers.

A row says: at this router, on this colour, words that come in by ``ins`` go out by ``outs``. Rows of all nets together
are what the router table must hold, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..ir.program import EAST, NORTH, SOUTH, WEST, Region

Ints = NDArray[np.int64]

# A row in one integer, from the high bits: wafer, y, x, colour, ins, outs.
_SHIFTS = {"wafer": 39, "y": 27, "x": 15, "colour": 10, "ins": 5, "outs": 0}
PLACE_BITS = _SHIFTS["colour"]
_PORTS = {NORTH: "N", EAST: "E", SOUTH: "S", WEST: "W", 16: "ramp"}


def packed(wafer: object, y: object, x: object, colour: object, ins: object, outs: object) -> Ints:
    """Rows from columns; scalars are repeated."""
    columns = (wafer, y, x, colour, ins, outs)
    shifted = [np.asarray(c, np.int64) << s for c, s in zip(columns, _SHIFTS.values(), strict=True)]
    total = shifted[0]
    for column in shifted[1:]:
        total = total + column
    return np.atleast_1d(np.asarray(total, np.int64)).ravel()


def field(rows: Ints, name: str) -> Ints:
    """One column of packed rows."""
    width = 5 if name in ("colour", "ins", "outs") else 12
    found: Ints = (rows >> _SHIFTS[name]) & ((1 << width) - 1)
    return found


def place(rows: Ints) -> Ints:
    """(router, colour) of packed rows, as one integer."""
    return rows >> PLACE_BITS


def ports(mask: int) -> str:
    """A mask of ports in words: ``N+ramp``."""
    return "+".join(word for bit, word in _PORTS.items() if mask & bit) or "none"


@dataclass(frozen=True, eq=False)
class Trace:
    """Every router along every line of a region, lines one after another, each from its first PE to its last.

    ``line``: which line; ``pe``: the PE here or last passed; ``is_pe``: whether it is here, or the words only pass;
    ``ahead``/``behind``: the port towards the next and the previous router of the line, 0 at its ends; ``length``: PEs
    of a line.
    """

    line: Ints
    pe: Ints
    is_pe: NDArray[np.bool_]
    x: Ints
    y: Ints
    ahead: Ints
    behind: Ints
    length: int


def trace(region: Region, along: Literal["y", "x"]) -> Trace:
    """The routers along the logical rows (``x``) or columns (``y``): down the upper PE's column, then along the row, or
    along the detour of the two PEs.
    """
    xs, ys = (region.xs, region.ys) if along == "x" else (region.xs.T, region.ys.T)
    x, y = xs.astype(np.int64), ys.astype(np.int64)
    lines, length = x.shape
    drop, run = np.zeros_like(x), np.zeros_like(x)  # to the next PE of the line; 0 from the last
    drop[:, :-1], run[:, :-1] = np.diff(y, axis=1), np.diff(x, axis=1)
    count = np.maximum(1, abs(drop) + abs(run)).ravel()
    detours = [detour for detour in region.detours if detour.along == along]
    bent = np.array([d.row * length + d.column if along == "x" else d.column * length + d.row for d in detours], int)
    count[bent] = [len(detour.path) - 1 for detour in detours]
    owner = np.repeat(np.arange(lines * length), count)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    down, across = drop.ravel()[owner], run.ravel()[owner]
    fallen = np.minimum(step, abs(down))
    here_x = x.ravel()[owner] + np.sign(across) * (step - fallen)
    here_y = y.ravel()[owner] + np.sign(down) * fallen
    sideways = np.where(across > 0, EAST, np.where(across < 0, WEST, 0))
    ahead = np.where(step < abs(down), np.where(down > 0, SOUTH, NORTH), sideways)
    for start, detour in zip((np.cumsum(count) - count)[bent].tolist(), detours, strict=True):
        stretch = slice(start, start + len(detour.path) - 1)
        here_x[stretch], here_y[stretch] = detour.path[:-1].T
        ahead[stretch] = sides_of(*np.diff(detour.path.astype(np.int64), axis=0).T)
    behind = np.zeros_like(ahead)
    behind[1:] = opposite(ahead[:-1])
    return Trace(owner // length, owner % length, step == 0, here_x, here_y, ahead, behind, length)


def sides_of(dx: Ints, dy: Ints) -> Ints:
    """The port by which a step of one router leaves."""
    found: Ints = np.select([dx > 0, dx < 0, dy > 0, dy < 0], [EAST, WEST, SOUTH, NORTH], 0)
    return found


def opposite(side: Ints) -> Ints:
    """The port at the other end of a link: N and S, E and W change places; 0 stays."""
    swapped: Ints = np.where(side > 2, side >> 2, side << 2)
    return swapped

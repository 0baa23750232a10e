"""Alive: the target's grid and its defect map as one map of what works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.program import EAST, NORTH, RAMP, SOUTH, WEST

_ALL = NORTH | EAST | SOUTH | WEST | RAMP


def alive(target: Mapping[str, Any], defects: Mapping[str, Any]) -> NDArray[np.uint8]:
    """``[wafer, y, x]``: a mask of the ports that work: links that carry words, and the ramp where the core lives.

    A dead router has none, and takes the links of its neighbours with it. Defects outside the grid change nothing.
    """
    shape = int(target["wafers"]), int(target["height"]), int(target["width"])
    grid = np.full(shape, _ALL, np.uint8)
    grid[:, 0] &= ~NORTH & _ALL
    grid[:, -1] &= ~SOUTH & _ALL
    grid[:, :, 0] &= ~WEST & _ALL
    grid[:, :, -1] &= ~EAST & _ALL
    for wafer, x, y in _inside(defects["dead_cores"], shape):
        grid[wafer, y, x] &= ~RAMP & _ALL
    sides = (NORTH, EAST, SOUTH, WEST)
    broken = [(wafer, x, y, side) for wafer, x, y, side in _inside(defects["dead_links"], shape) if side in sides]
    for wafer, x, y in _inside(defects["dead_routers"], shape):
        grid[wafer, y, x] = 0
        broken += [(wafer, x, y, side) for side in sides]
    for wafer, x, y, side in broken:
        grid[wafer, y, x] &= ~side & _ALL
        dx, dy, back = {NORTH: (0, -1, SOUTH), EAST: (1, 0, WEST), SOUTH: (0, 1, NORTH), WEST: (-1, 0, EAST)}[side]
        if 0 <= x + dx < shape[2] and 0 <= y + dy < shape[1]:
            grid[wafer, y + dy, x + dx] &= ~back & _ALL
    return grid


def _inside(rows: Any, shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """The rows (wafer, x, y, ...) that lie on the grid."""
    return [tuple(row) for row in rows if all(0 <= i < n for i, n in zip((row[0], row[2], row[1]), shape, strict=True))]

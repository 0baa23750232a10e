"""Machine: what the rules need of the embedded target and defect map, read from their JSON forms with nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.program import EAST, NORTH, SOUTH, WEST

Grid = NDArray[np.bool_]
STEP = {NORTH: (0, -1), EAST: (1, 0), SOUTH: (0, 1), WEST: (-1, 0)}
OPPOSITE = {NORTH: SOUTH, SOUTH: NORTH, EAST: WEST, WEST: EAST}


@dataclass(frozen=True, eq=False)
class Machine:
    """A grid with its dead cores, routers and links (rows of wafer, x, y[, side]) and the bounds that programs obey."""

    wafers: int
    width: int
    height: int
    usable_bytes: int
    colours: int
    switch_positions: int
    edges: tuple[str, ...]
    dead_cores: NDArray[np.int64]
    dead_routers: NDArray[np.int64]
    dead_links: NDArray[np.int64]

    @staticmethod
    def of(target: Mapping[str, Any], defects: Mapping[str, Any]) -> Machine:
        """Read the JSON forms.

        Raises:
            KeyError, TypeError, ValueError: they are not a target and a defect map.
        """
        pe, router = target["pe"], target["router"]
        cores, routers, links = (
            np.array(defects[f"dead_{kind}"], np.int64).reshape(-1, columns)
            for kind, columns in (("cores", 3), ("routers", 3), ("links", 4))
        )
        return Machine(
            int(target["wafers"]),
            int(target["width"]),
            int(target["height"]),
            int(pe["sram_bytes"]) - int(pe["reserved_bytes"]),
            int(router["colours"]),
            int(router["switch_positions"]),
            tuple(str(edge) for edge in target["io"]["edges"]),
            cores,
            routers,
            links,
        )

    @cached_property
    def _shape(self) -> tuple[int, int, int]:
        return self.wafers, self.height, self.width

    @cached_property
    def router_alive(self) -> Grid:
        """``[wafer, y, x]``: wavelets pass."""
        alive = np.ones(self._shape, bool)
        wafer, x, y = self._inside(self.dead_routers)
        alive[wafer, y, x] = False
        return alive

    @cached_property
    def core_alive(self) -> Grid:
        """``[wafer, y, x]``: the PE can hold tiles."""
        alive = self.router_alive.copy()
        wafer, x, y = self._inside(self.dead_cores)
        alive[wafer, y, x] = False
        return alive

    @cached_property
    def link_alive(self) -> dict[int, Grid]:
        """Per side, ``[wafer, y, x]``: the link from that router to its neighbour on that side carries words."""
        live = self.router_alive
        east, south = np.zeros(self._shape, bool), np.zeros(self._shape, bool)
        east[:, :, :-1] = live[:, :, :-1] & live[:, :, 1:]
        south[:, :-1] = live[:, :-1] & live[:, 1:]
        for grid, side, back in ((east, EAST, WEST), (south, SOUTH, NORTH)):
            there = self.dead_links[self.dead_links[:, 3] == back]
            there[:, 1:3] += STEP[back]  # the same link, named by the router at its other end
            wafer, x, y = self._inside(np.concatenate([self.dead_links[self.dead_links[:, 3] == side], there]))
            grid[wafer, y, x] = False
        west, north = np.zeros(self._shape, bool), np.zeros(self._shape, bool)
        west[:, :, 1:], north[:, 1:] = east[:, :, :-1], south[:, :-1]
        return {EAST: east, SOUTH: south, WEST: west, NORTH: north}

    def inside(self, x: NDArray[np.integer], y: NDArray[np.integer]) -> Grid:
        """Which of these routers are on the grid."""
        return (x >= 0) & (x < self.width) & (y >= 0) & (y < self.height)

    def _inside(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        wafer, x, y = rows[:, 0], rows[:, 1], rows[:, 2]
        keep = (wafer >= 0) & (wafer < self.wafers) & self.inside(x, y)
        return wafer[keep], x[keep], y[keep]

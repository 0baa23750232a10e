"""Embedding: where each logical PE of each region sits on the wafer, around what is dead.

Logical row i lies on one physical row, rows in increasing y, columns in increasing x. Row neighbours are joined
along their row, column neighbours by going down the upper PE's column to the lower row and then along that row; the
offset between them, the *jog*, stays within a reach. A *straight* embedding has no jog at all, so every logical
column is one physical column. Neighbours that a dead router or link would cut off from each other are joined by a
*detour*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .block import RegionId
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

    def __str__(self) -> str:
        rows, columns = self.xs.shape
        detours = f", {len(self.detours)} detours" if self.detours else ""
        return f"{rows}x{columns} in {self.rect}, {'straight' if self.straight else f'{self.jogs} jogs'}{detours}"

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
        return "\n".join(f"{region} {embedding}" for region, embedding in self.regions.items())

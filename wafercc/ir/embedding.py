"""Embedding: where each logical PE of each region sits on the wafer, around what is dead.

Logical row i lies on one physical row, rows in increasing y, columns in increasing x. Row neighbours are joined
along their row, column neighbours by going down the upper PE's column to the lower row and then along that row; the
offset between them, the *jog*, stays within a reach. A *straight* embedding has no jog at all, so every logical
column is one physical column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .block import RegionId
from .program import IntArray, Rect, Region


@dataclass(frozen=True, eq=False)
class RegionEmbedding:
    """One region's p x q mesh inside its rectangle: physical columns ``xs[p, q]`` and rows ``ys[p, q]``."""

    rect: Rect
    xs: IntArray
    ys: IntArray

    def __post_init__(self) -> None:
        assert self.xs.shape == self.ys.shape and self.xs.ndim == 2
        self.xs.setflags(write=False)
        self.ys.setflags(write=False)

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
        x, y = int(self.xs.min()), int(self.ys.min())
        return Rect(self.rect.wafer, x, y, int(self.xs.max()) - x + 1, int(self.ys.max()) - y + 1)

    def region(self, region: RegionId) -> Region:
        """The region as the placed program stores it."""
        return Region(region, self.rect, self.xs, self.ys)


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
        lines = [
            f"{region} {e.xs.shape[0]}x{e.xs.shape[1]} in {e.rect}, {'straight' if e.straight else f'{e.jogs} jogs'}"
            for region, e in self.regions.items()
        ]
        return "\n".join(lines)

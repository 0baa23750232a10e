"""Sites: which rectangles are legal for which mesh, decided by embedding and remembered.

Only an embedding that succeeds makes a rectangle legal; the counts of dead cores asked first merely save trying.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ...ir.embedding import Refusal, RegionEmbedding
from ...ir.placement import Shape
from ...ir.program import Rect
from ...silicon import Alive
from ..embed import embed
from ..route.lines import Along
from .problem import Spot

# (x, y, w, h, shape, its index) → the spot inside that rectangle, or None.
Fit = Callable[[int, int, int, int, Shape, int], Spot | None]


@dataclass(frozen=True, eq=False)
class Sites:
    """The legal rectangles of one wafer at one reach and with detours of at most some hops more."""

    alive: Alive
    reach: int
    detour_hops: int
    known: dict[tuple[int, int, int, int, int, int], tuple[Rect, int] | None] = field(default_factory=dict)

    def fit(self, x: int, y: int, w: int, h: int, shape: Shape, index: int) -> Spot | None:
        """The smallest spot found for a mesh inside a rectangle, or None if the mesh does not embed there."""
        key = (x, y, w, h, shape.rows, shape.columns)
        if key not in self.known:
            self.known[key] = self._decide(Rect(0, x, y, w, h), shape)
        found = self.known[key]
        if found is None:
            return None
        rect, detour = found
        return Spot(rect.x, rect.y, rect.w, rect.h, index, detour)

    def exactly(self, rect: Rect, shape: Shape, index: int) -> Spot | Refusal:
        """The spot that is this whole rectangle, or why the mesh does not embed in it."""
        found = self._embed(rect, shape)
        return found if isinstance(found, Refusal) else Spot(rect.x, rect.y, rect.w, rect.h, index, detour(found))

    def live(self, rect: Rect) -> int:
        """Live cores in a rectangle."""
        return int(self.alive.core[rect.y : rect.y + rect.h, rect.x : rect.x + rect.w].sum())

    def _decide(self, rect: Rect, shape: Shape) -> tuple[Rect, int] | None:
        if not self._enough_alive(rect, shape):
            return None
        found = self._embed(rect, shape)
        if isinstance(found, Refusal):
            return None
        if found.bounds != rect:
            tight = self._embed(found.bounds, shape)
            if (
                isinstance(tight, RegionEmbedding)
                and tight.jogs <= found.jogs
                and len(tight.detours) <= len(found.detours)
            ):
                found = tight
        return found.rect, detour(found)

    def _embed(self, rect: Rect, shape: Shape) -> RegionEmbedding | Refusal:
        return embed(rect, shape.rows, shape.columns, self.alive, self.reach, self.detour_hops)

    def _enough_alive(self, rect: Rect, shape: Shape) -> bool:
        """Necessary: enough rows with enough live cores."""
        if rect.x < 0 or rect.y < 0 or rect.w < shape.columns or rect.h < shape.rows:
            return False
        if rect.x + rect.w > self.alive.width or rect.y + rect.h > self.alive.height:
            return False
        inside = self.alive.core[rect.y : rect.y + rect.h, rect.x : rect.x + rect.w]
        return int(np.count_nonzero(inside.sum(axis=1) >= shape.columns)) >= shape.rows


def detour(embedding: RegionEmbedding) -> int:
    """Extra hops of the longest row and the longest column over a perfect mesh of the same size."""
    bounds = embedding.bounds
    rows, columns = (int(n) for n in embedding.xs.shape)
    jogs = 0 if embedding.straight else int(np.abs(np.diff(embedding.xs, axis=0)).sum(axis=0).max())
    around = sum(_longest_way_around(embedding, along) for along in ("x", "y"))
    return int(bounds.w - columns) + (bounds.h - rows) + jogs + around


def _longest_way_around(embedding: RegionEmbedding, along: Along) -> int:
    """The most hops that the detours of one row (or column) add."""
    extra: Counter[int] = Counter()
    for detour in embedding.detours:
        if detour.along == along:
            (x, y), (goal_x, goal_y) = detour.path[0].tolist(), detour.path[-1].tolist()
            line = detour.row if along == "x" else detour.column
            extra[line] += len(detour.path) - 1 - abs(goal_x - x) - abs(goal_y - y)
    return max(extra.values(), default=0)


def perfect_fit(x: int, y: int, w: int, h: int, shape: Shape, index: int) -> Spot | None:
    """The fit on a wafer without defects and without end: used to rank layouts before they are made legal."""
    if w < shape.columns or h < shape.rows:
        return None
    return Spot(x, y, shape.columns, shape.rows, index, 0)

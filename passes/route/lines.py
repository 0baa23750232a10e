"""Lines: the rows or columns of a region as the fabric sees them, with the routers between neighbours.

Along a line every PE has a port towards the one before (*back*) and the one after (*front*); the routers between two
neighbours (of dead or skipped cores, and of other lines where the embedding jogs or makes a detour) pass words through.
Everything is arrays over all lines of the region at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wafercc.errors import CompileError
from wafercc.ir.program import EAST, NORTH, SOUTH, WEST, Detour, IntArray, Region

Along = Literal["y", "x"]


@dataclass(frozen=True, eq=False)
class Lines:
    """All lines of a region in one direction.

    ``x``, ``y``, ``back``, ``front``: ``[line, PE]``, port masks 0 at the ends. The ``hop_*`` arrays list every router
    strictly between two neighbours: its line, its edge (between PE ``edge`` and ``edge + 1``), where it is and its
    ports towards either.
    """

    x: IntArray
    y: IntArray
    back: IntArray
    front: IntArray
    hop_line: IntArray
    hop_edge: IntArray
    hop_x: IntArray
    hop_y: IntArray
    hop_back: IntArray
    hop_front: IntArray

    @property
    def count(self) -> int:
        return int(self.x.shape[0])

    @property
    def length(self) -> int:
        return int(self.x.shape[1])


def lines_of(region: Region, along: Along) -> Lines:
    """The lines of a region: its logical rows (``along`` "x") or columns ("y")."""
    x, y = (region.xs, region.ys) if along == "x" else (region.xs.T, region.ys.T)
    down = (y[:, 1:] - y[:, :-1]).astype(np.int32)
    across = (x[:, 1:] - x[:, :-1]).astype(np.int32)
    assert (down.size == 0) or bool((down >= 0).all() if along == "y" else (down == 0).all()), "rows lie on rows"
    sideways = np.where(across > 0, EAST, WEST)
    front = np.zeros(x.shape, np.int32)
    back = np.zeros(x.shape, np.int32)
    front[:, :-1] = np.where(down > 0, SOUTH, sideways)
    back[:, 1:] = np.where(across == 0, NORTH, np.where(across > 0, WEST, EAST))
    between = (down + abs(across) - 1).ravel()
    edge = np.repeat(np.arange(between.size), between)
    step = (np.arange(edge.size) - np.repeat(np.cumsum(between) - between, between) + 1).astype(np.int32)
    drop, run = down.ravel()[edge], across.ravel()[edge]
    vertical = step < drop
    corner = (step == drop) & (drop > 0)
    side = np.where(run > 0, EAST, WEST)
    behind = np.where(run > 0, WEST, EAST)
    hop_back = np.where(vertical | corner, NORTH, behind)
    hop_front = np.where(vertical, SOUTH, side)
    edges = max(1, x.shape[1] - 1)
    ints = np.int32
    standard = Lines(
        x.astype(ints), y.astype(ints), back, front,
        (edge // edges).astype(ints), (edge % edges).astype(ints),
        (x[:, :-1].ravel()[edge] + np.sign(run) * np.maximum(step - drop, 0)).astype(ints),
        (y[:, :-1].ravel()[edge] + np.minimum(step, drop)).astype(ints),
        hop_back.astype(ints), hop_front.astype(ints),
    )  # fmt: skip
    own = [detour for detour in region.detours if detour.along == along]
    return _detoured(standard, own) if own else standard


def _detoured(lines: Lines, detours: Sequence[Detour]) -> Lines:
    """The lines with some edges on other paths than the standard ones."""
    line = np.array([d.row if d.along == "x" else d.column for d in detours])
    edge = np.array([d.column if d.along == "x" else d.row for d in detours])
    count = np.array([len(d.path) for d in detours])
    x, y = np.concatenate([d.path for d in detours]).astype(np.int32).T
    dx, dy = np.diff(x, append=x[-1]), np.diff(y, append=y[-1])
    front = np.select([dx > 0, dx < 0, dy > 0], [EAST, WEST, SOUTH], NORTH)  # of the last router: without meaning
    back = np.roll(np.select([dx > 0, dx < 0, dy > 0], [WEST, EAST, NORTH], SOUTH), 1)
    last = np.cumsum(count) - 1
    first = last - count + 1
    fronts, backs = lines.front.copy(), lines.back.copy()
    fronts[line, edge], backs[line, edge + 1] = front[first], back[last]
    inner = np.ones(len(x), bool)
    inner[first] = inner[last] = False
    replaced = np.zeros((lines.count, lines.length), bool)
    replaced[line, edge] = True
    kept = ~replaced[lines.hop_line, lines.hop_edge]
    old = (lines.hop_line, lines.hop_edge, lines.hop_x, lines.hop_y, lines.hop_back, lines.hop_front)
    new = (np.repeat(line, count), np.repeat(edge, count), x, y, back, front)
    hops = (np.concatenate([a[kept], b[inner].astype(np.int32)]) for a, b in zip(old, new, strict=True))
    return Lines(lines.x, lines.y, backs, fronts, *hops)


def check_alive(region: Region, lines: Lines, along: Along, links: Mapping[int, NDArray[np.bool_]]) -> None:
    """Hold that every link between neighbours of a line carries words (which includes the routers at its ends).

    Raises:
        CompileError: one is dead, so the embedding is not one for this defect map.
    """
    kind = "row" if along == "x" else "column"
    at = (np.arange(lines.count, dtype=np.int32)[:, None] + 0 * lines.x, lines.x, lines.y, lines.front)
    hops = (lines.hop_line, lines.hop_x, lines.hop_y, lines.hop_front)
    for line, x, y, port in (tuple(a.ravel() for a in at), hops):
        for side, alive in links.items():
            leaves = port == side
            dead = np.flatnonzero(~alive[y[leaves], x[leaves]])
            if dead.size:
                i = np.flatnonzero(leaves)[dead[0]]
                raise CompileError(
                    f"cannot route: logical {kind} {line[i]} crosses a dead link or router next to ({x[i]}, {y[i]})",
                    where=f"region {region.id}",
                    hint="embed the region on this defect map",
                )

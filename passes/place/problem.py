"""The placement problem of one wafer as plain numbers, and its objective.

Centres are kept doubled, so all of it is exact integer arithmetic: a rectangle's doubled centre is ``2x + w - 1``. A
*spot* is a legal place of one region: its rectangle, the shape it takes there and the detour, the extra hops that
the longest row and column of its embedding make over a perfect mesh.

    doubled objective = hop cycles * (sum over flows of |dx| + |dy| of doubled centres + 2 * sum of detours) + 2 *
    shape costs
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...ir.block import RegionId
from ...ir.placement import HOST, PlaceRequest, Shape
from ...ir.program import Rect
from ...silicon import Alive
from ...targets import Target

Ints = NDArray[np.int64]


class Spot(NamedTuple):
    """A rectangle, the index of the shape embedded in it, and the embedding's detour in hops."""

    x: int
    y: int
    w: int
    h: int
    shape: int
    detour: int

    @property
    def centre(self) -> tuple[int, int]:
        """Doubled."""
        return 2 * self.x + self.w - 1, 2 * self.y + self.h - 1

    def overlaps(self, other: Spot) -> bool:
        return (
            self.x < other.x + other.w
            and other.x < self.x + self.w
            and self.y < other.y + other.h
            and other.y < self.y + self.h
        )

    def rect(self, wafer: int) -> Rect:
        return Rect(wafer, self.x, self.y, self.w, self.h)


Spots = tuple[Spot, ...]


@dataclass(frozen=True)
class Problem:
    """One wafer's regions (by index), flows between them, flows to its edge, and its live grid.

    ``pairs[n, 2]``: the two regions of each flow inside the wafer. ``to_edge[i]``: flows of region i to or from the
    host or another wafer. ``ports``: per edge with a live port, its x and the rows of its live ports.
    """

    wafer: int
    ids: tuple[RegionId, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    pairs: Ints
    to_edge: Ints
    ports: tuple[tuple[int, Ints], ...]
    pins: Mapping[int, Rect]
    hop_cycles: int
    alive: Alive

    @property
    def count(self) -> int:
        return len(self.ids)

    @cached_property
    def partners(self) -> tuple[tuple[int, ...], ...]:
        """For each region, the other end of each of its flows inside the wafer."""
        ends: list[list[int]] = [[] for _ in self.ids]
        for a, b in self.pairs.tolist():
            ends[a].append(b)
            ends[b].append(a)
        return tuple(tuple(e) for e in ends)

    def edge_distance(self, centre_x: Ints, centre_y: Ints) -> Ints:
        """Doubled hops from doubled centres to the nearest port; the arguments broadcast."""
        best: Ints | None = None
        for x, rows in self.ports:
            to_rows = np.abs(centre_y[..., None] - 2 * rows).min(axis=-1)
            there = np.abs(centre_x - 2 * x) + to_rows
            best = there if best is None else np.minimum(best, there)
        return np.zeros(np.broadcast(centre_x, centre_y).shape, np.int64) if best is None else best

    def doubled_cost(self, spots: Sequence[Spot]) -> int:
        """Twice the objective of a complete placement, in cycles."""
        x = np.array([2 * s.x + s.w - 1 for s in spots])
        y = np.array([2 * s.y + s.h - 1 for s in spots])
        a, b = self.pairs[:, 0], self.pairs[:, 1]
        hops = int(np.abs(x[a] - x[b]).sum() + np.abs(y[a] - y[b]).sum())
        if self.to_edge.any():
            hops += int((self.to_edge * self.edge_distance(x, y)).sum())
        own = sum(2 * self.own_cycles(i, s) for i, s in enumerate(spots))
        return self.hop_cycles * hops + own

    def own_cycles(self, region: int, spot: Spot) -> int:
        """Cycles that depend on this region's spot alone, wherever its partners are."""
        return self.shapes[region][spot.shape].cost_cycles + self.hop_cycles * spot.detour

    def free_of_overlap(self, spots: Sequence[Spot]) -> bool:
        return not any(a.overlaps(b) for i, a in enumerate(spots) for b in spots[:i])


def problem_of(request: PlaceRequest, wafer: int, target: Target, alive: Alive) -> Problem:
    """The part of a request that concerns one wafer."""
    regions = [r for r in request.regions if r.wafer == wafer]
    index = {r.id: i for i, r in enumerate(regions)}
    pairs: list[tuple[int, int]] = []
    to_edge = np.zeros(len(regions), np.int64)
    for flow in request.flows:
        ends = [index[e] for e in (flow.source, flow.destination) if e != HOST and e in index]
        if len(ends) == 2 and ends[0] != ends[1]:
            pairs.append((ends[0], ends[1]))
        elif len(ends) == 1:
            to_edge[ends[0]] += 1
    table = target.ports()
    table = table[alive.router[table[:, 2], table[:, 1]]].astype(np.int64)
    ports = tuple((int(x), table[table[:, 1] == x, 2]) for x in np.unique(table[:, 1]))
    return Problem(
        wafer=wafer,
        ids=tuple(r.id for r in regions),
        shapes=tuple(r.shapes for r in regions),
        pairs=np.array(pairs, np.int64).reshape(-1, 2),
        to_edge=to_edge,
        ports=ports,
        pins={index[i]: rect for i, rect in request.pins.items() if i in index},
        hop_cycles=target.router.hop_cycles,
        alive=alive,
    )

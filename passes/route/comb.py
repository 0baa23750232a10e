"""Comb: the routers a lane uses inside a region, as a tree rooted at its gate.

In a straight region this is the comb that `Fan` describes: a trunk and its teeth. Where the trunk jogs it passes
routers of its own teeth; words then enter (or leave) a tooth where the trunk first meets it, so that every router has
one port towards the gate, on which a destination hears and a source sends, and ports away from it. As a source a router
serves, one switch position each: its own ramp, the tooth ports, the trunk ports. Where jogged columns as teeth, or
detours, may close rings, the tree is the shortest one over all links of teeth and trunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wafercc.ir.program import EAST, NORTH, RAMP, SOUTH, WEST, Detour, Fan, IntArray, Region

from .lines import Lines, lines_of
from .rows import Packed, pack

# Sides in the order (left, right, up, down) of a comb whose teeth are rows; with columns for teeth the picture is
# transposed.
_SIDES = {"y": (WEST, EAST, NORTH, SOUTH), "x": (NORTH, SOUTH, WEST, EAST)}
_STEP = {NORTH: (-1, 0), EAST: (0, 1), SOUTH: (1, 0), WEST: (0, -1)}
_OPPOSITE = {NORTH: SOUTH, SOUTH: NORTH, EAST: WEST, WEST: EAST}


@dataclass(frozen=True, eq=False)
class Comb:
    """The routers of a fan. ``toward``: the port to the gate (0 at the gate itself); ``away``: mask of ports from it;
    ``pe``: whether a PE of the teeth is there. ``gate``: (x, y)."""

    fan: Fan
    x: IntArray
    y: IntArray
    toward: IntArray
    away: IntArray
    pe: NDArray[np.bool_]
    gate: tuple[int, int]

    def source_positions(self) -> int:
        """The most switch positions a router needs when the comb collects."""
        counts = self.pe.astype(np.int32)
        for side in (NORTH, EAST, SOUTH, WEST):
            counts += (self.away & side) > 0
        return int(counts.max())

    def source_rows(self, colour: int, leave: int) -> Packed:
        """Rows of a collecting comb that leaves its gate by port ``leave``."""
        outs = np.where(self.toward == 0, leave, self.toward)
        position = np.zeros(len(self.x), np.int32)
        rows: list[Packed] = []
        for side in (RAMP, *_SIDES[self.fan.along]):
            here = self.pe if side == RAMP else (self.away & side) > 0
            rows.append(pack(self.y[here], self.x[here], colour, position[here], side, outs[here]))
            position = position + here
        return np.concatenate(rows)

    def destination_rows(self, colour: int, enter: int) -> Packed:
        """Rows of a spreading comb that is entered at its gate by port ``enter``."""
        ins = np.where(self.toward == 0, enter, self.toward)
        return pack(self.y, self.x, colour, 0, ins, self.away | np.where(self.pe, RAMP, 0))


def comb_of(region: Region, fan: Fan) -> Comb:
    """The tree of routers of a fan in its region."""
    assert fan.lo <= fan.gate < fan.hi, f"the gate lies on a tooth: {fan}"
    if any(_has(fan, detour) for detour in region.detours):
        return _grown(region, fan)
    if fan.along == "y":
        return _toothed(fan, region.xs, region.ys[:, 0])
    if bool((region.xs == region.xs[:1]).all()):
        return _toothed(fan, region.ys.T, region.xs[0])
    return _grown(region, fan)


def _has(fan: Fan, detour: Detour) -> bool:
    """Whether a detour lies on a tooth or on the trunk."""
    line, edge = (detour.row, detour.column) if detour.along == "x" else (detour.column, detour.row)
    if detour.along == fan.along:
        return line == fan.trunk and fan.lo <= edge < fan.hi - 1
    return fan.lo <= line < fan.hi


def _toothed(fan: Fan, across: IntArray, down: IntArray) -> Comb:
    """A comb whose tooth i lies at ``down[i]`` and has its PEs at ``across[i, :]``: its rows, or its columns
    transposed."""
    left, right, up, below = _SIDES[fan.along]
    tooth = np.arange(fan.lo, fan.hi)
    trunk = across[fan.lo : fan.hi, fan.trunk]
    above = np.concatenate([trunk[:1], trunk[:-1]])  # where the trunk comes down from the tooth before
    falls = (tooth >= fan.gate) & (tooth < fan.hi - 1)
    rises = (tooth <= fan.gate) & (tooth > fan.lo)
    entry = np.where(tooth > fan.gate, above, trunk)
    first = np.minimum(np.minimum(across[fan.lo : fan.hi, 0], entry), np.where(rises, above, entry))
    last = np.maximum(np.maximum(across[fan.lo : fan.hi, -1], entry), np.where(rises, above, entry))
    length = last - first + 1
    start = np.cumsum(length) - length
    i = np.repeat(np.arange(len(tooth)), length)
    a = first[i] + np.arange(int(length.sum())) - start[i]
    vertical = np.where(tooth > fan.gate, up, np.where(tooth < fan.gate, below, 0))[i]
    toward = np.where(a < entry[i], right, np.where(a > entry[i], left, vertical))
    away = np.where((a <= entry[i]) & (a > first[i]), left, 0) | np.where((a >= entry[i]) & (a < last[i]), right, 0)
    away |= np.where((a == trunk[i]) & falls[i], below, 0) | np.where((a == above[i]) & rises[i], up, 0)
    pe = np.zeros(len(a), bool)
    pe[(start[:, None] + across[fan.lo : fan.hi] - first[:, None]).ravel()] = True
    gap = np.diff(down[fan.lo : fan.hi]) - 1
    j = np.repeat(np.arange(len(gap)), gap)
    depth = np.arange(int(gap.sum())) - np.repeat(np.cumsum(gap) - gap, gap) + 1
    descends = tooth[j] >= fan.gate
    x = np.concatenate([a, trunk[j]]).astype(np.int32)
    y = np.concatenate([down[fan.lo : fan.hi][i], down[fan.lo : fan.hi][j] + depth]).astype(np.int32)
    gate_ward = np.concatenate([toward, np.where(descends, up, below)]).astype(np.int32)
    outward = np.concatenate([away, np.where(descends, below, up)]).astype(np.int32)
    pe = np.concatenate([pe, np.zeros(len(j), bool)])
    gate = (int(across[fan.gate, fan.trunk]), int(down[fan.gate]))
    if fan.along == "y":
        return Comb(fan, x, y, gate_ward, outward, pe, gate)
    return Comb(fan, y, x, gate_ward, outward, pe, (gate[1], gate[0]))


def _grown(region: Region, fan: Fan) -> Comb:
    """The shortest tree from the gate over all links of the teeth and the trunk."""
    teeth, trunk = lines_of(region, "x" if fan.along == "y" else "y"), lines_of(region, fan.along)
    rect = region.rect
    height, width = rect.y + rect.h + 1, rect.x + rect.w + 1  # a spare row and column, without links
    ports = np.zeros((height, width), np.int32)
    _join(ports, teeth, slice(fan.lo, fan.hi), slice(0, teeth.length))
    _join(ports, trunk, slice(fan.trunk, fan.trunk + 1), slice(fan.lo, fan.hi))
    gate = int(teeth.x[fan.gate, fan.trunk]), int(teeth.y[fan.gate, fan.trunk])
    toward = np.full(height * width, -1, np.int32)
    away = np.zeros(height * width, np.int32)
    flat = ports.ravel()
    frontier = np.array([gate[1] * width + gate[0]])
    toward[frontier] = 0
    while frontier.size:
        reached = []
        for side, (dy, dx) in _STEP.items():
            here = frontier[(flat[frontier] & side) > 0]
            there = here + dy * width + dx
            new = toward[there] < 0
            away[here[new]] |= side
            toward[there[new]] = _OPPOSITE[side]
            reached.append(there[new])
        frontier = np.concatenate(reached)
    pe = np.zeros(height * width, bool)
    pe[(teeth.y[fan.lo : fan.hi] * width + teeth.x[fan.lo : fan.hi]).ravel()] = True
    step = {side: dy * width + dx for side, (dy, dx) in _STEP.items()}
    while (idle := np.flatnonzero((toward > 0) & (away == 0) & ~pe)).size:  # twigs that lead to no PE
        for side in _STEP:
            twig = idle[toward[idle] == side]
            away[twig + step[side]] &= ~_OPPOSITE[side]
        toward[idle] = -1
    at = np.flatnonzero(toward >= 0)
    y, x = (at // width).astype(np.int32), (at % width).astype(np.int32)
    return Comb(fan, x, y, toward[at], away[at], pe[at], gate)


def _join(ports: IntArray, lines: Lines, which: slice, span: slice) -> None:
    """Mark the links of the neighbour paths of some lines, on a stretch of them."""
    stretch = slice(span.start, span.stop - 1)
    edge = (lines.hop_edge >= span.start) & (lines.hop_edge < span.stop - 1)
    edge &= (lines.hop_line >= which.start) & (lines.hop_line < which.stop)
    starts = (
        (lines.y[which, stretch].ravel(), lines.x[which, stretch].ravel(), lines.front[which, stretch].ravel()),
        (lines.hop_y[edge], lines.hop_x[edge], lines.hop_front[edge]),
    )
    for y, x, port in starts:
        for side, (dy, dx) in _STEP.items():
            out = port == side
            ports[y[out], x[out]] |= side
            ports[y[out] + dy, x[out] + dx] |= _OPPOSITE[side]

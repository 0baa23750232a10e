"""Combs: the router configuration that one lane of a stream means, rebuilt from its fans, its path and its colour.

A comb is a tree of links with its gate as root. Along a tooth words run to (or from) the router where the trunk meets
it first on the way from the gate; between teeth they run along the trunk. As a source every port away from the gate,
and the own ramp, feeds the port towards it; as a destination the port towards the gate feeds all ports away from it and
the ramp. Where teeth are jogged columns, or lines make detours, links may form rings; then each router takes the
shortest way to the gate, among equals the neighbour to its south, then west, north, east, and what then leads to no PE
is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.program import EAST, NORTH, RAMP, SOUTH, WEST, EdgePort, Fan, Lane, PlacedProgram, Region
from .fabric import Ints, opposite, packed, sides_of, trace

_SIDES = (NORTH, EAST, SOUTH, WEST)


@dataclass(frozen=True, eq=False)
class Comb:
    """The routers of a fan: ``toward`` the port to the gate (0 there), ``away`` those from it, ``pe``: a tooth's PE."""

    x: Ints
    y: Ints
    toward: Ints
    away: Ints
    pe: NDArray[np.bool_]


def gate_of(program: PlacedProgram, end: Fan | EdgePort) -> tuple[int, int, int]:
    """(wafer, x, y) of the router where a lane's path starts or ends."""
    if isinstance(end, EdgePort):
        return end.wafer, end.x, end.y
    region = program.region[end.region]
    row, column = (end.gate, end.trunk) if end.along == "y" else (end.trunk, end.gate)
    return region.rect.wafer, int(region.xs[row, column]), int(region.ys[row, column])


def lane_rows(program: PlacedProgram, lane: Lane, combs: dict[Fan, Comb]) -> Ints:
    """All router rows of a lane. ``combs`` keeps what was built, for the lanes that share a fan."""
    source, destination = (_comb(program, end, combs) for end in (lane.source, lane.destination))
    wafer = gate_of(program, lane.source)[0]
    path = lane.path.astype(np.int64)
    step = np.diff(path, axis=0)
    forward = sides_of(step[:, 0], step[:, 1])
    ins = np.concatenate([[lane.source.side if isinstance(lane.source, EdgePort) else 0], opposite(forward)])
    outs = np.concatenate([forward, [lane.destination.side if isinstance(lane.destination, EdgePort) else 0]])
    through = np.ones(len(path), bool)
    rows: list[Ints] = []
    if source is not None:
        through[0] = False
        onward = np.where(source.toward == 0, outs[0], source.toward)
        for side in (RAMP, *_SIDES):
            feeds = source.pe if side == RAMP else (source.away & side) > 0
            rows.append(packed(wafer, source.y[feeds], source.x[feeds], lane.colour, side, onward[feeds]))
    if destination is not None:
        through[-1] = False
        heard = np.where(destination.toward == 0, ins[-1], destination.toward)
        spread = destination.away | np.where(destination.pe, RAMP, 0)
        rows.append(packed(wafer, destination.y, destination.x, lane.colour, heard, spread))
    rows.append(packed(wafer, path[through, 1], path[through, 0], lane.colour, ins[through], outs[through]))
    return np.concatenate(rows)


def _comb(program: PlacedProgram, end: Fan | EdgePort, combs: dict[Fan, Comb]) -> Comb | None:
    """The comb of a lane's end, None at an edge port."""
    if isinstance(end, EdgePort):
        return None
    if end not in combs:
        combs[end] = comb_of(program.region[end.region], end)
    return combs[end]


def comb_of(region: Region, fan: Fan) -> Comb:
    """The tree of a fan whose indices lie in its region."""
    teeth = slice(fan.lo, fan.hi)
    if region.detours:
        x, y, toward = _shortest_links(region, fan)
    elif fan.along == "y":
        start, side = _straight_links(fan, region.xs.astype(np.int64), region.ys[:, 0].astype(np.int64))
        x, y, toward = start[0], start[1], np.array([WEST, EAST, NORTH, SOUTH])[side]
    elif bool((region.xs == region.xs[:1]).all()):
        start, side = _straight_links(fan, region.ys.T.astype(np.int64), region.xs[0].astype(np.int64))
        x, y, toward = start[1], start[0], np.array([NORTH, SOUTH, WEST, EAST])[side]
    else:
        x, y, toward = _shortest_links(region, fan)
    pe_x, pe_y = (
        (region.xs[teeth], region.ys[teeth]) if fan.along == "y" else (region.xs[:, teeth], region.ys[:, teeth])
    )
    return _tree(x, y, toward, pe_x.ravel().astype(np.int64), pe_y.ravel().astype(np.int64))


def _straight_links(fan: Fan, across: Ints, down: Ints) -> tuple[tuple[Ints, Ints], Ints]:
    """Links of a comb whose tooth i lies at ``down[i]`` and holds PEs at ``across[i]``, each directed to the gate.

    As ((across, down) of its start, its side: 0 to smaller across, 1 to larger, 2 to smaller down, 3 to larger).
    """
    tooth = np.arange(fan.lo, fan.hi)
    trunk = across[fan.lo : fan.hi, fan.trunk]
    above = np.concatenate([trunk[:1], trunk[:-1]])
    entry = np.where(tooth > fan.gate, above, trunk)
    touched = [across[fan.lo : fan.hi, 0], across[fan.lo : fan.hi, -1], trunk, above]
    first, last = np.minimum.reduce(touched), np.maximum.reduce(touched)
    count = last - first
    row = np.repeat(np.arange(len(tooth)), count)
    left = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    rightwards = left < entry[row]
    along = (np.where(rightwards, left, left + 1), down[fan.lo : fan.hi][row], rightwards.astype(np.int64))
    gap = np.diff(down[fan.lo : fan.hi])
    row = np.repeat(np.arange(len(gap)), gap)
    upper = down[fan.lo : fan.hi][row] + np.arange(len(row)) - np.repeat(np.cumsum(gap) - gap, gap)
    downwards = tooth[row] < fan.gate
    between = (trunk[row], np.where(downwards, upper, upper + 1), 2 + downwards.astype(np.int64))
    a, d, side = (np.concatenate(pair) for pair in zip(along, between, strict=True))
    return (a, d), side


def _shortest_links(region: Region, fan: Fan) -> tuple[Ints, Ints, Ints]:
    """Every router's link to the gate by the fewest links, over the teeth and the trunk."""
    rect = region.rect
    width, height = rect.x + rect.w + 1, rect.y + rect.h + 1  # one spare, so that no side runs off the array
    links = np.zeros(width * height, np.int64)
    teeth, trunk = (
        (trace(region, "x"), trace(region, "y")) if fan.along == "y" else (trace(region, "y"), trace(region, "x"))
    )
    of_teeth = (teeth.line >= fan.lo) & (teeth.line < fan.hi)
    of_trunk = (trunk.line == fan.trunk) & (trunk.pe >= fan.lo) & (trunk.pe < fan.hi - 1)
    for lines, mine in ((teeth, of_teeth), (trunk, of_trunk)):
        mine &= lines.ahead > 0
        here, ahead = lines.y[mine] * width + lines.x[mine], lines.ahead[mine]
        np.bitwise_or.at(links, here, ahead)
        np.bitwise_or.at(links, here + _steps(ahead, width), opposite(ahead))
    far = width * height
    distance = np.full(far, far)
    gate = (fan.gate, fan.trunk) if fan.along == "y" else (fan.trunk, fan.gate)
    frontier = np.array([int(region.ys[gate]) * width + int(region.xs[gate])])
    distance[frontier] = 0
    while frontier.size:
        reached = [frontier[(links[frontier] & side) > 0] + _steps(np.array([side]), width)[0] for side in _SIDES]
        level = int(distance[frontier[0]]) + 1
        frontier = np.unique(np.concatenate(reached))
        frontier = frontier[distance[frontier] == far]
        distance[frontier] = level
    node = np.flatnonzero((distance > 0) & (distance < far))
    toward = np.zeros(len(node), np.int64)
    for side in (SOUTH, WEST, NORTH, EAST):
        near = np.minimum(node + _steps(np.array([side]), width)[0], far - 1)
        takes = (toward == 0) & ((links[node] & side) > 0) & (distance[near] == distance[node] - 1)
        toward[takes] = side
    return node % width, node // width, toward


def _steps(side: Ints, width: int) -> Ints:
    found: Ints = np.select([side == NORTH, side == EAST, side == SOUTH, side == WEST], [-width, 1, width, -1], 0)
    return found


def _tree(x: Ints, y: Ints, toward: Ints, pe_x: Ints, pe_y: Ints) -> Comb:
    """The routers of directed links (from (x, y) by port ``toward``), with the ports by which others reach them."""
    width = 1 << 13
    start = y * width + x
    end = start + _steps(toward, width)
    node = np.unique(np.concatenate([start, end, pe_y * width + pe_x]))
    out, back = np.zeros(len(node), np.int64), np.zeros(len(node), np.int64)
    out[np.searchsorted(node, start)] = toward
    np.bitwise_or.at(back, np.searchsorted(node, end), opposite(toward))
    pe = np.zeros(len(node), bool)
    pe[np.searchsorted(node, pe_y * width + pe_x)] = True
    kept = np.ones(len(node), bool)
    while (idle := np.flatnonzero(kept & (out > 0) & (back == 0) & ~pe)).size:
        nearer = np.searchsorted(node, node[idle] + _steps(out[idle], width))
        np.bitwise_and.at(back, nearer, ~opposite(out[idle]))
        kept[idle] = False
    return Comb(node[kept] % width, node[kept] // width, out[kept], back[kept], pe[kept])

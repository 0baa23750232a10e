"""Combs: how one lane opens into a region, as the tree of links that `Fan` describes, rooted at its gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.program import EAST, NORTH, SOUTH, WEST, Fan, Region
from .lines import Along, Ints, Links, opposite

SIDES = (NORTH, EAST, SOUTH, WEST)
_STEP = {NORTH: (0, -1), EAST: (1, 0), SOUTH: (0, 1), WEST: (-1, 0)}


@dataclass(frozen=True, eq=False)
class Comb:
    """The routers of a comb: ``distance`` in links from the gate, ``toward`` the port to it (0 at the gate), ``away``
    the ports from it (a mask), ``pe`` whether a PE of a tooth is there.
    """

    x: Ints
    y: Ints
    distance: Ints
    toward: Ints
    away: Ints
    pe: NDArray[np.bool_]


def gate_of(region: Region, fan: Fan) -> tuple[int, int]:
    """The logical row and column of a comb's gate."""
    return (fan.gate, fan.trunk) if fan.along == "y" else (fan.trunk, fan.gate)


def comb_of(region: Region, fan: Fan, links: dict[Along, Links]) -> Comb:
    """The tree of shortest ways to the gate over the links of teeth and trunk; among equals the neighbour to the
    south, then west, north, east. Twigs that lead to no PE are left out.
    """
    rows = slice(fan.lo, fan.hi)
    pes = (rows, slice(None)) if fan.along == "y" else (slice(None), rows)
    pe_x, pe_y = region.xs[pes].ravel().astype(np.int64), region.ys[pes].ravel().astype(np.int64)
    teeth, trunk = (links["x"], links["y"]) if fan.along == "y" else (links["y"], links["x"])
    tooth = (teeth.line >= fan.lo) & (teeth.line < fan.hi)
    between = (trunk.line == fan.trunk) & (trunk.gap >= fan.lo) & (trunk.gap < fan.hi - 1)
    x, y, port = (
        np.concatenate([getattr(teeth, name)[tooth], getattr(trunk, name)[between]]) for name in ("x", "y", "port")
    )
    left, top = int(min(pe_x.min(), x.min(initial=1 << 20))) - 1, int(min(pe_y.min(), y.min(initial=1 << 20))) - 1
    width = int(max(pe_x.max(), x.max(initial=0))) - left + 2  # a margin on every side, so that no step leaves the box
    height = int(max(pe_y.max(), y.max(initial=0))) - top + 2
    step = {side: dy * width + dx for side, (dx, dy) in _STEP.items()}
    here = (y - top) * width + x - left
    ports = np.zeros(width * height, np.int64)
    np.bitwise_or.at(ports, here, port)
    np.bitwise_or.at(ports, here + _moved(port, step), opposite(port))
    row, column = gate_of(region, fan)
    gate = (int(region.ys[row, column]) - top) * width + int(region.xs[row, column]) - left
    distance = _distances(ports, gate, step)
    node = np.flatnonzero(distance >= 0)
    toward = np.zeros(len(ports), np.int64)
    for side in (EAST, NORTH, WEST, SOUTH):  # a later one takes precedence
        nearer = node[(ports[node] & side) > 0]
        nearer = nearer[distance[nearer + step[side]] == distance[nearer] - 1]
        toward[nearer] = side
    away = np.zeros(len(ports), np.int64)
    linked = node[toward[node] > 0]
    np.bitwise_or.at(away, linked + _moved(toward[linked], step), opposite(toward[linked]))
    pe = np.zeros(len(ports), bool)
    pe[(pe_y - top) * width + pe_x - left] = True
    while (twig := node[(toward[node] > 0) & (away[node] == 0) & ~pe[node]]).size:
        np.bitwise_and.at(away, twig + _moved(toward[twig], step), ~opposite(toward[twig]))
        toward[twig] = 0
        distance[twig] = -1
        node = node[distance[node] >= 0]
    return Comb(node % width + left, node // width + top, distance[node], toward[node], away[node], pe[node])


def _distances(ports: Ints, gate: int, step: dict[int, int]) -> Ints:
    """Links from the gate to every router that the links reach, level by level; -1 elsewhere."""
    distance = np.full(len(ports), -1)
    distance[gate] = level = 0
    frontier = np.array([gate])
    while frontier.size:
        level += 1
        found = ports[frontier]
        near = np.concatenate([frontier[(found & side) > 0] + step[side] for side in SIDES])
        near = near[distance[near] < 0]
        distance[near] = level
        frontier = np.unique(near)
    return distance


def _moved(port: Ints, step: dict[int, int]) -> Ints:
    """How far a step through each port leads in the flattened box."""
    found: Ints = np.select([port == side for side in SIDES], [step[side] for side in SIDES], 0)
    return found

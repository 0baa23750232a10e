"""Where the PEs of a region really are: hops between logical neighbours, the links they use, lines and combs over them.

Row neighbours are joined along their row; column neighbours by going down the upper PE's column, then along the lower
PE's row; or by the detour that the region lists for them. Everything is integer arrays, made once a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..ir.layout import AxisName, Mesh
from ..ir.program import EAST, NORTH, SOUTH, WEST, Detour, EdgePort, Fan, IntArray, PlacedProgram, Region
from .tape import Times

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
A = TypeVar("A", Ints, Times)


@dataclass(frozen=True)
class Grid:
    """Numbers for the directed links of the part of the fabric that a program uses; 0 is no link."""

    width: int
    height: int
    wafers: int

    @staticmethod
    def of(program: PlacedProgram) -> Grid:
        xs, ys, wafers = [0], [0], [0]
        for region in program.regions:
            xs += [int(region.xs.max()), *(int(detour.path[:, 0].max()) for detour in region.detours)]
            ys += [int(region.ys.max()), *(int(detour.path[:, 1].max()) for detour in region.detours)]
            wafers.append(region.rect.wafer)
        for stream in program.streams:
            for lane in stream.lanes:
                if len(lane.path):
                    xs.append(int(lane.path[:, 0].max()))
                    ys.append(int(lane.path[:, 1].max()))
                wafers += [end.wafer for end in (lane.source, lane.destination) if isinstance(end, EdgePort)]
        return Grid(max(xs) + 1, max(ys) + 1, max(wafers) + 1)

    @property
    def links(self) -> int:
        return 4 * self.wafers * self.width * self.height + 1

    def link(self, wafer: int, x: Ints, y: Ints, side: int) -> Ints:
        """The link that leaves router (x, y) on one side."""
        direction = {NORTH: 0, EAST: 1, SOUTH: 2, WEST: 3}[side]
        return 1 + ((wafer * 4 + direction) * self.height + y) * self.width + x

    def path(self, wafer: int, path: IntArray) -> Ints:
        """The links along a path of adjacent routers."""
        at = path.astype(np.int64)
        dx, dy = np.diff(at[:, 0]), np.diff(at[:, 1])
        x, y = at[:-1, 0], at[:-1, 1]
        horizontal = np.where(dx > 0, self.link(wafer, x, y, EAST), self.link(wafer, x, y, WEST))
        return np.where(
            dy > 0, self.link(wafer, x, y, SOUTH), np.where(dy < 0, self.link(wafer, x, y, NORTH), horizontal)
        )


@dataclass(frozen=True)
class Steps:
    """The steps between neighbours along one direction of a region.

    ``hops[i, j]``: hops of the step; ``forward``/``backward`` ``[k, i, j]``: its links towards higher and lower
    indices.
    """

    hops: Ints
    forward: Ints
    backward: Ints

    def column(self, j: int) -> Steps:
        """The steps of one column alone."""
        return Steps(self.hops[:, [j]], self.forward[:, :, [j]], self.backward[:, :, [j]])

    def flipped(self) -> Steps:
        """Rows and columns exchanged."""
        return Steps(self.hops.T, self.forward.transpose(0, 2, 1), self.backward.transpose(0, 2, 1))

    def detoured(self, grid: Grid, wafer: int, detours: Sequence[Detour]) -> Steps:
        """The steps with some of them along the paths of detours."""
        if not detours:
            return self
        longest = max(len(self.forward), *(len(detour.path) - 1 for detour in detours))
        hops = self.hops.copy()
        forward, backward = (
            np.concatenate([links, np.zeros((longest - len(links), *hops.shape), np.int64)])
            for links in (self.forward, self.backward)
        )
        for detour in detours:
            at, count = (detour.row, detour.column), len(detour.path) - 1
            hops[at] = count
            forward[:, *at] = backward[:, *at] = 0
            forward[:count, *at] = grid.path(wafer, detour.path)
            backward[:count, *at] = grid.path(wafer, detour.path[::-1])[::-1]
        return Steps(hops, forward, backward)


def _steps(grid: Grid, wafer: int, ax: Ints, ay: Ints, bx: Ints, by: Ints) -> Steps:
    """From PEs a to PEs b: vertically along a's column, then along b's row."""
    dx, dy = bx - ax, by - ay
    hops = abs(dx) + abs(dy)
    forward = np.zeros((int(hops.max(initial=0)), *hops.shape), np.int64)
    backward = np.zeros_like(forward)
    for k in range(len(forward)):
        vertical, horizontal = k < abs(dy), (k >= abs(dy)) & (k < hops)
        x, y = ax, ay + np.sign(dy) * k
        for here, sign, there, back in (
            (vertical & (dy > 0), 1, SOUTH, NORTH),
            (vertical & (dy < 0), -1, NORTH, SOUTH),
        ):
            forward[k] = np.where(here, grid.link(wafer, x, y, there), forward[k])
            backward[k] = np.where(here, grid.link(wafer, x, y + sign, back), backward[k])
        x, y = ax + np.sign(dx) * (k - abs(dy)), by
        for here, sign, there, back in (
            (horizontal & (dx > 0), 1, EAST, WEST),
            (horizontal & (dx < 0), -1, WEST, EAST),
        ):
            forward[k] = np.where(here, grid.link(wafer, x, y, there), forward[k])
            backward[k] = np.where(here, grid.link(wafer, x + sign, y, back), backward[k])
    return Steps(hops, forward, backward)


@dataclass(frozen=True)
class Lines:
    """All lines of PEs along some axes of one direction: arrays ``[position in the line, line]``.

    ``strided`` lines skip PEs of other lines (a major axis alone); the links they share are not followed one by one,
    their words count ``share`` times instead.
    """

    axes: tuple[AxisName, ...]
    mesh: Mesh
    hops: Ints
    forward: Ints
    backward: Ints
    place: Ints
    share: int

    @property
    def length(self) -> int:
        return int(self.place.shape[0])

    def gather(self, grid: A) -> A:
        """[rows, columns] → [position, line]."""
        return _to_lines(grid, self.axes, self.mesh)

    def scatter(self, lines: Times) -> Times:
        """[position, line] → [rows, columns]."""
        order = _order(self.axes, self.mesh)
        shape = [self.mesh.shape[i] for i in order]
        back = [int(i) for i in np.argsort(order)]
        return lines.reshape(*shape).transpose(back).reshape(self.mesh.rows, self.mesh.columns)


def _order(axes: Sequence[AxisName], mesh: Mesh) -> list[int]:
    first = [mesh.position(a) for a in axes]
    return first + [i for i in range(len(mesh.axes)) if i not in first]


def _to_lines(grid: A, axes: Sequence[AxisName], mesh: Mesh) -> A:
    by_axis = grid.reshape(*mesh.shape).transpose(_order(axes, mesh))
    return by_axis.reshape(mesh.parts(axes), -1)


@dataclass(frozen=True)
class Comb:
    """A lane's comb in a region: distance of every PE from the gate, and the links it uses with their distances.

    ``links``: those that carry words, all once; ``away``: hops between the gate and the nearer end of each.
    """

    distance: Ints
    links: Ints
    away: Ints


class Geometry:
    """One region's positions, steps and lines."""

    def __init__(self, region: Region, grid: Grid) -> None:
        self.region = region
        self.shape = (region.rows, region.columns)
        xs, ys = region.xs.astype(np.int64), region.ys.astype(np.int64)
        wafer = region.rect.wafer
        along_x, along_y = (tuple(d for d in region.detours if d.along == along) for along in ("x", "y"))
        steps_x = _steps(grid, wafer, xs[:, :-1], ys[:, :-1], xs[:, 1:], ys[:, 1:])
        steps_y = _steps(grid, wafer, xs[:-1], ys[:-1], xs[1:], ys[1:])
        self.along_x = steps_x.detoured(grid, wafer, along_x)
        self.along_y = steps_y.detoured(grid, wafer, along_y)
        self._lines: dict[tuple[tuple[AxisName, ...], Mesh], Lines] = {}

    @cached_property
    def place(self) -> Ints:
        """The number of each PE: row * columns + column."""
        return np.arange(self.shape[0] * self.shape[1]).reshape(self.shape)

    def lines(self, axes: tuple[AxisName, ...], mesh: Mesh) -> Lines:
        """The lines of PEs along some axes, all of one direction."""
        key = (axes, mesh)
        if key not in self._lines:
            self._lines[key] = self._build(axes, mesh)
        return self._lines[key]

    def _build(self, axes: tuple[AxisName, ...], mesh: Mesh) -> Lines:
        along = next(a.along for a in mesh.axes if a.name in axes)
        steps, dimension = (self.along_y, 0) if along == "y" else (self.along_x, 1)
        position = _positions(steps.hops, self.shape, dimension)
        own = [a for a in mesh.axes if a.along == along]
        last = max(i for i, a in enumerate(own) if a.name in axes)
        share = int(np.prod([a.extent for a in own[last + 1 :]], dtype=np.int64))
        hops = np.diff(_to_lines(position, axes, mesh), axis=0)
        links: list[Ints] = []
        for ids in (steps.forward, steps.backward):
            if share > 1:
                ids = ids[:0]
            pad = [(0, 0), (0, 1), (0, 0)] if along == "y" else [(0, 0), (0, 0), (0, 1)]
            whole = np.pad(ids, pad)
            rows = [_to_lines(one, axes, mesh)[:-1] for one in whole]
            links.append(np.stack(rows) if rows else np.zeros((0, *hops.shape), np.int64))
        return Lines(axes, mesh, hops, links[0], links[1], _to_lines(self.place, axes, mesh), share)

    def comb(self, fan: Fan, users: Bools, inwards: bool) -> Comb:
        """The comb of a fan, as far as the PEs in ``users`` need it, towards the gate or away from it."""
        upright = fan.along == "y"
        tooth = self.along_x if upright else self.along_y.flipped()
        trunk = self.along_y if upright else self.along_x.flipped()
        mask = users if upright else users.T
        along = _positions(tooth.hops, mask.shape, 1)
        down = _positions(trunk.hops, mask.shape, 0)[:, fan.trunk]
        to_gate = abs(down - down[fan.gate])
        distance = abs(along - along[:, [fan.trunk]]) + to_gate[:, None]
        left, right = _beyond(mask, fan.trunk)
        used_teeth = np.any(mask, axis=1, keepdims=True)
        above, below = (used.T for used in _beyond(used_teeth.T, fan.gate))
        spine = trunk.column(fan.trunk)
        near = np.minimum(distance[:, :-1], distance[:, 1:])
        near_spine = np.minimum(to_gate[:-1], to_gate[1:])[:, None]
        found = [
            _used(tooth.forward if inwards else tooth.backward, left, near),
            _used(tooth.backward if inwards else tooth.forward, right, near),
            _used(spine.forward if inwards else spine.backward, above, near_spine),
            _used(spine.backward if inwards else spine.forward, below, near_spine),
        ]
        links, away = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Comb(distance if upright else distance.T, links, away)


def _used(links: Ints, used: Bools, away: Ints) -> tuple[Ints, Ints]:
    """The links ``[k, i, j]`` of the steps that are used, and how far their nearer end is from the gate."""
    chosen = links[:, used]
    distances = np.broadcast_to(away[used], chosen.shape)
    return chosen[chosen > 0], distances[chosen > 0]


def _positions(hops: Ints, shape: tuple[int, ...], dimension: int) -> Ints:
    """Hops from the first PE along one direction."""
    position = np.zeros(shape, np.int64)
    inner = (slice(None), slice(1, None)) if dimension else (slice(1, None), slice(None))
    position[inner] = np.cumsum(hops, axis=dimension)
    return position


def _beyond(users: Bools, middle: int) -> tuple[Bools, Bools]:
    """For each step of each row: whether a user before it needs it towards ``middle``; the same for users after it."""
    before = np.logical_or.accumulate(users, axis=1)[:, :-1]
    after = np.logical_or.accumulate(users[:, ::-1], axis=1)[:, ::-1][:, 1:]
    step = np.arange(users.shape[1] - 1)
    return before & (step < middle), after & (step >= middle)

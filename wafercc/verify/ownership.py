"""Ownership: which PE holds which element of a tiled value, derived from the definition of a split.

An element lies, in each dimension, on the PEs with one index on every axis that cuts the dimension. So a value is
described by one array of indices per (dimension, axis): no array over PEs x elements is ever made.

    part(e) = e div slots                      block; slots = granule * ceil(ceil(extent / granule) / parts)
    part(e) = (e div granule) mod parts        cyclic
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..ir.dims import Affine, Dim, at, shape_upper, upper
from ..ir.layout import AxisName, Mesh, Split, Tiled

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def slots(extent: int, split: Split, mesh: Mesh) -> int:
    """How many elements of a dimension a PE has room for."""
    if not split.axes:
        return extent
    parts = math.prod(mesh.extent[axis] for axis in split.axes)
    granules = -(-extent // split.granule)
    return split.granule * -(-granules // parts)


def tile_elements(tiled: Tiled, mesh: Mesh) -> tuple[int, ...]:
    """The shape of a tile at the context capacity."""
    shape = shape_upper(tiled.type.shape)
    return tuple(slots(extent, split, mesh) for extent, split in zip(shape, tiled.layout.splits, strict=True))


def tile_sram(tiled: Tiled, mesh: Mesh) -> int:
    """SRAM bytes of a tile at the context capacity."""
    return math.ceil(math.prod(tile_elements(tiled, mesh)) * tiled.type.dtype.bits / 8)


def indices(extent: int, split: Split, mesh: Mesh) -> Mapping[AxisName, Ints]:
    """For each axis that cuts a dimension, the index on that axis of the PEs that hold each element."""
    if not split.axes:
        return {}
    extents = [mesh.extent[axis] for axis in split.axes]
    element = np.arange(extent)
    if split.cyclic:
        part = element // split.granule % math.prod(extents)
    else:
        part = element // max(1, slots(extent, split, mesh))
    found: dict[AxisName, Ints] = {}
    for axis, size in zip(reversed(split.axes), reversed(extents), strict=True):
        found[axis] = part % size
        part = part // size
    return found


def holders(
    tiled: Tiled, mesh: Mesh, n_past: int, within: tuple[int, int, int] | None, replica: Mapping[AxisName, int] | None
) -> Bools:
    """Which PEs ``[row, column]`` hold an element, when the cache holds ``n_past`` tokens.

    ``within`` = (d, lo, hi) asks for elements ``lo .. hi-1`` of dimension ``d`` only. On an axis that holds replicas:
    all of them, or only the one whose index ``replica`` gives.
    """
    place = {axis.name: i for i, axis in enumerate(mesh.axes)}
    held = dict(tiled.layout.held)
    mask = np.ones((1,) * len(mesh.axes), bool)
    for d, (dim, split) in enumerate(zip(tiled.type.shape, tiled.layout.splits, strict=True)):
        extent = at(dim, n_past)
        lo, hi = (within[1], min(extent, within[2])) if within is not None and within[0] == d else (0, extent)
        index = {name: held_by[lo:hi] for name, held_by in indices(extent, split, mesh).items()}
        shape = [1] * len(mesh.axes)
        for name in index:
            shape[place[name]] = mesh.extent[name]
        some = np.zeros(shape, bool)
        some[tuple(index.get(axis.name, 0) for axis in mesh.axes)] = hi > lo
        mask = mask & some
    for axis in mesh.axes:
        only = held.get(axis.name)
        if only is None and replica is not None and axis.name not in tiled.layout.cut_axes:
            only = replica[axis.name]
        if only is not None:
            shape = [1] * len(mesh.axes)
            shape[place[axis.name]] = axis.extent
            mask = mask & (np.arange(axis.extent) == only).reshape(shape)
    return np.broadcast_to(mask, mesh.shape).reshape(mesh.rows, mesh.columns)


def axis_indices(mesh: Mesh, row: int, column: int) -> dict[AxisName, int]:
    """The index on every axis of one logical PE."""
    found = np.unravel_index(row * mesh.columns + column, mesh.shape) if mesh.axes else ()
    return {axis.name: int(i) for axis, i in zip(mesh.axes, found, strict=True)}


def covers(have: Tiled, need: Tiled, mesh: Mesh, gathered: frozenset[AxisName]) -> bool:
    """Whether every PE that needs an element has it, once what was cut over ``gathered`` is brought together."""
    held_have = {axis: i for axis, i in have.layout.held if axis not in gathered and mesh.extent[axis] > 1}
    if not held_have.items() <= dict(need.layout.held).items():
        return False
    for dim, mine, wanted in zip(have.type.shape, have.layout.splits, need.layout.splits, strict=True):
        for extent in {lower(dim), upper(dim)}:
            has, needs = indices(extent, mine, mesh), indices(extent, wanted, mesh)
            for axis, index in has.items():
                if axis in gathered or mesh.extent[axis] == 1:
                    continue
                if axis not in needs or not np.array_equal(index, needs[axis]):
                    return False
    return True


def cut_alike(a: Tiled, i: int, b: Tiled, j: int, mesh: Mesh) -> bool:
    """Whether dimension i of one value and j of another, counted from the end, lie on the same PEs."""
    if min(a.type.rank - i, b.type.rank - j) < 0:
        return True
    left, right = (a.type.shape[-i], a.layout.splits[-i]), (b.type.shape[-j], b.layout.splits[-j])
    for extent in {upper(left[0]), lower(left[0])}:
        has, wants = (
            {k: v for k, v in indices(extent, s, mesh).items() if mesh.extent[k] > 1} for _, s in (left, right)
        )
        if has.keys() != wants.keys() or not all(np.array_equal(has[k], wants[k]) for k in has):
            return False
    return True


def scaled_alike(numbers: Tiled, scale: Tiled, blocks: tuple[int, ...], mesh: Mesh) -> bool:
    """Whether every PE that holds a number holds the scale of its block, in each dimension."""
    if not scale.type.rank:
        return True
    if not numbers.type.rank == scale.type.rank == len(blocks):
        return False
    rows = zip(numbers.type.shape, numbers.layout.splits, scale.type.shape, scale.layout.splits, blocks, strict=True)
    for dim, split, count, scale_split, block in rows:
        extent = upper(dim)
        held = {k: v for k, v in indices(extent, split, mesh).items() if mesh.extent[k] > 1}
        has = {k: v for k, v in indices(upper(count), scale_split, mesh).items() if mesh.extent[k] > 1}
        if upper(count) == 1:
            if has:
                return False
            continue
        of_block = np.arange(extent) // max(1, block)
        if has.keys() != held.keys() or any(not np.array_equal(has[k][of_block], held[k]) for k in has):
            return False
    return True


def lower(dim: Dim) -> int:
    """The smallest value of a dimension."""
    return dim.lower if isinstance(dim, Affine) else dim

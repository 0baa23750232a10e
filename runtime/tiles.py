"""Tiles: a whole tensor as its PEs hold it, and every way elements change place without leaving their PE or region.

A tiled array has one leading dimension per mesh axis (1 where the layout replicates, or where all PEs along it hold
the same numbers), then the dimensions of the tile. Which element a slot holds is `ir.layout.owned`; padded slots hold
anything. All functions build index arrays once per dimension and move everything with one numpy call per dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..ir.dims import at
from ..ir.layout import AxisName, Mesh, Split, Tiled, owned, tile_bytes, tile_extent, tile_shape
from ..ir.packing import unpack
from ..ir.program import WeightTiles
from ..ir.tiling import tile

Array = NDArray[np.generic]
Ints = NDArray[np.int64]


def spread(per_part: NDArray[np.generic], axes: Sequence[AxisName], mesh: Mesh) -> NDArray[np.generic]:
    """An array ``[parts, ...]`` over the parts of a split, with the mesh axes in front instead (1 where not cut)."""
    extents = [mesh.extent[a] for a in axes]
    rest = per_part.shape[1:]
    order = sorted(range(len(axes)), key=lambda i: mesh.position(axes[i]))
    by_axis = per_part.reshape(*extents, *rest).transpose(*order, *range(len(axes), len(axes) + len(rest)))
    lead = [a.extent if a.name in axes else 1 for a in mesh.axes]
    return by_axis.reshape(*lead, *rest)


@lru_cache(maxsize=4096)
def elements(extent: int, split: Split, mesh: Mesh) -> Ints:
    """Which element of a dimension each slot holds: ``[mesh axes (1 where not cut), slots]``, -1 where padded."""
    result = spread(owned(extent, split, mesh.parts(split.axes) if split.axes else 1), split.axes, mesh)
    result.setflags(write=False)
    return result  # type: ignore[return-value]


@lru_cache(maxsize=4096)
def inverse(extent: int, split: Split, parts: int) -> Ints:
    """Where each element is: ``part * slots + slot``."""
    table = owned(extent, split, parts).ravel()
    result = np.zeros(extent, np.int64)
    held = np.flatnonzero(table >= 0)
    result[table[held]] = held
    result.setflags(write=False)
    return result


def parts_of(split: Split, mesh: Mesh) -> int:
    return mesh.parts(split.axes) if split.axes else 1


def valid_counts(tiled: Tiled, mesh: Mesh, n_past: int) -> tuple[int | Ints, ...]:
    """Elements of each dimension that a PE holds, padding excluded: a number, or an array over the mesh axes."""
    counts: list[int | Ints] = []
    for dim, split in zip(tiled.type.shape, tiled.layout.splits, strict=True):
        extent = at(dim, n_past)
        counts.append((elements(extent, split, mesh) >= 0).sum(axis=-1) if split.axes else extent)
    return tuple(counts)


def held_elements(tiled: Tiled, mesh: Mesh, n_past: int) -> Ints:
    """Elements that each PE holds, over all mesh axes (0 on PEs that do not hold the tile at all)."""
    count = np.ones((1,) * len(mesh.axes), np.int64)
    for one in valid_counts(tiled, mesh, n_past):
        count = count * one
    for axis, index in tiled.layout.held:
        here = np.zeros((mesh.extent[axis], 1), np.int64)
        here[index] = 1
        count = count * spread(here, (axis,), mesh)[..., 0]  # type: ignore[operator]
    return np.broadcast_to(count, mesh.shape)


def untile(tiles: Array, tiled: Tiled, mesh: Mesh, n_past: int) -> Array:
    """Put the whole tensor together again, reading each element once."""
    merged = _merged(tiles, tiled, mesh)
    for d, (dim, split) in enumerate(zip(tiled.type.shape, tiled.layout.splits, strict=True)):
        if split.axes:
            merged = np.take(merged, inverse(at(dim, n_past), split, parts_of(split, mesh)), axis=d)
    return merged


def relayout(tiles: Array, source: Tiled, source_mesh: Mesh, target: Tiled, target_mesh: Mesh, n_past: int) -> Array:
    """The tiles of one layout made from those of another: what a stream between two regions delivers."""
    return tile(untile(tiles, source, source_mesh, n_past), target, target_mesh, n_past)


def _merged(tiles: Array, tiled: Tiled, mesh: Mesh) -> Array:
    """One dimension per tensor dimension, ordered by part and slot; of replicas the first (or the one that is held)."""
    cut = tiled.layout.cut_axes
    tiles = full(tiles, cut, mesh)
    held = dict(tiled.layout.held)
    one = [
        slice(None) if a.name in cut else held.get(a.name, 0) if tiles.shape[i] > 1 else 0
        for i, a in enumerate(mesh.axes)
    ]
    tiles = tiles[tuple(one)]
    kept = [a.name for a in mesh.axes if a.name in cut]
    order: list[int] = []
    shape: list[int] = []
    for d, split in enumerate(tiled.layout.splits):
        order += [kept.index(a) for a in split.axes] + [len(kept) + d]
        shape.append(parts_of(split, mesh) * tiles.shape[len(kept) + d])
    return tiles.transpose(order).reshape(shape)


def full(tiles: Array, axes: Sequence[AxisName], mesh: Mesh) -> Array:
    """The same tiles with the given mesh axes at their full extent (a view where they held one copy for all)."""
    shape = [a.extent if a.name in axes else tiles.shape[i] for i, a in enumerate(mesh.axes)]
    return np.broadcast_to(tiles, (*shape, *tiles.shape[len(shape) :]))


def locate(wanted: Ints, extent: int, split: Split, mesh: Mesh, what: str) -> Ints:
    """The slot in which each PE holds the elements it wants (any slot where ``wanted`` is -1).

    ``wanted`` is ``[mesh axes, n]``.

    Raises:
        RunError: a PE wants an element that lies on another PE: the program lacks a collective there.
    """
    if not split.axes or extent == 0:
        return np.maximum(wanted, 0)
    parts = parts_of(split, mesh)
    part, slot = np.divmod(inverse(extent, split, parts)[np.maximum(wanted, 0)], tile_extent(extent, split, parts))
    mine = spread(np.arange(parts)[:, None], split.axes, mesh)
    missing = (wanted >= 0) & (part != mine)
    if missing.any():
        raise RunError(
            f"{int(missing.sum())} elements of {int((wanted >= 0).sum())} that PEs need lie on other PEs",
            where=what,
            hint="the program lacks a collective here; run `wafercc verify` on it",
        )
    return slot


def pick(tiles: Array, slots: Ints, axis: int, rank: int) -> Array:
    """Choose slots of one tile dimension: ``slots`` is ``[mesh axes, n]``, the same for all other dimensions."""
    lead, n = slots.shape[:-1], slots.shape[-1]
    if all(e == 1 for e in lead):
        index = slots.ravel()
        if n == tiles.shape[rank + axis] and np.array_equal(index, np.arange(n)):
            return tiles
        return np.take(tiles, index, axis=rank + axis)
    dims = [1] * (tiles.ndim - rank)
    dims[axis] = n
    return np.take_along_axis(tiles, slots.reshape(*lead, *dims), axis=rank + axis)


def narrow(tiles: Array, source: Tiled, target: Tiled, mesh: Mesh, n_past: int, what: str) -> Array:
    """The tiles of a finer layout, each taken from what its own PE holds.

    Raises:
        RunError: a PE does not hold all it needs.
    """
    for d, (dim, old, new) in enumerate(
        zip(source.type.shape, source.layout.splits, target.layout.splits, strict=True)
    ):
        if old != new:
            extent = at(dim, n_past)
            slots = locate(elements(extent, new, mesh), extent, old, mesh, what)
            tiles = pick(tiles, slots, d, len(mesh.axes))
    return tiles


def gather_along(
    tiles: Array, source: Tiled, target: Tiled, axes: Sequence[AxisName], mesh: Mesh, n_past: int, what: str
) -> Array:
    """The tiles of a layout that no longer is cut over ``axes``, each put together from the tiles of its own line.

    Raises:
        RunError: a PE needs an element that no PE of its line holds.
    """
    rank = len(mesh.axes)
    for d, (dim, old, new) in enumerate(
        zip(source.type.shape, source.layout.splits, target.layout.splits, strict=True)
    ):
        extent = at(dim, n_past)
        here = [a for a in old.axes if a in axes]
        if here and extent:
            tiles = _join(tiles, extent, old, new, d, here, mesh, what)
        elif old != new:
            slots = locate(elements(extent, new, mesh), extent, old, mesh, what)
            tiles = pick(tiles, slots, d, rank)
    return tiles


def _join(
    tiles: Array, extent: int, old: Split, new: Split, d: int, here: list[AxisName], mesh: Mesh, what: str
) -> Array:
    """One dimension of `gather_along`: the slots of all PEs of a line side by side, then the wanted ones of them."""
    rank = len(mesh.axes)
    tiles = full(tiles, here, mesh)
    places = [mesh.position(a) for a in here]
    count, slots = mesh.parts(here), tiles.shape[rank + d]
    lead = [1 if i in places else e for i, e in enumerate(tiles.shape[:rank])]
    moved = np.moveaxis(tiles, places, range(rank + d - len(places), rank + d))
    shape = [*lead, *tiles.shape[rank : rank + d], count * slots, *tiles.shape[rank + d + 1 :]]
    line = moved.reshape(shape)
    wanted = elements(extent, new, mesh)
    parts = parts_of(old, mesh)
    part, slot = np.divmod(inverse(extent, old, parts)[np.maximum(wanted, 0)], tile_extent(extent, old, parts))
    missing = np.zeros(wanted.shape, np.bool_)
    index = np.zeros_like(part)
    for axis, coordinate in zip(old.axes, np.unravel_index(part, [mesh.extent[a] for a in old.axes]), strict=True):
        if axis in here:
            index = index * mesh.extent[axis] + coordinate
        else:
            missing = missing | (coordinate != spread(np.arange(mesh.extent[axis])[:, None], (axis,), mesh))
    if (missing & (wanted >= 0)).any():
        raise RunError(
            "a PE needs elements that no PE of its line holds", where=what, hint="run `wafercc verify` on it"
        )
    return pick(line, index * slots + slot, d, rank)


def check_shape(tiles: Array, tiled: Tiled, mesh: Mesh, n_past: int, what: str) -> None:
    """Assert that an array is the tiles of a value: its tile shape, its element type, and mesh axes that broadcast."""
    rank = len(mesh.axes)
    assert tiles.shape[rank:] == tile_shape(tiled, mesh, n_past), (
        f"{what}: tile {tiles.shape[rank:]}, layout says {tile_shape(tiled, mesh, n_past)}"
    )
    assert all(e in (1, a.extent) for e, a in zip(tiles.shape, mesh.axes, strict=False)), what
    assert tiles.dtype == tiled.dtype.numpy, f"{what}: {tiles.dtype}, layout says {tiled.dtype}"


def check_weight(weight: WeightTiles, tiled: Tiled, mesh: Mesh, n_past: int) -> None:
    """Assert that the tiles of a weight are those of a parameter; packed ones by their bytes."""
    tiles, what = weight.tiles, f"weight {weight.origin}"
    assert tiles is not None
    if not tiled.dtype.is_packed:
        check_shape(tiles, tiled, mesh, n_past, what)
        return
    size = tile_bytes(tiled, mesh, n_past)
    assert tiles.dtype == np.uint8, f"{what}: {tiles.dtype}, layout says {tiled.dtype}"
    assert tiles.shape[len(mesh.axes) :] == (size,), f"{what}: tile {tiles.shape}, layout says {size} bytes"


def opened(tiles: Array, tiled: Tiled, mesh: Mesh, n_past: int) -> Array:
    """Tiles with one slot an element: those of packed weights are unpacked, as a PE does on use; all others are so."""
    if not tiled.dtype.is_packed or tiles.dtype != np.uint8:
        return tiles
    return unpack(tiles, tile_shape(tiled, mesh, n_past), tiled.dtype)

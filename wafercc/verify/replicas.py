"""Rule 1, copies: all entries of one weight of the graph hold the same numbers, however each is cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..ir.program import WeightTiles
from .ownership import indices, slots, tile_elements
from .violation import Violation

RULE = 1


def check_alike(where: str, weight: WeightTiles, other: str, like: WeightTiles) -> Iterator[Violation]:
    """The first element in which two entries of one weight differ, and the PE that holds it; both have sound tiles."""
    if weight.tiled.type != like.tiled.type:
        yield Violation(RULE, where, f"is {weight.tiled.type}, its replica {other} is {like.tiled.type}")
        return
    mine, theirs = (np.ascontiguousarray(_whole(each)).reshape(-1) for each in (weight, like))
    size = mine.dtype.itemsize
    differ = (mine.view(np.uint8) != theirs.view(np.uint8)).reshape(-1, size).any(axis=1)
    if differ.any():
        shape = weight.tiled.type.at(0)
        element = tuple(int(i) for i in np.unravel_index(int(differ.argmax()), shape))
        place = [int(i.ravel()[0]) for i in _index(weight, element)[: len(weight.mesh.axes)]]
        pe = divmod(int(np.ravel_multi_index(place, weight.mesh.shape)) if place else 0, weight.mesh.columns)
        yield Violation(RULE, where, f"element {element}, on logical PE {pe}, is not that of its replica {other}")


def _whole(weight: WeightTiles) -> NDArray[np.generic]:
    """The weight put together from its tiles."""
    assert weight.tiles is not None
    return _slots(weight)[tuple(_index(weight, None))]


def _slots(weight: WeightTiles) -> NDArray[np.generic]:
    """The tiles with a byte or more for every slot: where elements share bytes, their bits, the first the lowest."""
    assert weight.tiles is not None
    dtype, lead = weight.tiled.dtype, weight.tiles.shape[: len(weight.mesh.axes)]
    if not dtype.is_packed:
        return weight.tiles
    tile = tile_elements(weight.tiled, weight.mesh)
    bits = np.unpackbits(weight.tiles.view(np.uint8), axis=-1, bitorder="little")[..., : math.prod(tile) * dtype.bits]
    return np.packbits(bits.reshape(*lead, *tile, dtype.bits), axis=-1, bitorder="little")[..., 0]


def _index(weight: WeightTiles, element: tuple[int, ...] | None) -> list[NDArray[np.int64]]:
    """For every element (or one), its index on each mesh axis and its slot in each dimension of the tile; they
    broadcast against each other."""
    mesh, rank = weight.mesh, weight.tiled.type.rank
    on_axis = {axis.name: np.zeros((1,) * rank, np.int64) for axis in mesh.axes}
    in_tile: list[NDArray[np.int64]] = []
    for d, (extent, split) in enumerate(zip(weight.tiled.type.at(0), weight.tiled.layout.splits, strict=True)):
        shape = [-1 if i == d else 1 for i in range(rank)]
        which = np.arange(extent) if element is None else np.array([element[d]])
        parts = mesh.parts(split.axes)
        for axis, held_by in indices(extent, split, mesh).items():
            on_axis[axis] = held_by[which].reshape(shape)
        if split.cyclic and split.axes:
            slot = which // split.granule // parts * split.granule + which % split.granule
        else:
            slot = which % max(1, slots(extent, split, mesh))
        in_tile.append(slot.reshape(shape))
    return [*on_axis.values(), *in_tile]

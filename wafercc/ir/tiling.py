"""Tiling: a whole tensor cut into the tiles of a layout. Which element a slot holds is `layout.owned`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .dims import at
from .layout import Mesh, Tiled, owned, tile_extent

Array = NDArray[np.generic]


def tile(array: Array, tiled: Tiled, mesh: Mesh, n_past: int = 0) -> Array:
    """Cut a whole tensor into tiles: one leading dimension per mesh axis (1 where the layout replicates), then the
    tile.

    Padded slots repeat element 0.
    """
    rank = len(mesh.axes)
    shape: list[int] = []
    where: list[int] = []  # for each dimension of `shape`, its place in the result
    for d, (dim, split) in enumerate(zip(tiled.type.shape, tiled.layout.splits, strict=True)):
        extent, parts = at(dim, n_past), mesh.parts(split.axes)
        if split.axes:
            index = owned(extent, split, parts)
            array = np.take(array, np.maximum(index, 0).ravel(), axis=d)
            shape += [mesh.extent[a] for a in split.axes]
            where += [mesh.position(a) for a in split.axes]
        shape.append(tile_extent(extent, split, parts))
        where.append(rank + d)
    array = array.reshape(shape).transpose(np.argsort(where))
    cut = tiled.layout.cut_axes
    lead = [a.extent if a.name in cut else 1 for a in mesh.axes]
    return np.ascontiguousarray(array.reshape(*lead, *array.shape[len(cut) :]))

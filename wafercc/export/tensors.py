"""Tensors: types and layouts in explicit form, with tables from which indexing alone tells who holds what.

Tables are shared: layouts that cut alike point to the same array, so the size of an export grows with the different
ways of cutting, not with values.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ir.codec import Json
from ..ir.dims import Affine, Dim, upper
from ..ir.graph import TensorType
from ..ir.layout import AxisName, Mesh, Tiled, owned, tile_extent

Array = NDArray[np.generic]
_WHOLE_NUMBERS = (np.uint8, np.int16, np.int32, np.int64)


@dataclass
class Arrays:
    """The arrays of an export by name. Equal ones of one kind are stored once."""

    members: dict[str, Array] = field(default_factory=dict)
    _known: dict[tuple[str, bytes], str] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def put(self, name: str, array: Array) -> str:
        """Store under a name of its own; integers in the smallest type that holds them."""
        self.members[name] = _narrow(array)
        return name

    def shared(self, kind: str, array: Array) -> str:
        """Store as one of a kind, ``KIND/N``, or find the equal one."""
        narrow = np.ascontiguousarray(_narrow(array))
        digest = hashlib.sha256(f"{narrow.dtype}{narrow.shape}".encode() + narrow.tobytes()).digest()
        if (kind, digest) not in self._known:
            number = self._counts.get(kind, 0)
            self._counts[kind] = number + 1
            self._known[kind, digest] = f"{kind}/{number}"
            self.members[f"{kind}/{number}"] = narrow
        return self._known[kind, digest]


def capacity_shape(tiled: Tiled, mesh: Mesh) -> tuple[int, ...]:
    """The shape of one PE's tile, padding included, with every dimension at its largest."""
    dims = zip(tiled.type.shape, tiled.layout.splits, strict=True)
    return tuple(tile_extent(upper(dim), split, mesh.parts(split.axes)) for dim, split in dims)


def capacity_bytes(tiled: Tiled, mesh: Mesh) -> int:
    """SRAM bytes of one PE's tile, padding included, with every dimension at its largest."""
    return tiled.dtype.sram_bytes(math.prod(capacity_shape(tiled, mesh)))


def dim_form(dim: Dim) -> Json:
    """``scale * n_past + offset``, at most ``max``."""
    scale, offset = (dim.scale, dim.offset) if isinstance(dim, Affine) else (0, int(dim))
    return {"scale": scale, "offset": offset, "max": upper(dim)}


def type_form(type_: TensorType) -> dict[str, Json]:
    """Element type, its bits in SRAM and on links, and shape."""
    return {"dtype": str(type_.dtype), "bits": type_.dtype.bits, "shape": [dim_form(dim) for dim in type_.shape]}


def tensor_form(tiled: Tiled, mesh: Mesh, arrays: Arrays) -> dict[str, Json]:
    """A tensor as a region holds it: type, layout, and the tables that say which elements lie on which PE."""
    layout = tiled.layout
    cuts: list[Json] = []
    for dim, split in zip(tiled.type.shape, layout.splits, strict=True):
        parts = mesh.parts(split.axes)
        cuts.append(
            {
                "axes": list(split.axes),
                "parts": parts,
                "granule": split.granule,
                "cyclic": split.cyclic,
                "elements": arrays.shared("elements", owned(upper(dim), split, parts)),
                "part": arrays.shared("parts", part_of(mesh, split.axes)),
            }
        )
    used = {*layout.cut_axes, *(axis for axis, _ in layout.partial), *(axis for axis, _ in layout.held)}
    copies = tuple(axis.name for axis in mesh.axes if axis.name not in used)
    holds = np.ones((mesh.rows, mesh.columns), bool)
    for axis, index in layout.held:
        holds &= part_of(mesh, (axis,)) == index
    return {
        "type": type_form(tiled.type),
        "cuts": cuts,
        "partial": [{"axis": axis, "combine": str(combine)} for axis, combine in layout.partial],
        "held": [{"axis": axis, "index": index} for axis, index in layout.held],
        "holds": arrays.shared("holds", holds),
        "copies": mesh.parts(copies),
        "copy": arrays.shared("parts", part_of(mesh, copies)),
        "tile_shape": list(capacity_shape(tiled, mesh)),
        "tile_bytes": capacity_bytes(tiled, mesh),
    }


def part_of(mesh: Mesh, axes: Iterable[AxisName]) -> NDArray[np.int64]:
    """``[row, column]``: which part of what is cut over these axes (major first) each logical PE has."""
    index = np.indices(mesh.shape).reshape(len(mesh.axes), mesh.rows, mesh.columns)
    part = np.zeros((mesh.rows, mesh.columns), np.int64)
    for axis in axes:
        part = part * mesh.extent[axis] + index[mesh.position(axis)]
    return part


def _narrow(array: Array) -> Array:
    if array.dtype.kind not in "iu":
        return array
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    fits = next(kind for kind in _WHOLE_NUMBERS if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return array.astype(fits)

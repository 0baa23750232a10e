"""Packing: tiles of 4-bit and 2-bit elements as PEs hold them, several to a byte.

Each tile is packed by itself: its elements in row-major order, the first in the low bits of a byte, the last byte
filled up with zeros. So a tile of n elements takes ceil(n * bits / 8) bytes, which is what every account of SRAM says.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .dtypes import DType

Array = NDArray[np.generic]


def pack(tiles: Array, axes: int, dtype: DType) -> NDArray[np.uint8]:
    """``[axes..., tile...]`` with one element a byte as ``[axes..., bytes of a tile]``."""
    per_byte = 8 // dtype.bits
    lead, count = tiles.shape[:axes], math.prod(tiles.shape[axes:])
    codes = np.ascontiguousarray(tiles).view(np.uint8).reshape(*lead, count) & ((1 << dtype.bits) - 1)
    fill = [(0, 0)] * axes + [(0, -count % per_byte)]
    groups = np.pad(codes, fill).reshape(*lead, -1, per_byte)
    packed = groups[..., 0]
    for i in range(1, per_byte):
        packed = packed | groups[..., i] << (dtype.bits * i)
    return packed.astype(np.uint8)


def unpack(packed: Array, tile: tuple[int, ...], dtype: DType) -> Array:
    """The inverse of `pack`, given the shape of a tile."""
    bits, lead, count = dtype.bits, packed.shape[:-1], math.prod(tile)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (packed.astype(np.uint8)[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    codes = codes.reshape(*lead, packed.shape[-1] * (8 // bits))[..., :count]
    return np.ascontiguousarray(codes).view(dtype.numpy).reshape(*lead, *tile)

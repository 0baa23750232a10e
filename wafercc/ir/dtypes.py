"""Element types: the names used in text, their numpy dtypes and their bytes in SRAM.

4-bit integers are held two to a byte in SRAM; in numpy (ml_dtypes) they occupy one byte each.
"""

from __future__ import annotations

import math
from enum import StrEnum

import ml_dtypes
import numpy as np


class DType(StrEnum):
    """An element type, by the name it has in IR text."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    F64 = "f64"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U64 = "u64"
    U32 = "u32"
    U16 = "u16"
    U8 = "u8"
    I4 = "i4"
    U4 = "u4"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return _NUMPY[self]

    @property
    def bits(self) -> int:
        return 4 if self in (DType.I4, DType.U4) else 8 * self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self in (DType.F32, DType.F16, DType.BF16, DType.F64)

    def sram_bytes(self, elements: int) -> int:
        """Bytes that so many elements take in one PE's SRAM."""
        return math.ceil(elements * self.bits / 8)

    def wavelets(self, elements: int) -> int:
        """32-bit wavelets that carry so many elements over a link (packed)."""
        return math.ceil(elements * self.bits / 32)


_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.F32: np.dtype(np.float32),
    DType.F16: np.dtype(np.float16),
    DType.BF16: np.dtype(ml_dtypes.bfloat16),
    DType.F64: np.dtype(np.float64),
    DType.I64: np.dtype(np.int64),
    DType.I32: np.dtype(np.int32),
    DType.I16: np.dtype(np.int16),
    DType.I8: np.dtype(np.int8),
    DType.U64: np.dtype(np.uint64),
    DType.U32: np.dtype(np.uint32),
    DType.U16: np.dtype(np.uint16),
    DType.U8: np.dtype(np.uint8),
    DType.I4: np.dtype(ml_dtypes.int4),
    DType.U4: np.dtype(ml_dtypes.uint4),
    DType.BOOL: np.dtype(np.bool_),
}
_BY_NUMPY = {dtype: name for name, dtype in _NUMPY.items()}


def from_numpy(dtype: np.dtype[np.generic]) -> DType:
    """The element type of a numpy dtype.

    Raises:
        KeyError: no PE of any target holds such elements (strings, complex numbers, objects).
    """
    return _BY_NUMPY[np.dtype(dtype)]

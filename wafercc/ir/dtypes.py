"""Element types: the names used in text, their numpy dtypes and their bytes in SRAM.

Types of 4 and 2 bits are held two or four to a byte in SRAM; in numpy (ml_dtypes) they occupy one byte each, which
`ir/packing.py` packs.
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
    I2 = "i2"
    U2 = "u2"
    F8E4M3FN = "f8e4m3fn"
    F8E4M3FNUZ = "f8e4m3fnuz"
    F8E5M2 = "f8e5m2"
    F8E5M2FNUZ = "f8e5m2fnuz"
    F8E8M0 = "f8e8m0"
    F4E2M1 = "f4e2m1"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return _NUMPY[self]

    @property
    def bits(self) -> int:
        return _PACKED_BITS.get(self) or 8 * self.numpy.itemsize

    @property
    def is_packed(self) -> bool:
        """Whether several elements share a byte of SRAM."""
        return self in _PACKED_BITS

    @property
    def is_float(self) -> bool:
        """Whether PEs compute in it; the floats of 8 and 4 bits are for storage."""
        return self in (DType.F32, DType.F16, DType.BF16, DType.F64)

    def sram_bytes(self, elements: int) -> int:
        """Bytes that so many elements take in one PE's SRAM."""
        return math.ceil(elements * self.bits / 8)

    def wavelets(self, elements: int) -> int:
        """32-bit wavelets that carry so many elements over a link (packed)."""
        return math.ceil(elements * self.bits / 32)


_PACKED_BITS = {DType.I4: 4, DType.U4: 4, DType.F4E2M1: 4, DType.I2: 2, DType.U2: 2}
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
    DType.I2: np.dtype(ml_dtypes.int2),
    DType.U2: np.dtype(ml_dtypes.uint2),
    DType.F8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DType.F8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DType.F8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DType.F8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DType.F8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    DType.F4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
    DType.BOOL: np.dtype(np.bool_),
}
_BY_NUMPY = {dtype: name for name, dtype in _NUMPY.items()}


def from_numpy(dtype: np.dtype[np.generic]) -> DType:
    """The element type of a numpy dtype.

    Raises:
        KeyError: no PE of any target holds such elements (strings, complex numbers, objects).
    """
    return _BY_NUMPY[np.dtype(dtype)]

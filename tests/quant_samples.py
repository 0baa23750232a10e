"""Examples of the op kinds on quantised numbers. Scales are powers of two and zero points small, so all is exact."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from op_samples import Onnx, Sample, f32, sample

from wafercc.ir.optable import Array


def ints(dtype: object, *shape: int, low: int = 0, high: int = 4, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)  # type: ignore[no-any-return,call-overload]


def scales(*shape: int, seed: int = 5) -> Array:
    return np.float32(2.0) ** np.random.default_rng(seed).integers(-2, 2, shape).astype(np.float32)


def scalings() -> list[Sample]:
    x, half, seven = f32(2, 6, 8) * np.float32(0.75), np.float32(0.5).reshape(()), np.uint8(7).reshape(())
    q8, q4 = ints(np.int8, 2, 6, 8, low=-9, high=9), ints(ml_dtypes.int4, 8, 6, low=-8, high=8)
    wide, by_block = ints(np.uint8, 6, 10), Onnx("DequantizeLinear", {"axis": 0, "block_size": 4}, opset=21)
    return [
        sample("quantize", x, half, seven, to="u8", blocks=(0, 0, 0), onnx=Onnx("QuantizeLinear")),
        sample("quantize", x, half, to="i8", blocks=(0, 0, 0), label="i8"),
        sample("quantize", x, scales(1, 6, 1), to="i16", blocks=(0, 1, 0), label="axis"),
        sample("quantize", f32(6, 10), scales(6, 3), to="i4", blocks=(1, 4), label="blocks"),
        sample("quantize", x, half, to="f8e4m3fn", blocks=(0, 0, 0), label="f8"),
        sample("dequantize", q8, half, np.int8(3).reshape(()), blocks=(0, 0, 0), onnx=Onnx("DequantizeLinear")),
        sample("dequantize", q8, scales(1, 1, 8), ints(np.int8, 1, 1, 8), blocks=(0, 0, 1), label="axis"),
        sample("dequantize", q4, scales(2, 6), blocks=(4, 1), label="blocks", onnx=by_block),
        sample("dequantize", wide, scales(6, 3), ints(np.uint8, 1, 1), blocks=(1, 4), label="ragged"),
        sample("dequantize", x.astype(ml_dtypes.float8_e5m2), half.astype(np.float16), blocks=(0, 0, 0), label="f8"),
        sample("round_blocks", f32(3, 8), block=4),
        sample("round_blocks", f32(2, 3, 10), block=4, label="ragged"),
        sample("round_blocks", f32(3, 8), block=16, label="one"),
    ]  # fmt: skip


def products() -> list[Sample]:
    a, q = ints(np.uint8, 2, 4, 8, high=9), ints(np.int8, 8, 6, low=-5, high=5)
    two, one = np.uint8(2).reshape(()), np.int8(1).reshape(())
    u4, columns = ints(ml_dtypes.uint4, 12, 6, high=16), ints(ml_dtypes.uint4, 3, 6, high=16, seed=1)
    x, table, ids = f32(2, 3, 12), ints(ml_dtypes.int4, 7, 8, low=-8, high=8), ints(np.int64, 2, 3, high=7)
    return [
        sample("matmul_int", a, q, onnx=Onnx("MatMulInteger")),
        sample("matmul_int", a, q, two, one, label="zeros", onnx=Onnx("MatMulInteger")),
        sample("matmul_int", a, q, ints(np.uint8, 2, 4, 1), ints(np.int8, 1, 6), label="rows"),
        sample("matmul_quant", x, u4, scales(3, 6), columns, blocks=(4, 1)),
        sample("matmul_quant", x, u4, scales(1, 6), blocks=(0, 1), label="columns"),
        sample("matmul_quant", x, u4, scales(12, 2), blocks=(1, 3), label="across"),
        sample("matmul_quant", x, u4, scales(2, 6), blocks=(8, 1), label="ragged"),
        sample("matmul_quant", x, u4, np.float32(0.5).reshape(()), blocks=(0, 0), label="one"),
        sample("matmul_quant", x.astype(np.float16), u4, scales(3, 6).astype(np.float16), blocks=(4, 1), label="f16"),
        sample("matmul_quant", f32(2, 3, 4), ints(np.int8, 2, 4, 6), scales(2, 2, 6), blocks=(1, 2, 1), label="batch"),
        sample("embedding_quant", table, ids, scales(7, 2), ints(ml_dtypes.int4, 7, 2), blocks=(1, 4)),
        sample("embedding_quant", table, ids, scales(1, 1), blocks=(0, 0), label="one"),
    ]


QUANTISED = (*scalings(), *products())

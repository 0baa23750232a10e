"""Products and lookups of quantised weights. They dequantise as they go: what a PE holds of such a weight are its
quantised tile, its scales and its zero points; `quant.py` says how these fit together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..dtypes import DType
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Combine, Index, Loop, Loops
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .linear import wide_sums
from .lookup import taken
from .quant import STORED, block_access, blocks_attr, check_scaled, dequantized, granular, scaling_work
from .rules import FLOATS, INTS, aligned, bad, broadcast, demand, demand_rank, operands, optional, plain, present, wide

BYTES = frozenset({DType.I8, DType.U8})


# --- matmul_int


def _infer_matmul_int(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    a, b = operands(op, types, 2, 4)
    for what, x, zero, rows in (("a", a, optional(types, 2), -1), ("b", b, optional(types, 3), -2)):
        demand(op, what, x, BYTES)
        if x.rank < 2:
            raise bad(op, f"needs {what} with two dimensions or more, has {x}")
        if zero is not None:
            demand(op, f"the zero point of {what}", zero, {x.dtype})
            if zero.rank and (zero.rank != x.rank or zero.shape[rows] != 1):
                raise bad(op, f"has the zero points {zero} for {x}")
    if a.shape[-1] != b.shape[-2]:
        raise bad(op, f"cannot multiply {a} by {b}")
    return (TensorType(DType.I32, (*broadcast(op, (a.shape[:-2], b.shape[:-2])), a.shape[-2], b.shape[-1])),)


def _matmul_int(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    a, b = present(arrays[:2])
    return (whole_product(less(a, optional(arrays, 2)), less(b, optional(arrays, 3))),)


def less(x: Array, zero: Array | None) -> NDArray[np.float64]:
    """x - zero, exactly."""
    shifted = x.astype(np.float64)
    return shifted if zero is None else shifted - zero.astype(np.float64)


def whole_product(a: NDArray[np.float64], b: NDArray[np.float64]) -> Array:
    """The product of integers held as f64, which is exact below 2**53, as i32."""
    found: NDArray[np.int32] = np.matmul(a, b).astype(np.int64).astype(np.int32)
    return found


def _matmul_names(a: TensorType, out: TensorType) -> list[str]:
    return [f"b{i}" for i in range(out.rank - 2)]


def _matmul_int_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    a, b = present(types[:2])
    batch, names = outs[0].shape[:-2], _matmul_names(a, outs[0])
    loops = [Loop(n, d) for n, d in zip(names, batch, strict=True)]
    loops += [Loop("m", a.shape[-2]), Loop("n", b.shape[-1]), Loop("k", a.shape[-1], Combine.SUM)]
    ins: list[Access | None] = [
        (*aligned(a.shape[:-2], names, batch), Index("m"), Index("k")),
        (*aligned(b.shape[:-2], names, batch), Index("k"), Index("n")),
    ]
    for zero, last in zip(types[2:], (("m", a.shape[-2]), ("n", b.shape[-1])), strict=False):
        if zero is None or not zero.rank:
            ins.append(None if zero is None else ())
            continue
        name, extent = last
        kept = zero.shape[-2 if name == "m" else -1]
        follows = Index(name) if kept == extent and extent != 1 else WHOLE
        pair = (follows, WHOLE) if name == "m" else (WHOLE, follows)
        ins.append((*aligned(zero.shape[:-2], names, batch), *pair))
    return Loops(tuple(loops), tuple(ins), (plain([*names, "m", "n"]),))


# --- matmul_quant


def _infer_matmul_quant(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    a, b, scale = operands(op, types, 3, 4)
    demand(op, "a", a, FLOATS)
    demand(op, "b", b, STORED)
    check_scaled(op, b, scale, optional(types, 3))
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise bad(op, f"cannot multiply {a} by {b}")
    if any(block > 1 for block in blocks_attr(op, b.rank)[:-2]):
        raise bad(op, f"has scales that several matrices of {b} share")
    return (TensorType(a.dtype, (*broadcast(op, (a.shape[:-2], b.shape[:-2])), a.shape[-2], b.shape[-1])),)


def _matmul_quant(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    a, b, scale = present(arrays[:3])
    with np.errstate(all="ignore"):
        right = dequantized(b, scale, optional(arrays, 3), blocks_attr(op, b.ndim))
        return (np.matmul(wide(a), right).astype(a.dtype, copy=False),)


def _matmul_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """The product, and for each element of the weight its unpacking and its scale."""
    a, b = present(ins[:2])
    return Work(macs=product(outs[0]) * a[-1], simple=0 if op.kind == "matmul_int" else 2 * product(b))


def _matmul_quant_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    a, b = present(types[:2])
    batch, names = outs[0].shape[:-2], _matmul_names(a, outs[0])
    blocks = blocks_attr(op, b.rank)
    (k, k_index) = granular(b.shape[-2], blocks[-2], "k", Combine.SUM)
    (n, n_index) = granular(b.shape[-1], blocks[-1], "n")
    loops = [Loop(name, d) for name, d in zip(names, batch, strict=True)]
    loops += [Loop("m", a.shape[-2]), n, k]
    left = (*aligned(a.shape[:-2], names, batch), Index("m"), k_index)
    right = (*aligned(b.shape[:-2], names, batch), k_index, n_index)
    scales: list[Access | None] = []
    for t in types[2:]:
        if t is None or not t.rank:
            scales.append(None if t is None else ())
            continue
        last = block_access(t.shape[-2:], ("k", "n"), blocks[-2:], b.shape[-2:])
        scales.append((*aligned(t.shape[:-2], names, batch), *last))
    out = (*plain(names), Index("m"), n_index)
    return Loops(tuple(loops), (left, right, *scales), (out,), wide_sums(outs[0], out))


# --- embedding_quant


def _infer_embedding_quant(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    table, ids, scale = operands(op, types, 3, 4)
    demand_rank(op, "a table", table, 2)
    demand(op, "a table", table, STORED)
    demand(op, "ids", ids, INTS)
    check_scaled(op, table, scale, optional(types, 3))
    if blocks_attr(op, 2)[0] > 1:
        raise bad(op, "has scales that several rows share")
    return (TensorType(scale.dtype, (*ids.shape, table.shape[1])),)


def _embedding_quant(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    table, ids, scale = present(arrays[:3])
    zero = optional(arrays, 3)
    rows, scales, zeros = (None if x is None else _rows(op, x, ids, table.shape[0]) for x in (table, scale, zero))
    assert rows is not None and scales is not None
    blocks = (*(1,) * ids.ndim, blocks_attr(op, 2)[1])
    return (dequantized(rows, scales, zeros, blocks).astype(scale.dtype),)


def _rows(op: Op, x: Array, ids: Array, count: int) -> Array:
    """The rows of a table, or of its scales, where all rows may share one."""
    if not x.ndim or (x.shape[0] == 1 and count != 1):
        return x.reshape(*(1,) * ids.ndim, *x.shape[1:]) if x.ndim else x
    return taken(op, x, ids, 0)


def _embedding_quant_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    table, ids = present(types[:2])
    blocks = blocks_attr(op, 2)
    names = [f"d{i}" for i in range(ids.rank)]
    loops = [Loop(n, d) for n, d in zip(names, ids.shape, strict=True)]
    (column, index) = granular(table.shape[1], blocks[1], "c")
    loops += [Loop("v", table.shape[0], Combine.SUM), column]
    scales = [None if t is None else block_access(t.shape, ("v", "c"), blocks, table.shape) for t in types[2:]]
    out = (*plain(names), index)
    return Loops(tuple(loops), ((Index("v"), index), plain(names), *scales), (out,))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("matmul_int", _infer_matmul_int, _matmul_int, _matmul_work, _matmul_int_loops),
    OpSpec("matmul_quant", _infer_matmul_quant, _matmul_quant, _matmul_work, _matmul_quant_loops),
    OpSpec("embedding_quant", _infer_embedding_quant, _embedding_quant, scaling_work, _embedding_quant_loops),
)

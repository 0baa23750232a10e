"""Matrix multiplication, with numpy's broadcasting of batch dimensions. 16-bit floats accumulate in f32,
also across PEs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Op, TensorType
from ..loops import Access, Combine, Index, Loop, Loops, Partial
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .rules import NUMERIC, aligned, bad, broadcast, demand, operands, plain, present, same_dtype, wide, wide_dtype


def _infer_matmul(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    a, b = operands(op, types, 2)
    dtype = same_dtype(op, (a, b))
    demand(op, "operands", a, NUMERIC)
    if a.rank < 2 or b.rank < 2 or a.shape[-1] != b.shape[-2]:
        raise bad(op, f"cannot multiply {a} by {b}")
    return (TensorType(dtype, (*broadcast(op, (a.shape[:-2], b.shape[:-2])), a.shape[-2], b.shape[-1])),)


def _matmul(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    a, b = present(arrays)
    with np.errstate(all="ignore"):
        return (np.matmul(wide(a), wide(b)).astype(a.dtype, copy=False),)


def _matmul_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    a = present(ins)[0]
    return Work(macs=product(outs[0]) * a[-1])


def _matmul_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """Batch dimensions, rows and columns are parallel; the contracted dimension is a sum."""
    a, b = present(types)
    batch = outs[0].shape[:-2]
    names = [f"b{i}" for i in range(len(batch))]
    loops = [Loop(n, d) for n, d in zip(names, batch, strict=True)]
    loops += [Loop("m", a.shape[-2]), Loop("n", b.shape[-1]), Loop("k", a.shape[-1], Combine.SUM)]
    left = (*aligned(a.shape[:-2], names, batch), Index("m"), Index("k"))
    right = (*aligned(b.shape[:-2], names, batch), Index("k"), Index("n"))
    out = plain([*names, "m", "n"])
    return Loops(tuple(loops), (left, right), (out,), wide_sums(outs[0], out))


def wide_sums(out: TensorType, access: Access) -> tuple[Partial, ...]:
    """What a product leaves to be added up: itself, but 16-bit floats are added in f32 and rounded once."""
    wider = wide_dtype(out.dtype)
    return () if wider is out.dtype else (Partial(wider, out.shape, access),)


SPECS: tuple[OpSpec, ...] = (OpSpec("matmul", _infer_matmul, _matmul, _matmul_work, _matmul_loops),)

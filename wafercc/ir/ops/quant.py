"""Ops on quantised numbers: q stands for (q - zero) * scale.

``blocks`` says, for each dimension of what is quantised, how many of its elements share a scale: 0 is all of them, 1
each its own. Scales, and zero points, have as many dimensions, each 1 or one for every block; a scalar serves all. So
quantisation by tensor, by channel and by block are one form, and a block is a granule that no layout cuts.
"""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np

from ..dims import Dim
from ..dtypes import DType
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Combine, Index, Loop, Loops
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .rules import (
    FLOATS,
    INTS,
    Numbers,
    bad,
    demand,
    dtype_attr,
    int_attr,
    numbers,
    operands,
    optional,
    plain,
    present,
    wide,
)

SMALL_FLOATS = frozenset(
    {DType.F8E4M3FN, DType.F8E4M3FNUZ, DType.F8E5M2, DType.F8E5M2FNUZ, DType.F8E8M0, DType.F4E2M1}
)
SMALL_INTS = frozenset({DType.I8, DType.U8, DType.I4, DType.U4, DType.I2, DType.U2})
STORED = INTS | SMALL_INTS | SMALL_FLOATS


# --- blocks


def blocks_attr(op: Op, rank: int) -> tuple[int, ...]:
    """The attribute ``blocks``: one count of elements a scale for each dimension."""
    value = op.attrs.get("blocks")
    if not isinstance(value, tuple) or len(value) != rank or not all(isinstance(b, int) and b >= 0 for b in value):
        raise bad(op, f"needs {rank} block sizes as attribute blocks, has {value!r}")
    return tuple(b for b in value if isinstance(b, int))


def counted(dim: Dim, block: int) -> Dim:
    """How many blocks a dimension has."""
    if block == 0:
        return 1
    return dim if block == 1 or not isinstance(dim, int) else -(-dim // block)


def check_scaled(op: Op, what: TensorType, scale: TensorType, zero: TensorType | None) -> None:
    """Hold that scales and zero points fit the blocks.

    Raises:
        ImportFailed: one has another shape, or a dimension that grows is cut into blocks.
    """
    blocks = blocks_attr(op, what.rank)
    if any(b > 1 and not isinstance(d, int) for d, b in zip(what.shape, blocks, strict=True)):
        raise bad(op, f"cannot cut {what} into blocks {blocks}: a dimension grows")
    wanted = tuple(counted(d, b) for d, b in zip(what.shape, blocks, strict=True))
    for given in (scale, *(() if zero is None else (zero,))):
        if not given.rank:
            continue
        if given.rank != what.rank or any(g not in (1, w) for g, w in zip(given.shape, wanted, strict=True)):
            raise bad(op, f"has scales or zero points {given} for {what} in blocks {blocks}")
    demand(op, "scale", scale, FLOATS | {DType.F8E8M0})
    if zero is not None and zero.dtype not in {what.dtype} | FLOATS and op.kind != "quantize":
        raise bad(op, f"has zero points {zero} for {what}")


def per_element(values: Array, blocks: Sequence[int], shape: Sequence[int]) -> Array:
    """Scales or zero points brought to what they scale: each repeated over its block, so that it broadcasts."""
    if not values.ndim:
        return values
    for axis, (block, extent) in enumerate(zip(blocks, shape, strict=True)):
        if block > 1 and values.shape[axis] > 1:
            values = np.repeat(values, block, axis=axis)
            values = values[(slice(None),) * axis + (slice(0, extent),)]
    return values


def dequantized(q: Array, scale: Array, zero: Array | None, blocks: Sequence[int]) -> Numbers:
    """(q - zero) * scale, in f32 at least."""
    scales = wide(per_element(scale, blocks, q.shape))
    scales = scales if scales.dtype in (np.float32, np.float64) else numbers(scales.astype(np.float32))
    if zero is None:
        return numbers(q.astype(scales.dtype) * scales)
    zeros = per_element(zero, blocks, q.shape)
    if zeros.dtype.kind in "iu" and q.dtype.kind in "iu":
        return numbers((q.astype(np.int64) - zeros.astype(np.int64)).astype(scales.dtype) * scales)
    return numbers((q.astype(scales.dtype) - zeros.astype(scales.dtype)) * scales)


def block_access(shape: Sequence[Dim], names: Sequence[str], blocks: Sequence[int], dims: Sequence[Dim]) -> Access:
    """How scales follow the loops of what they scale, whose dimensions are ``dims``."""
    if not shape:
        return ()
    return tuple(
        WHOLE if s == 1 or b == 0 or counted(d, b) == 1 else Index(name)
        for s, name, b, d in zip(shape, names, blocks, dims, strict=True)
    )


def granular(dim: Dim, block: int, name: str, combine: Combine | None = None) -> tuple[Loop, Index]:
    """The loop over one dimension and how the dimension follows it: whole blocks at a time where there are several."""
    if block > 1 and counted(dim, block) != 1:
        return Loop(name, counted(dim, block), combine), Index(name, block)
    return Loop(name, dim, combine), Index(name)


def _scaled_loops(op: Op, what: TensorType) -> tuple[list[Loop], Access, list[str]]:
    """A parallel loop per dimension of what is quantised, its access, and the loops' names."""
    names = [f"d{i}" for i in range(what.rank)]
    pairs = [
        granular(dim, block, name)
        for dim, block, name in zip(what.shape, blocks_attr(op, what.rank), names, strict=True)
    ]
    return [loop for loop, _ in pairs], tuple(index for _, index in pairs), names


# --- quantize, dequantize


def _infer_quantize(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, scale = operands(op, types, 2, 3)
    demand(op, "x", x, FLOATS)
    check_scaled(op, x, scale, optional(types, 2))
    to = dtype_attr(op, "to")
    if to not in STORED:
        raise bad(op, f"cannot quantise to {to}")
    return (TensorType(to, x.shape),)


def _quantize(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, scale = present(arrays[:2])
    zero, blocks, to = optional(arrays, 2), blocks_attr(op, x.ndim), dtype_attr(op, "to")
    with np.errstate(all="ignore"):
        return (quantized(x, scale, zero, blocks, to),)


def quantized(x: Array, scale: Array, zero: Array | None, blocks: Sequence[int], to: DType) -> Array:
    """x / scale rounded half to even, plus zero, saturated to the element type."""
    given = wide(x)
    steps = np.divide(given, per_element(scale, blocks, x.shape).astype(given.dtype))
    zeros = None if zero is None else per_element(zero, blocks, x.shape)
    if to in SMALL_FLOATS:
        top = _largest(to)
        return np.clip(steps, -top, top).astype(to.numpy)
    low, high = _range(to)
    shift = 0 if zeros is None else zeros.astype(np.float64)
    rounded = np.clip(np.rint(steps).astype(np.float64) + shift, low, high)
    return np.nan_to_num(rounded).astype(np.int64).astype(to.numpy)


def _largest(to: DType) -> float:
    return float(ml_dtypes.finfo(to.numpy).max)  # type: ignore[no-untyped-call]


def _range(to: DType) -> tuple[int, int]:
    signed = to.startswith("i")
    top = (1 << (to.bits - signed)) - 1
    return (-top - 1 if signed else 0), top


def _scaled_op_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    (x,) = present(types[:1])
    loops, access, names = _scaled_loops(op, x)
    blocks = blocks_attr(op, x.rank)
    ins = tuple(None if t is None else block_access(t.shape, names, blocks, x.shape) for t in types[1:])
    return Loops(tuple(loops), (access, *ins), (access,))


def _infer_dequantize(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, scale = operands(op, types, 2, 3)
    demand(op, "x", x, STORED)
    check_scaled(op, x, scale, optional(types, 2))
    return (TensorType(scale.dtype, x.shape),)


def _dequantize(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, scale = present(arrays[:2])
    with np.errstate(all="ignore"):
        return (dequantized(x, scale, optional(arrays, 2), blocks_attr(op, x.ndim)).astype(scale.dtype),)


def scaling_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """A division or multiplication, the zero point, rounding."""
    return Work(simple=3 * product(outs[0]))


# --- round_blocks


def _infer_round_blocks(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    demand(op, "x", x, FLOATS)
    if x.rank < 1 or not isinstance(x.shape[-1], int) or int_attr(op, "block") < 1:
        raise bad(op, f"cannot cut the last dimension of {x} into blocks")
    return (x,)


def _round_blocks(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    with np.errstate(all="ignore"):
        return (rounded_blocks(wide(x), int_attr(op, "block")).astype(x.dtype),)


def rounded_blocks(x: Numbers, block: int) -> Numbers:
    """Every ``block`` numbers of the last dimension as multiples of their largest magnitude / 127."""
    extent, kind = x.shape[-1], x.dtype.type
    fill = [(0, 0)] * (x.ndim - 1) + [(0, -extent % block)]
    groups = np.pad(x, fill).reshape(*x.shape[:-1], -1, block)
    top = np.abs(groups).max(axis=-1, keepdims=True, initial=0)
    inverse = np.where(top > 0, kind(127) / top, kind(0))
    found: Numbers = np.rint(groups * inverse) * (top * kind(1 / 127))
    return found.reshape(*x.shape[:-1], -1)[..., :extent]


def _round_blocks_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    (x,) = present(types)
    names = [f"d{i}" for i in range(x.rank)]
    loops = [Loop(n, d) for n, d in zip(names[:-1], x.shape[:-1], strict=True)]
    last, index = granular(x.shape[-1], int_attr(op, "block"), names[-1])
    one_block = counted(x.shape[-1], int_attr(op, "block")) == 1
    access = (*plain(names[:-1]), WHOLE if one_block else index)
    return Loops((*loops, *(() if one_block else (last,))), (access,), (access,))


def _round_blocks_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """Magnitude, maximum, product, rounding and product, an element."""
    return Work(simple=5 * product(outs[0]))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("quantize", _infer_quantize, _quantize, scaling_work, _scaled_op_loops),
    OpSpec("dequantize", _infer_dequantize, _dequantize, scaling_work, _scaled_op_loops),
    OpSpec("round_blocks", _infer_round_blocks, _round_blocks, _round_blocks_work, _round_blocks_loops),
)

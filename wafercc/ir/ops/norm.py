"""Normalisation over the last dimension: rms_norm and layer_norm. Computed in f32 (f64 for f64), rounded once.

Cut over the last dimension, each PE contributes its sum of squares (and, for layer_norm, its sum); the scaling follows
once these are combined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Combine, Index, Loop, Loops
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .reduce import row_partial
from .rules import FLOATS, bad, demand, demand_rank, number_attr, operands, optional, plain, present, wide


def _infer(op: Op, types: InTypes, most: int) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1, most)
    demand(op, "x", x, FLOATS)
    demand_rank(op, "x", x, 1, 8)
    number_attr(op, "epsilon")
    for name, given in zip(("weight", "bias"), types[1:], strict=False):
        if given is not None:
            demand(op, name, given, FLOATS)
            if given.shape != x.shape[-1:]:
                raise bad(op, f"needs a {name} of {x.shape[-1]} elements for {x}, has {given}")
    return (x,)


def _infer_rms(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    return _infer(op, types, 2)


def _infer_layer(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    return _infer(op, types, 3)


def _rms_norm(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (given,) = present(arrays[:1])
    x, weight = wide(given), optional(arrays, 1)
    with np.errstate(all="ignore"):
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        y = x / np.sqrt(mean_square + x.dtype.type(number_attr(op, "epsilon")))
        if weight is not None:
            y = y * wide(weight)
    return (y.astype(given.dtype, copy=False),)


def _layer_norm(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (given,) = present(arrays[:1])
    x, weight, bias = wide(given), optional(arrays, 1), optional(arrays, 2)
    with np.errstate(all="ignore"):
        centred = x - np.mean(x, axis=-1, keepdims=True)
        variance = np.mean(centred * centred, axis=-1, keepdims=True)
        y = centred / np.sqrt(variance + x.dtype.type(number_attr(op, "epsilon")))
        if weight is not None:
            y = y * wide(weight)
        if bias is not None:
            y = y + wide(bias)
    return (y.astype(given.dtype, copy=False),)


def _work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """Per element one multiply-accumulate, a scale, one operation per weight or bias; per row a root and a reciprocal.

    layer_norm adds a sum and a subtraction per element.
    """
    elements, rows = product(outs[0]), product(outs[0][:-1])
    passes = 1 + len([i for i in ins[1:] if i is not None]) + (2 if op.kind == "layer_norm" else 0)
    return Work(macs=elements, simple=elements * passes, special=rows * 2)


def _loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    x = outs[0]
    names = [f"d{i}" for i in range(x.rank)]
    last = x.rank - 1
    loops = tuple(
        Loop(n, d, Combine.SUM if i == last else None) for i, (n, d) in enumerate(zip(names, x.shape, strict=True))
    )
    access = plain(names)
    vectors = tuple(None if t is None else (Index(names[-1]),) for t in types[1:])
    row: Access = (*access[:-1], WHOLE)
    partials = (row_partial(x, (last,), row),) * (2 if op.kind == "layer_norm" else 1)
    return Loops(loops, (access, *vectors), (access,), partials)


SPECS: tuple[OpSpec, ...] = (
    OpSpec("rms_norm", _infer_rms, _rms_norm, _work, _loops),
    OpSpec("layer_norm", _infer_layer, _layer_norm, _work, _loops),
)

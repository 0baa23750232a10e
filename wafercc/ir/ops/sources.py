"""Ops without operands: small literals, counted sequences, one number everywhere.

Shape arithmetic of exporters folds to these; a dimension that depends on ``n_past`` is evaluated when the op runs.
Every result dimension is a parallel loop: each PE can make its own part from the attributes alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..dims import Affine, Dim, at, shape_at
from ..dtypes import DType
from ..graph import Attr, Op, TensorType
from ..optable import Array, InTypes, OpSpec
from .rules import bad, copies, dim_attr, dtype_attr, elementwise_loops, int_attr, operands, shape_attr, shape_text


def _infer_constant(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    operands(op, types, 0)
    dtype, shape = dtype_attr(op, "dtype"), shape_attr(op)
    fixed = [d for d in shape if isinstance(d, int)]
    if len(fixed) != len(shape):
        raise bad(op, f"cannot have the shape {shape_text(shape)}: it depends on n_past", "use fill or range")
    count = _leaves(op, op.attrs.get("value", ()))
    if count != math.prod(fixed):
        raise bad(op, f"has {count} numbers for the shape {shape_text(shape)}")
    return (TensorType(dtype, shape),)


def _leaves(op: Op, value: Attr) -> int:
    if isinstance(value, tuple):
        return sum(_leaves(op, v) for v in value)
    if not isinstance(value, int | float):
        raise bad(op, f"cannot hold {value!r}", "use fill or range where n_past matters")
    return 1


def _constant(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    literal = np.array(op.attr("value"))
    return (literal.astype(dtype_attr(op, "dtype").numpy).reshape(shape_at(shape_attr(op), n_past)),)


def _infer_range(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    operands(op, types, 0)
    _number(op, "start")
    int_attr(op, "step", 1)
    return (TensorType(dtype_attr(op, "dtype"), (dim_attr(op, "count"),)),)


def _range(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    start, step = _value_at(_number(op, "start"), n_past), int_attr(op, "step", 1)
    steps = np.arange(at(dim_attr(op, "count"), n_past))
    return ((start + step * steps).astype(dtype_attr(op, "dtype").numpy),)


def _infer_fill(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    operands(op, types, 0)
    value, dtype = _number(op, "value"), dtype_attr(op, "dtype")
    if isinstance(value, Affine) and dtype is DType.BOOL:
        raise bad(op, f"cannot fill bool with {value}")
    return (TensorType(dtype, shape_attr(op)),)


def _fill(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    value = _value_at(_number(op, "value"), n_past)
    with np.errstate(all="ignore"):
        number = np.asarray(value).astype(dtype_attr(op, "dtype").numpy)
    return (np.full(shape_at(shape_attr(op), n_past), number),)


def _number(op: Op, name: str) -> Dim | float:
    value = op.attrs.get(name)
    if not isinstance(value, int | float | Affine):
        raise bad(op, f"needs a number as attribute {name}, has {value!r}")
    return value


def _value_at(value: Dim | float, n_past: int) -> float:
    return value if isinstance(value, float) else at(value, n_past)


SPECS: tuple[OpSpec, ...] = (
    OpSpec("constant", _infer_constant, _constant, copies, elementwise_loops),
    OpSpec("range", _infer_range, _range, copies, elementwise_loops),
    OpSpec("fill", _infer_fill, _fill, copies, elementwise_loops),
)

"""Fold: what an op gives when its operands are known, so that it need not run.

Three ways, tried in turn: numbers go through the op table's own kernel; arrays that hold dimensions affine in
``n_past`` through exact integer rules; ramps through rules that keep them ramps at any size. Where none applies (or
the answer would differ with ``n_past``) the op is left to run, on materialised operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir.dims import Affine, Dim, Undecided
from ..ir.dtypes import DType
from ..ir.graph import Attr, Op, TensorType
from ..ir.optable import spec_of
from .content import Array, Ramp, Value, equal, greatest, known_array, known_ramp, least, number, quotient, ramp_of

FOLD_ELEMENTS = 256
"""Results larger than this are left to run: a constant would have to be sent to the wafer, an op makes it there."""

Attrs = Mapping[str, Attr]

ELEMENTWISE = frozenset(
    {
        *("neg", "abs", "exp", "log", "sqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid", "erf", "floor", "ceil"),
        *("sign", "not", "isnan", "relu", "silu", "cast", "add", "sub", "mul", "div", "pow", "max", "min", "mod", "eq"),
        *("ne", "lt", "le", "gt", "ge", "and", "or", "xor", "where"),
    }
)
_NUMBERS = ELEMENTWISE | {
    *("reshape", "transpose", "expand", "slice", "concat", "gather", "gather_nd", "cumsum", "topk", "gather_elements"),
    *("scatter_elements", "scatter_nd"),
    *("reduce_sum", "reduce_mean", "reduce_max", "reduce_min"),
}


def fold(op: Op, values: Sequence[Value], result: TensorType) -> Value | None:
    """The known result of an op, or ``None`` if it has to run."""
    try:
        if any(value.ramp is not None for value in values):
            return _fold_ramps(op, values, result)
        if any(value.array is None for value in values):
            return None
        arrays = [value.array for value in values if value.array is not None]
        if any(isinstance(d, Affine) for d in result.shape):
            return _fold_ramps(op, values, result)
        if result.elements > FOLD_ELEMENTS:
            return _fold_ramps(op, values, result)
        if any(array.dtype == object for array in arrays):
            return _fold_dims(op, arrays, result)
        if op.kind in _NUMBERS:
            (array,) = spec_of(op).evaluate(op, arrays, 0)
            return Value(TensorType(result.dtype, array.shape), array=array)
    except Undecided:
        return None
    return None


# --- arrays of dimensions


def _truncated(a: Dim, b: Dim) -> Dim:
    """Division that truncates toward zero, as ONNX has it; of dimensions only where it is exact."""
    if isinstance(a, Affine) or isinstance(b, Affine):
        return quotient(a, b)
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _rest(a: Dim, b: Dim) -> Dim:
    if isinstance(b, Affine):
        raise Undecided(f"({a}) mod ({b}) depends on n_past")
    return a % b


def _each(function: Callable[..., Any], *arrays: Array) -> Array:
    return np.asarray(np.frompyfunc(function, len(arrays), 1)(*(a.astype(object) for a in arrays)), dtype=object)


_DIMS: dict[str, Callable[..., Any]] = {
    "neg": lambda a: -a,
    "abs": lambda a: a if a >= 0 else -a,
    "relu": lambda a: greatest(a, 0),
    "sign": lambda a: 1 if a > 0 else (-1 if a < 0 else 0),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _truncated,
    "mod": _rest,
    "max": greatest,
    "min": least,
    "eq": equal,
    "ne": lambda a, b: not equal(a, b),
    "lt": lambda a, b: bool(a < b),
    "le": lambda a, b: bool(a <= b),
    "gt": lambda a, b: bool(a > b),
    "ge": lambda a, b: bool(a >= b),
    "where": lambda c, a, b: a if c else b,
}


def _fold_dims(op: Op, arrays: Sequence[Array], result: TensorType) -> Value | None:
    if op.kind in _DIMS:
        found = _each(_DIMS[op.kind], *arrays)
    elif op.kind == "cast" and not result.dtype.is_float and result.dtype is not DType.BOOL:
        found = arrays[0]
    elif op.kind in ("reshape", "transpose", "expand", "slice", "concat", "gather"):
        found = _moved(op, arrays, result)
    elif op.kind == "reduce_sum":
        axes = tuple(axis for axis in _tuple(op, "axes") if isinstance(axis, int))
        found = np.asarray(np.sum(arrays[0], axis=axes), dtype=object)
    else:
        return None
    return known_array(found.reshape([number(d) for d in result.shape]), result.dtype)


def _moved(op: Op, arrays: Sequence[Array], result: TensorType) -> Array:
    """Ops that only move elements work on positions, so they need no arithmetic on objects."""
    x = arrays[0]
    match op.kind:
        case "concat":
            return np.concatenate([a.astype(object) for a in arrays], axis=_int(op, "axis"))
        case "gather":
            if arrays[1].dtype == object:
                raise Undecided("an index depends on n_past")
            return np.asarray(np.take(x, arrays[1].astype(np.int64), axis=_int(op, "axis")), dtype=object)
        case _:
            positions = np.arange(x.size, dtype=np.int64).reshape(x.shape)
            (moved,) = spec_of(op).evaluate(op, [positions], 0)
            return np.asarray(x.reshape(-1)[moved.astype(np.int64)], dtype=object)


def _int(op: Op, name: str) -> int:
    value = op.attr(name)
    assert isinstance(value, int)
    return value


def _tuple(op: Op, name: str) -> tuple[Attr, ...]:
    value = op.attr(name)
    assert isinstance(value, tuple)
    return value


# --- ramps


def _fold_ramps(op: Op, values: Sequence[Value], result: TensorType) -> Value | None:
    if result.dtype.is_float or result.dtype is DType.BOOL:
        return None
    ramps = [ramp_of(value) for value in values]
    known = [ramp for ramp in ramps if ramp is not None]
    if len(known) < len(ramps):
        return None
    ramp = _ramp_result(op, known, values, result)
    return None if ramp is None else known_ramp(ramp, result.shape, result.dtype)


def _ramp_result(op: Op, ramps: Sequence[Ramp], values: Sequence[Value], result: TensorType) -> Ramp | None:
    match op.kind:
        case "add" | "sub":
            sign = 1 if op.kind == "add" else -1
            a, b = (_widened(ramp, len(result.shape)) for ramp in ramps)
            return Ramp(a.start + b.start * sign, tuple(p + q * sign for p, q in zip(a.steps, b.steps, strict=True)))
        case "mul":
            a, b = (_widened(ramp, len(result.shape)) for ramp in ramps)
            if any(b.steps):
                a, b = b, a
            return None if any(b.steps) else _scaled(a, b.start)
        case "neg":
            return _scaled(ramps[0], -1)
        case "cast":
            return ramps[0]
        case "expand":
            return _widened(ramps[0], len(result.shape))
        case "transpose":
            perm = _tuple(op, "perm")
            return Ramp(ramps[0].start, tuple(ramps[0].steps[axis] for axis in perm if isinstance(axis, int)))
        case "reshape":
            return _reshaped(ramps[0], values[0].shape, result.shape)
        case "slice":
            axis, step = _int(op, "axis"), _int(op, "step")
            start = op.attr("start")
            assert isinstance(start, int | Affine)
            steps = list(ramps[0].steps)
            moved = ramps[0].start + steps[axis] * start
            steps[axis] = steps[axis] * step
            return Ramp(moved, tuple(steps))
    return None


def _widened(ramp: Ramp, rank: int) -> Ramp:
    return Ramp(ramp.start, (0,) * (rank - len(ramp.steps)) + ramp.steps)


def _scaled(ramp: Ramp, factor: Dim) -> Ramp:
    return Ramp(ramp.start * factor, tuple(step * factor for step in ramp.steps))


def _reshaped(ramp: Ramp, before: tuple[Dim, ...], after: tuple[Dim, ...]) -> Ramp | None:
    """A reshape that only adds or removes dimensions of extent 1 keeps a ramp a ramp."""
    kept = [(dim, step) for dim, step in zip(before, ramp.steps, strict=True) if dim != 1]
    if [dim for dim, _ in kept] != [dim for dim in after if dim != 1]:
        return None
    steps = iter(step for _, step in kept)
    return Ramp(ramp.start, tuple(0 if dim == 1 else next(steps) for dim in after))

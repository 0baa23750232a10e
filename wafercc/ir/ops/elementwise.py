"""Elementwise ops: numpy broadcasting, every dimension of the result a parallel loop.

Each row is a line of data: what it takes, its kernel, and what one element costs. 16-bit floats are computed in f32
and rounded once. Costs count a division, root or elementary function as one ``special`` operation each (a sigmoid is
exp and reciprocal: two), everything a SIMD lane does at full rate as ``simple``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..dtypes import DType
from ..graph import Op, TensorType
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .rules import (
    ANY,
    BOOLS,
    FLOATS,
    INTS,
    NUMERIC,
    Numbers,
    bad,
    broadcast,
    demand,
    dtype_attr,
    elementwise_loops,
    numbers,
    operands,
    present,
    same_dtype,
    wide,
)


@dataclass(frozen=True)
class Row:
    """One elementwise kind: operands of one element type out of ``takes``, a kernel, and its cost per element."""

    kind: str
    arity: int
    kernel: Callable[..., Array]
    takes: frozenset[DType] = FLOATS
    gives: DType | None = None  # None: the element type of the operands
    simple: int = 1
    special: int = 0

    def spec(self) -> OpSpec:
        return OpSpec(self.kind, self.infer, self.evaluate, self.work, elementwise_loops)

    def infer(self, op: Op, types: InTypes) -> tuple[TensorType, ...]:
        given = operands(op, types, self.arity)
        for position, one in enumerate(given):
            demand(op, f"operand {position}", one, self.takes)
        shape = broadcast(op, [t.shape for t in given])
        return (TensorType(self.gives or same_dtype(op, given), shape),)

    def evaluate(self, op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
        given = present(arrays)
        with np.errstate(all="ignore"):
            result = np.asarray(self.kernel(*(wide(a) for a in given)))
        return (result.astype(self.gives.numpy if self.gives else given[0].dtype, copy=False),)

    def work(self, op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
        elements = product(outs[0])
        return Work(simple=elements * self.simple, special=elements * self.special)


@cache
def _erf_terms(spacing: int = 16, reach: int = 6, order: int = 12) -> NDArray[np.float64]:
    """Taylor coefficients of erf about the nodes 0, 1/spacing, ..., reach: an array [order, nodes].

    The n-th derivative of erf is 2/sqrt(pi) exp(-a^2) (-1)^(n-1) H_{n-1}(a), with Hermite polynomials H.
    """
    a = np.arange(spacing * reach + 1) / spacing
    terms = [np.array([math.erf(v) for v in a])]
    before, hermite = np.zeros_like(a), np.ones_like(a)
    slope = 2 / math.sqrt(math.pi) * np.exp(-a * a)
    for n in range(1, order):
        terms.append(slope * (-1) ** (n - 1) * hermite / math.factorial(n))
        before, hermite = hermite, 2 * a * hermite - 2 * (n - 1) * before
    return np.array(terms)


def erf(x: Numbers) -> Numbers:
    """The error function, within 1e-15 of exact in f64: a Taylor step from the nearest node of a table."""
    size = np.minimum(np.abs(numbers(x.astype(np.float64))), 6.0)  # erf(6) rounds to 1; nan stays nan
    node = np.rint(np.nan_to_num(size, nan=0.0) * 16).astype(np.int64)
    step = size - node / 16
    value: Numbers = np.zeros_like(size)
    for term in _erf_terms()[::-1]:
        value = value * step + term[node]
    return numbers(np.copysign(value, x).astype(x.dtype))


def sigmoid(x: Numbers) -> Numbers:
    return numbers(np.reciprocal(1 + np.exp(-x)))


def silu(x: Numbers) -> Numbers:
    return numbers(np.divide(x, 1 + np.exp(-x)))


def _truncating_div(a: Numbers, b: Numbers) -> Array:
    if np.issubdtype(a.dtype, np.floating):
        return np.divide(a, b)
    down = np.floor_divide(a, b)
    return np.asarray(down + ((down < 0) & (down * b != a)), a.dtype)


def _mod(a: Numbers, b: Numbers) -> Array:
    return np.fmod(a, b) if np.issubdtype(a.dtype, np.floating) else np.mod(a, b)


def _pow(a: Numbers, b: Numbers) -> Array:
    if np.issubdtype(b.dtype, np.signedinteger) and bool((b < 0).any()):
        return np.power(a.astype(np.float64), b).astype(a.dtype)
    return np.power(a, b)


def _shifted(shift: Callable[[Array, Array], Array], x: Array, n: Array) -> Array:
    """x shifted by n bits, a signed one keeping its sign; numpy leaves open what shifts by all bits and more give."""
    bits = 8 * x.dtype.itemsize
    kept = shift(x, np.minimum(n, np.asarray(bits - 1, n.dtype)))
    if shift is np.right_shift and x.dtype.kind == "i":
        return kept
    return np.where(np.less(n, bits), kept, np.zeros((), x.dtype))


UNARY = (
    Row("neg", 1, np.negative, NUMERIC),
    Row("abs", 1, np.abs, NUMERIC),
    Row("exp", 1, np.exp, special=1, simple=0),
    Row("log", 1, np.log, special=1, simple=0),
    Row("sqrt", 1, np.sqrt, special=1, simple=0),
    Row("reciprocal", 1, np.reciprocal, special=1, simple=0),
    Row("sin", 1, np.sin, special=1, simple=0),
    Row("cos", 1, np.cos, special=1, simple=0),
    Row("tan", 1, np.tan, special=1, simple=0),
    Row("asin", 1, np.arcsin, special=1, simple=0),
    Row("acos", 1, np.arccos, special=1, simple=0),
    Row("atan", 1, np.arctan, special=1, simple=0),
    Row("sinh", 1, np.sinh, special=1, simple=0),
    Row("cosh", 1, np.cosh, special=1, simple=0),
    Row("tanh", 1, np.tanh, special=1, simple=0),
    Row("asinh", 1, np.arcsinh, special=1, simple=0),
    Row("acosh", 1, np.arccosh, special=1, simple=0),
    Row("atanh", 1, np.arctanh, special=1, simple=0),
    Row("sigmoid", 1, sigmoid, special=2, simple=2),
    Row("erf", 1, erf, special=1, simple=0),
    Row("floor", 1, np.floor),
    Row("ceil", 1, np.ceil),
    Row("round", 1, np.rint),
    Row("sign", 1, np.sign, NUMERIC),
    Row("bit_not", 1, np.invert, INTS),
    Row("not", 1, np.logical_not, BOOLS),
    Row("isnan", 1, np.isnan, gives=DType.BOOL),
    Row("relu", 1, lambda x: np.maximum(x, np.zeros((), x.dtype)), NUMERIC),
    Row("silu", 1, silu, special=2, simple=3),
)
BINARY = (
    Row("add", 2, np.add, NUMERIC),
    Row("sub", 2, np.subtract, NUMERIC),
    Row("mul", 2, np.multiply, NUMERIC),
    Row("div", 2, _truncating_div, NUMERIC, special=1, simple=0),
    Row("pow", 2, _pow, NUMERIC, special=2, simple=1),
    Row("max", 2, np.maximum, NUMERIC),
    Row("min", 2, np.minimum, NUMERIC),
    Row("mod", 2, _mod, NUMERIC, special=1, simple=2),
    Row("eq", 2, np.equal, NUMERIC | BOOLS, DType.BOOL),
    Row("ne", 2, np.not_equal, NUMERIC | BOOLS, DType.BOOL),
    Row("lt", 2, np.less, NUMERIC, DType.BOOL),
    Row("le", 2, np.less_equal, NUMERIC, DType.BOOL),
    Row("gt", 2, np.greater, NUMERIC, DType.BOOL),
    Row("ge", 2, np.greater_equal, NUMERIC, DType.BOOL),
    Row("and", 2, np.logical_and, BOOLS),
    Row("or", 2, np.logical_or, BOOLS),
    Row("xor", 2, np.logical_xor, BOOLS),
    Row("bit_and", 2, np.bitwise_and, INTS),
    Row("bit_or", 2, np.bitwise_or, INTS),
    Row("bit_xor", 2, np.bitwise_xor, INTS),
    Row("shift_left", 2, lambda x, n: _shifted(np.left_shift, x, n), INTS),
    Row("shift_right", 2, lambda x, n: _shifted(np.right_shift, x, n), INTS),
    Row("swiglu", 2, lambda gate, up: silu(gate) * up, special=2, simple=4),
)


def _infer_compare(row: Row) -> Callable[[Op, InTypes], tuple[TensorType, ...]]:
    """Comparisons give bool, but their operands must still agree."""

    def infer(op: Op, types: InTypes) -> tuple[TensorType, ...]:
        same_dtype(op, operands(op, types, row.arity))
        return row.infer(op, types)

    return infer


def _infer_gelu(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    demand(op, "x", x, FLOATS)
    if op.attrs.get("approximate") not in ("tanh", "none"):
        raise bad(op, f"needs approximate=tanh or approximate=none, has {op.attrs.get('approximate')!r}")
    return (x,)


def _gelu(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (given,) = present(arrays)
    x = wide(given)
    with np.errstate(all="ignore"):
        if op.attrs["approximate"] == "tanh":
            phi = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
        else:
            phi = erf(x * math.sqrt(0.5))
        return ((0.5 * x * (1 + phi)).astype(given.dtype),)


def _gelu_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    elements = product(outs[0])
    return Work(simple=elements * (8 if op.attrs["approximate"] == "tanh" else 4), special=elements)


def _infer_cast(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    return (TensorType(dtype_attr(op, "to"), x.shape),)


def _cast(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    with np.errstate(all="ignore"):
        return (x.astype(dtype_attr(op, "to").numpy),)


def _infer_bitcast(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    to = dtype_attr(op, "to")
    if to.bits != x.dtype.bits:
        raise bad(op, f"cannot read the {x.dtype.bits} bits of {x.dtype} as the {to.bits} of {to}")
    return (TensorType(to, x.shape),)


def _bitcast(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    return (np.ascontiguousarray(x).reshape(x.shape).view(dtype_attr(op, "to").numpy),)


def _infer_where(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    condition, a, b = operands(op, types, 3)
    demand(op, "condition", condition, BOOLS)
    demand(op, "a", a, ANY)
    return (TensorType(same_dtype(op, (a, b)), broadcast(op, (condition.shape, a.shape, b.shape))),)


def _where(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    condition, a, b = present(arrays)
    return (np.asarray(np.where(condition, a, b)),)


def _one_simple(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    return Work(simple=product(outs[0]))


SPECS: tuple[OpSpec, ...] = (
    *(row.spec() for row in UNARY),
    OpSpec("gelu", _infer_gelu, _gelu, _gelu_work, elementwise_loops),
    OpSpec("cast", _infer_cast, _cast, _one_simple, elementwise_loops),
    OpSpec("bitcast", _infer_bitcast, _bitcast, _one_simple, elementwise_loops),
    *(
        OpSpec(row.kind, _infer_compare(row) if row.gives else row.infer, row.evaluate, row.work, elementwise_loops)
        for row in BINARY
    ),
    OpSpec("where", _infer_where, _where, _one_simple, elementwise_loops),
)

"""Fold constants: compute what is known before the program runs.

Three forms of known value fold: one number everywhere (``fill``, also where that number is affine in n_past), a
counted sequence (``range``), and small literals (``constant``). Ops on them become one of these forms again. Large
results stay computed, since a literal would have to be stored on the wafer while making it anew costs a few cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...ir.dims import Affine, Dim, Undecided
from ...ir.dtypes import DType
from ...ir.graph import Attr, Graph, Op, TensorType, ValueName
from ...ir.optable import Array, spec_of
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .match import ELEMENTWISE, Number, scalar

SOURCES = ("constant", "fill", "range")
MOVES = ("reshape", "transpose", "expand", "slice")
INTEGERS = frozenset({DType.I64, DType.I32})


@dataclass(frozen=True)
class FoldConstants:
    """Literals of up to ``largest`` elements are computed here."""

    name: ClassVar[str] = "fold_constants"
    largest: int = 64

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, self._rule)

    def _rule(self, draft: Draft, op: Op) -> ValueName | None:
        if op.kind in SOURCES or not op.operands or not all(draft.made_by(v, *SOURCES) for v in op.operands):
            return _where(draft, op) or _decided(draft, op)
        return (
            _one_number(draft, op)
            or _counted(draft, op)
            or _literal(draft, op, self.largest)
            or _where(draft, op)
            or _decided(draft, op)
        )


def _one_number(draft: Draft, op: Op) -> ValueName | None:
    """An op whose operands hold one number each: the result does too."""
    found = draft.types[op.outputs[0]]
    if op.kind in MOVES or (op.kind == "concat" and len({_known(draft, v) for v in op.operands}) == 1):
        value = _known(draft, op.operands[0])
        return None if value is None else _fill(draft, value, found)
    if op.kind not in ELEMENTWISE:
        return None
    numbers = [scalar(draft, v) for v in op.operands]
    if any(n is None for n in numbers):
        value = _affine_arithmetic(draft, op)
        return None if value is None else _fill(draft, value, found)
    arrays = [np.asarray(n).astype(draft.types[v].dtype.numpy) for n, v in zip(numbers, op.operands, strict=True)]
    return _fill(draft, _number(_evaluate(op, arrays)), found)


def _affine_arithmetic(draft: Draft, op: Op) -> Dim | None:
    """Sums and products of integers that are affine in n_past."""
    found = draft.types[op.outputs[0]].dtype
    values = [_known(draft, v) for v in op.operands]
    dims = [v for v in values if isinstance(v, int | Affine) and not isinstance(v, bool)]
    if (
        len(dims) != len(values)
        or found not in INTEGERS
        or any(draft.types[v].dtype not in INTEGERS for v in op.operands)
    ):
        return None
    try:
        match op.kind:
            case "add":
                return dims[0] + dims[1]
            case "sub":
                return dims[0] - dims[1]
            case "mul":
                return dims[0] * dims[1]
            case "neg":
                return -dims[0]
            case "cast":
                return dims[0]
    except Undecided:
        pass
    return None


def _counted(draft: Draft, op: Op) -> ValueName | None:
    """A sequence plus, minus or times a number, or of another integer type, is a sequence."""
    sequence = next((s for v in op.operands if (s := draft.made_by(v, "range")) is not None), None)
    found = draft.types[op.outputs[0]]
    if sequence is None or found.rank != 1 or found.dtype not in INTEGERS or sequence.attrs["dtype"] not in INTEGERS:
        return None
    start, step, count = (sequence.attrs[a] for a in ("start", "step", "count"))
    assert isinstance(start, int | Affine) and isinstance(step, int) and isinstance(count, int | Affine)
    if count != found.shape[0]:
        return None
    if op.kind == "cast":
        return draft.emit("range", start=start, step=step, count=count, dtype=found.dtype)
    if op.kind not in ("add", "sub", "mul"):
        return None
    a, b = op.operands
    is_left = draft.producer[a] is sequence
    other = _known(draft, b if is_left else a)
    if not isinstance(other, int | Affine) or isinstance(other, bool):
        return None
    if op.kind == "add":
        start = start + other
    elif op.kind == "sub":
        start, step = (start - other, step) if is_left else (other - start, -step)
    elif isinstance(other, int) and other:
        start, step = start * other, step * other
    else:
        return None
    return draft.emit("range", start=start, step=step, count=count, dtype=found.dtype)


def _literal(draft: Draft, op: Op, largest: int) -> ValueName | None:
    """A small result of small literals and sequences, computed."""
    types = [draft.types[v] for v in op.operands]
    found = draft.types[op.outputs[0]]
    if any(isinstance(d, Affine) for t in (*types, found) for d in t.shape) or op.kind not in ELEMENTWISE | {
        *MOVES,
        "concat",
        "gather",
        "gather_nd",
        "embedding",
        "reduce_sum",
        "reduce_max",
        "reduce_min",
        "cumsum",
    }:
        return None
    if any(t.elements > largest for t in (*types, found)) or any(_depends(draft.producer[v]) for v in op.operands):
        return None
    made = {v: _evaluate(draft.producer[v], []) for v in op.operands}
    result = _evaluate(op, [made[v] for v in op.operands])
    values = result.reshape(-1).tolist()
    if values and all(v == values[0] for v in values):
        return _fill(draft, _number(result.reshape(-1)[0]), found)
    return draft.emit("constant", value=_nested(result), dtype=found.dtype, shape=found.shape)


def _where(draft: Draft, op: Op) -> ValueName | None:
    """A choice that is the same everywhere is that operand."""
    if op.kind != "where":
        return None
    condition, a, b = op.operands
    choice = scalar(draft, condition)
    if choice is None and a != b:
        return None
    chosen, found = (a if choice or a == b else b), draft.types[op.outputs[0]]
    return chosen if draft.types[chosen] == found else draft.emit("expand", chosen, shape=found.shape)


def _decided(draft: Draft, op: Op) -> ValueName | None:
    """A comparison of positions that has one answer for all of them and every n_past (one new token sees all keys)."""
    if op.kind not in ("le", "lt", "ge", "gt"):
        return None
    left, right = (_bounds(draft, v) for v in op.operands)
    if left is None or right is None:
        return None
    (low, high), (least, most) = (left, right) if op.kind in ("le", "lt") else (right, left)
    strict = int(op.kind in ("lt", "gt"))
    for value, gap in ((True, _least(least - high) - strict), (False, _least(low - most) + strict - 1)):
        if gap >= 0:
            return _fill(draft, value, draft.types[op.outputs[0]])
    return None


def _bounds(draft: Draft, value: ValueName) -> tuple[Dim, Dim] | None:
    """The least and the largest of integers that are counted or all equal."""
    while (moved := draft.made_by(value, "reshape", "expand")) is not None:
        value = moved.operands[0]
    op = draft.made_by(value, "range", "fill", "constant")
    if op is None or draft.types[value].dtype not in INTEGERS:
        return None
    if op.kind != "range":
        number = _known(draft, value)
        return (number, number) if isinstance(number, int | Affine) else None
    start, step, count = (op.attrs[a] for a in ("start", "step", "count"))
    assert isinstance(start, int | Affine) and isinstance(step, int) and isinstance(count, int | Affine)
    end = start + step * (count - 1)
    return (start, end) if step > 0 else (end, start)


def _least(dim: Dim) -> int:
    return dim.lower if isinstance(dim, Affine) else dim


def _known(draft: Draft, value: ValueName) -> Number | Dim | None:
    """The one number that a value holds everywhere, possibly affine in n_past."""
    op = draft.made_by(value, "fill")
    number = op.attrs["value"] if op is not None else None
    return number if isinstance(number, Affine) else scalar(draft, value)


def _fill(draft: Draft, value: Attr, found: TensorType) -> ValueName:
    return draft.emit("fill", value=value, dtype=found.dtype, shape=found.shape)


def _depends(op: Op) -> bool:
    """Whether the numbers of a source depend on n_past."""
    return any(isinstance(value, Affine) for value in op.attrs.values())


def _evaluate(op: Op, arrays: list[Array]) -> Array:
    (result,) = spec_of(op).evaluate(op, arrays, 0)
    return result


def _number(value: Array) -> Number:
    number = np.asarray(value).item()
    if isinstance(number, int | float):
        return number
    return float(number)  # the 16-bit and 4-bit types of ml_dtypes give their own scalars


def _nested(value: Array) -> Attr:
    if value.ndim == 0:
        return _number(value)
    return tuple(_nested(v) for v in value)

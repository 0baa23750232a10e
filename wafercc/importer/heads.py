"""Heads: how exporters lay the heads of attention into hidden dimensions, and back; and which keys a query sees."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir.dims import Affine, Dim, Undecided
from ..ir.dtypes import DType
from .content import Ramp, Value, known_dim
from .context import Context
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_shape import reshaped, sliced, transposed


def split_heads(node: Node, cx: Context, x: Value, heads: int, what: str = "num_heads") -> Value:
    """[batch, sequence, heads * width] as [batch, heads, sequence, width].

    Raises:
        ImportFailed: the hidden size is no multiple of the heads.
    """
    hidden = x.shape[-1]
    if heads < 1 or x.rank != 3 or not isinstance(hidden, int) or hidden % heads:
        raise node.fail(f"cannot cut {x.type} into {what} = {heads} heads of its last dimension")
    return transposed(cx, reshaped(cx, x, (*x.shape[:2], heads, hidden // heads)), (0, 2, 1, 3))


def join_heads(cx: Context, x: Value) -> Value:
    """[batch, heads, sequence, width] as [batch, sequence, heads * width]."""
    x = transposed(cx, x, (0, 2, 1, 3))
    return reshaped(cx, x, (*x.shape[:2], x.shape[2] * x.shape[3]))


def appended(node: Node, cx: Context, past: Value, new: Value, output: int, axis: int = 2) -> Value:
    """A cache with the new keys or values behind it; in place if it is the state that this output continues."""
    wanted = node.outputs[output] if node.wants(output) else None
    kind = "kv_append" if past.name is not None and wanted and cx.states.get(past.name) == wanted else "concat"
    return cx.emit(kind, [past, new], {"axis": axis})


# --- positions

Place = Dim | Value
"""A position, or a length: the same for all sequences, or an i64 [batch]."""


def known_number(cx: Context, value: Value) -> Dim | None:
    """The one number that a value holds everywhere, if it is known while importing."""
    array = cx.array(value)
    if array is None or array.size == 0:
        return None
    first = array.flat[0]
    if any(other != first for other in array.flat):
        return None
    return first if isinstance(first, Affine) else int(first)


def counted(cx: Context, axis: int, extent: Dim, start: Dim = 0, rank: int = 4) -> Value:
    """start, start + 1, ... along one of ``rank`` dimensions."""
    steps = tuple(int(i == axis) for i in range(rank))
    return cx.ramp(Ramp(start, steps), tuple(extent if i == axis else 1 for i in range(rank)), DType.I64)


def placed(cx: Context, place: Place, rank: int = 4) -> Value:
    """A place as an i64 that broadcasts against dimensions of which the first is the batch."""
    if isinstance(place, Value):
        return reshaped(cx, convert(cx, place, DType.I64), (place.shape[0], *(1,) * (rank - 1)))
    return known_dim(place)


def rows_at(cx: Context, rows: Dim, start: Place) -> Value:
    """The positions of the rows of a query, [batch or 1, 1, rows, 1]."""
    if not isinstance(start, Value):
        return counted(cx, 2, rows, start)
    return cx.emit("add", [counted(cx, 2, rows), placed(cx, start)])


def before(cx: Context, columns: Value, end: Place) -> Value:
    """Which keys stand before an end."""
    return cx.emit("lt", [columns, placed(cx, end)])


def causal_rules(
    cx: Context, rows: Dim, columns: Dim, start: Place, left: int | None, right: int | None, first: Place = 0
) -> list[Value]:
    """Bool masks of which keys a query sees by position: at most ``left`` back and ``right`` ahead; None is no limit.

    ``start`` is the position of the first query, ``first`` that of the first key. Rules that hide nothing are left
    out.
    """
    plain = not isinstance(start, Value) and not isinstance(first, Value)
    shift = start - first if not isinstance(start, Value) and not isinstance(first, Value) else None
    keys = counted(cx, 3, columns, 0 if isinstance(first, Value) else first)
    if isinstance(first, Value):
        keys = cx.emit("add", [keys, placed(cx, first)])
    queries = rows_at(cx, rows, start)
    rules = []
    if right is not None and not (plain and shift is not None and _holds(shift + right - (columns - 1))):
        rules.append(cx.emit("le", [keys, _moved(cx, queries, right)]))
    if left is not None and not (plain and shift is not None and _holds(left - (shift + rows - 1))):
        rules.append(cx.emit("ge", [keys, _moved(cx, queries, -left)]))
    return rules


def _moved(cx: Context, x: Value, shift: int) -> Value:
    return x if shift == 0 else cx.emit("add", [x, known_dim(shift)])


def _holds(room: Dim) -> bool:
    """Whether a number is at least 0 for every n_past."""
    try:
        return room >= 0
    except Undecided:
        return False


# --- masks


def fitted(cx: Context, mask: Value, columns: Dim) -> Value:
    """A mask over as many keys as there are: one over fewer hides the rest, of one over more the first are taken."""
    have = mask.shape[-1]
    if have in (columns, 1):
        return mask
    if _holds(have - columns):
        return sliced(cx, mask, mask.rank - 1, 0, 1, columns)
    hidden: float = False if mask.dtype is DType.BOOL else -math.inf
    rest = cx.fill(hidden, (*mask.shape[:-1], columns - have), mask.dtype)
    return cx.emit("concat", [mask, rest], {"axis": mask.rank - 1})


def combined(cx: Context, mask: Value | None, rules: Sequence[Value]) -> Value | None:
    """One mask of a bool or additive one and bool rules, all of which must let a key be seen."""
    seen: Value | None = None
    for rule in rules:
        seen = rule if seen is None else cx.emit("and", [seen, rule])
    if mask is None or seen is None:
        return seen if mask is None else mask
    if mask.dtype is DType.BOOL:
        return cx.emit("and", [mask, seen])
    return cx.emit("where", [seen, mask, like(cx, -math.inf, mask)])

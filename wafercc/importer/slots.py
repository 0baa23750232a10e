"""Slots: a cache of fixed capacity, whose new tokens are written where the graph says.

The place may be known while importing (a number, or n_past), or differ from sequence to sequence and be computed by
the model from its attention mask. Either way the result is composed of selections, which leave every slot on its PE.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.dims import Dim, Undecided
from .content import Value
from .context import Context
from .heads import Place, counted, placed
from .nodes import Node
from .ops_elementwise import convert
from .ops_shape import sliced


@dataclass(frozen=True)
class Slots:
    """New tokens behind ``start`` in a cache of ``capacity``; ``past`` is the extent of the buffer given (0: none)."""

    start: Place
    new: Dim
    past: Dim
    capacity: Dim

    @property
    def grows(self) -> bool:
        """Whether the cache is full before, and the new tokens are put behind it."""
        return not isinstance(self.start, Value) and self.start == self.past


def written(node: Node, cx: Context, past: Value, new: Value, slots: Slots) -> Value:
    """The cache [batch, heads, capacity, width] with the new tokens in their slots; later slots stay what they were.

    Raises:
        ImportFailed: the places are not known, and neither is the number of new tokens.
    """
    start = slots.start
    if slots.new == 1:
        here = cx.emit("eq", [counted(cx, 2, slots.capacity), placed(cx, start)])
        return cx.emit("where", [here, new, _extended(cx, past, slots.capacity)])
    if isinstance(start, int):
        end = start + slots.new
        parts = [sliced(cx, past, 2, 0, 1, start)] if start != 0 else []
        parts.append(new)
        try:
            rest = slots.capacity - end
            if rest > 0:
                parts.append(sliced(cx, _extended(cx, past, slots.capacity), 2, end, 1, rest))
        except Undecided as problem:
            raise node.fail(f"the rest of its cache depends on n_past: {problem}") from None
        return cx.emit("concat", parts, {"axis": 2})
    return _scattered(cx, _extended(cx, past, slots.capacity), new, start)


def _scattered(cx: Context, past: Value, new: Value, start: Place) -> Value:
    """At n_past, or each sequence at a place of its own: a product with the 0-1 matrix [batch, 1, slot, token], which
    is exact."""
    slots, tokens = counted(cx, 2, past.shape[2]), counted(cx, 3, new.shape[2])
    places = cx.emit("add", [tokens, placed(cx, start)])
    chosen = convert(cx, cx.emit("eq", [slots, places]), new.dtype)
    first = placed(cx, start)
    end = cx.emit("add", [first, placed(cx, new.shape[2])])
    here = cx.emit("and", [cx.emit("ge", [slots, first]), cx.emit("lt", [slots, end])])
    return cx.emit("where", [here, cx.emit("matmul", [chosen, new]), past])


def _extended(cx: Context, past: Value, capacity: Dim) -> Value:
    if past.shape[2] == capacity:
        return past
    rest = cx.fill(0.0, (*past.shape[:2], capacity - past.shape[2], past.shape[3]), past.dtype)
    return cx.emit("concat", [past, rest], {"axis": 2}) if past.shape[2] != 0 else rest

"""The form that attention sinks have: one more score in each row, dropped again after the softmax.

softmax(concat(scores, sink))[..., :t]        maybe with the row's maximum subtracted before, which changes nothing
"""

from __future__ import annotations

from ...ir.graph import ValueName
from .draft import Draft
from .match import over_last, uncast


def all_but_last(draft: Draft, weights: ValueName) -> ValueName | None:
    """The value [..., t + 1] of which weights are all but the last element of each row."""
    cut = draft.made_by(weights, "slice")
    if cut is None:
        return None
    (whole,) = cut.operands
    shape = draft.shape(whole)
    taken = {"axis": len(shape) - 1, "start": 0, "step": 1, "count": shape[-1] - 1}
    return whole if cut.attrs == taken else None


def with_sink(draft: Draft, rows: ValueName) -> tuple[ValueName, ValueName] | None:
    """``(scores, sink)`` where rows [b,h,s,t+1] are scores with the sink of each head, [h], behind."""
    shift = draft.made_by(rows, "sub")
    if shift is not None and over_last(draft, shift.operands[1], "reduce_max") == shift.operands[0]:
        rows = uncast(draft, shift.operands[0])
    join = draft.made_by(rows, "concat")
    if join is None or len(join.operands) != 2 or join.attrs["axis"] != 3 or len(draft.shape(rows)) != 4:
        return None
    scores, column = join.operands
    heads, one = draft.shape(column)[1], draft.shape(column)[3]
    spread = draft.made_by(column, "expand")
    source = column if spread is None else spread.operands[0]
    found = draft.shape(source)
    if one != 1 or found[-3:] != (heads, 1, 1) or any(d != 1 for d in found[:-3]):
        return None
    return scores, draft.emit("reshape", source, shape=(heads,))

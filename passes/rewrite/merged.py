"""The reshape that merges rows into one dimension, and its counterpart: unflatten moves it below the ops that read
it."""

from __future__ import annotations

from ...ir.dims import Dim
from ...ir.graph import Op, ValueName
from .draft import Draft


def unmerged(draft: Draft, value: ValueName) -> ValueName | None:
    """``x`` [.., m, n, k] where value [..*m*n, k] merges all of its dimensions but the last into one.

    A reshape that merges trailing dimensions as well ([b, s, heads, d] to [b*s, heads*d]) is split in two for it.
    """
    op = draft.made_by(value, "reshape")
    if op is None or len(draft.shape(value)) != 2:
        return None
    (x,) = op.operands
    wide, width = draft.shape(x), draft.shape(value)[-1]
    if 0 in wide:
        return None
    lead = len(wide)
    product: Dim = 1
    while lead > 2 and isinstance(product, int):
        lead, product = lead - 1, product * wide[lead - 1]
        if product == width:
            return x if lead == len(wide) - 1 else draft.emit("reshape", x, shape=(*wide[:lead], width))
    return None


def remerged(draft: Draft, value: ValueName, op: Op) -> ValueName:
    """The value in the shape that the replaced op's result has."""
    return draft.emit("reshape", value, shape=draft.shape(op.outputs[0]))

"""The reshape that merges rows into one dimension, and its counterpart: unflatten moves it below the ops that read it."""

from __future__ import annotations

from ...ir.graph import Op, ValueName
from .draft import Draft


def unmerged(draft: Draft, value: ValueName) -> ValueName | None:
    """``x`` [.., m, n, k] where value [..*m*n, k] merges all of its dimensions but the last into one."""
    op = draft.made_by(value, "reshape")
    if op is None:
        return None
    (x,) = op.operands
    wide, narrow = draft.shape(x), draft.shape(value)
    if len(narrow) != 2 or len(wide) < 3 or wide[-1] != narrow[-1] or 0 in wide:
        return None
    return x


def remerged(draft: Draft, value: ValueName, op: Op) -> ValueName:
    """The value in the shape that the replaced op's result has."""
    return draft.emit("reshape", value, shape=draft.shape(op.outputs[0]))

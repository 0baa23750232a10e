"""Elementwise ops: the op table's own meaning, applied to tiles whose dimensions are lined up behind the mesh axes."""

from __future__ import annotations

from ...ir.optable import spec_of
from ..tiles import Array
from .call import Call


def elementwise(call: Call) -> tuple[Array, ...]:
    rank = call.outs[0].type.rank
    arrays = [None if operand is None else operand.raised(rank) for operand in call.ins]
    results = spec_of(call.op).evaluate(call.op, arrays, call.n_past)
    return tuple(call.give(result, i) for i, result in enumerate(results))

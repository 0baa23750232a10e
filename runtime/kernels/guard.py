"""Guards: which PEs the choices that are in their tiles wake, and for how many rows. See `ir.block.Guard`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...ir.optable import spec_of
from ..tiles import Ints, spread
from .call import Call, Operand


def choices_of(call: Call) -> Ints:
    """The chosen owners, counted from the front: ``[mesh axes, rows]``; -1 in padded slots and for what is no owner."""
    guarded = spec_of(call.op).chosen
    assert guarded is not None, f"op {call.op.id} has no choices"
    return _chosen(call.operand(guarded.choices), call.operand(guarded.owners).extent(0))


def _chosen(choices: Operand, owners: int) -> Ints:
    given = choices.data.astype(np.int64)
    data: Ints = np.where(given < 0, given + owners, given)
    valid = (data >= 0) & (data < owners) & (choices.elements(0) >= 0)
    return np.where(valid, data, -1).astype(np.int64)


def woken(call: Call) -> NDArray[np.bool_]:
    """For which owners each PE works: ``[mesh axes (1 where all are alike), owners]``."""
    guarded = spec_of(call.op).chosen
    assert guarded is not None and call.guard is not None, f"op {call.op.id} has no guard"
    owners = call.operand(guarded.owners)
    table = np.zeros((len(call.guard.wakes), owners.extent(0)), np.bool_)
    for part, held in enumerate(call.guard.wakes):
        table[part, list(held)] = True
    return spread(table, owners.split(0).axes, call.mesh).astype(np.bool_)


def rows_woken(call: Call) -> Ints:
    """How many of the rows in its tile each PE works for: ``[mesh axes]`` (1 where all are alike)."""
    chosen, awake = choices_of(call), woken(call)
    lead = np.broadcast_shapes(chosen.shape[:-1], awake.shape[:-1])
    taken = np.take_along_axis(
        np.broadcast_to(awake, (*lead, awake.shape[-1])),
        np.broadcast_to(np.maximum(chosen, 0), (*lead, chosen.shape[-1])),
        axis=-1,
    )
    rows: Ints = (taken & (chosen >= 0)).sum(axis=-1, dtype=np.int64)
    return rows

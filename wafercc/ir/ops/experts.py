"""Products with the matrices of chosen experts. The choice is data: it decides which PEs work, not what is moved.

``moe_experts(x [m,k], w [e,k,n], ids [m])`` gives row i as ``x[i] @ w[ids[i]]``. The experts are a loop like any other:
cut, each PE adds what the experts it holds contribute and zeros for all others. Which parts of the mesh a choice wakes
is the step's guard (`ir.block.Guard`); the matrices never move.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Op, TensorType
from ..loops import Combine, Loop, Loops
from ..optable import Array, Chosen, Extent, Extents, InTypes, OpSpec, Work
from .lookup import counted
from .rules import FLOATS, INTS, bad, demand, demand_rank, int_attr, operands, plain, present, same_dtype, wide


def _infer(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    x, w, ids = operands(op, types, 3)
    dtype = same_dtype(op, (x, w))
    demand(op, "x", x, FLOATS)
    demand(op, "ids", ids, INTS)
    demand_rank(op, "rows", x, 2)
    demand_rank(op, "matrices", w, 3)
    demand_rank(op, "ids", ids, 1)
    if x.shape[1] != w.shape[1] or x.shape[0] != ids.shape[0]:
        raise bad(op, f"cannot multiply {x} by those of {w} that {ids} choose")
    if int_attr(op, "distinct", 1) < 1:
        raise bad(op, f"needs at least one distinct choice, has {op.attrs.get('distinct')}")
    return (TensorType(dtype, (x.shape[0], w.shape[2])),)


def _experts(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    x, w, ids = present(arrays)
    chosen = counted(op, ids, w.shape[0])
    result = np.zeros((x.shape[0], w.shape[2]), wide(x).dtype)
    with np.errstate(all="ignore"):
        for expert in np.unique(chosen):
            rows = chosen == expert
            result[rows] = wide(x[rows]) @ wide(w[expert])
    return (result.astype(x.dtype, copy=False),)


def least(a: Extent, b: Extent) -> Extent:
    """The smaller of two extents, per PE where they differ."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else np.minimum(a, b).astype(np.int64)


def _work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """The most that one PE may have to do: of each ``distinct`` rows in turn as many as it holds experts."""
    experts = present(ins)[1][0]
    group = int_attr(op, "distinct", 1)
    groups = (outs[0][0] + (group - 1)) // group
    return _macs(least(outs[0][0], groups * least(group, experts)), ins, outs)


def _chosen_work(op: Op, rows: Extent, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    return _macs(rows, ins, outs)


def _macs(rows: Extent, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    return Work(macs=rows * present(ins)[0][1] * outs[0][1])


def _loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """Rows and columns are parallel; experts and the contracted dimension are sums."""
    x, w, _ = present(types)
    loops = (
        Loop("m", x.shape[0]),
        Loop("n", w.shape[2]),
        Loop("k", x.shape[1], Combine.SUM),
        Loop("e", w.shape[0], Combine.SUM),
    )
    return Loops(loops, (plain("mk"), plain("ekn"), plain("m")), (plain("mn"),))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("moe_experts", _infer, _experts, _work, _loops, chosen=Chosen(choices=2, owners=1, work=_chosen_work)),
)

"""Products with the matrices of chosen experts: each PE does what a choice wakes it for, and contributes zeros
otherwise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..tiles import Array, inverse, parts_of
from .call import Call, widened
from .guard import choices_of, woken


def moe_experts(call: Call) -> tuple[Array, ...]:
    """One product per expert that some row chooses, on the rows that do; 16-bit floats accumulate in f32."""
    x, w = call.operand(0).masked((1,), 0), call.operand(1).masked((1,), 0)
    rows, matrices = widened(x.data), w.data
    extent, split = w.extent(0), w.split(0)
    parts, chosen = parts_of(split, call.mesh), choices_of(call)
    part, slot = np.divmod(inverse(extent, split, parts), w.tile[0])
    lead = np.broadcast_shapes(*(a.shape[: call.axes] for a in (rows, matrices, chosen)))
    result = np.zeros((*lead, x.tile[0], w.tile[2]), rows.dtype)
    awake = woken(call)
    for expert in np.unique(chosen[chosen >= 0]):
        holds = awake[..., int(expert)] & _is_part(call, int(part[expert]))
        hit = (chosen == expert) & holds[..., None]
        some = np.flatnonzero(hit.any(axis=tuple(range(call.axes))))
        product = rows[..., some, :] @ widened(matrices[..., int(slot[expert]), :, :])
        result[..., some, :] += np.where(hit[..., some, None], product, 0)
    return (call.give(result),)


def _is_part(call: Call, part: int) -> NDArray[np.bool_]:
    """On which PEs the experts' operand is this part of its cut: ``[mesh axes]`` (1 where not cut)."""
    axes = call.operand(1).split(0).axes
    index = dict(zip(axes, np.unravel_index(part, [call.mesh.extent[a] for a in axes]), strict=True)) if axes else {}
    mask = np.ones((1,) * call.axes, np.bool_)
    for position, axis in enumerate(call.mesh.axes):
        if axis.name in index:
            shape = [1] * call.axes
            shape[position] = axis.extent
            mask = mask & (np.arange(axis.extent) == index[axis.name]).reshape(shape)
    return mask


KERNELS = {"moe_experts": moe_experts}

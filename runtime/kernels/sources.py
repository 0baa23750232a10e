"""Ops without operands: each PE makes its own part from the attributes and the global positions of its slots."""

from __future__ import annotations

import numpy as np

from ...ir.optable import spec_of
from ...ir.tiling import tile
from ..tiles import Array
from .call import Call


def constant(call: Call) -> tuple[Array, ...]:
    """The literal, or the counted sequence ``start + step * position``, cut into tiles."""
    (whole,) = spec_of(call.op).evaluate(call.op, (), call.n_past)
    return (tile(whole, call.outs[0], call.mesh, call.n_past),)


def fill(call: Call) -> tuple[Array, ...]:
    (whole,) = spec_of(call.op).evaluate(call.op, (), call.n_past)
    number = whole.ravel()[:1] if whole.size else np.zeros(1, call.outs[0].dtype.numpy)
    shape = (*(1,) * call.axes, *call.out_tile())
    return (np.broadcast_to(number.reshape((1,) * len(shape)), shape),)


KERNELS = {"constant": constant, "range": constant, "fill": fill}

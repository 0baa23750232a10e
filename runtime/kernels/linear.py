"""Matrix multiplication on tiles: one stacked `matmul` over all PEs; 16-bit floats accumulate in f32."""

from __future__ import annotations

import numpy as np

from ...ir.block import Phase
from ..tiles import Array
from .call import Call, widened


def matmul(call: Call) -> tuple[Array, ...]:
    """Products of the tiles; padding of the contracted dimension counts as zero on both sides. Cut, 16-bit floats leave
    f32 sums, which are rounded once they are combined."""
    if call.phase is Phase.FINISH:
        return (call.give(call.partials[0].data),)
    a, b = call.operand(0), call.operand(1)
    rank = max(a.rank, b.rank)
    left = a.masked((a.rank - 1,), 0).raised(rank)
    right = b.masked((b.rank - 2,), 0).raised(rank)
    return (call.give(np.matmul(widened(left), widened(right))),)


KERNELS = {"matmul": matmul}

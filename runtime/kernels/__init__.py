"""Tile kernels: what each op kind does on all PEs of a region at once, one batched numpy expression a phase.

Elementwise kinds take their meaning from the op table; every kind that reduces, indexes or moves elements has a kernel
here, because tiles have padding and global positions that whole tensors do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from ..tiles import Array
from .call import Call, Operand

Kernel = Callable[[Call], tuple[Array, ...]]

__all__ = ["Call", "Kernel", "Operand", "execute", "kernels"]


@cache
def kernels() -> Mapping[str, Kernel]:
    """The kernels by op kind; kinds that are not here are elementwise."""
    from . import attention, experts, linear, lookup, norm, quant, reduce, select, shape, sources

    families = (attention, experts, linear, lookup, norm, quant, reduce, select, shape, sources)
    return {kind: kernel for family in families for kind, kernel in family.KERNELS.items()}


def execute(call: Call) -> tuple[Array, ...]:
    """The result tiles (or partial results) of one compute step on all PEs. Padded slots of the results hold
    anything."""
    from . import elementwise

    kernel = kernels().get(call.op.kind, elementwise.elementwise)
    with np.errstate(all="ignore"):
        return kernel(call)

"""Timing of local kernels: counts of work on what each PE really holds, turned into cycles by the machine's rates.

A PE starts a step when its operands are there and it is free; a PE whose tile is empty does not start it at all. The
counts are the op table's; where an op runs in two phases, the local one does the op's work and the finishing one a pass
over the results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..ir.block import AllReduce, Block, Compute, LocalName, Phase
from ..ir.layout import Tiled
from ..ir.loops import Combine
from ..ir.optable import Extents, Work, product, spec_of
from .fabric import Message
from .machine import Machine
from .tiles import held_elements, valid_counts

Ints = NDArray[np.int64]


def durations(step: Compute, block: Block, machine: Machine, n_past: int, woken: Ints | None = None) -> Ints:
    """Cycles that a compute step takes on each PE, ``[rows, columns]``; 0 where it does not run.

    ``woken``: for how many rows each PE works, over the mesh axes, where the step's guard has decided that.
    """
    spec = spec_of(step.op)
    shape = (block.mesh.rows, block.mesh.columns)
    if spec.layout_only:
        return np.zeros(shape, np.int64)
    skip = len(step.ins) - len(step.op.inputs) if step.phase is Phase.FINISH else 0
    ins = [None if name is None else block.values[name] for name in step.ins[skip:]]
    outs = [block.values[name] for name in _results(step, block)]
    out_counts = [valid_counts(out, block.mesh, n_past) for out in outs]
    if step.phase is Phase.FINISH:
        work = Work(simple=product(out_counts[0]))
    else:
        in_counts: list[Extents | None] = [None if t is None else valid_counts(t, block.mesh, n_past) for t in ins]
        if woken is not None and spec.chosen is not None:
            work = spec.chosen.work(step.op, woken, in_counts, out_counts)
        else:
            work = spec.work(step.op, in_counts, out_counts)
    dtype = next((t.dtype for t in ins if t is not None), outs[0].dtype)
    busy = machine.macs(work.macs, dtype) + machine.simple(work.simple, dtype) + machine.special(work.special)
    return np.broadcast_to(np.where(busy > 0, busy + machine.task, 0), block.mesh.shape).reshape(shape)


def _results(step: Compute, block: Block) -> tuple[LocalName, ...]:
    """The op's results: those of its finishing step where this one leaves partials."""
    if step.phase is Phase.LOCAL:
        for other in block.steps:
            if isinstance(other, Compute) and other.phase is Phase.FINISH and other.op.id == step.op.id:
                return other.outs
    return step.outs


def message(step: AllReduce, block: Block, machine: Machine, n_past: int, share: int) -> tuple[Message, Ints]:
    """What each PE sends in an all-reduce, per PE ``[rows, columns]``, and its words.

    A softmax triple sends all its arrays, maxima first. Combining takes one cycle a word. For a softmax each PE also
    takes one exponential per row, from when that row's maximum has passed: those of all PEs of a line overlap, and a
    PE is done when its last one is and the last row's words have followed. ``share`` lines use the same links.
    """
    shape = (block.mesh.rows, block.mesh.columns)
    words = np.zeros(shape, np.int64)
    for name in step.ins:
        held = held_elements(block.values[name], block.mesh, n_past)
        words = words + machine.words(held, block.values[name].dtype).reshape(shape)
    link = machine.link(words) * share
    if step.combine is not Combine.SOFTMAX:
        return Message(link, 1, link), words
    rows = held_elements(block.values[step.ins[0]], block.mesh, n_past).reshape(shape)
    scaled = machine.special(rows) + -(-link // np.maximum(rows, 1))
    return Message(link, 1, np.where(rows > 0, np.maximum(link, scaled), link)), words


def tile_bytes_of(tile: tuple[int, ...], tiled: Tiled) -> int:
    """SRAM bytes of an array that has this tile on each PE."""
    return tiled.dtype.sram_bytes(math.prod(tile))


Delays = Mapping[tuple[str, int, int, str | None], int]


def delayed(cycles: Ints, region: str, step: str, delays: Delays) -> Ints:
    """The durations with the extra cycles of slow PEs; a PE without work in a step cannot be slow at it."""
    slow = [(key, d) for key, d in delays.items() if key[0] == region and key[3] == step]
    if not slow:
        return cycles
    result = cycles.copy()
    for (_, p, q, _), d in slow:
        result[p, q] += d if cycles[p, q] else 0
    return result

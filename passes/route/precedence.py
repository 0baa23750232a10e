"""Precedence: which streams are over before others begin, by data dependence alone.

A PE that takes part in a collective learns that all others which do have come as far. So an instance is a *barrier*
from an input to an output if, since the first step that reads the input, collectives along rows and columns have told
every PE that sends any of the output that all PEs with a part of the input have it. A stream is over before another
begins if barriers lead from its end to the other's start. Caches are loaded before everything timed, and read back
after it.

Routers share no clock, so nothing else makes it safe for two nets to use one colour of a router in turn. PEs whose tile
is empty take no part in a collective, and learn nothing from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from wafercc.ir.block import AllGather, AllReduce, Block, BlockName, Instance, LocalName, step_ins, step_outs
from wafercc.ir.dims import at
from wafercc.ir.layout import Mesh, Tiled
from wafercc.ir.routing import StreamDemand

from .ends import holders
from .patterns import group_of

Bools = NDArray[np.bool_]
LOAD, TIMED, READ_BACK = range(3)


def before(demands: Sequence[StreamDemand], instances: Sequence[Instance], blocks: Mapping[BlockName, Block]) -> Bools:
    """``[i, j]``: whether stream i is over before stream j begins; transitive."""
    passes = {name: barriers(block) for name, block in blocks.items()}
    block_of = {instance.id: instance.block for instance in instances}
    phase = np.array([_phase(d) for d in demands], np.int64)
    result: Bools = phase[:, None] < phase[None, :]
    follows: nx.DiGraph[int] = nx.DiGraph()
    for i, first in enumerate(demands):
        if first.destination is None or phase[i] != TIMED:
            continue
        instance, local = first.destination
        starts = {(instance, b) for a, b in passes[block_of[instance]] if a == local}
        follows.add_edges_from((i, j) for j, then in enumerate(demands) if phase[j] == TIMED and then.source in starts)
    for i, j in nx.transitive_closure(follows).edges:
        result[i, j] = i != j
    return result


def _phase(demand: StreamDemand) -> int:
    if not demand.state:
        return TIMED
    return LOAD if demand.source is None else READ_BACK


def barriers(block: Block) -> set[tuple[LocalName, LocalName]]:
    """The pairs of an input and an output of which no PE sends the latter before all PEs have had the former."""
    resident = {*block.states, *block.states.values()}
    read: dict[LocalName, int] = {}
    written: dict[LocalName, int] = {}
    for i, step in enumerate(block.steps):
        for name in step_ins(step):
            read.setdefault(name, i)
        written |= dict.fromkeys(step_outs(step), i)
    found: set[tuple[LocalName, LocalName]] = set()
    for a in block.inputs:
        if a in resident or a not in read:
            continue
        known = _Known.of(_on_mesh(holders(block.values[a], block.mesh), block.mesh))
        done = read[a]
        for b in sorted((b for b in block.outputs if written.get(b, -1) > done), key=lambda b: written[b]):
            for step in block.steps[done + 1 : written[b]]:
                if isinstance(step, AllReduce | AllGather):
                    _tell(known, block, step)
            done = max(done, written[b] - 1)
            senders = _on_mesh(holders(block.values[b], block.mesh), block.mesh)
            if b not in resident and b not in block.inputs and bool(known.everything[senders].all()):
                found.add((a, b))
    return found


@dataclass(frozen=True, eq=False)
class _Known:
    """What each PE ``[row, column]`` knows: that all PEs of its row, of its column, of the mesh have had their part.

    ``part``: which PEs have one. A PE knows about itself.
    """

    part: Bools
    row: Bools
    column: Bools
    everything: Bools

    @staticmethod
    def of(part: Bools) -> _Known:
        others = [part.sum(axis=axis, keepdims=True) - part == 0 for axis in (1, 0, None)]
        return _Known(part, others[0], others[1], others[2])

    @property
    def turned(self) -> _Known:
        """The same with rows and columns exchanged (views of the same arrays)."""
        return _Known(self.part.T, self.column.T, self.row.T, self.everything.T)


def _tell(known: _Known, block: Block, step: AllReduce | AllGather) -> None:
    """What a collective teaches its members; only those over whole lines count."""
    along, line, group = group_of(block.mesh, step.axes, f"block {block.name}, step {step.id}")
    if line != group or group == 1:
        return
    values = (step.source,) if isinstance(step, AllGather) else step.ins
    member = np.ones((block.mesh.rows, block.mesh.columns), bool)
    for name in values:
        member &= _certain(block.values[name], block.mesh)
    if along == "y":
        known, member = known.turned, member.T
    absent = (known.part & ~member).any(axis=1, keepdims=True)
    known.row[member & (~absent | (member & known.row).any(axis=1, keepdims=True))] = True
    columns = known.part.any(axis=0)
    every = (member & known.column)[:, columns].all(axis=1, keepdims=True)
    every |= (member & known.everything).any(axis=1, keepdims=True)
    for told in (known.row, known.column, known.everything):
        told[member & every] = True


def _certain(tiled: Tiled, mesh: Mesh) -> Bools:
    """The PEs that hold elements of a value however full the caches are; none where that is not plain."""
    for dim, split in zip(tiled.type.shape, tiled.layout.splits, strict=True):
        if not isinstance(dim, int) and (split.axes or at(dim, 0) == 0):
            return np.zeros((mesh.rows, mesh.columns), bool)
    return _on_mesh(holders(tiled, mesh), mesh)


def _on_mesh(mask: Bools, mesh: Mesh) -> Bools:
    """A mask over the mesh axes as one over rows and columns."""
    return np.broadcast_to(mask, mesh.shape).reshape(mesh.rows, mesh.columns)

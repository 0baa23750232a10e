"""Which streams are over before others begin, by data dependence: so two nets may use one colour of a router in turn.

Times cannot tell, since routers share no clock. What can: the streams of caches stand outside the timed part; and PEs
that take part in a collective over a whole line hear from all others on the line that do. A PE that has heard, directly
or by others, from every PE with a part of a value sends nothing before all of them have that part.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..ir.block import AllGather, AllReduce, Block, InstanceId, LocalName, step_ins, step_outs
from ..ir.dims import Dim
from ..ir.layout import Mesh, Split, Tiled
from ..ir.program import PlacedProgram, Stream, StreamId
from .ownership import holders, lower

Bools = NDArray[np.bool_]
End = tuple[InstanceId, LocalName]
Awaited = Mapping[LocalName, set[LocalName]]


def stream_order(program: PlacedProgram) -> set[tuple[StreamId, StreamId]]:
    """All pairs (a, b) where the last word of stream a has passed every router before the first of b is sent."""
    timed = [s for s in program.streams if not s.state]
    loads = [s for s in program.streams if s.state and s.source is None]
    reads = [s for s in program.streams if s.state and s.source is not None]
    pairs = {(a.id, b.id) for a in loads for b in (*timed, *reads)} | {(a.id, b.id) for a in timed for b in reads}
    leaving: dict[End, list[Stream]] = {}
    for stream in timed:
        if stream.source is not None:
            leaving.setdefault(stream.source, []).append(stream)
    awaited = {name: _awaited(block) for name, block in program.blocks.items()}
    later: dict[StreamId, list[StreamId]] = {}
    for stream in timed:
        later[stream.id] = []
        if stream.destination is not None:
            instance, value = stream.destination
            for output, inputs in awaited[program.instance[instance].block].items():
                if value in inputs:
                    later[stream.id] += [then.id for then in leaving.get((instance, output), ())]
    for stream in timed:
        reached: set[StreamId] = set()
        todo = list(later[stream.id])
        while todo:
            then = todo.pop()
            if then not in reached:
                reached.add(then)
                todo += later[then]
        pairs |= {(stream.id, then) for then in reached - {stream.id}}
    return pairs


def _awaited(block: Block) -> Awaited:
    """For each output: the inputs that every PE concerned has had before any PE sends the output."""
    resident = {*block.states, *block.states.values()}
    writer = {name: i for i, step in enumerate(block.steps) for name in step_outs(step)}
    found: dict[LocalName, set[LocalName]] = {}
    for output in block.outputs:
        if output in writer and output not in resident and output not in block.inputs:
            senders = _some(block.values[output], block.mesh)
            found[output] = {
                name
                for name in block.inputs
                if name not in resident and _heard_by(block, name, senders, writer[output])
            }
    return found


def _heard_by(block: Block, value: LocalName, senders: Bools, end: int) -> bool:
    """Whether, before step ``end``, all senders have heard from all PEs with a part of a value, since its first use."""
    start = next((i for i, step in enumerate(block.steps[:end]) if value in step_ins(step)), None)
    if start is None:
        return False
    part = _some(block.values[value], block.mesh)
    silent = {"x": part.sum(axis=1)[:, None] - part, "y": part.sum(axis=0)[None, :] - part, "": part.sum() - part}
    heard = {of: count == 0 for of, count in silent.items()}  # from all of its row, of its column, from all
    for step in block.steps[start + 1 : end]:
        if isinstance(step, AllReduce | AllGather):
            _listen(block, step, part, heard)
    return bool(heard[""][senders].all())


def _listen(block: Block, step: AllReduce | AllGather, part: Bools, heard: dict[str, Bools]) -> None:
    """What the PEs that take part in a collective over whole lines hear from one another."""
    wide = {axis.name: axis.along for axis in block.mesh.axes if axis.extent > 1}
    for along, axis, across in (("x", 1, "y"), ("y", 0, "x")):
        line = {name for name, its in wide.items() if its == along}
        if not line or {name for name in step.axes if name in wide} != line:
            continue
        takes_part = np.ones(part.shape, bool)
        for name in (step.source,) if isinstance(step, AllGather) else step.ins:
            takes_part &= _surely(block.values[name], block.mesh)
        absent = (part & ~takes_part).any(axis=axis, keepdims=True)
        tells = (takes_part & heard[along]).any(axis=axis, keepdims=True)
        heard[along] |= takes_part & (tells | ~absent)
        # Whoever hears from a PE of each line across that has heard from all of its line has heard from everybody.
        matters = part.any(axis=1 - axis, keepdims=True)
        gaps = (matters & ~(takes_part & heard[across])).any(axis=axis, keepdims=True)
        knows = (takes_part & heard[""]).any(axis=axis, keepdims=True)
        everybody = takes_part & (knows | ~gaps)
        for known in heard.values():
            known |= everybody


def _some(tiled: Tiled, mesh: Mesh) -> Bools:
    """The PEs that may hold a part of a value; all of them where a length that grows is cut."""
    if any(split.axes and not isinstance(dim, int) for dim, split in _dims(tiled)):
        return np.ones((mesh.rows, mesh.columns), bool)
    return holders(tiled, mesh, 0, None, None)


def _surely(tiled: Tiled, mesh: Mesh) -> Bools:
    """The PEs that hold a part of a value at every length; none where a length that grows is cut or may be 0."""
    if any(not isinstance(dim, int) and (split.axes or lower(dim) == 0) for dim, split in _dims(tiled)):
        return np.zeros((mesh.rows, mesh.columns), bool)
    return holders(tiled, mesh, 0, None, None)


def _dims(tiled: Tiled) -> list[tuple[Dim, Split]]:
    return list(zip(tiled.type.shape, tiled.layout.splits, strict=True))

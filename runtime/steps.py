"""One step of a block on its region: when it runs on each PE, and what it makes of the values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.block import (
    AllGather,
    AllReduce,
    Block,
    Compute,
    Instance,
    LocalName,
    Narrow,
    Phase,
    Step,
    step_ins,
    step_outs,
)
from ..ir.layout import Mesh, Tiled, tile_bytes
from .clock import Delays, delayed, durations, message
from .collectives import all_reduce
from .fabric import Collectives, Message
from .geometry import Geometry, Lines
from .kernels import Call, Operand, execute
from .kernels.guard import rows_woken
from .machine import Machine
from .report import Gather, OpCycles
from .tape import Label, Part, Tape, Times
from .tiles import Array, check_shape, gather_along, held_elements, narrow, opened

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Timed:
    """The timing of one step: ready times of its results, when PEs are free again, busy cycles, and what to report."""

    ready: Mapping[LocalName, Times]
    free: Times
    busy: Ints
    record: OpCycles
    gather: Gather | None = None


class Steps:
    """Times and executes steps. Durations depend on the block alone, so equal layers share them."""

    def __init__(self, machine: Machine, collectives: Collectives, tape: Tape, n_past: int, delays: Delays) -> None:
        self.machine, self.collectives, self.tape = machine, collectives, tape
        self.n_past, self.delays = n_past, delays
        self._durations: dict[tuple[str, str], Ints] = {}
        self._messages: dict[tuple[str, str], Message] = {}
        self._makers: dict[str, dict[LocalName, str]] = {}

    # --- times

    def time(
        self,
        step: Step,
        instance: Instance,
        block: Block,
        geometry: Geometry,
        ready: Mapping[LocalName, Times],
        free: Times,
        data: Mapping[LocalName, Array] | None,
    ) -> Timed:
        """When the step runs on each PE, given when its operands are ready and its PEs free.

        ``data``: the tiles, where values are executed; without them a guarded step takes as long as it may.
        """
        operands = [ready[name] for name in step_ins(step)]
        match step:
            case Compute():
                return self._compute(step, instance, block, geometry, operands, free, data)
            case Narrow():
                begin, end = int(operands[0].cycle.min()), int(operands[0].cycle.max())
                name = self._op_of(block, step)
                record = OpCycles(instance.id, name, step.id, "narrow", start_cycle=begin, end_cycle=end)
                return Timed({step.result: operands[0]}, free, np.zeros(geometry.shape, np.int64), record)
            case AllReduce() | AllGather():
                return self._collective(step, instance, block, geometry, operands, free)

    def _compute(
        self,
        step: Compute,
        instance: Instance,
        block: Block,
        geometry: Geometry,
        operands: list[Times],
        free: Times,
        data: Mapping[LocalName, Array] | None,
    ) -> Timed:
        cycles = delayed(self._local_cycles(step, block, data), geometry.region.id, step.id, self.delays)
        start = self.tape.late(free, *operands)
        label = Label("compute", step.op.id, geometry.region.id, step.id, Part.WORK)
        end = self.tape.after(start, cycles, label, geometry.place)
        waited = np.where(cycles > 0, start.cycle - free.cycle, 0)
        record = OpCycles(
            instance.id,
            step.op.id,
            step.id,
            step.op.kind,
            int(cycles.max()),
            0,
            int(waited.max()),
            int(start.cycle.min()),
            int(end.cycle.max()),
            int(np.count_nonzero(cycles)),
        )
        # A PE that does not run the step stays free for the next one.
        runs = cycles > 0
        return Timed(dict.fromkeys(step.outs, end), Times.choose(runs, end, free), cycles, record)

    def _local_cycles(self, step: Compute, block: Block, data: Mapping[LocalName, Array] | None) -> Ints:
        """Cycles on each PE; of a guarded step by the choices made, if they are known."""
        if step.guard is not None and data is not None and step.phase is not Phase.FINISH:
            rows = rows_woken(self._call(step, block, data))
            return durations(step, block, self.machine, self.n_past, rows)
        key = (block.name, step.id)
        if key not in self._durations:
            self._durations[key] = durations(step, block, self.machine, self.n_past)
        return self._durations[key]

    def _collective(
        self,
        step: AllReduce | AllGather,
        instance: Instance,
        block: Block,
        geometry: Geometry,
        operands: list[Times],
        free: Times,
    ) -> Timed:
        lines = geometry.lines(step.axes, block.mesh)
        own = self.tape.late(free, *operands)
        name = self._op_of(block, step)
        label = Label("collective", name, geometry.region.id, step.id)
        gather = None
        if isinstance(step, AllReduce):
            how = (step.algorithm, step.root, step.group)
            sent = self._message(step, block, lines)
            done, busy = self.collectives.all_reduce(lines.gather(own), lines, sent, how, label)
            kind = f"all-reduce {step.combine} {step.algorithm}"
        else:
            done, busy = self.collectives.all_gather(
                lines.gather(own), lines, self._words(step, block, lines), step.root, label
            )
            result = block.values[step.result]
            gather = Gather(
                instance.id,
                step.result,
                tile_bytes(result, block.mesh, self.n_past),
                _elements(block, step, self.n_past),
            )
            kind = "all-gather"
        end, freed = lines.scatter(done), self.tape.late(lines.scatter(busy), free)
        record = OpCycles(
            instance.id,
            name,
            step.id,
            kind,
            0,
            int(end.cycle.max() - own.cycle.max()),
            int((own.cycle - free.cycle).max()),
            int(own.cycle.min()),
            int(end.cycle.max()),
        )
        return Timed(dict.fromkeys(step_outs(step), end), freed, np.zeros(geometry.shape, np.int64), record, gather)

    def _op_of(self, block: Block, step: Step) -> str:
        """The op whose result a collective or narrowing works on; the value's name if it is an input of the block."""
        if block.name not in self._makers:
            makers: dict[LocalName, str] = {}
            for other in block.steps:
                first = step_ins(other)[0] if step_ins(other) else None
                op = other.op.id if isinstance(other, Compute) else makers.get(first, first) if first else ""
                makers.update(dict.fromkeys(step_outs(other), op))
            self._makers[block.name] = makers
        return self._makers[block.name][step_outs(step)[0]]

    def _message(self, step: AllReduce, block: Block, lines: Lines) -> Message:
        """What each line sends; the PEs of a line hold equal tiles, so its first PE speaks for all."""
        key = (block.name, step.id)
        if key not in self._messages:
            per_pe, _ = message(step, block, self.machine, self.n_past, lines.share)
            self._messages[key] = Message(lines.gather(per_pe.words)[0], per_pe.first, lines.gather(per_pe.all)[0])
        return self._messages[key]

    def _words(self, step: AllGather, block: Block, lines: Lines) -> Ints:
        """Cycles on a link of each PE's own part of a gather."""
        tiled = block.values[step.source]
        held = held_elements(tiled, block.mesh, self.n_past).reshape(block.mesh.rows, block.mesh.columns)
        return lines.gather(self.machine.link(self.machine.words(held, tiled.dtype)) * lines.share)

    # --- values

    def values(self, step: Step, block: Block, data: Mapping[LocalName, Array]) -> dict[LocalName, Array]:
        """The tiles that a step makes on all PEs."""
        match step:
            case Compute():
                results = execute(self._call(step, block, data))
            case AllReduce():
                results = all_reduce(step, [data[name] for name in step.ins], block.mesh)
            case AllGather():
                source, target = block.values[step.source], block.values[step.result]
                what = f"all-gather {step.id}"
                results = (gather_along(data[step.source], source, target, step.axes, block.mesh, self.n_past, what),)
            case Narrow():
                source, target = block.values[step.source], block.values[step.result]
                what = f"narrow {step.id}"
                results = (narrow(data[step.source], source, target, block.mesh, self.n_past, what),)
        named = dict(zip(step_outs(step), results, strict=True))
        for name, array in named.items():
            check_shape(array, block.values[name], block.mesh, self.n_past, f"{block.name}, step {step.id}, {name}")
        return named

    def _call(self, step: Compute, block: Block, data: Mapping[LocalName, Array]) -> Call:
        operands = tuple(
            None if name is None else self._operand(data[name], block.values[name], block.mesh) for name in step.ins
        )
        skip = len(step.ins) - len(step.op.inputs) if step.phase is Phase.FINISH else 0
        partials = tuple(operand for operand in operands[:skip] if operand is not None)
        outs = tuple(block.values[name] for name in step.outs)
        return Call(step.op, step.phase, operands[skip:], partials, outs, block.mesh, self.n_past, step.guard)

    def _operand(self, tiles: Array, tiled: Tiled, mesh: Mesh) -> Operand:
        return Operand(opened(tiles, tiled, mesh, self.n_past), tiled, mesh, self.n_past)


def _elements(block: Block, step: AllGather, n_past: int) -> int:
    """Elements of the gathered value that the fullest PE then holds."""
    return int(held_elements(block.values[step.result], block.mesh, n_past).max())

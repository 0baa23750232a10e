"""The engine: serves the tasks of a placed program in order, moving values and times together.

Per instance it holds the tiles of every live value and an array of ready times over the PEs; per region when each PE
is free. State streams stand outside the timed part: caches are loaded before cycle zero and read back after the end.
Cost: a few numpy calls per step, whatever the number of PEs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..ir.block import Block, Instance, InstanceId, LocalName, RegionId
from ..ir.graph import ValueName
from ..ir.layout import tile_shape
from ..ir.program import Execute, PlacedProgram, Stream, StreamId, Transfer
from ..ir.tiling import tile
from .checks import Bound, check_inputs, check_weights
from .clock import Delays, tile_bytes_of
from .fabric import Collectives, Links
from .geometry import Geometry, Grid
from .machine import Machine, machine_of
from .report import Gather, InstanceCycles, OpCycles, RegionUse, Report, Result, Segment, StreamUse
from .sram import Memory
from .steps import Steps
from .streams import End, Streams
from .tape import Tape, Times
from .tiles import Array, check_weight, relayout, untile


@dataclass
class Held:
    """What an instance holds while it runs: tiles (if values are executed) and ready times by local name."""

    instance: Instance
    block: Block
    data: dict[LocalName, Array] = field(default_factory=dict)
    ready: dict[LocalName, Times] = field(default_factory=dict)


@dataclass
class RegionState:
    """A region while it runs."""

    geometry: Geometry
    free: Times
    busy: NDArray[np.int64]
    memory: Memory = field(default_factory=Memory)


@dataclass(frozen=True)
class Wires:
    """One fabric with its own clock: the timed run has one, the state traffic before and after another each."""

    links: Links
    streams: Streams

    @staticmethod
    def of(machine: Machine, grid: Grid, tape: Tape, n_past: int) -> Wires:
        links = Links(grid, tape)
        return Wires(links, Streams(machine, grid, links, tape, n_past))


def execute(
    program: PlacedProgram,
    inputs: Mapping[str, Array],
    values: bool,
    delays: Delays,
    constants: Mapping[str, float],
    trace: bool,
) -> Result:
    """Run a program once; see `wafercc.runtime.run`."""
    bound = check_inputs(program, inputs, values)
    if values:
        check_weights(program)
    machine = machine_of(program.target, constants)
    return Run(program, bound, machine, values, _checked(program, delays), trace).result()


def _checked(program: PlacedProgram, delays: Delays) -> Delays:
    """The delays, each of a PE and a step that exist, none of them negative."""
    for (region, p, q, step), cycles in delays.items():
        found = program.region.get(RegionId(region))
        if found is None or not (0 <= p < found.rows and 0 <= q < found.columns):
            size = f"{found.rows}x{found.columns} PEs" if found else "no such region"
            raise RunError(f"PE ({p}, {q}) of region {region} does not exist: {size}", where="delays")
        hosted = (program.blocks[i.block] for i in program.instances if i.region == region)
        if step is not None and not any(step == s.id for block in hosted for s in block.steps):
            raise RunError(f"region {region} has no step {step}", where="delays")
        if cycles < 0:
            raise RunError(f"a delay of {cycles} cycles is less than none", where="delays")
    return delays


class Run:
    """One execution of one program."""

    def __init__(
        self, program: PlacedProgram, bound: Bound, machine: Machine, values: bool, delays: Delays, trace: bool
    ) -> None:
        self.program, self.bound, self.machine, self.values, self.delays = program, bound, machine, values, delays
        self.n_past = bound.n_past
        self.tape = Tape(trace)
        self.grid = Grid.of(program)
        self.wires = Wires.of(machine, self.grid, self.tape, self.n_past)
        self.collectives = Collectives(machine, self.wires.links, self.tape)
        self.steps = Steps(machine, self.collectives, self.tape, self.n_past, delays)
        self.regions = {r.id: self._region(Geometry(r, self.grid)) for r in program.regions}
        self.held = {i.id: Held(i, program.blocks[i.block]) for i in program.instances}
        self.outputs: dict[ValueName, Array] = {}
        self.last = self.tape.zeros(())
        self.ops: list[OpCycles] = []
        self.uses: list[StreamUse] = []
        self.gathers: list[Gather] = []
        self.pending = self._readers()

    def result(self) -> Result:
        self._load_params()
        load = self._state_io(loading=True)
        for task in self.program.order:
            match task:
                case Transfer(name):
                    stream = self.program.stream[name]
                    if not stream.state:
                        self._transfer(stream, self.wires)
                case Execute(name):
                    self._execute(self.held[name])
        read_back = self._state_io(loading=False)
        cycles = int(self.last.cycle)
        report = Report(
            cycles,
            self.n_past,
            load + read_back,
            self.values,
            tuple(self.ops),
            tuple(self._instance(h) for h in self.held.values()),
            tuple(self._use(r) for r in self.regions),
            tuple(self.uses),
            tuple(self.gathers),
            self._segments() if self.tape.trace else None,
        )
        outputs = {str(name): self.outputs[name] for name in self.program.outputs} if self.values else {}
        return Result(outputs, cycles, report)

    # --- before

    def _region(self, geometry: Geometry) -> RegionState:
        free = self.tape.zeros(geometry.shape)
        for (region, p, q, step), d in self.delays.items():
            if region == geometry.region.id and step is None:
                free.cycle[p, q] += d
        return RegionState(geometry, free, np.zeros(geometry.shape, np.int64))

    def _readers(self) -> dict[tuple[InstanceId, LocalName], int]:
        """How many streams still have to read each instance output."""
        count: dict[tuple[InstanceId, LocalName], int] = {}
        for stream in self.program.streams:
            if stream.source is not None:
                count[stream.source] = count.get(stream.source, 0) + 1
        return count

    def _load_params(self) -> None:
        """Weights and literals are resident from the start; so are the buffers of the caches."""
        resident: set[tuple[RegionId, str]] = set()
        for held in self.held.values():
            state, block = self.regions[held.instance.region], held.block
            for name in block.params:
                weight = self.program.weights[held.instance.weights[name]]
                held.ready[name] = self.tape.zeros(state.geometry.shape)
                shape = tile_shape(block.values[name], block.mesh, self.n_past)
                if weight.tiles is not None and self.values:
                    held.data[name] = weight.tiles
                    check_weight(weight, block.values[name], block.mesh, self.n_past)
                key = (held.instance.region, held.instance.weights[name])
                if key not in resident:
                    resident.add(key)
                    state.memory.weights_bytes += tile_bytes_of(shape, block.values[name])
            for pair in block.states.items():
                tiles = ((tile_shape(block.values[name], block.mesh, self.n_past), block.values[name]) for name in pair)
                state.memory.state_bytes += max(tile_bytes_of(shape, tiled) for shape, tiled in tiles)

    def _state_io(self, loading: bool) -> int:
        """Load the caches, or read them back, on a fabric that is otherwise idle; the cycles that takes."""
        quiet = Tape(False)
        wires = Wires.of(self.machine, self.grid, quiet, self.n_past)
        latest = 0
        for stream in self.program.streams:
            if stream.state and (stream.source is None) == loading:
                latest = max(latest, self._transfer(stream, wires, outside=True))
        return latest

    # --- streams

    def _transfer(self, stream: Stream, wires: Wires, outside: bool = False) -> int:
        """Serve one stream: times, then values. ``outside`` the timed part everything is ready at zero."""
        source, target = self._end(stream.source), self._end(stream.destination)
        ready = None
        if stream.source is not None and source is not None:
            ready = self.held[stream.source[0]].ready[stream.source[1]]
            if outside:
                ready = wires.streams.tape.zeros(source.geometry.shape)
        if not stream.lanes:
            arrive, last, words = self._hand_over(stream, ready)
        else:
            arrive, last, words = wires.streams.transfer(stream, source, ready, target)
        self._move(stream)
        if stream.destination is not None and target is not None:
            name, local = stream.destination
            assert arrive is not None
            zero = self.tape.zeros(target.geometry.shape)
            self._set_ready(self.held[name], local, zero if outside else arrive)
        elif not outside:
            self.last = self.tape.late(self.last, last)
        start = 0 if ready is None else int(ready.cycle.max())
        self.uses.append(StreamUse(stream.id, stream.value, words, start, int(last.cycle), stream.state))
        return int(last.cycle)

    def _hand_over(self, stream: Stream, ready: Times | None) -> tuple[Times | None, Times, int]:
        """A stream without lanes: one instance leaves a value in place for the next one of its region."""
        if ready is None or stream.source is None or stream.destination is None:
            raise RunError("it has no lanes", where=f"stream {stream.id}", hint="run `wafercc verify` on the program")
        a, b = (self.held[end[0]] for end in (stream.source, stream.destination))
        same = a.block.mesh == b.block.mesh and a.instance.region == b.instance.region
        if not same or a.block.values[stream.source[1]] != b.block.values[stream.destination[1]]:
            raise RunError(
                "it has no lanes, but its two ends hold the value differently",
                where=f"stream {stream.id}",
                hint="run `wafercc verify` on the program",
            )
        return ready, self.tape.latest(ready.reshape(-1)), 0

    def _end(self, end: tuple[InstanceId, LocalName] | None) -> End | None:
        if end is None:
            return None
        held = self.held[end[0]]
        return End(held.block.values[end[1]], held.block.mesh, self.regions[held.instance.region].geometry)

    def _set_ready(self, held: Held, name: LocalName, ready: Times) -> None:
        held.ready[name] = ready
        if name not in held.block.states:
            self._put(held, name)

    def _put(self, held: Held, name: LocalName) -> None:
        """Count a live value; the content of a cache lives in its resident buffer."""
        if name in held.block.states.values():
            return
        tiled, data = held.block.values[name], held.data.get(name)
        rank = len(held.block.mesh.axes)
        shape = tile_shape(tiled, held.block.mesh, self.n_past) if data is None else data.shape[rank:]
        self.regions[held.instance.region].memory.put(held.instance.id, name, tile_bytes_of(shape, tiled))

    def _move(self, stream: Stream) -> None:
        """The values of a stream: cut from the host's array, from the tiles of the source, or put together for the
        host."""
        if self.values:
            if stream.source is None:
                self._move_in(stream)
            else:
                self._move_out(stream)
        if stream.source is not None:
            self.pending[stream.source] -= 1
            if not self.pending[stream.source]:
                self._drop(self.held[stream.source[0]], stream.source[1])

    def _move_in(self, stream: Stream) -> None:
        array = self.bound.arrays[stream.value]
        if stream.destination is None:
            self.outputs[stream.value] = array
            return
        target = self.held[stream.destination[0]]
        tiled = target.block.values[stream.destination[1]]
        target.data[stream.destination[1]] = tile(array, tiled, target.block.mesh, self.n_past)

    def _move_out(self, stream: Stream) -> None:
        assert stream.source is not None
        source = self.held[stream.source[0]]
        tiled, data = source.block.values[stream.source[1]], source.data[stream.source[1]]
        if stream.destination is None:
            self.outputs[stream.value] = untile(data, tiled, source.block.mesh, self.n_past)
            return
        target = self.held[stream.destination[0]]
        wanted = target.block.values[stream.destination[1]]
        target.data[stream.destination[1]] = relayout(
            data, tiled, source.block.mesh, wanted, target.block.mesh, self.n_past
        )

    # --- instances

    def _execute(self, held: Held) -> None:
        """All steps of one instance, in order, on its region."""
        block, region = held.block, self.regions[held.instance.region]
        for name in block.inputs:
            if name not in held.ready:
                raise RunError(
                    f"nothing has delivered {name} when it starts",
                    where=f"instance {held.instance.id}",
                    hint="run `wafercc verify` on the program",
                )
        dying: dict[int, list[LocalName]] = {}
        for name, index in block.last_use.items():
            if index < len(block.steps):
                dying.setdefault(index, []).append(name)
        for index, step in enumerate(block.steps):
            data = held.data if self.values else None
            timed = self.steps.time(step, held.instance, block, region.geometry, held.ready, region.free, data)
            held.ready.update(timed.ready)
            region.free = timed.free
            region.busy += timed.busy
            self.ops.append(timed.record)
            if timed.gather is not None:
                self.gathers.append(timed.gather)
            if self.values:
                held.data.update(self.steps.values(step, block, held.data))
            for name in timed.ready:
                self._put(held, name)
                if name not in block.last_use:
                    self._drop(held, name)
            for name in dying.get(index, ()):
                self._drop(held, name)

    def _drop(self, held: Held, name: LocalName) -> None:
        """Forget a value after its last use. Weights stay; an output stays while a stream still has to read it."""
        key = (held.instance.id, name)
        if name in held.block.params or self.pending.get(key, 0):
            return
        held.data.pop(name, None)
        self.regions[held.instance.region].memory.drop(held.instance.id, name)

    # --- after

    def _instance(self, held: Held) -> InstanceCycles:
        name = held.instance.id
        steps = [op for op in self.ops if op.instance == name]
        on_the_way = [
            use.end_cycle - use.start_cycle
            for use, stream in ((u, self.program.stream[StreamId(u.stream)]) for u in self.uses)
            if not use.state and stream.destination is not None and stream.destination[0] == name
        ]
        return InstanceCycles(
            name,
            held.instance.region,
            sum(op.busy_cycles for op in steps),
            sum(op.collective_cycles for op in steps),
            max(on_the_way, default=0),
            sum(op.wait_cycles for op in steps),
            min((op.start_cycle for op in steps), default=0),
            max((op.end_cycle for op in steps), default=0),
        )

    def _use(self, region: RegionId) -> RegionUse:
        state, plan = self.regions[region], self.program.sram[region]
        return RegionUse(
            region,
            state.busy.size,
            int(state.busy.max()),
            float(state.busy.mean()),
            max(state.memory.peak_bytes, state.memory.total),
            state.memory.weights_bytes,
            state.memory.state_bytes,
            plan.total_bytes,
            plan.bound_bytes,
        )

    def _segments(self) -> tuple[Segment, ...]:
        """The walk back from the last cycle, as pieces that follow one another from zero."""
        found: list[Segment] = []
        before = 0
        for node in self.tape.path(self.last):
            label = node.label
            pe = None
            if label.region and node.place >= 0:
                columns = self.regions[RegionId(label.region)].geometry.shape[1]
                pe = (node.place // columns, node.place % columns)
            piece = Segment(label.kind, label.name, label.region, pe, before, node.cycle, label.step, label.part.value)
            if found and replace(found[-1], start_cycle=0, end_cycle=0) == replace(piece, start_cycle=0, end_cycle=0):
                found[-1] = replace(found[-1], end_cycle=node.cycle)
            elif piece.cycles:
                found.append(piece)
            before = node.cycle
        return tuple(found)

"""Memory: what each region holds in SRAM, by kind, at every point of the schedule.

Parameters and caches are held always. A value that arrives by stream is held from its transfer, or from the start of
its instance, to its last use; a value that a step writes, from that step to its last use; an output, to the last
transfer that sends it. A cache and its next content share one buffer. Bytes are those of the fullest PE with every
dimension at its largest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..ir.block import Block, BlockName, Instance, InstanceId, LocalName, RegionId, step_outs
from ..ir.program import Execute, PlacedProgram, Stream, Transfer
from .tensors import capacity_bytes

COLUMNS = ("task", "step", "weights_bytes", "caches_bytes", "received_bytes", "computed_bytes")
NO_STEP = -1


@dataclass
class _Region:
    """One region while the schedule is walked: resident bytes, live values of either kind, and the points so far."""

    weights: int = 0
    caches: int = 0
    received: dict[tuple[InstanceId, LocalName], int] = field(default_factory=dict)
    computed: dict[tuple[InstanceId, LocalName], int] = field(default_factory=dict)
    points: list[tuple[int, ...]] = field(default_factory=list)

    def note(self, task: int, step: int) -> None:
        live = (sum(held.values()) for held in (self.received, self.computed))
        self.points.append((task, step, self.weights, self.caches, *live))

    def release(self, key: tuple[InstanceId, LocalName]) -> None:
        self.received.pop(key, None)
        self.computed.pop(key, None)


@dataclass
class _Walk:
    program: PlacedProgram
    regions: dict[RegionId, _Region]
    sizes: dict[BlockName, dict[LocalName, int]]
    unsent: Counter[tuple[InstanceId, LocalName]]

    def execute(self, task: int, instance: Instance) -> None:
        block, region = self.program.blocks[instance.block], self.regions[instance.region]
        size = self.sizes[instance.block]
        for name in block.inputs:
            if name in size:
                region.received.setdefault((instance.id, name), size[name])
        region.note(task, NO_STEP)
        for i, step in enumerate(block.steps):
            for name in step_outs(step):
                if name in size:
                    region.computed.setdefault((instance.id, name), size[name])
            region.note(task, i)
            for key in [*region.received, *region.computed]:
                if key[0] == instance.id and block.last_use.get(key[1], -1) <= i:
                    region.release(key)

    def transfer(self, task: int, stream: Stream) -> None:
        if not stream.lanes:
            self.sent(stream)  # it stays where it is, under its new name
        if stream.destination is not None:
            instance = self.program.instance[stream.destination[0]]
            region, size = self.regions[instance.region], self.sizes[instance.block]
            if stream.destination[1] in size:
                region.received.setdefault(stream.destination, size[stream.destination[1]])
            region.note(task, NO_STEP)
        if stream.lanes:
            self.sent(stream)

    def sent(self, stream: Stream) -> None:
        """Once its last stream is served, an output is let go."""
        if stream.source is None:
            return
        self.unsent[stream.source] -= 1
        if not self.unsent[stream.source]:
            self.regions[self.program.instance[stream.source[0]].region].release(stream.source)


def timelines(program: PlacedProgram) -> dict[RegionId, NDArray[np.int64]]:
    """For each region a table ``[point, column]``: after which task (an index into the order) and step (an index into
    the block, or `NO_STEP`), and the bytes of each kind held then on the fullest PE.
    """
    regions = {region.id: _Region() for region in program.regions}
    for instance in program.instances:
        block = program.blocks[instance.block]
        regions[instance.region].weights += sum(_bytes(block, name) for name in block.params)
        pairs = block.states.items()
        regions[instance.region].caches += sum(max(_bytes(block, name) for name in pair) for pair in pairs)
    unsent = Counter(stream.source for stream in program.streams if stream.source is not None)
    walk = _Walk(program, regions, {name: _moving(block) for name, block in program.blocks.items()}, unsent)
    for task, each in enumerate(program.order):
        match each:
            case Execute(instance_id):
                walk.execute(task, program.instance[instance_id])
            case Transfer(stream_id):
                walk.transfer(task, program.stream[stream_id])
    return {id_: np.array(region.points, np.int64).reshape(-1, len(COLUMNS)) for id_, region in regions.items()}


def _bytes(block: Block, name: LocalName) -> int:
    return capacity_bytes(block.values[name], block.mesh)


def _moving(block: Block) -> dict[LocalName, int]:
    """Bytes of the values that come and go."""
    resident = {*block.params, *block.states, *block.states.values()}
    return {name: _bytes(block, name) for name in block.values if name not in resident}

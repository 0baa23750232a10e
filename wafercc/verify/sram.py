"""Rule 3: on every PE, at every point of the service order, what is held fits the bound and the plan.

Held are: the parameters and caches of all instances of the region, always; a value that arrives by stream from its
transfer (or the start of its instance) to its last use; a value that a step writes from that step to its last use; an
output to the last transfer that sends it. A cache and its next content share one buffer. Sizes are those of the fullest
PE at the context capacity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..ir.block import Block, Instance, InstanceId, LocalName, RegionId, step_outs
from ..ir.program import Execute, PlacedProgram, Transfer
from .machine import Machine
from .ownership import tile_sram
from .violation import Violation

RULE = 3
Held = tuple[InstanceId, LocalName]


@dataclass
class _Memory:
    """What a region holds beside its resident part, and the most it held so far."""

    live: dict[Held, int] = field(default_factory=dict)
    peak_bytes: int = 0
    peak_at: str = "the start"

    def hold(self, key: Held, size: int) -> None:
        self.live.setdefault(key, size)

    def note(self, where: str) -> None:
        total = sum(self.live.values())
        if total > self.peak_bytes:
            self.peak_bytes, self.peak_at = total, where


def check_sram(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Re-derived bytes within the machine's bound, and each part within its plan."""
    memories = _replay(program)
    for region in program.regions:
        where = f"region {region.id}"
        here = [i for i in program.instances if i.region == region.id]
        weights, states = (sum(part(program.blocks[i.block]) for i in here) for part in (weights_bytes, states_bytes))
        memory = memories.get(region.id, _Memory())
        total = weights + states + memory.peak_bytes
        if total > machine.usable_bytes:
            parts = f"weights {weights}, caches {states}, values {memory.peak_bytes} at {memory.peak_at}"
            yield Violation(RULE, where, f"holds {total} bytes per PE ({parts}); {machine.usable_bytes} are usable")
        plan = program.sram.get(region.id)
        if plan is None:
            if here:
                yield Violation(RULE, where, "has no SRAM plan")
            continue
        if plan.bound_bytes > machine.usable_bytes:
            yield Violation(RULE, where, f"plans for {plan.bound_bytes} bytes; {machine.usable_bytes} are usable")
        if plan.total_bytes > plan.bound_bytes:
            yield Violation(RULE, where, f"plans {plan.total_bytes} bytes of {plan.bound_bytes}")
        found = (
            ("weights", weights, plan.weights_bytes),
            ("caches", states, plan.state_bytes),
            (f"values at {memory.peak_at}", memory.peak_bytes, plan.peak_activation_bytes),
        )
        for what, derived, planned in found:
            if derived > planned:
                yield Violation(RULE, where, f"{what} take {derived} bytes per PE; {planned} are planned")


def peak_bytes(program: PlacedProgram) -> dict[RegionId, int]:
    """By region, the most that its PEs ever hold beside weights and caches."""
    return {region: memory.peak_bytes for region, memory in _replay(program).items()}


def weights_bytes(block: Block) -> int:
    return sum(tile_sram(block.values[p], block.mesh) for p in block.params)


def states_bytes(block: Block) -> int:
    """A cache and its next content share the larger of their two tiles."""
    pairs = block.states.items()
    return sum(max(tile_sram(block.values[v], block.mesh) for v in pair) for pair in pairs)


def _replay(program: PlacedProgram) -> dict[RegionId, _Memory]:
    """Walk the order once, with what each region holds."""
    memories: dict[RegionId, _Memory] = {}
    sends: dict[Held, int] = {}
    for stream in program.streams:
        if stream.source is not None:
            sends[stream.source] = sends.get(stream.source, 0) + 1
    for task in program.order:
        match task:
            case Execute(instance):
                where = program.instance[instance]
                _execute(program.blocks[where.block], where, memories.setdefault(where.region, _Memory()))
            case Transfer(stream_id):
                stream = program.stream[stream_id]
                if stream.source is not None and not stream.lanes:
                    _sent(program, memories, sends, stream.source)  # it stays where it is under its new name
                if stream.destination is not None:
                    arrives = program.instance[stream.destination[0]]
                    block, name = program.blocks[arrives.block], stream.destination[1]
                    memory = memories.setdefault(arrives.region, _Memory())
                    if name not in _resident(block):
                        memory.hold((arrives.id, name), tile_sram(block.values[name], block.mesh))
                    memory.note(f"transfer {stream.id}")
                if stream.source is not None and stream.lanes:
                    _sent(program, memories, sends, stream.source)
    return memories


def _sent(program: PlacedProgram, memories: dict[RegionId, _Memory], sends: dict[Held, int], source: Held) -> None:
    """Once its last stream is served, an output is let go."""
    sends[source] -= 1
    memory = memories.get(program.instance[source[0]].region)
    if not sends[source] and memory is not None:
        memory.live.pop(source, None)


def _resident(block: Block) -> set[LocalName]:
    return {*block.params, *block.states, *block.states.values()}


def _execute(block: Block, instance: Instance, memory: _Memory) -> None:
    resident = _resident(block)
    size = {name: tile_sram(tiled, block.mesh) for name, tiled in block.values.items() if name not in resident}
    for name in block.inputs:
        if name in size:
            memory.hold((instance.id, name), size[name])
    memory.note(f"instance {instance.id}")
    for i, step in enumerate(block.steps):
        for name in step_outs(step):
            if name in size:
                memory.hold((instance.id, name), size[name])
        memory.note(f"instance {instance.id}, step {step.id}")
        dead = [k for k in memory.live if k[0] == instance.id and block.last_use.get(k[1], -1) <= i]
        for key in dead:
            del memory.live[key]

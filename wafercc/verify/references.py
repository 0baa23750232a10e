"""Rule 1, names: what a name refers to exists, once. The other rules read the program only if this one holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ..ir.block import Block, Compute, Phase, step_ins, step_outs
from ..ir.layout import Mesh, Tiled
from ..ir.program import EdgePort, Execute, Fan, PlacedProgram, Stream, Transfer
from .violation import Violation

RULE = 1


def check_references(program: PlacedProgram) -> Iterator[Violation]:
    """Every region, block, instance, stream, value and axis that is named exists; ids are unique."""
    yield from _unique("region", [r.id for r in program.regions])
    yield from _unique("instance", [i.id for i in program.instances])
    yield from _unique("stream", [s.id for s in program.streams])
    for name, block in program.blocks.items():
        if block.name != name:
            yield Violation(RULE, f"block {name}", f"calls itself {block.name}")
        yield from _block(block)
    for key, weight in program.weights.items():
        yield from _layout(f"weight {key}", weight.tiled, weight.mesh)
    for instance in program.instances:
        where = f"instance {instance.id}"
        if instance.region not in program.region:
            yield Violation(RULE, where, f"region {instance.region} does not exist")
        elif instance.block in program.blocks:
            region, mesh = program.region[instance.region], program.blocks[instance.block].mesh
            if (region.rows, region.columns) != (mesh.rows, mesh.columns):
                shapes = f"{region.rows}x{region.columns} PEs, block {instance.block} has {mesh.rows}x{mesh.columns}"
                yield Violation(RULE, where, f"region {region.id} has {shapes}")
        if instance.block not in program.blocks:
            yield Violation(RULE, where, f"block {instance.block} does not exist")
    for net in program.collectives:
        if net.region not in program.region:
            yield Violation(RULE, f"collective {net.kind}", f"region {net.region} does not exist")
    for region_id in program.sram:
        if region_id not in program.region:
            yield Violation(RULE, "sram plan", f"region {region_id} does not exist")
    for stream in program.streams:
        yield from _stream(program, stream)
    for task in program.order:
        if isinstance(task, Execute) and task.instance not in program.instance:
            yield Violation(RULE, "order", f"instance {task.instance} does not exist")
        if isinstance(task, Transfer) and task.stream not in program.stream:
            yield Violation(RULE, "order", f"stream {task.stream} does not exist")


def _unique(kind: str, ids: Iterable[str]) -> Iterator[Violation]:
    for name, count in Counter(ids).items():
        if count > 1:
            yield Violation(RULE, f"{kind} {name}", f"{count} of this name")


def _block(block: Block) -> Iterator[Violation]:
    where = f"block {block.name}"
    named = [*block.params, *block.inputs, *block.outputs, *block.states, *block.states.values()]
    for step in block.steps:
        for value in (*step_ins(step), *step_outs(step)):
            if value not in block.values:
                yield Violation(RULE, f"{where}, step {step.id}", f"value {value} does not exist")
        if isinstance(step, Compute):
            yield from _operands(where, step)
        elif unknown := set(getattr(step, "axes", ())) - set(block.mesh.extent):
            yield Violation(RULE, f"{where}, step {step.id}", f"axis {min(unknown)} is not of mesh {block.mesh}")
    for value in named:
        if value not in block.values:
            yield Violation(RULE, where, f"value {value} does not exist")
    yield from _unique(f"{where}, step", [s.id for s in block.steps])
    for value, tiled in block.values.items():
        yield from _layout(f"{where}, value {value}", tiled, block.mesh)


def _operands(where: str, step: Compute) -> Iterator[Violation]:
    """A step reads the operands of its op; FINISH reads the combined partials before them."""
    place = f"{where}, step {step.id}, op {step.op.id} ({step.op.kind})"
    if step.guard is not None and step.guard.choices not in step.ins:
        yield Violation(RULE, place, f"is guarded by {step.guard.choices}, which it does not read")
    reads, wants = len(step.ins), len(step.op.inputs)
    if (reads != wants) if step.phase is not Phase.FINISH else (reads <= wants):
        yield Violation(RULE, place, f"phase {step.phase} reads {reads} values, the op has {wants} operands")
    if step.phase is not Phase.LOCAL and len(step.outs) != len(step.op.outputs):
        yield Violation(RULE, place, f"writes {len(step.outs)} values, the op has {len(step.op.outputs)} results")


def _layout(where: str, tiled: Tiled, mesh: Mesh) -> Iterator[Violation]:
    layout = tiled.layout
    if len(layout.splits) != tiled.type.rank:
        yield Violation(RULE, where, f"layout {layout} does not fit type {tiled.type}")
    held = [(axis, index) for axis, index in layout.held if not 0 <= index < mesh.extent.get(axis, index + 1)]
    for axis, index in held:
        yield Violation(RULE, where, f"held at {axis}={index}, but {axis} has {mesh.extent[axis]}")
    used = [*layout.cut_axes, *(a for a, _ in layout.partial), *(a for a, _ in layout.held)]
    for axis, count in Counter(used).items():
        if axis not in mesh.extent:
            yield Violation(RULE, where, f"axis {axis} of layout {layout} is not of mesh {mesh}")
        elif count > 1:
            yield Violation(RULE, where, f"axis {axis} is used twice in layout {layout}")
    if any(split.granule < 1 for split in layout.splits):
        yield Violation(RULE, where, f"a granule of layout {layout} is not positive")


def _stream(program: PlacedProgram, stream: Stream) -> Iterator[Violation]:
    where = f"stream {stream.id} ({stream.value})"
    for end, role in ((stream.source, "source"), (stream.destination, "destination")):
        if end is None:
            continue
        instance = program.instance.get(end[0])
        if instance is None:
            yield Violation(RULE, where, f"its {role}, instance {end[0]}, does not exist")
        elif instance.block in program.blocks and end[1] not in program.blocks[instance.block].values:
            yield Violation(RULE, where, f"its {role}, value {end[1]} of instance {end[0]}, does not exist")
    for i, lane in enumerate(stream.lanes):
        for lane_end in (lane.source, lane.destination):
            if isinstance(lane_end, Fan):
                yield from _fan(program, f"{where} lane {i}", lane_end)
        if lane.path.ndim != 2 or lane.path.shape[1:] != (2,) or not len(lane.path):
            yield Violation(RULE, f"{where} lane {i}", f"its path is an array {lane.path.shape}, not routers (x, y)")
        if isinstance(lane.source, EdgePort) and isinstance(lane.destination, EdgePort) and stream.source is not None:
            yield Violation(RULE, f"{where} lane {i}", "runs from edge to edge, past its instance")


def _fan(program: PlacedProgram, where: str, fan: Fan) -> Iterator[Violation]:
    region = program.region.get(fan.region)
    if region is None:
        yield Violation(RULE, where, f"region {fan.region} does not exist")
        return
    teeth, trunks = (region.rows, region.columns) if fan.along == "y" else (region.columns, region.rows)
    if not (0 <= fan.lo <= fan.gate < fan.hi <= teeth and 0 <= fan.trunk < trunks):
        yield Violation(RULE, where, f"{fan} does not lie in region {fan.region}, {region.rows}x{region.columns} PEs")

"""Rule 1: every value has its producer, every reduction is done, every weight is there and covered once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..ir.block import AllGather, AllReduce, Block, Compute, Instance, LocalName, Narrow, Phase, step_ins, step_outs
from ..ir.layout import AxisName, Tiled
from ..ir.program import PlacedProgram, WeightTiles
from .machine import Machine
from .ownership import covers, cut_alike, scaled_alike, tile_elements, tile_sram
from .reductions import owed_axes, scaled, together
from .replicas import check_alike
from .violation import Violation

RULE = 1


def check_values(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """In every block: written before read, written once, no layout that promises what the step cannot give."""
    for block in program.blocks.values():
        yield from _written_before_read(block)
        for step in block.steps:
            where = f"block {block.name}, step {step.id}"
            match step:
                case Compute():
                    yield from _compute(block, step, f"{where}, op {step.op.id} ({step.op.kind})")
                case AllReduce():
                    yield from _all_reduce(block, step, where)
                case AllGather():
                    yield from _relayout(block, step, where, frozenset(step.axes))
                    yield from _line(block, where, step.axes, step.root)
                case Narrow():
                    yield from _relayout(block, step, where, frozenset())
        for value in dict.fromkeys((*block.outputs, *block.states.values(), *block.params, *block.inputs)):
            if partial := block.values[value].layout.partial:
                owed = " ".join(f"{combine}:{axis}" for axis, combine in partial)
                where = f"block {block.name}, value {value}"
                yield Violation(RULE, where, f"enters, stays or leaves while it still owes {owed}")


def check_weights(program: PlacedProgram, machine: Machine) -> Iterator[Violation]:
    """Every parameter of every instance is bound to tiles of its layout that cover every element once a replica."""
    for instance in program.instances:
        yield from _bindings(program, instance)
    sound: dict[str, tuple[str, WeightTiles]] = {}
    for key, weight in program.weights.items():
        if weight.tiles is None:
            continue
        where = f"weight {key} ({weight.origin})"
        wrong = tuple(_tiles(where, weight))
        yield from wrong
        if not wrong and weight.value:
            first, like = sound.setdefault(weight.value, (key, weight))
            if first != key:
                yield from check_alike(where, weight, first, like)


def _written_before_read(block: Block) -> Iterator[Violation]:
    written: set[LocalName] = {*block.params, *block.inputs, *block.states}
    for step in block.steps:
        where = f"block {block.name}, step {step.id}"
        for value in step_ins(step):
            if value not in written:
                yield Violation(RULE, where, f"reads {value}, which nothing before it writes")
        for value in step_outs(step):
            if value in written:
                yield Violation(RULE, where, f"writes {value}, which is written already")
            written.add(value)
    for value in dict.fromkeys((*block.outputs, *block.states.values())):
        if value not in written:
            yield Violation(RULE, f"block {block.name}", f"its output {value} is written by no step")


def _compute(block: Block, step: Compute, where: str) -> Iterator[Violation]:
    """A kernel reads complete values; only its LOCAL phase leaves partial ones, over exactly the axes it owes."""
    for value in dict.fromkeys(v for v in step.ins if v is not None):
        if block.values[value].layout.partial:
            yield Violation(RULE, where, f"reads {value}, which still owes a reduction: {block.values[value]}")
    operands = step.ins[len(step.ins) - len(step.op.inputs) :]
    tiles = [None if v is None else block.values[v] for v in operands]
    owed = owed_axes(step.op, tiles)
    if (pair := together(step.op)) is not None:
        (left, i), (right, j) = pair
        a, b = (tiles[k] if k < len(tiles) else None for k in (left, right))
        if a is not None and b is not None and not cut_alike(a, i, b, j, block.mesh):
            yield Violation(RULE, where, f"multiplies along dimensions that are cut differently: {a} and {b}")
    yield from _scales(block, step, tiles, where)
    owed = None if owed is None else frozenset(axis for axis in owed if block.mesh.extent[axis] > 1)
    for value in step.outs:
        partial = frozenset(axis for axis, _ in block.values[value].layout.partial if block.mesh.extent[axis] > 1)
        if step.phase is not Phase.LOCAL and partial:
            yield Violation(RULE, where, f"phase {step.phase} writes {value}, which owes {_names(partial)}")
        if step.phase is Phase.LOCAL and owed is not None and partial != owed:
            yield Violation(RULE, where, f"{value} owes {_names(partial)}; its operands are cut over {_names(owed)}")
    if step.phase is Phase.WHOLE and owed:
        yield Violation(RULE, where, f"reduces over {_names(owed)} but runs in one phase, without a collective")


def _scales(block: Block, step: Compute, tiles: list[Tiled | None], where: str) -> Iterator[Violation]:
    """Where a PE holds quantised numbers, it holds their scales and zero points."""
    if (found := scaled(step.op)) is None:
        return
    quantised, places, blocks = found
    numbers = tiles[quantised] if quantised < len(tiles) else None
    for place in places:
        scale = tiles[place] if place < len(tiles) else None
        if numbers is not None and scale is not None and not scaled_alike(numbers, scale, blocks, block.mesh):
            yield Violation(RULE, where, f"reads {numbers} with scales or zero points that lie elsewhere: {scale}")


def _all_reduce(block: Block, step: AllReduce, where: str) -> Iterator[Violation]:
    yield from _line(block, where, step.axes, step.root)
    if len(step.ins) != len(step.outs):
        yield Violation(RULE, where, f"reads {len(step.ins)} values and writes {len(step.outs)}")
    for source, result in zip(step.ins, step.outs, strict=False):
        before, after = block.values[source], block.values[result]
        owed, left = dict(before.layout.partial), dict(after.layout.partial)
        for axis in step.axes:
            if owed.get(axis) != step.combine and block.mesh.extent[axis] > 1:
                yield Violation(RULE, where, f"combines {step.combine} over {axis}, but {source} is {before}")
        if left != {axis: combine for axis, combine in owed.items() if axis not in step.axes}:
            yield Violation(RULE, where, f"its result {result} is {after}, after {_names(step.axes)} of {before}")
        same = (before.type, before.layout.splits, before.layout.held)
        if same != (after.type, after.layout.splits, after.layout.held):
            yield Violation(RULE, where, f"changes more than the reduction: {before} to {after}")


def _relayout(block: Block, step: AllGather | Narrow, where: str, gathered: frozenset[AxisName]) -> Iterator[Violation]:
    before, after = block.values[step.source], block.values[step.result]
    if before.layout.partial:
        yield Violation(RULE, where, f"reads {step.source}, which still owes a reduction: {before}")
    if before.type != after.type:
        yield Violation(RULE, where, f"changes the type: {before} to {after}")
    elif not covers(before, after, block.mesh, gathered):
        yield Violation(RULE, where, f"{step.result} {after} needs elements that {step.source} {before} has elsewhere")


def _line(block: Block, where: str, axes: tuple[AxisName, ...], root: int) -> Iterator[Violation]:
    """The axes of a collective make lines of neighbours: all axes of one direction, or its minor ones."""
    if len(set(axes)) < len(axes):
        yield Violation(RULE, where, f"names an axis twice: {' '.join(axes)}")
    chosen = [axis for axis in block.mesh.axes if axis.name in axes and axis.extent > 1]
    if not chosen:
        return
    direction = [axis for axis in block.mesh.axes if axis.along == chosen[0].along and axis.extent > 1]
    if direction[-len(chosen) :] != chosen:
        yield Violation(RULE, where, f"axes {_names(axes)} of mesh {block.mesh} are no line of neighbours")
    elif not 0 <= root < block.mesh.parts(axes):
        yield Violation(RULE, where, f"root {root} is outside its line of {block.mesh.parts(axes)} PEs")


def _bindings(program: PlacedProgram, instance: Instance) -> Iterator[Violation]:
    block = program.blocks[instance.block]
    where = f"instance {instance.id}"
    for param in block.params:
        key = instance.weights.get(param)
        weight = None if key is None else program.weights.get(key)
        if weight is None:
            yield Violation(RULE, where, f"parameter {param} is bound to {key or 'nothing'}, which is no weight")
        elif weight.tiled != block.values[param]:
            yield Violation(RULE, where, f"parameter {param} is {block.values[param]}, weight {key} is {weight.tiled}")
        elif weight.mesh != block.mesh:
            yield Violation(RULE, where, f"weight {key} is cut for mesh {weight.mesh}, block has {block.mesh}")
    for param in instance.weights:
        if param not in block.params:
            yield Violation(RULE, where, f"binds {param}, which is no parameter of block {block.name}")


def _tiles(where: str, weight: WeightTiles) -> Iterator[Violation]:
    """The array has an index for every tile and a slot for every element, so each element is there once a replica. Of
    elements that share a byte, the slots of a tile are packed."""
    assert weight.tiles is not None
    cut = weight.tiled.layout.cut_axes
    lead = tuple(axis.extent if axis.name in cut else 1 for axis in weight.mesh.axes)
    packed = weight.tiled.dtype.is_packed
    tile = (tile_sram(weight.tiled, weight.mesh),) if packed else tile_elements(weight.tiled, weight.mesh)
    expected, stored = (*lead, *tile), np.dtype(np.uint8) if packed else weight.tiled.dtype.numpy
    if weight.tiled.layout.partial:
        yield Violation(RULE, where, f"a weight cannot owe a reduction: {weight.tiled}")
    if weight.tiles.shape != expected:
        shape = "x".join(map(str, weight.tiles.shape))
        yield Violation(RULE, where, f"tiles are {shape}, {weight.tiled} needs {'x'.join(map(str, expected))}")
    if weight.tiles.dtype != stored:
        yield Violation(RULE, where, f"tiles hold {weight.tiles.dtype}, {weight.tiled} needs {weight.tiled.dtype}")


def _names(axes: frozenset[AxisName] | tuple[AxisName, ...]) -> str:
    return " ".join(sorted(axes)) or "nothing"

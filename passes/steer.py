"""Steer: turn what the user decided by name into regions, blocks, ops and values of this partition.

Equal layers share one block, so a strategy for one layer's op, and a mesh for one region, hold for all of them. Where
several strategies name one op, the one given last counts. A pinned rectangle bounds the mesh of its region: its rows
bound those of all blocks, since blocks share their rows, its columns those of the region's block.

Reads Options and Partition; writes Steering. Cost: linear in ops for each name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wafercc.errors import CompileError
from wafercc.ir.block import BlockName, RegionId
from wafercc.ir.graph import Op, OpId, ValueName
from wafercc.ir.layout import Layout, Mesh, parse_layout
from wafercc.ir.op_names import few, find_ops, nearest, nearest_ops, own_ops, split_block
from wafercc.ir.partition import Partition
from wafercc.ir.program import Rect

from .embed import DETOUR_HOPS, REACH, Embed
from .layout import WHOLE_ELEMENTS
from .machine import Machine
from .options import Options, flag_of

MeshShape = tuple[int, int]


# From the embeddings that take fewest colours to those that lose fewest PEs. Wide jogs make three lines meet, whose
# colours seldom suffice, so they come last of all.
EMBEDDINGS = ((Embed(reach=0, detour_hops=0), Embed(reach=0), Embed(reach=1)), (Embed(),))


@dataclass(frozen=True)
class Steering:
    """What is decided beforehand: rectangles of regions; per block a mesh (its shape, or whole with its factors), the
    most rows and columns, strategies and shared layouts; and the embeddings to try: each group for one size plan after
    the other, before the next group; and how many elements may lie whole on one PE.
    """

    pins: Mapping[RegionId, Rect] = field(default_factory=dict)
    shapes: Mapping[BlockName, MeshShape] = field(default_factory=dict)
    meshes: Mapping[BlockName, Mesh] = field(default_factory=dict)
    most_columns: Mapping[BlockName, int] = field(default_factory=dict)
    most_rows: int | None = None
    strategies: Mapping[BlockName, Mapping[OpId, str]] = field(default_factory=dict)
    shared: Mapping[BlockName, Mapping[ValueName, Layout]] = field(default_factory=dict)
    embeddings: tuple[tuple[Embed, ...], ...] = EMBEDDINGS
    whole_elements: int = WHOLE_ELEMENTS


FREE = Steering()


def steer(options: Options, partition: Partition, machine: Machine) -> Steering:
    """The options that name parts of the program, checked against what there is.

    Raises:
        CompileError: a name means nothing, a pin is outside, overlaps another or is smaller than its forced mesh, or
        forced meshes contradict each other.
    """
    pins = _pins(options, partition, machine)
    shapes, meshes = _meshes(options, partition)
    blocks = {stage.region: stage.block for stage in partition.stages}
    most_columns: dict[BlockName, int] = {}
    for region, rect in pins.items():
        block = blocks[region]
        most_columns[block] = min(rect.w, most_columns.get(block, rect.w))
        rows, columns = shapes.get(block, (1, 1))
        if rows > rect.h or columns > rect.w:
            raise CompileError(
                f"a mesh of {columns} columns x {rows} rows is forced on it; the rectangle has {rect.w} x {rect.h}",
                where=f"region {region}, pinned at {rect}",
                hint="give a larger --pin or a smaller --region",
            )
    forced = None
    if options.reach is not None or options.detour_hops is not None:
        hops = DETOUR_HOPS if options.detour_hops is None else options.detour_hops
        forced = Embed(REACH if options.reach is None else options.reach, hops)
    return Steering(
        pins,
        shapes,
        meshes,
        most_columns,
        min((rect.h for rect in pins.values()), default=None),
        _strategies(options, partition),
        _shared(options, partition, meshes),
        EMBEDDINGS if forced is None else ((forced,),),
        options.whole_elements,
    )


def _pins(options: Options, partition: Partition, machine: Machine) -> dict[RegionId, Rect]:
    regions = {stage.region for stage in partition.stages}
    width, height = machine.target.width, machine.target.height
    pins: dict[RegionId, Rect] = {}
    for name, (x, y, w, h, *wafer) in options.pins.items():
        region, rect = RegionId(name), Rect(wafer[0] if wafer else 0, x, y, w, h)
        where = f"region {name}, pinned at {rect}"
        if region not in regions:
            raise CompileError(
                f"no region {name!r}; there are: {few(stage.region for stage in partition.stages)}",
                where=_where("pins"),
                hint="wafercc show lists what each holds",
            )
        if rect.wafer:
            raise CompileError(f"it is on wafer {rect.wafer}; the program has wafer 0 only", where=where)
        if x + w > width or y + h > height:
            raise CompileError(
                f"it ends at column {x + w - 1}, row {y + h - 1}; {machine.target.name} has {width} columns x "
                f"{height} rows",
                where=where,
                hint="pin it elsewhere, or smaller",
            )
        for other, taken in pins.items():
            if x < taken.x + taken.w and taken.x < x + w and y < taken.y + taken.h and taken.y < y + h:
                message = f"it overlaps region {other}, pinned at {taken}"
                raise CompileError(message, where=where, hint="move one of them")
        pins[region] = rect
    return pins


def _meshes(
    options: Options, partition: Partition
) -> tuple[dict[BlockName, MeshShape], dict[BlockName, Mesh]]:
    """Forced meshes by block: the shape of each, and the whole mesh where its factors are given."""
    if options.region is not None:
        return dict.fromkeys(partition.templates, options.region), {}
    shapes: dict[BlockName, MeshShape] = {}
    meshes: dict[BlockName, Mesh] = {}
    said: tuple[str, int] | None = None
    for name, size in options.meshes.items():
        block = _block(name, partition, "mesh")
        rows, columns = size["rows"], size["columns"]
        mesh = Mesh.of(_factors(rows), _factors(columns))
        if said is not None and said[1] != mesh.rows:
            raise CompileError(
                f"{name} has {mesh.rows} rows and {said[0]} {said[1]}; all blocks have the same",
                where=f"mesh {name}",
                hint="change one of them",
            )
        said = name, mesh.rows
        shapes[block] = mesh.rows, mesh.columns
        if not isinstance(rows, int) and not isinstance(columns, int):
            meshes[block] = mesh
    return shapes, meshes


def _factors(size: Any) -> list[int]:
    return [size] if isinstance(size, int) else list(size)


def _block(name: str, partition: Partition, key: str) -> BlockName:
    """A block by its own name or by that of one of its regions."""
    known: dict[str, BlockName] = {stage.region: stage.block for stage in partition.stages}
    known |= {block: block for block in partition.templates}
    if name not in known:
        raise CompileError(f"no block or region {name!r}; there are: {nearest(name, known)}", where=f"{key} {name}")
    return known[name]


def _strategies(options: Options, partition: Partition) -> dict[BlockName, dict[OpId, str]]:
    forced: dict[BlockName, dict[OpId, str]] = {}
    if not options.strategies:
        return forced
    templates = partition.templates
    for name, strategy in options.strategies.items():
        block, rest = split_block(name, templates)
        meant = {b: _ops_meant(rest, b, partition) for b in templates if block in (None, b)}
        if not any(meant.values()):
            every = (op for b in meant for op in (*templates[b].ops, *_graph_ops(block, partition)))
            raise CompileError(
                f"no op {rest!r}{f' in block {block}' if block else ''}; nearest: {nearest_ops(rest, every)}",
                where=_where("strategies"),
                hint="wafercc show lists ops; ids, ONNX nodes, kinds and patterns are understood",
            )
        for b, ops in meant.items():
            forced.setdefault(b, {}).update(dict.fromkeys(ops, strategy))
    return {b: ops for b, ops in forced.items() if ops}


def _graph_ops(block: BlockName | None, partition: Partition) -> Iterable[Op]:
    return () if block else partition.graph.ops


def _ops_meant(name: str, block: BlockName, partition: Partition) -> list[OpId]:
    """Ops of a template that a name means, in the words of the template or of any stage that shares it."""
    template = partition.templates[block]
    found = [op.id for op in find_ops(name, template.ops)]
    if found:
        return found
    meant = {op.id for op in find_ops(name, partition.graph.ops)}
    for stage in partition.stages:
        if stage.block == block and meant:
            outputs = {value: stage.bindings[value] for value in template.outputs}
            own = own_ops(template.ops, partition.graph, outputs)
            found += [ours for ours, theirs in own.items() if theirs.id in meant]
    return list(dict.fromkeys(found))


def _shared(
    options: Options, partition: Partition, meshes: Mapping[BlockName, Mesh]
) -> dict[BlockName, dict[ValueName, Layout]]:
    found: dict[BlockName, dict[ValueName, Layout]] = {}
    for name, text in options.layouts.items():
        block, value = split_block(name, partition.templates)
        where = f"layout {name}"
        if block is None:
            raise CompileError("it is not BLOCK:VALUE", where=where, hint=f"blocks: {', '.join(partition.templates)}")
        if block not in meshes:
            raise CompileError(
                f"a layout is of a mesh, and that of {block} is not given",
                where=where,
                hint=f"give mesh.{block} with its factors",
            )
        if value not in partition.templates[block].types:
            known = nearest(value, map(str, partition.templates[block].types))
            raise CompileError(f"no value {value!r} in block {block}; nearest: {known}", where=where)
        try:
            found.setdefault(block, {})[ValueName(value)] = parse_layout(text)
        except (ValueError, AssertionError):
            raise CompileError(f"{text!r} is not a layout", where=where, hint="as in (-,y0/16,x0~)") from None
    return found


def _where(name: str) -> str:
    return f"option {name} ({flag_of(name).name})"

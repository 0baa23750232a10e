"""Request: what placement is asked, from the stages and their sizes."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import CompileError
from ...ir.block import BlockName, RegionId
from ...ir.graph import ValueName
from ...ir.lines import Excerpt
from ...ir.partition import Partition
from ...ir.placement import HOST, End, Flow, PlaceRequest, RegionRequest, Shape, parse_placement
from ...ir.program import Rect
from ..size_plan import SizePlan
from ..steer import MeshShape


def place_request(partition: Partition, plan: SizePlan, pins: Mapping[RegionId, Rect]) -> PlaceRequest:
    """The regions with their meshes, the words that flow between them and the host, and the rectangles given."""
    graph = partition.graph
    flows: dict[tuple[End, End], int] = {}

    def add(source: End, destination: End, value: ValueName) -> None:
        kind = graph.types[value]
        flows[source, destination] = flows.get((source, destination), 0) + kind.dtype.wavelets(kind.elements)

    for stage in partition.stages:
        template = partition.templates[stage.block]
        for name in template.inputs:
            value = stage.bindings[name]
            if value not in graph.states:
                add(HOST if value in graph.inputs else partition.source[value][0].region, stage.region, value)
        for name in template.outputs:
            value = stage.bindings[name]
            if value in graph.outputs and value not in graph.states.values():
                add(stage.region, HOST, value)
    regions = tuple(RegionRequest(s.region, (Shape(*plan.shapes[s.block]),)) for s in partition.stages)
    return PlaceRequest(regions, tuple(Flow(a, b, n) for (a, b), n in flows.items()), pins)


def placed_plan(text: Excerpt, partition: Partition) -> SizePlan:
    """The sizes of a placement's text: all regions of one block have one mesh.

    Raises:
        TextError: a line is not of a placement.
        CompileError: a region is missing, or has another mesh than those of the same block.
    """
    placement = parse_placement(text)
    shapes: dict[BlockName, MeshShape] = {}
    for stage in partition.stages:
        where = f"{text.file}, region {stage.region}"
        if stage.region not in placement.shapes:
            raise CompileError("it has no place", where=where)
        shape = placement.shapes[stage.region]
        wanted = shapes.setdefault(stage.block, (shape.rows, shape.columns))
        if wanted != (shape.rows, shape.columns):
            raise CompileError(
                f"its mesh is {shape}, and {wanted[0]}x{wanted[1]} in another region of block {stage.block}",
                where=where,
                hint="give all regions of a block one mesh, rows x columns",
            )
    return SizePlan({name: shapes[name] for name in partition.templates})

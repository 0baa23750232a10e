"""Request: what placement is asked, from the stages and their sizes."""

from __future__ import annotations

from collections.abc import Mapping

from ...ir.block import RegionId
from ...ir.graph import ValueName
from ...ir.partition import Partition
from ...ir.placement import HOST, End, Flow, PlaceRequest, RegionRequest, Shape
from ...ir.program import Rect
from ..size import SizePlan


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

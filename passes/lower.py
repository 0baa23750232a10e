"""Lower: put everything decided into one placed program.

Turns stages and solved blocks into instances, cuts every weight into the tiles its PEs hold (equal tiles in equal
layouts are stored once and shared), and gathers regions, streams, routers, order and SRAM plan into a PlacedProgram.
Weights are read here and nowhere before. Cost: linear in streams and weight bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from wafercc.ir.block import BlockName, Instance, InstanceId, LocalName
from wafercc.ir.graph import Graph, ValueName
from wafercc.ir.layout import Mesh, Tiled
from wafercc.ir.packing import pack
from wafercc.ir.partition import Partition
from wafercc.ir.program import StreamId, WeightTiles
from wafercc.ir.routing import StreamDemand
from wafercc.ir.tiling import tile
from wafercc.ir.weights import Array, Weights

from .layout import SolvedBlock


@dataclass
class _Tiles:
    """The program's weight tiles: one entry for each (weight, layout, mesh)."""

    graph: Graph
    weights: Weights
    entries: dict[str, WeightTiles] = field(default_factory=dict)
    keys: dict[tuple[object, ...], str] = field(default_factory=dict)
    loaded: dict[ValueName, Array] = field(default_factory=dict)

    def key(self, weight: ValueName, solved: SolvedBlock, local: LocalName) -> str:
        tiled, mesh = solved.block.values[local], solved.block.mesh
        identity = (weight, tiled, mesh)
        if identity not in self.keys:
            copies = sum(known[0] == weight for known in self.keys)
            key = f"{weight}#{copies}" if copies else str(weight)
            array = self.numbers(weight)
            tiles = None if array is None else _stored(tile(array, tiled, mesh), tiled, mesh)
            origin = self.weights.sources[weight].origin or str(weight)
            self.entries[key] = WeightTiles(tiled, mesh, tiles, origin, str(weight))
            self.keys[identity] = key
        return self.keys[identity]

    def numbers(self, weight: ValueName) -> Array | None:
        if self.weights.sources[weight].load is None:
            return None
        if weight not in self.loaded:
            kind = self.graph.types[weight]
            array = np.asarray(self.weights.load(weight))
            assert array.shape == kind.shape, f"{weight} has shape {array.shape}, not {kind.shape}"
            assert array.dtype == kind.dtype.numpy, f"{weight} is {array.dtype}, not {kind.dtype}"
            self.loaded[weight] = array
        return self.loaded[weight]


def _stored(tiles: Array, tiled: Tiled, mesh: Mesh) -> Array:
    """Tiles as PEs hold them: elements of less than a byte are packed."""
    return pack(tiles, len(mesh.axes), tiled.dtype) if tiled.dtype.is_packed else tiles


def make_instances(
    partition: Partition, blocks: Mapping[BlockName, SolvedBlock], weights: Weights
) -> tuple[tuple[Instance, ...], dict[str, WeightTiles]]:
    """An instance per stage, and the weight tiles they are bound to."""
    tiles = _Tiles(partition.graph, weights)
    instances = []
    for stage in partition.stages:
        solved = blocks[stage.block]
        instances.append(
            Instance(
                InstanceId(f"i{stage.region.removeprefix('r')}"),
                stage.block,
                stage.region,
                {local: tiles.key(stage.bindings[w], solved, local) for local, w in solved.weights.items()},
                {local: stage.bindings[v] for local, v in solved.interface.items()},
            )
        )
    return tuple(instances), tiles.entries


def stream_demands(
    partition: Partition, blocks: Mapping[BlockName, SolvedBlock], instances: tuple[Instance, ...]
) -> tuple[StreamDemand, ...]:
    """Every movement between stages and the host, each consumer's its own."""
    graph = partition.graph
    source: dict[ValueName, tuple[InstanceId, LocalName]] = {}
    for instance in instances:
        for local in blocks[instance.block].block.outputs:
            source.setdefault(instance.bindings[local], (instance.id, local))
    kept = set(graph.states) | set(graph.states.values())
    demands: list[StreamDemand] = []
    for instance in instances:
        for local in blocks[instance.block].block.inputs:
            value = instance.bindings[local]
            start = None if value in graph.inputs else source[value]
            name = StreamId(f"{value} to {instance.region}")
            demands.append(
                StreamDemand(name, value, graph.types[value], start, (instance.id, local), value in graph.states)
            )
    for value in dict.fromkeys(graph.outputs):
        if value in source:
            name = StreamId(f"{value} to host")
            demands.append(StreamDemand(name, value, graph.types[value], source[value], None, value in kept))
    return tuple(demands)

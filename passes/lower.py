"""Lower: put everything decided into one placed program.

Turns stages and solved blocks into instances, cuts every weight into the tiles its PEs hold (equal tiles in equal
layouts are stored once and shared), and gathers regions, streams, routers, order and SRAM plan into a PlacedProgram.
Weights are read here and nowhere before. Cost: linear in streams and weight bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

COMPARED_ELEMENTS = 65_536


@dataclass
class Tiles:
    """The program's weight tiles: one for each (weight, layout, mesh), for all entries."""

    stored: dict[str, WeightTiles] = field(default_factory=dict)
    keys: dict[tuple[object, ...], str] = field(default_factory=dict)

    def key(self, given: Given, weight: ValueName, solved: SolvedBlock, local: LocalName) -> str:
        tiled, mesh = solved.block.values[local], solved.block.mesh
        origin = given.weights.sources[weight].origin or str(weight)
        identity = (weight, origin, given.content(weight), tiled, mesh)
        if identity not in self.keys:
            copies = sum(known[0] == weight for known in self.keys)
            key = f"{weight}#{copies}" if copies else str(weight)
            array = given.numbers(weight)
            tiles = None if array is None else _stored(tile(array, tiled, mesh), tiled, mesh)
            self.stored[key] = WeightTiles(tiled, mesh, tiles, origin, str(weight))
            self.keys[identity] = key
        return self.keys[identity]

    def of(self, instances: Iterable[Instance]) -> dict[str, WeightTiles]:
        """Those that some instances are bound to."""
        used = {key for instance in instances for key in instance.weights.values()}
        return {key: weight for key, weight in self.stored.items() if key in used}


@dataclass
class Given:
    """The weights of one entry's graph, each read once."""

    graph: Graph
    weights: Weights
    loaded: dict[ValueName, Array] = field(default_factory=dict)

    def content(self, weight: ValueName) -> bytes:
        """What tells small weights of one name and origin apart: entries may have computed them for their own
        length."""
        if self.graph.types[weight].elements > COMPARED_ELEMENTS:
            return b""
        array = self.numbers(weight)
        return b"" if array is None else array.tobytes()

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
    partition: Partition, blocks: Mapping[BlockName, SolvedBlock], weights: Weights, tiles: Tiles
) -> tuple[Instance, ...]:
    """An instance per stage, bound to its weight tiles; those that are not there yet are cut."""
    given = Given(partition.graph, weights)
    instances = []
    for stage in partition.stages:
        solved = blocks[stage.block]
        instances.append(
            Instance(
                InstanceId(f"i{stage.region.removeprefix('r')}"),
                stage.block,
                stage.region,
                {local: tiles.key(given, stage.bindings[w], solved, local) for local, w in solved.weights.items()},
                {local: stage.bindings[v] for local, v in solved.interface.items()},
            )
        )
    return tuple(instances)


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

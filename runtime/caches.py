"""Caches that stay in SRAM between the runs of a session: the tiles of each, as the last run has left them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import RunError
from ..ir.graph import ValueName
from ..ir.layout import Layout, Mesh, Tiled
from ..ir.program import PlacedProgram, Stream
from ..ir.tiling import tile
from .tiles import Array, check_shape, untile


@dataclass
class Caches:
    """How many tokens the caches hold, and the tiles of each by the input that it is; no tiles while they are empty."""

    n_past: int = 0
    tiles: dict[ValueName, Array] = field(default_factory=dict)

    def take(self, stream: Stream, tiled: Tiled, mesh: Mesh) -> Array:
        """The tiles of the cache that a stateless run would load by this stream."""
        if not self.n_past:
            empty = np.zeros(stream.type.at(0), stream.type.dtype.numpy)
            return tile(empty, tiled, mesh, 0)
        tiles = self.tiles[stream.value]
        check_shape(tiles, tiled, mesh, self.n_past, f"cache {stream.value}")
        return tiles

    def whole(self, program: PlacedProgram) -> dict[str, Array]:
        """Every cache as one array, by the input that it is."""
        found: dict[str, Array] = {}
        for stream in program.streams:
            if stream.state and stream.destination is not None:
                block = program.blocks[program.instance[stream.destination[0]].block]
                tiled = block.values[stream.destination[1]]
                found[stream.value] = untile(self.take(stream, tiled, block.mesh), tiled, block.mesh, self.n_past)
        return found


def taken_tokens(program: PlacedProgram) -> int:
    """By how many tokens a run of this entry lets its caches grow; 0 if it has none."""
    types = {**program.inputs, **program.outputs}
    for past, present in program.states.items():
        before, after = types[past].at(0), types[present].at(0)
        return sum(after) - sum(before)
    return 0


def check_alike(entries: Mapping[str, PlacedProgram]) -> None:
    """Hold that what one entry leaves in the caches is what every entry finds there.

    Raises:
        RunError: a cache has a fixed length, or lies in two ways.
    """
    lies: dict[str, tuple[str, Layout, Mesh]] = {}
    for program in entries.values():
        before = {present: past for past, present in program.states.items()}
        for past in program.states:
            if taken_tokens(program) and program.inputs[past].at(0) == program.inputs[past].at(1) and program.past_max:
                raise RunError(
                    f"has the fixed shape {program.inputs[past]}, so it cannot grow",
                    where=f"input {past} of entry {program.entry}",
                    hint="compile with --context and without the past's shape",
                )
        for stream in program.streams:
            end = stream.source or stream.destination
            if not stream.state or end is None:
                continue
            instance = program.instance[end[0]]
            block = program.blocks[instance.block]
            here = str(instance.region), block.values[end[1]].layout, block.mesh
            cache = before.get(stream.value, stream.value)
            if lies.setdefault(cache, here) != here:
                raise RunError(
                    f"lies as {lies[cache][1]} in region {lies[cache][0]} and as {here[1]} in region {here[0]}",
                    where=f"cache {cache}, entry {program.entry}",
                    hint="run without a session: pass past_* and read present_*",
                )

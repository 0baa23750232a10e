"""Bundles: the streams of a picture, those with the same two ends drawn as one arrow along their real lanes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.program import EdgePort, Lane, PlacedProgram, Stream
from .naming import HOST, stream_ends
from .summary import words

Ints = NDArray[np.int32]
Cell = tuple[int, int]


@dataclass(frozen=True)
class Bundle:
    """All streams from one region (or the host) to another. ``state``: caches, moved outside the timed part."""

    source: str
    destination: str
    state: bool
    streams: tuple[Stream, ...]

    @property
    def lanes(self) -> tuple[Lane, ...]:
        return tuple(lane for stream in self.streams for lane in stream.lanes)

    @property
    def words(self) -> int:
        return sum(words(stream) for stream in self.streams)

    @property
    def colours(self) -> int:
        return len({lane.colour for lane in self.lanes})

    @property
    def hops(self) -> int:
        """Hops of the longest lane."""
        return max(len(lane.path) - 1 for lane in self.lanes)

    @property
    def main(self) -> Lane:
        """The lane in the middle, along which the arrow is drawn."""
        return self.lanes[len(self.lanes) // 2]


def bundles(program: PlacedProgram, wafer: int = 0) -> tuple[Bundle, ...]:
    """The bundles of one wafer, in the order the program serves them; streams that stay in place have none."""
    regions = {i.id: i.region for i in program.instances}
    on = {str(r.id): r.rect.wafer for r in program.regions}
    found: dict[tuple[str, str, bool], list[Stream]] = {}
    for stream in program.streams:
        source, destination = stream_ends(stream, regions)
        if stream.lanes and wafer in (on.get(end) for end in (source, destination) if end != HOST):
            found.setdefault((source, destination, stream.state), []).append(stream)
    return tuple(Bundle(*key, tuple(streams)) for key, streams in found.items())


def corners(path: Ints) -> list[Cell]:
    """A lane's path by its ends and the routers where it turns."""
    if len(path) < 3:
        return [(int(x), int(y)) for x, y in path]
    steps = np.diff(path, axis=0)
    turns = np.any(steps[1:] != steps[:-1], axis=1)
    return [(int(x), int(y)) for x, y in path[np.concatenate([[True], turns, [True]])]]


def ports(program: PlacedProgram, wafer: int = 0) -> list[tuple[EdgePort, bool]]:
    """The edge ports in use, and whether words come in there; a port used both ways stands twice."""
    found: dict[tuple[EdgePort, bool], None] = {}
    for stream in program.streams:
        for lane in stream.lanes:
            if isinstance(lane.source, EdgePort) and lane.source.wafer == wafer:
                found[lane.source, True] = None
            if isinstance(lane.destination, EdgePort) and lane.destination.wafer == wafer:
                found[lane.destination, False] = None
    return list(found)

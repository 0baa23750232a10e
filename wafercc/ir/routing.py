"""Routing: over which routers and on which colours every word travels; and the demand that routing answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .block import InstanceId, LocalName, RegionId
from .graph import TensorType, ValueName
from .program import CollectiveNet, RouterTable, Stream, StreamId


@dataclass(frozen=True, slots=True)
class StreamDemand:
    """A value that must move: the fields of `Stream` before lanes are chosen. ``None`` at an end means the host."""

    id: StreamId
    value: ValueName
    type: TensorType
    source: tuple[InstanceId, LocalName] | None
    destination: tuple[InstanceId, LocalName] | None
    state: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """How the colours of a region's routers are spent: ``local`` ones on its own collectives, at most ``transit`` of
    one router on streams, and at least ``free`` of one router on nothing."""

    local: int
    transit: int
    free: int


@dataclass(frozen=True)
class Routing:
    """Streams with their lanes, the collective nets of every region, and the router configuration that carries both.

    A stream without lanes needs none: both ends are one region that holds the value in one layout. ``budget``: how each
    region's colours are spent. ``most_colours``: the largest number of colours on any one router. ``yields``: how
    often nets gave way to one another until every net had its way.
    """

    streams: tuple[Stream, ...]
    collectives: tuple[CollectiveNet, ...]
    routers: RouterTable
    budget: Mapping[RegionId, Budget]
    most_colours: int
    yields: int = 0

    def __str__(self) -> str:
        hops = sum(len(lane.path) - 1 for stream in self.streams for lane in stream.lanes)
        head = (
            f"routing: {len(self.streams)} streams, {len(self.collectives)} collective nets, "
            f"{len(self.routers.x)} router rows, at most {self.most_colours} colours on a router, {hops} hops of path, "
            f"{self.yields} nets gave way"
        )
        spent = [
            f"  {region}: {b.local} local colours, {b.transit} for streams, {b.free} free"
            for region, b in self.budget.items()
        ]
        return "\n".join([head, *spent, *(_line(stream) for stream in self.streams)])


def _line(stream: Stream) -> str:
    lanes = ", ".join(f"colour {lane.colour} {len(lane.path) - 1} hops" for lane in stream.lanes) or "in place"
    return f"  {stream.id} {stream.type}: {lanes}"

"""Groups: streams as the fabric carries them.

All that the host sends to one region takes one net, and all that a region sends to the host another: the routers'
configuration is the same for each, so the values follow one another on it. Every other stream is a group of its own,
with one net a lane. A stream whose ends are one region that holds the value alike at both stays in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wafercc.errors import CompileError
from wafercc.ir.block import Block, BlockName, Instance, InstanceId, LocalName, RegionId
from wafercc.ir.program import Region, StreamId
from wafercc.ir.routing import StreamDemand

from .ends import End
from .precedence import Bools, before


@dataclass(frozen=True, eq=False)
class Group:
    """Streams that share their nets: ``name`` for messages, the ends (None is the host), the wafer."""

    name: str
    source: End | None
    destination: End | None
    wafer: int
    members: tuple[StreamDemand, ...]

    @property
    def regions(self) -> tuple[RegionId, ...]:
        return tuple(end.region.id for end in (self.source, self.destination) if end is not None)

    @property
    def size(self) -> int:
        """PEs of its regions: the groups that need most room are routed first."""
        return sum(end.region.xs.size for end in (self.source, self.destination) if end is not None)

    @cached_property
    def in_place(self) -> bool:
        """Whether both ends are one region, so that nothing moves."""
        return self.source is not None and self.regions[:1] == self.regions[1:]

    def __str__(self) -> str:
        ends = ["the host" if e is None else f"region {e.region.id}" for e in (self.source, self.destination)]
        return f"{self.name} from {ends[0]} to {ends[1]}"


@dataclass(frozen=True, eq=False)
class Precedence:
    """``over[g, h]``: whether all streams of group g are over before any of group h begins."""

    groups: tuple[Group, ...]
    over: Bools

    @cached_property
    def index(self) -> Mapping[Group, int]:
        return {group: i for i, group in enumerate(self.groups)}

    def apart(self, a: Group, b: Group) -> bool:
        """Whether one of two groups is over before the other begins."""
        i, j = self.index[a], self.index[b]
        return bool(self.over[i, j] or self.over[j, i])

    def rank(self, group: Group) -> int:
        """How many groups are over before this one begins: of two that are apart, the later has the higher rank."""
        return int(self.over[:, self.index[group]].sum())


def gather(
    regions: Sequence[Region],
    blocks: Mapping[BlockName, Block],
    instances: Sequence[Instance],
    demands: Sequence[StreamDemand],
    order: Sequence[StreamId],
) -> Precedence:
    """All groups, those of the largest regions first, then as they are served; and which are over before which.

    Raises:
        CompileError: a stream leaves its wafer, or stays in a region that holds its value in two layouts.
    """
    maker = _Maker({r.id: r for r in regions}, blocks, {i.id: i for i in instances})
    shared: dict[tuple[str, RegionId | StreamId], list[int]] = {}
    for i, demand in enumerate(demands):
        shared.setdefault(maker.key(demand), []).append(i)
    rank = {stream: i for i, stream in enumerate(order)}
    found = [(maker.group(key, [demands[i] for i in members]), members) for key, members in shared.items()]
    found.sort(key=lambda pair: (-pair[0].size, min(rank.get(m.id, len(rank)) for m in pair[0].members)))
    over = before(demands, instances, blocks)
    pairs = [[over[np.ix_(a, b)].all() for _, b in found] for _, a in found]
    return Precedence(tuple(group for group, _ in found), np.array(pairs, bool).reshape(len(found), len(found)))


@dataclass(frozen=True, eq=False)
class _Maker:
    region: Mapping[RegionId, Region]
    blocks: Mapping[BlockName, Block]
    instance: Mapping[InstanceId, Instance]

    def key(self, demand: StreamDemand) -> tuple[str, RegionId | StreamId]:
        if demand.source is None and demand.destination is not None:
            return "input", self.instance[demand.destination[0]].region
        if demand.destination is None and demand.source is not None:
            return "output", self.instance[demand.source[0]].region
        return "stream", demand.id

    def group(self, key: tuple[str, RegionId | StreamId], members: Sequence[StreamDemand]) -> Group:
        source = self._end([m.source for m in members if m.source is not None], sends=True)
        destination = self._end([m.destination for m in members if m.destination is not None], sends=False)
        kind, of = key
        name = f"stream {of}" if kind == "stream" else f"host {kind} of {of} ({len(members)} values)"
        wafers = [end.region.rect.wafer for end in (source, destination) if end is not None] or [0]
        if len(set(wafers)) > 1:
            raise CompileError(
                f"cannot route: it leaves wafer {wafers[0]} for wafer {wafers[1]}; crossings are not supported yet",
                where=name,
                hint="place the model on one wafer",
            )
        group = Group(name, source, destination, wafers[0], tuple(members))
        if group.in_place:
            _check_alike(group)
        return group

    def _end(self, ends: Sequence[tuple[InstanceId, LocalName]], *, sends: bool) -> End | None:
        if not ends:
            return None
        hosts = [(self.instance[i], local) for i, local in ends]
        block = self.blocks[hosts[0][0].block]
        region = self.region[hosts[0][0].region]
        tiled = tuple(dict.fromkeys(self.blocks[i.block].values[local] for i, local in hosts))
        meshes = {self.blocks[i.block].mesh for i, _ in hosts}
        assert (block.mesh.rows, block.mesh.columns) == (region.rows, region.columns), (
            f"{region.id} is its blocks' mesh"
        )
        assert len(meshes) == 1, f"blocks of {region.id} that the host serves share one mesh"
        return End(region, block.mesh, tiled, sends)


def _check_alike(group: Group) -> None:
    """Hold that a region which keeps a value in place holds it alike where it is written and where it is read."""
    source, destination = group.source, group.destination
    assert source is not None and destination is not None
    if source.mesh != destination.mesh or source.tiled[0].layout != destination.tiled[0].layout:
        raise CompileError(
            f"cannot route: {group.members[0].value} is {source.tiled[0]} where it is written "
            f"and {destination.tiled[0]} where it is read, in one region",
            where=str(group),
            hint="give both blocks one layout, or put them in different regions",
        )

"""Route: give every word its way, as router configuration.

First the collective nets of each region, on local colours from 0 up. Then the streams, those of the largest regions
first: for each the number of lanes by cost, for each lane the pair of combs of least length that can be joined by a
path on one colour, from the highest colour down. A net takes its colour at every router it touches; nobody else may use
it there. Where a stream finds no way, it goes first in the next round; later rounds pack local colours by switch
positions and give up extra lanes. After a fixed number of rounds the answer is "cannot route", with what blocks.

Reads regions, blocks, instances, demands, Target and DefectMap; writes Routing. Cost: a few array operations over a
region's routers for each pattern and lane, over the box between two regions for each path; linear in routers for the
final sort. Congestion is negotiated by order alone, a plain form of PathFinder (McMurchie and Ebeling, 1995).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wafercc.errors import CompileError
from wafercc.ir.block import Block, BlockName, Instance, InstanceId, LocalName, RegionId
from wafercc.ir.program import CollectiveNet, Fan, Lane, Region, Stream, StreamId
from wafercc.ir.routing import Routing, StreamDemand
from wafercc.silicon import DefectMap
from wafercc.targets import Target

from .comb import Comb, comb_of
from .ends import End
from .fabric import Sheet
from .local import LocalNets, local_nets
from .nets import Group, Laid, Stuck, Weaver
from .relay import relay
from .rows import Packed, routers, settle, table
from .rows import colours as colours_of

__all__ = ["Route", "Routing", "StreamDemand"]


@dataclass(frozen=True)
class Route:
    """Options of the pass.

    ``max_lanes``: most lanes of one stream (None: as many as pay). ``local_colours``: colours a region's collectives
    may use. ``rounds``: orders tried before giving up; from ``pack_round`` on local colours are shared by switch
    positions, from ``single_round`` on every stream has one lane.
    """

    max_lanes: int | None = None
    local_colours: int = 15
    rounds: int = 9
    pack_round: int = 3
    single_round: int = 6

    def __call__(
        self,
        regions: Sequence[Region],
        blocks: Mapping[BlockName, Block],
        instances: Sequence[Instance],
        demands: Sequence[StreamDemand],
        order: Sequence[StreamId],
        target: Target,
        defects: DefectMap,
    ) -> Routing:
        """Route all streams and collectives.

        Raises:
            CompileError: colours run out or something cannot be reached; the net, its regions and what blocks are
            named. TargetError: the defect map is not of this target.
        """
        defects.check_for(target)
        maker = _Maker(self, regions, blocks, instances, target, defects)
        groups = maker.groups(demands, order)
        local = maker.local(share=False)
        empty = maker.sheets(local)
        front: list[Group] = []
        for attempt in range(1, self.rounds + 1):
            if attempt == self.pack_round:
                local = maker.local(share=True)
                empty = maker.sheets(local)
            ordered = [*front, *(g for g in groups if g not in front)]
            lanes = 1 if attempt >= self.single_round else self.max_lanes
            sheets = {wafer: sheet.copy() for wafer, sheet in empty.items()}
            weavers = maker.weavers(sheets, lanes)
            laid: dict[Group, list[Laid]] = {}
            try:
                for group in ordered:
                    current = group
                    laid[group] = weavers[group.wafer].route(group)
                return maker.routing(demands, local, laid, groups, sheets, attempt)
            except Stuck as blocked:
                reason = str(blocked)
                hopeless = not laid and attempt >= self.single_round
                front = [current, *(g for g in front if g is not current)]
                if hopeless:
                    break
        raise CompileError(
            f"cannot route: {reason}",
            where=str(current),
            hint="fewer streams into the region, fewer local colours, or a placement with more room between regions",
        )


    def again(
        self,
        regions: Sequence[Region],
        blocks: Mapping[BlockName, Block],
        instances: Sequence[Instance],
        demands: Sequence[StreamDemand],
        order: Sequence[StreamId],
        lanes: Mapping[StreamId, Sequence[Lane]],
        attempt: int,
        target: Target,
        defects: DefectMap,
    ) -> Routing:
        """The routing whose lanes are given, found in round ``attempt``: collectives and router table follow.

        Raises:
            CompileError: a lane clashes with what lies there already, or does not end where it should; it is named.
        """
        defects.check_for(target)
        maker = _Maker(self, regions, blocks, instances, target, defects)
        groups = maker.groups(demands, order)
        local = maker.local(share=attempt >= self.pack_round)
        sheets = maker.sheets(local)
        members = {group: [d.id for d in demands if maker.group_of[d.id] is group] for group in groups}
        laid = {group: relay(group, members[group], lanes, sheets[group.wafer], maker.comb) for group in groups}
        return maker.routing(demands, local, laid, groups, sheets, attempt)


@dataclass(eq=False)
class _Maker:
    """What one routing run knows: its inputs, and combs that were built already."""

    options: Route
    regions: Sequence[Region]
    blocks: Mapping[BlockName, Block]
    instances: Sequence[Instance]
    target: Target
    defects: DefectMap

    def __post_init__(self) -> None:
        self.region = {r.id: r for r in self.regions}
        self.instance = {i.id: i for i in self.instances}
        self.wafers = sorted({0, *(r.rect.wafer for r in self.regions)})
        self.blank = {w: Sheet.of(self.defects, w, self.target.router.colours) for w in self.wafers}
        self.combs: dict[Fan, Comb] = {}

    def comb(self, region: Region, fan: Fan) -> Comb:
        """The comb of a fan, built once."""
        if fan not in self.combs:
            self.combs[fan] = comb_of(region, fan)
        return self.combs[fan]

    def local(self, share: bool) -> dict[RegionId, LocalNets]:
        """The collective nets of every region."""
        hosted: dict[RegionId, dict[BlockName, Block]] = {r.id: {} for r in self.regions}
        for instance in self.instances:
            hosted[instance.region][instance.block] = self.blocks[instance.block]
        budget = min(self.options.local_colours, self.target.router.colours)
        positions = self.target.router.switch_positions
        return {
            r.id: local_nets(r, list(hosted[r.id].values()), budget, positions, self.blank[r.rect.wafer].links, share)
            for r in self.regions
        }

    def sheets(self, local: Mapping[RegionId, LocalNets]) -> dict[int, Sheet]:
        """Every wafer with the colours of its collectives taken."""
        sheets = {w: sheet.copy() for w, sheet in self.blank.items()}
        for id_, nets in local.items():
            for rows in nets.rows:
                y, x = routers(rows)
                colour = colours_of(rows)
                for c in np.unique(colour):
                    sheets[self.region[id_].rect.wafer].take(y[colour == c], x[colour == c], int(c))
        return sheets

    def weavers(self, sheets: Mapping[int, Sheet], max_lanes: int | None) -> dict[int, Weaver]:
        ports = self.target.ports()
        positions = self.target.router.switch_positions
        return {
            w: Weaver(sheet, w, ports, positions, max_lanes, np.zeros(len(ports), np.int32), self.comb)
            for w, sheet in sheets.items()
        }

    def groups(self, demands: Sequence[StreamDemand], order: Sequence[StreamId]) -> list[Group]:
        """What is to be routed, in the order of the first round; streams that stay in place are left out."""
        shared: dict[tuple[str, RegionId | StreamId], list[StreamDemand]] = {}
        for demand in demands:
            shared.setdefault(self._key(demand), []).append(demand)
        rank = {stream: i for i, stream in enumerate(order)}
        groups = [(self._group(key, members), members) for key, members in shared.items()]
        self.group_of = {m.id: g for g, members in groups for m in members}
        self.in_place = {g for g, members in groups if g.source is not None and self._stays(g, members[0])}
        moving = [(g, members) for g, members in groups if g not in self.in_place]
        moving.sort(key=lambda pair: (-pair[0].size, min(rank.get(m.id, len(rank)) for m in pair[1])))
        return [g for g, _ in moving]

    def _key(self, demand: StreamDemand) -> tuple[str, RegionId | StreamId]:
        if demand.source is None and demand.destination is not None:
            return "input", self.instance[demand.destination[0]].region
        if demand.destination is None and demand.source is not None:
            return "output", self.instance[demand.source[0]].region
        return "stream", demand.id

    def _group(self, key: tuple[str, RegionId | StreamId], members: Sequence[StreamDemand]) -> Group:
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
        return Group(name, source, destination, wafers[0])

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

    def _stays(self, group: Group, demand: StreamDemand) -> bool:
        """Whether both ends are one region; then they must hold the value alike."""
        source, destination = group.source, group.destination
        if source is None or destination is None or source.region.id != destination.region.id:
            return False
        if source.mesh != destination.mesh or source.tiled[0].layout != destination.tiled[0].layout:
            raise CompileError(
                f"cannot route: {demand.value} is {source.tiled[0]} where it is written "
                f"and {destination.tiled[0]} where it is read, in one region",
                where=str(group),
                hint="give both blocks one layout, or put them in different regions",
            )
        return True

    def routing(
        self,
        demands: Sequence[StreamDemand],
        local: Mapping[RegionId, LocalNets],
        laid: Mapping[Group, Sequence[Laid]],
        groups: Sequence[Group],
        sheets: Mapping[int, Sheet],
        attempt: int,
    ) -> Routing:
        """Everything put together, with the table sorted."""
        names: list[str] = []
        rows: dict[int, list[Packed]] = {w: [] for w in self.wafers}
        nets: list[CollectiveNet] = []
        for id_, found in local.items():
            for net, own in zip(found.nets, found.rows, strict=True):
                rows[self.region[id_].rect.wafer].append(own + len(names))
                names.append(_net_name(net))
                nets.append(net)
        for group in groups:
            for each in laid[group]:
                rows[group.wafer].append(each.rows + len(names))
            names.append(group.name)
        settled = {w: settle(np.concatenate(parts)) for w, parts in rows.items() if parts}
        streams = tuple(
            Stream(
                d.id, d.value, d.type, d.source, d.destination,
                tuple(each.lane for each in laid.get(self.group_of[d.id], ())), d.state,
            )
            for d in demands
        )  # fmt: skip
        return Routing(
            streams,
            tuple(nets),
            table(settled, names),
            {r: found.colours for r, found in local.items()},
            max((sheet.most_in_use() for sheet in sheets.values()), default=0),
            attempt,
        )


def _net_name(net: CollectiveNet) -> str:
    detail = f" level {net.level}" if net.kind == "tree" else f" stride {net.stride}" if net.kind == "leaders" else ""
    return f"{net.kind}{detail} along {net.along} of {net.group} to {net.root} in {net.region}"

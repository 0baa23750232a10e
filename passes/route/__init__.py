"""Route: give every word its way, as router configuration.

First the collective nets of each region, on local colours from 0 up; what a region keeps of a router's colours is its
budget, the rest is for streams, which also pass through other regions. Then the streams, those of the largest regions
first: for each the number of lanes by cost, for each lane the pair of combs of least length that can be joined by a
path on one colour, from the highest colour down (`nets.py`). Streams that are in one another's way bargain
(`negotiate.py`). Two streams use one colour of a router only if one is over before the other begins by data dependence
(`precedence.py`); their switch positions stand in that order.

Reads regions, blocks, instances, demands, Target and DefectMap; writes Routing. Cost: a few array operations over a
region's routers for each pattern and lane, over the box between two regions for each path; linear in routers for the
final sort. Congestion is negotiated as in PathFinder (McMurchie and Ebeling, 1995).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wafercc.ir.block import Block, BlockName, Instance, RegionId
from wafercc.ir.program import CollectiveNet, Fan, Region, Stream, StreamId
from wafercc.ir.routing import Routing, StreamDemand
from wafercc.silicon import DefectMap
from wafercc.targets import Target

from .comb import Comb, comb_of
from .fabric import Sheet
from .groups import Precedence, gather
from .local import LocalNets, local_nets
from .negotiate import Negotiation
from .nets import Weaver
from .relay import Written, relay
from .rows import Packed, settle, table

__all__ = ["Route", "Routing", "StreamDemand"]


@dataclass(frozen=True)
class Route:
    """Options of the pass.

    ``max_lanes``: most lanes of one stream (None: as many as pay). ``local_colours``: colours of a router that a
    region's collectives may keep; all others, and what they leave, are for streams.
    """

    max_lanes: int | None = None
    local_colours: int = 18

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
            CannotRoute: a net finds no way; it, its regions and the cut that it cannot cross are named.
            CompileError: a region's collectives need more colours than their budget.
            TargetError: the defect map is not of this target.
        """
        precedence = gather(regions, blocks, instances, demands, order)
        wafers = self._wafers(regions, blocks, instances, precedence, target, defects)
        for wafer in wafers:
            wafer.run(g for g in precedence.groups if g.wafer == wafer.weaver.wafer and not g.in_place)
        return _routing(demands, regions, wafers, precedence)

    def again(
        self,
        regions: Sequence[Region],
        blocks: Mapping[BlockName, Block],
        instances: Sequence[Instance],
        demands: Sequence[StreamDemand],
        order: Sequence[StreamId],
        written: Written,
        target: Target,
        defects: DefectMap,
    ) -> Routing:
        """The routing that was written down: collectives and router table follow from what it says.

        Raises:
            CompileError: a lane lies where it cannot, or a region's collectives take another number of colours.
        """
        precedence = gather(regions, blocks, instances, demands, order)
        wafers = self._wafers(regions, blocks, instances, precedence, target, defects)
        for wafer in wafers:
            relay(wafer, written)
        return replace(_routing(demands, regions, wafers, precedence), yields=written.yields)

    def _wafers(
        self,
        regions: Sequence[Region],
        blocks: Mapping[BlockName, Block],
        instances: Sequence[Instance],
        precedence: Precedence,
        target: Target,
        defects: DefectMap,
    ) -> list[Negotiation]:
        """Every wafer with its regions, and nothing routed yet."""
        defects.check_for(target)
        hosted: dict[RegionId, list[Block]] = {r.id: [] for r in regions}
        for instance in instances:
            hosted[instance.region].append(blocks[instance.block])
        combs: dict[Fan, Comb] = {}

        def comb(region: Region, fan: Fan) -> Comb:
            if fan not in combs:
                combs[fan] = comb_of(region, fan)
            return combs[fan]

        router = target.router
        wafers = sorted({0, *(r.rect.wafer for r in regions)})
        blank = {wafer: Sheet.of(defects, wafer, router.colours, router.switch_positions) for wafer in wafers}

        def pack(region: Region, share: bool) -> LocalNets:
            budget, links = min(self.local_colours, router.colours), blank[region.rect.wafer].links
            return local_nets(region, hosted[region.id], budget, router.switch_positions, links, share)

        found = []
        for wafer in wafers:
            here = tuple(r for r in regions if r.rect.wafer == wafer)
            ports = target.ports()
            none = np.zeros(len(ports), np.int32)
            weaver = Weaver(wafer, ports, self.max_lanes, none, none.copy(), comb=comb)
            found.append(Negotiation(blank[wafer], here, pack, precedence, weaver))
        return found


def _routing(
    demands: Sequence[StreamDemand],
    regions: Sequence[Region],
    wafers: Sequence[Negotiation],
    precedence: Precedence,
) -> Routing:
    """Everything put together, with the table sorted."""
    names: list[str] = []
    rank: list[int] = []
    nets: list[CollectiveNet] = []
    rows: dict[int, list[Packed]] = {w.weaver.wafer: [] for w in wafers}
    local = {region: found for w in wafers for region, found in w.local.items()}
    laid = {group: lanes for w in wafers for group, lanes in w.laid.items()}
    for region in regions:
        for net, own in zip(local[region.id].nets, local[region.id].rows, strict=True):
            rows[region.rect.wafer].append(own + len(names))
            names.append(_net_name(net))
            rank.append(0)
            nets.append(net)
    for group in precedence.groups:
        if group in laid:
            rows[group.wafer] += [each.rows + len(names) for each in laid[group]]
            names.append(group.name)
            rank.append(precedence.rank(group))
    ranks = np.array(rank, np.int32)
    settled = {w: settle(np.concatenate(parts), ranks) for w, parts in rows.items() if parts}
    group_of = {m.id: group for group in precedence.groups for m in group.members}
    streams = tuple(
        Stream(
            d.id, d.value, d.type, d.source, d.destination,
            tuple(each.lane for each in laid.get(group_of[d.id], ())), d.state,
        )
        for d in demands
    )  # fmt: skip
    return Routing(
        streams,
        tuple(nets),
        table(settled, names),
        {region.id: wafer.spent(region) for region in regions for wafer in wafers if region.id in wafer.local},
        max((wafer.open.most_in_use() for wafer in wafers), default=0),
        sum(sum(wafer.yields.values()) for wafer in wafers),
    )


def _net_name(net: CollectiveNet) -> str:
    detail = f" level {net.level}" if net.kind == "tree" else f" stride {net.stride}" if net.kind == "leaders" else ""
    return f"{net.kind}{detail} along {net.along} of {net.group} to {net.root} in {net.region}"

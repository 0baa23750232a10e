"""Relay: lay lanes that are decided already, such as those of a routing that was written down and edited.

What a lane says is held against the wafer only as far as its rows need it: its gates lie where its path begins and
ends, its colour is free at all its routers, or taken by nets that it may share it with. Whether all lanes together
bring every element to where it is wanted, over what is alive, is the verifier's question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wafercc.errors import CompileError
from wafercc.ir.block import RegionId
from wafercc.ir.program import EdgePort, Fan, Lane, Region, StreamId

from .comb import Comb
from .fabric import Way
from .groups import Group
from .lanes import Cut, Hook
from .local import LocalNets
from .negotiate import Negotiation
from .nets import Laid, Pair, lay


@dataclass(frozen=True)
class Written:
    """A routing as it is written down: the lanes of every stream, how many colours each region's collectives ``keep``,
    and how often nets gave way to one another."""

    lanes: Mapping[StreamId, tuple[Lane, ...]]
    keep: Mapping[RegionId, int]
    yields: int


def relay(wafer: Negotiation, written: Written) -> None:
    """Lay the lanes of all groups of one wafer; the streams of a group, which share them, all say the same ones.

    Raises:
        CompileError: they do not, or a lane cannot lie so; the stream is named. A region's collectives cannot be packed
        on as many colours as it is said to keep.
    """
    wafer.begin({region.id: _local(wafer, region, written.keep[region.id]) for region in wafer.regions})
    for group in wafer.precedence.groups:
        if group.wafer != wafer.weaver.wafer:
            continue
        first, *others = (member.id for member in group.members)
        lanes = written.lanes[first]
        for other in others:
            if [_key(lane) for lane in written.lanes[other]] != [_key(lane) for lane in lanes]:
                raise CompileError(f"its lanes are not those of stream {first}, with which it is {group}", where=other)
        if bool(lanes) == group.in_place:
            raise CompileError(
                "it stays in one region, so it has no lanes" if lanes else "it has no lane", where=f"stream {first}"
            )
        for lane in lanes:
            wafer.keep(group, _lay(wafer, group, first, lane))


def _local(wafer: Negotiation, region: Region, keep: int) -> LocalNets:
    """The collectives of a region, packed tightly if it keeps fewer colours than they take side by side."""
    loose = wafer.pack(region, False)
    if loose.colours == keep:
        return loose
    tight = wafer.pack(region, True)
    if tight.colours == keep:
        return tight
    raise CompileError(
        f"it keeps {keep} colours; its collectives take {loose.colours}, or {tight.colours} if packed tightly",
        where=f"region {region.id}",
    )


def _key(lane: Lane) -> tuple[object, ...]:
    return lane.source, lane.destination, lane.colour, lane.dim, lane.lo, lane.hi, lane.path.tobytes()


def _lay(wafer: Negotiation, group: Group, stream: StreamId, lane: Lane) -> Laid:
    regions = {end.region.id: end.region for end in (group.source, group.destination) if end is not None}
    hooks: list[Hook] = []
    combs: list[Comb | None] = []
    for end, at, wanted in (
        (lane.source, lane.path[0], group.source),
        (lane.destination, lane.path[-1], group.destination),
    ):
        where = (int(at[0]), int(at[1]))
        name = None if wanted is None else wanted.region.id
        if (end.region if isinstance(end, Fan) else None) != name:
            raise _wrong(stream, lane, f"it ends in {'the host' if name is None else f'region {name}'}, not there")
        found = wafer.weaver.comb(regions[end.region], end) if isinstance(end, Fan) else None
        gate = (end.x, end.y) if isinstance(end, EdgePort) else found.gate if found is not None else where
        if gate != where:
            raise _wrong(stream, lane, f"its path has an end at {where}, where its gate is {gate}")
        hooks.append(Hook(where, 0, end))
        combs.append(found)
    pair = Pair(0, hooks[0], hooks[1], (combs[0], combs[1]))
    laid = lay(pair, Way(lane.path, lane.colour), Cut(0, lane.dim, lane.lo, lane.hi))
    taken = (wafer.base.taken[laid.y, laid.x] >> np.uint32(lane.colour)) & 1
    if taken.any():
        i = int(taken.argmax())
        raise _wrong(stream, lane, f"a collective has the colour, or the router is dead, at ({laid.x[i]}, {laid.y[i]})")
    rivals = wafer.losers(group, laid)
    if rivals:
        raise _wrong(stream, lane, f"it meets {rivals[0]} on its colour, which the two may not share there")
    return laid


def _wrong(stream: StreamId, lane: Lane, problem: str) -> CompileError:
    start, end = (f"({x}, {y})" for x, y in lane.path[[0, -1]].tolist())
    return CompileError(
        f"its lane on colour {lane.colour} from {start} to {end}: {problem}", where=f"stream {stream}"
    )

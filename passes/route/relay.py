"""Relay: lay lanes that are decided already, such as those of a routing that was written down and edited.

What a lane says is held against the wafer only as far as its rows need it: its gates lie where its path begins and
ends, its colour is free at all its routers. Whether all lanes together bring every element to where it is wanted, over
what is alive, is the verifier's question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from wafercc.errors import CompileError
from wafercc.ir.program import EdgePort, Fan, Lane, Region, StreamId

from .comb import Comb
from .fabric import Sheet, Way
from .lanes import Cut, Hook
from .nets import Group, Laid, lay


def relay(
    group: Group,
    members: Sequence[StreamId],
    lanes: Mapping[StreamId, Sequence[Lane]],
    sheet: Sheet,
    comb: Callable[[Region, Fan], Comb],
) -> list[Laid]:
    """Lay the lanes of one group and take their colours; its streams, which share them, all say the same ones.

    Raises:
        CompileError: they do not, or a lane cannot lie so; the stream is named.
    """
    first, *others = members
    for other in others:
        if [_key(lane) for lane in lanes[other]] != [_key(lane) for lane in lanes[first]]:
            raise CompileError(f"its lanes are not those of stream {first}, with which it is {group}", where=other)
    if not lanes[first]:
        raise CompileError("it has no lane", where=f"stream {first}")
    return [_lay(group, first, lane, sheet, comb) for lane in lanes[first]]


def _key(lane: Lane) -> tuple[object, ...]:
    return lane.source, lane.destination, lane.colour, lane.dim, lane.lo, lane.hi, lane.path.tobytes()


def _lay(
    group: Group, stream: StreamId, lane: Lane, sheet: Sheet, comb: Callable[[Region, Fan], Comb]
) -> Laid:
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
        found = comb(regions[end.region], end) if isinstance(end, Fan) else None
        gate = (end.x, end.y) if isinstance(end, EdgePort) else found.gate if found is not None else where
        if gate != where:
            raise _wrong(stream, lane, f"its path has an end at {where}, where its gate is {gate}")
        hooks.append(Hook(where, 0, end))
        combs.append(found)
    laid = lay(hooks[0], hooks[1], combs, Way(lane.path, lane.colour), Cut(0, lane.dim, lane.lo, lane.hi))
    taken = (sheet.taken[laid.y, laid.x] >> np.uint32(lane.colour)) & 1
    if taken.any():
        i = int(taken.argmax())
        raise _wrong(stream, lane, f"the colour is taken, or the router dead, at ({laid.x[i]}, {laid.y[i]})")
    sheet.take(laid.y, laid.x, lane.colour)
    return laid


def _wrong(stream: StreamId, lane: Lane, problem: str) -> CompileError:
    start, end = (f"({x}, {y})" for x, y in lane.path[[0, -1]].tolist())
    return CompileError(
        f"its lane on colour {lane.colour} from {start} to {end}: {problem}", where=f"stream {stream}"
    )

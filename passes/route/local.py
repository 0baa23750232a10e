"""Local: the collective nets of one region, their colours, and their router rows.

The patterns its steps need are spread over all lines of the region at once. Where jogs or detours make two lines meet
at a router, lines alternate between *classes* of colours, so that no router has two configurations on one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wafercc.errors import CompileError
from wafercc.ir.block import Block
from wafercc.ir.program import RAMP, CollectiveNet, Region

from .colours import Thread, Threading, assign, colours, joined_slots, line_classes
from .lines import Along, Lines, check_alive, lines_of
from .order import Order
from .patterns import BACK, FRONT, LineNet, Pattern, line_net, patterns_of
from .rows import Packed, pack

MOST_CLASSES = 8


@dataclass(frozen=True, eq=False)
class LocalNets:
    """The collective nets of a region: ``rows`` holds each net's packed rows (of net 0)."""

    nets: tuple[CollectiveNet, ...]
    rows: tuple[Packed, ...]
    colours: int


def local_nets(
    region: Region,
    blocks: Sequence[Block],
    budget: int,
    switch_positions: int,
    links: Mapping[int, NDArray[np.bool_]],
    share: bool = False,
) -> LocalNets:
    """Nets, colours and rows of a region's collectives; ``links``: which links work, per side, on its wafer.

    ``share``: let patterns share colours even where the budget would not force them to.

    Raises:
        CompileError: neighbours are cut off, or the budget of colours is too small even with switches.
    """
    patterns = patterns_of(blocks, region.id)
    if not patterns:
        return LocalNets((), (), 0)
    lines: dict[Along, Lines] = {}
    for along in ("x", "y"):
        if any(p.along == along for p in patterns):
            lines[along] = lines_of(region, along)
            check_alive(region, lines[along], along, links)
    classes = {along: _classes(region, each) for along, each in lines.items()}
    threadings = [[_threading(lines[p.along], p, classes[p.along], slim) for p in patterns] for slim in (False, True)]
    order = Order(blocks, region.id, crossing_at_pes=_cross_at_pes(lines))

    def apart(one: Thread, other: Thread) -> bool:
        a, b = patterns[one.pattern], patterns[other.pattern]
        meet_on_their_line = a.along != b.along or one.line_class == other.line_class
        return meet_on_their_line and order.apart(a, b)

    threading, places = assign(region.id, threadings, apart, budget, switch_positions, share)
    by_slot = {(t.pattern, t.slot, t.line_class): place for t, place in places.items()}
    nets, rows = [], []
    for i, (pattern, each) in enumerate(zip(patterns, threading, strict=True)):
        chosen = np.array([[by_slot[i, slot, c] for c in range(each.classes)] for slot in each.joined])
        colour, first = chosen[..., 0], chosen[..., 1] + np.array(each.offset)[:, None]
        nets.append(
            CollectiveNet(
                region.id, pattern.along, pattern.group, pattern.root, pattern.kind,
                tuple(int(c) for c in colour.ravel()), pattern.level, pattern.stride, each.classes,
            )
        )  # fmt: skip
        rows.append(_expand(lines[pattern.along], each.net, colour, first))
    return LocalNets(tuple(nets), tuple(rows), colours(places))


def _threading(lines: Lines, pattern: Pattern, classes: int, slim: bool) -> Threading:
    """The threads of a pattern on lines of so many classes."""
    net = line_net(pattern, lines.length)
    return Threading(net, *joined_slots(pattern, net, slim=slim), classes)


def _classes(region: Region, lines: Lines) -> int:
    """The least number of classes of lines of which no two meet at a router.

    Raises:
        CompileError: no reasonable number does.
    """
    met, met_hops = _meetings(lines)
    if not met_hops.any():
        return 1
    routers = np.concatenate([_place(lines.x, lines.y)[met], _place(lines.hop_x, lines.hop_y)[met_hops]])
    owners = np.concatenate([np.nonzero(met)[0], lines.hop_line[met_hops]])
    classes = line_classes(routers, owners, MOST_CLASSES)
    if classes is None:
        raise CompileError(
            f"cannot route: its jogs and detours join more than {MOST_CLASSES} neighbouring lines at one router",
            where=f"region {region.id}",
            hint="embed it with a smaller reach and shorter detours",
        )
    return classes


def _cross_at_pes(lines: Mapping[Along, Lines]) -> bool:
    """Whether rows and columns share no router but those of PEs, so that no line runs on another's links."""
    between = {along: _place(each.hop_x, each.hop_y) for along, each in lines.items()}
    every = {along: np.append(_place(each.x, each.y), between[along]) for along, each in lines.items()}
    return not any(np.isin(between[a], every[b]).any() for a in lines for b in lines if a != b)


def _place(x: NDArray[np.int32], y: NDArray[np.int32]) -> NDArray[np.int64]:
    return y.astype(np.int64) << 12 | x


def _meetings(lines: Lines) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """At which of the PEs, and of the routers between PEs, another line passes too. No line passes a router twice."""
    width = 1 + max(int(lines.x.max()), int(lines.hop_x.max(initial=0)))
    pe, hop = lines.y * width + lines.x, lines.hop_y * width + lines.hop_x
    passing = np.bincount(np.concatenate([pe.ravel(), hop]))
    return passing[pe] > 1, passing[hop] > 1


def _expand(lines: Lines, net: LineNet, colour: NDArray[np.int_], first: NDArray[np.int_]) -> Packed:
    """The packed rows of a pattern on all lines; ``colour``, ``first``: ``[slot, class]``."""
    rows: list[Packed] = []
    line_class = np.arange(lines.count) % colour.shape[1]
    for slot in range(net.slots):
        for position in range(net.ins.shape[1]):
            at = np.flatnonzero(net.outs[slot, position])
            if at.size == 0:
                continue
            back, front = lines.back[:, at], lines.front[:, at]
            ins, outs = (_ports(masks[slot, position, at], back, front) for masks in (net.ins, net.outs))
            own = colour[slot][line_class][:, None]
            place = (first[slot] + position)[line_class][:, None]
            rows.append(pack(lines.y[:, at], lines.x[:, at], own, place, ins, outs))
        flow = net.flow[slot][lines.hop_edge]
        passing = np.flatnonzero(flow)
        if passing.size:
            ahead, back, front = flow[passing] > 0, lines.hop_back[passing], lines.hop_front[passing]
            mine = line_class[lines.hop_line[passing]]
            ins, outs = np.where(ahead, back, front), np.where(ahead, front, back)
            y, x = lines.hop_y[passing], lines.hop_x[passing]
            rows.append(pack(y, x, colour[slot][mine], first[slot][mine], ins, outs))
    return np.concatenate(rows) if rows else np.empty(0, np.int64)


def _ports(masks: NDArray[np.int32], back: NDArray[np.int32], front: NDArray[np.int32]) -> NDArray[np.int32]:
    """Masks of BACK, FRONT and RAMP as sides of the routers."""
    sides = np.where(masks & BACK, back, 0) | np.where(masks & FRONT, front, 0) | (masks & RAMP)
    return sides.astype(np.int32)

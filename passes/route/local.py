"""Local: the collective nets of one region, their colours, and their router rows.

Every slot of every pattern takes a colour of its own, from 0 up; where jogs make two lines meet at a router, lines
alternate between *classes* of colours. If that takes more colours than the budget, patterns that no step uses together
share a colour at different switch positions (the steps of a region run one after another, so each PE moves its switches
between them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wafercc.errors import CompileError
from wafercc.ir.block import Block
from wafercc.ir.program import RAMP, CollectiveNet, Region

from .lines import Along, Lines, check_alive, lines_of
from .patterns import BACK, FRONT, LineNet, Use, line_net, patterns_of
from .rows import Packed, pack

MOST_CLASSES = 8


@dataclass(frozen=True, eq=False)
class LocalNets:
    """The collective nets of a region: ``rows`` holds each net's packed rows (of net 0)."""

    nets: tuple[CollectiveNet, ...]
    rows: tuple[Packed, ...]
    colours: int


@dataclass(frozen=True, slots=True)
class _Item:
    """One colour to assign: a slot and class of a pattern, and the switch positions it takes."""

    pattern: int
    slot: int
    line_class: int
    positions: int


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
    lines: dict[Along, Lines] = {}
    for along in ("x", "y"):
        if any(p.along == along for p in patterns):
            lines[along] = lines_of(region, along)
            check_alive(region, lines[along], along, links)
    line_nets = [line_net(p, lines[p.along].length) for p in patterns]
    classes = [_classes(region, lines[p.along], net) for p, net in zip(patterns, line_nets, strict=True)]
    items = [
        _Item(i, slot, c, net.positions(slot))
        for i, net in enumerate(line_nets)
        for slot in range(net.slots)
        for c in range(classes[i])
        if net.positions(slot)
    ]
    assigned = _assign(region, items, list(patterns.values()), budget, switch_positions, share)
    place = {(item.pattern, item.slot, item.line_class): where for item, where in assigned.items()}
    nets, rows = [], []
    for i, (pattern, net) in enumerate(zip(patterns, line_nets, strict=True)):
        used = [s for s in range(net.slots) if net.positions(s)]
        slots = [s if s in used else used[0] for s in range(net.slots)]  # an idle slot repeats a used one's colours
        chosen = np.array([[place[i, s, c] for c in range(classes[i])] for s in slots])
        nets.append(
            CollectiveNet(
                region.id, pattern.along, pattern.group, pattern.root, pattern.kind,
                tuple(int(c) for c in chosen[..., 0].ravel()), pattern.level, pattern.stride, classes[i],
            )
        )  # fmt: skip
        rows.append(_expand(lines[pattern.along], net, chosen[..., 0], chosen[..., 1]))
    return LocalNets(tuple(nets), tuple(rows), _colours(assigned))


def _classes(region: Region, lines: Lines, net: LineNet) -> int:
    """The least number of classes such that no two lines of one class use a router on one colour."""
    if not _jogs(lines):
        return 1
    routers, line = [], []
    for slot in range(net.slots):
        at = np.flatnonzero((net.outs[slot] != 0).any(axis=0))
        passing = net.flow[slot][lines.hop_edge] != 0
        key = (lines.y.astype(np.int64) << 12 | lines.x) * net.slots + slot
        hop_key = (lines.hop_y.astype(np.int64) << 12 | lines.hop_x) * net.slots + slot
        routers += [key[:, at].ravel(), hop_key[passing]]
        line += [np.repeat(np.arange(lines.count), len(at)), lines.hop_line[passing]]
    router, owner = np.concatenate(routers), np.concatenate(line)
    for classes in range(1, MOST_CLASSES + 1):
        used = router * classes + owner % classes
        if len(np.unique(used)) == len(used):
            return classes
    raise CompileError(
        f"cannot route: its jogs join more than {MOST_CLASSES} neighbouring columns at one router",
        where=f"region {region.id}",
        hint="embed it with a smaller reach",
    )


def _jogs(lines: Lines) -> bool:
    """Whether any line turns."""
    return bool((lines.x != lines.x[:, :1]).any() and (lines.y != lines.y[:, :1]).any())


def _assign(
    region: Region, items: Sequence[_Item], uses: Sequence[set[Use]], budget: int, switch_positions: int, share: bool
) -> dict[_Item, tuple[int, int]]:
    """The colour and the first switch position of every item: each alone, or shared as little as the budget asks, or
    tightly."""
    for item in items:
        if item.positions > switch_positions:
            raise CompileError(
                f"cannot route: a gather needs {item.positions} switch positions; the router has {switch_positions}",
                where=f"region {region.id}",
                hint="raise router.switch_positions",
            )
    if len(items) <= budget and not share:
        return {item: (colour, 0) for colour, item in enumerate(items)}
    loose = _pack(items, uses, budget, switch_positions)
    if _colours(loose) <= budget and not share:
        return loose
    tight = _pack(items, uses, 0, switch_positions)
    if _colours(tight) > budget:
        raise CompileError(
            f"cannot route: region {region.id} needs {_colours(tight)} local colours of {budget}",
            hint="use chains in place of trees, fewer collective shapes per region, or more local colours",
        )
    return tight


def _colours(assigned: Mapping[_Item, tuple[int, int]]) -> int:
    return len({colour for colour, _ in assigned.values()})


def _pack(
    items: Sequence[_Item], uses: Sequence[set[Use]], alone: int, switch_positions: int
) -> dict[_Item, tuple[int, int]]:
    """Colours by first fit, after the first ``alone`` items that each begin a colour; those with most positions go
    first."""
    tenants: list[list[_Item]] = []
    assigned: dict[_Item, tuple[int, int]] = {}
    for item in sorted(items, key=lambda i: -i.positions):
        fits = (k for k, there in enumerate(tenants) if _may_join(item, there, uses, switch_positions))
        chosen = len(tenants) if len(tenants) < alone else next(fits, len(tenants))
        if chosen == len(tenants):
            tenants.append([])
        assigned[item] = chosen, sum(t.positions for t in tenants[chosen])
        tenants[chosen].append(item)
    return assigned


def _may_join(item: _Item, there: Sequence[_Item], uses: Sequence[set[Use]], switch_positions: int) -> bool:
    together = any(uses[item.pattern] & uses[t.pattern] for t in there)
    return not together and item.positions + sum(t.positions for t in there) <= switch_positions


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

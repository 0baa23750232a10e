"""Collectives on values: partial tiles of a line become one, in exactly the order in which the fabric combines them.

Floating-point addition depends on that order, so each algorithm is a loop over the positions of a line, vectorised over
all lines and all elements. A line is the PEs along some axes of one direction, ordered from major to minor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..ir.block import AllReduce, ReduceAlgorithm
from ..ir.layout import AxisName, Mesh
from ..ir.loops import Combine
from .kernels.call import widened
from .kernels.reduce import finite
from .tiles import Array, full

# The arrays of one contribution: one array, or the pair or triple of a softmax.
Arrays = tuple[Array, ...]
Combiner = Callable[[Arrays, Arrays], Arrays]


def all_reduce(step: AllReduce, arrays: Sequence[Array], mesh: Mesh) -> Arrays:
    """The combined arrays, with extent 1 on the axes of the line: every PE of it gets the same numbers."""
    places = [mesh.position(a) for a in step.axes]
    count = mesh.parts(step.axes)
    lines = tuple(_line(array, step.axes, places, count, mesh) for array in arrays)
    lines = _common_lead(lines, len(mesh.axes) - len(places))
    with np.errstate(all="ignore"):
        reduced = reduce_line(lines, step.algorithm, step.root, step.group, combiner(step.combine))
    return tuple(np.expand_dims(one, places) for one in reduced)


def _line(array: Array, axes: Sequence[AxisName], places: list[int], count: int, mesh: Mesh) -> Array:
    """The array with the line as its first dimension."""
    moved = np.moveaxis(full(array, axes, mesh), places, range(len(places)))
    return moved.reshape(count, *moved.shape[len(places) :])


def _common_lead(lines: Arrays, lead: int) -> Arrays:
    """All arrays with the same extents on the mesh axes that remain."""
    common = np.broadcast_shapes(*(one.shape[1 : 1 + lead] for one in lines))
    return tuple(np.broadcast_to(one, (one.shape[0], *common, *one.shape[1 + lead :])) for one in lines)


def reduce_line(lines: Arrays, algorithm: ReduceAlgorithm, root: int, group: int, combine: Combiner) -> Arrays:
    """Reduce dimension 0 of all arrays to position ``root``."""
    match algorithm:
        case ReduceAlgorithm.CHAIN:
            return _chain(lines, root, combine)
        case ReduceAlgorithm.TREE:
            return _tree(lines, root, combine)
        case ReduceAlgorithm.TWO_PHASE:
            bounds, leaders = groups(len(lines[0]), root, group)
            parts = [
                _chain(tuple(one[lo:hi] for one in lines), leader - lo, combine)
                for lo, hi, leader in zip(bounds[:-1], bounds[1:], leaders, strict=True)
            ]
            stacked = tuple(np.stack([part[i] for part in parts]) for i in range(len(lines)))
            return _chain(stacked, leaders.index(root), combine)


def groups(length: int, root: int, group: int) -> tuple[list[int], list[int]]:
    """How a two-phase reduce cuts a line: the bounds of its groups and the leader of each.

    Groups are runs of ``group`` PEs from the start of the line; leaders stand at multiples of ``group`` from the
    root. A last group too short to have its leader joins the group before it.
    """
    group = max(1, min(group, length))
    leaders = list(range(root % group, length, group))
    return [*(i * group for i in range(len(leaders))), length], leaders


def _at(lines: Arrays, i: int) -> Arrays:
    return tuple(one[i] for one in lines)


def _chain(lines: Arrays, root: int, combine: Combiner) -> Arrays:
    """From both ends towards the root; the root adds the side before it first, then the side after it."""
    count = len(lines[0])
    result = _at(lines, root)
    if root > 0:
        before = _at(lines, 0)
        for i in range(1, root):
            before = combine(before, _at(lines, i))
        result = combine(before, result)
    if root < count - 1:
        after = _at(lines, count - 1)
        for i in range(count - 2, root, -1):
            after = combine(after, _at(lines, i))
        result = combine(after, result)
    return result


def _tree(lines: Arrays, root: int, combine: Combiner) -> Arrays:
    """Rounds of pairs at distance 1, 2, 4, ... on either side; in each round the root takes the side before it
    first."""
    sides = [tuple(one[root - 1 :: -1] if root else one[:0] for one in lines), tuple(one[root + 1 :] for one in lines)]
    result = _at(lines, root)
    reach = 1
    while reach < len(lines[0]):
        for side, arrays in enumerate(sides):
            # Position i of a side is at distance i + 1: senders at distance reach (mod 2 reach).
            if len(arrays[0]) >= reach:
                result = combine(_at(arrays, reach - 1), result)
            sides[side] = _round(arrays, reach, combine)
        reach *= 2
    return result


def _round(arrays: Arrays, reach: int, combine: Combiner) -> Arrays:
    """One round on one side: the PEs at distances 2 reach k take over what those ``reach`` farther sent."""
    takers = slice(2 * reach - 1, None, 2 * reach)
    senders = slice(3 * reach - 1, None, 2 * reach)
    sent = tuple(one[senders] for one in arrays)
    count = len(sent[0])
    if not count:
        return arrays
    own = tuple(one[takers][:count] for one in arrays)
    combined = combine(sent, own)
    fresh = tuple(one.copy() for one in arrays)
    for one, new in zip(fresh, combined, strict=True):
        one[takers][:count] = new
    return fresh


def combiner(kind: Combine) -> Combiner:
    """How an incoming contribution and a PE's own become one."""
    match kind:
        case Combine.SUM:
            return lambda came, own: tuple(np.add(a, b) for a, b in zip(came, own, strict=True))
        case Combine.MAX:
            return lambda came, own: tuple(np.maximum(a, b) for a, b in zip(came, own, strict=True))
        case Combine.MIN:
            return lambda came, own: tuple(np.minimum(a, b) for a, b in zip(came, own, strict=True))
        case Combine.SOFTMAX:
            return merge_softmax


def merge_softmax(came: Arrays, own: Arrays) -> Arrays:
    """Two (maximum, sum[, weighted values]) rescaled to the larger maximum; a maximum of -inf weighs nothing."""
    theirs, ours = [widened(a) for a in came], [widened(a) for a in own]
    top = np.maximum(theirs[0], ours[0])
    came_scale, own_scale = np.exp(theirs[0] - finite(top)), np.exp(ours[0] - finite(top))
    merged = (top, *(a * came_scale + b * own_scale for a, b in zip(theirs[1:], ours[1:], strict=True)))
    return tuple(new.astype(old.dtype, copy=False) for new, old in zip(merged, own, strict=True))

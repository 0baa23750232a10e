"""Ops that move elements without computing: reshape, transpose, expand, slice, concat, kv_append."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..dims import Affine, Dim, Undecided, at, shape_at, upper
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Index, Loop, Loops
from ..optable import Array, Extents, InTypes, OpSpec, Work, product
from .rules import (
    Shape,
    axes_attr,
    axis_attr,
    bad,
    broadcast,
    copies,
    decided,
    dim_attr,
    elementwise_loops,
    int_attr,
    no_work,
    operands,
    plain,
    present,
    same_dtype,
    shape_attr,
    shape_text,
    volume,
)

# --- reshape


def _infer_reshape(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    shape = shape_attr(op)
    if volume(x.shape) != volume(shape):
        raise bad(op, f"cannot turn {x} into {shape_text(shape)}: they hold different numbers of elements")
    return (TensorType(x.dtype, shape),)


def _reshape(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    return (x.reshape(shape_at(shape_attr(op), n_past)),)


def _reshape_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """Loops of a reshape: the finest groups of dimensions with equal products, one loop a group.

    Within a group the elements are numbered alike on both sides, so the major-most dimension of each side can be cut
    together: into as many steps as divide both, with the rest as granule.
    """
    (x,) = present(types)
    shape = outs[0].shape
    empty = 0 in x.shape
    into: list[Index] = [WHOLE] * x.rank
    out: list[Index] = [WHOLE] * len(shape)
    loops: list[Loop] = []
    for a_axes, b_axes in () if empty else _groups(x.shape, shape):
        found = _common(x.shape[a_axes[0]], shape[b_axes[0]])
        if found is not None:
            name = f"d{len(loops)}"
            extent, a_granule, b_granule = found
            loops.append(Loop(name, extent))
            into[a_axes[0]], out[b_axes[0]] = Index(name, a_granule), Index(name, b_granule)
    return Loops(tuple(loops), (tuple(into),), (tuple(out),))


def _groups(a: Shape, b: Shape) -> list[tuple[list[int], list[int]]]:
    """Runs of axes of equal product, in order; axes of one element take no part.

    The side with the smaller product so far (at the context capacity) grows by its next axis until both are equal for
    every n_past.
    """
    left, right = [i for i, d in enumerate(a) if d != 1], [i for i, d in enumerate(b) if d != 1]
    groups: list[tuple[list[int], list[int]]] = []
    ours: list[int] = []
    theirs: list[int] = []
    while left or right:
        size, other = (math.prod(upper(s[i]) for i in axes) for s, axes in ((a, ours), (b, theirs)))
        if left and (size <= other or not right):
            ours.append(left.pop(0))
        if right and (size > other or not left or not theirs):
            theirs.append(right.pop(0))
        if volume(tuple(a[i] for i in ours)) == volume(tuple(b[i] for i in theirs)):
            groups.append((ours, theirs))
            ours, theirs = [], []
    return groups


def _common(a: Dim, b: Dim) -> tuple[Dim, int, int] | None:
    """The most steps both dimensions can be cut into, and the elements of each per step; None if that is one."""
    if isinstance(a, int) and isinstance(b, int):
        steps = math.gcd(a, b)
        return (steps, a // steps, b // steps) if steps > 1 else None
    if isinstance(a, int) or isinstance(b, int):
        return None
    for extent, other in ((a, b), (b, a)):
        try:
            granule = other // extent
        except Undecided:
            continue
        if isinstance(granule, int) and granule * extent == other:
            return (extent, 1, granule) if extent is a else (extent, granule, 1)
    return None


# --- transpose


def _infer_transpose(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    axes_attr(op, x.rank, "perm")
    if len(_perm(op)) != x.rank:
        raise bad(op, f"needs a perm of {x.rank} axes, has {_perm(op)}")
    return (TensorType(x.dtype, tuple(x.shape[i] for i in _perm(op))),)


def _perm(op: Op) -> tuple[int, ...]:
    value = op.attr("perm")
    assert isinstance(value, tuple)
    return tuple(i for i in value if isinstance(i, int))


def _transpose(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    return (np.transpose(x, _perm(op)),)


def _transpose_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    shape = outs[0].shape
    names = [f"d{i}" for i in range(len(shape))]
    source = [names[_perm(op).index(i)] for i in range(len(shape))]
    loops = tuple(Loop(n, d) for n, d in zip(names, shape, strict=True))
    return Loops(loops, (plain(source),), (plain(names),))


# --- expand


def _infer_expand(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    shape = shape_attr(op)
    if broadcast(op, (x.shape, shape)) != shape:
        raise bad(op, f"cannot broadcast {x} to exactly {shape_text(shape)}")
    return (TensorType(x.dtype, shape),)


def _expand(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    return (np.broadcast_to(x, shape_at(shape_attr(op), n_past)),)


# --- slice


def _infer_slice(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    (x,) = operands(op, types, 1)
    axis = axis_attr(op, x.rank)
    start, step, count = dim_attr(op, "start"), int_attr(op, "step", 1), dim_attr(op, "count")
    if step == 0:
        raise bad(op, "has step 0")
    length = x.shape[axis]
    first, last = (start, start + step * (count - 1)) if step > 0 else (start + step * (count - 1), start)
    taken = f"takes {count} elements from {start} by {step}, but dimension {axis} of {x} has {length}"
    hint = "bind a smaller context capacity" if isinstance(last, Affine) else ""
    decided(op, lambda: count >= 0, taken, hint)
    if count != 0:
        decided(op, lambda: last <= length - 1, taken, hint)
        decided(op, lambda: first >= 0, taken, hint)
    return (TensorType(x.dtype, (*x.shape[:axis], count, *x.shape[axis + 1 :])),)


def _slice(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    (x,) = present(arrays)
    taken = at(dim_attr(op, "start"), n_past) + int_attr(op, "step", 1) * np.arange(at(dim_attr(op, "count"), n_past))
    return (np.take(x, taken, axis=int_attr(op, "axis")),)


def _slice_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    (x,) = present(types)
    axis = int_attr(op, "axis")
    full = outs[0].shape[axis] == x.shape[axis] and dim_attr(op, "start") == 0 and int_attr(op, "step", 1) == 1
    return _all_but(None if full else axis, (x.shape,), outs[0].shape)


def _all_but(axis: int | None, ins: Sequence[Shape], out: Shape) -> Loops:
    """Every dimension parallel except one, which no tensor may cut."""
    names = [None if i == axis else f"d{i}" for i in range(len(out))]
    loops = tuple(Loop(n, d) for n, d in zip(names, out, strict=True) if n is not None)
    access: Access = tuple(Index(n) for n in names)
    return Loops(loops, (access,) * len(ins), (access,))


# --- concat and kv_append


def _infer_concat(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    given = operands(op, types, max(1, len(types)))
    axis = axis_attr(op, given[0].rank)
    first = given[0].shape
    total: Dim = 0
    for one in given:
        if (*one.shape[:axis], *one.shape[axis + 1 :]) != (*first[:axis], *first[axis + 1 :]):
            raise bad(op, f"cannot join {', '.join(map(str, given))} along dimension {axis}")
        total = total + one.shape[axis]
    return (TensorType(same_dtype(op, given), (*first[:axis], total, *first[axis + 1 :])),)


def _concat(op: Op, arrays: Sequence[Array | None], n_past: int) -> tuple[Array, ...]:
    return (np.concatenate(present(arrays), axis=int_attr(op, "axis")),)


def _concat_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    return _all_but(int_attr(op, "axis"), [t.shape for t in present(types)], outs[0].shape)


def _infer_kv_append(op: Op, types: InTypes) -> tuple[TensorType, ...]:
    operands(op, types, 2)
    return _infer_concat(op, types)


def _kv_append_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """Only the new elements move: the cache stays in place."""
    return Work(simple=product(present(ins)[1]))


def _kv_append_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """The cache grows along a cyclic loop over the result; what is new is seen whole by all PEs along it."""
    axis = int_attr(op, "axis")
    names = [f"d{i}" for i in range(outs[0].rank)]
    loops = tuple(Loop(n, d, cyclic=i == axis) for i, (n, d) in enumerate(zip(names, outs[0].shape, strict=True)))
    kept = plain(names)
    new = (*kept[:axis], WHOLE, *kept[axis + 1 :])
    return Loops(loops, (kept, new), (kept,))


SPECS: tuple[OpSpec, ...] = (
    OpSpec("reshape", _infer_reshape, _reshape, no_work, _reshape_loops, layout_only=True),
    OpSpec("transpose", _infer_transpose, _transpose, no_work, _transpose_loops, layout_only=True),
    OpSpec("expand", _infer_expand, _expand, copies, elementwise_loops),
    OpSpec("slice", _infer_slice, _slice, copies, _slice_loops),
    OpSpec("concat", _infer_concat, _concat, copies, _concat_loops),
    OpSpec("kv_append", _infer_kv_append, _concat, _kv_append_work, _kv_append_loops),
)

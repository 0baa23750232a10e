"""The law the compiler stands on: cutting an op's loops and computing each piece alone gives the whole result.

Parallel loops reassemble bit by bit; over reduction loops the pieces' results, or their partials, combine to the whole.
What the pieces owe (softmax, norms, means, attention) is computed here in plain numpy, independent of the op table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from op_samples import SAMPLES, Sample, f32, flags, sample

from wafercc.ir.dims import Dim, at
from wafercc.ir.graph import Attr
from wafercc.ir.layout import AxisName, Split, owned
from wafercc.ir.loops import Access, Combine, Index, Loop, Loops
from wafercc.ir.optable import Array, spec_of

Steps = Mapping[str, NDArray[np.int64]]  # loop name -> the steps that a piece takes; loops not named are not cut
FOLD = {Combine.SUM: np.add, Combine.MAX: np.maximum, Combine.MIN: np.minimum}


# --- cutting


def loops_of(one: Sample) -> Loops:
    spec = spec_of(one.op)
    return spec.loops(one.op, one.types, spec.infer(one.op, one.types))


def evaluate(one: Sample) -> Array:
    (result,) = spec_of(one.op).evaluate(one.op, one.arrays, one.n_past)
    return result


def shares(extent: int, parts: int, cyclic: bool) -> list[NDArray[np.int64]]:
    """The steps of one loop that each of ``parts`` PEs takes; PEs without any are left out."""
    rows = owned(extent, Split((AxisName("y0"),), 1, cyclic), parts)
    return [row[row >= 0] for row in rows if (row >= 0).any()]


def elements(index: Index, dim: int, steps: Steps) -> NDArray[np.int64]:
    """Which elements of a dimension belong to a piece."""
    if index.loop is None or index.loop not in steps:
        return np.arange(dim)
    found = (steps[index.loop][:, None] * index.granule + np.arange(index.granule)).ravel()
    return found[found < dim]  # a cache is shorter than the loop that grows it


def cut(array: Array, access: Access, steps: Steps) -> Array:
    for axis, index in enumerate(access):
        array = np.take(array, elements(index, array.shape[axis], steps), axis=axis)
    return array


def place(whole: Array, piece: Array, access: Access, steps: Steps) -> None:
    """Put a piece where it belongs; numpy refuses if its shape is not the one expected."""
    spots = [elements(index, dim, steps) for index, dim in zip(access, whole.shape, strict=True)]
    assert piece.shape == tuple(map(len, spots))
    whole[np.ix_(*spots)] = piece


def piece_of(one: Sample, loops: Loops, steps: Steps, whole: Array) -> Sample:
    """The op and operands that one PE would have."""
    arrays = tuple(
        a if a is None or access is None else cut(a, access, steps)
        for a, access in zip(one.arrays, loops.ins, strict=True)
    )
    out = loops.outs[0]
    shape = tuple(len(elements(index, dim, steps)) for index, dim in zip(out, whole.shape, strict=True))
    attrs: dict[str, Attr] = {}
    match one.op.kind:
        case "reshape" | "expand" | "fill":
            attrs["shape"] = shape
        case "constant":
            attrs |= {"shape": shape, "value": tuple(cut(whole, out, steps).ravel().tolist())}
        case "slice":
            attrs["count"] = shape[one.op.attrs["axis"]]  # type: ignore[index]
        case "range":
            mine = cut(whole, out, steps)
            step = mine[1] - mine[0] if mine.size > 1 else 1
            attrs |= {"start": int(mine[0]), "step": int(step), "count": mine.size}
    return replace(one, op=replace(one.op, attrs={**one.op.attrs, **attrs}), arrays=arrays, declared=None)


# --- what a cut reduction owes, in plain numpy


def partials(one: Sample) -> tuple[Array, ...]:
    """What one PE contributes, for the kinds whose results are not themselves partial."""
    x = np.asarray(one.arrays[0])
    match one.op.kind:
        case "reduce_mean":
            return (np.asarray(x.sum(axis=one.op.attrs["axes"], keepdims=True)),)  # type: ignore[arg-type]
        case "rms_norm":
            return ((x * x).sum(axis=-1, keepdims=True),)
        case "layer_norm":
            return (x.sum(axis=-1, keepdims=True), (x * x).sum(axis=-1, keepdims=True))
        case "softmax":
            axis = int(one.op.attrs["axis"])  # type: ignore[arg-type]
            top = x.max(axis=axis, keepdims=True)
            return (top, np.exp(x - top).sum(axis=axis, keepdims=True))
        case "attention":
            return attention_partials(one)
        case "matmul" | "matmul_quant":
            b = np.asarray(one.arrays[1]) if one.op.kind == "matmul" else dequantized_weight(one)
            return (np.matmul(x.astype(np.float32), b.astype(np.float32)),)
    raise AssertionError(f"{one.op.kind} owes nothing")


def attention_partials(one: Sample) -> tuple[Array, ...]:
    q, k, v = (np.asarray(a) for a in one.arrays[:3])
    group = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.einsum("bhsd,bhtd->bhst", q, k) * np.float32(one.op.attrs["scale"])  # type: ignore[arg-type]
    cap = float(one.op.attrs.get("softcap", 0.0))  # type: ignore[arg-type]
    if cap:
        scores = np.tanh(scores / cap) * cap
    mask = one.arrays[3] if len(one.arrays) > 3 else None
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == np.bool_ else scores + mask
    top = scores.max(axis=-1, keepdims=True)
    grown = np.exp(scores - np.where(np.isinf(top), 0, top)).astype(np.float32)
    return (top.astype(np.float32), grown.sum(axis=-1, keepdims=True), np.einsum("bhst,bhtd->bhsd", grown, v))


def dequantized_weight(one: Sample) -> Array:
    """The second operand of a product as numbers, from its scales and zero points; each block's, all over the block."""
    q, *parts = (None if a is None else np.asarray(a).astype(np.float32) for a in one.arrays[1:])
    assert q is not None
    for axis, block in enumerate(one.op.attrs["blocks"]):  # type: ignore[arg-type]
        rows = np.arange(q.shape[axis]) // int(block or q.shape[axis])  # type: ignore[arg-type]
        parts = [p if p is None or p.ndim == 0 else p.take(rows % p.shape[axis], axis=axis) for p in parts]
    return (q - parts[1] if len(parts) > 1 else q) * parts[0]  # type: ignore[operator,return-value]


def combine(kind: str, pieces: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    """Sums add; softmax partials are rescaled to the larger maximum first."""
    if kind not in ("softmax", "attention"):
        return tuple(np.sum([p[i] for p in pieces], axis=0) for i in range(len(pieces[0])))
    top = np.max([p[0] for p in pieces], axis=0)
    held = np.where(np.isneginf(top), 0, top)
    return (top, *(sum(p[i] * np.exp(p[0] - held) for p in pieces) for i in range(1, len(pieces[0]))))


def finish(one: Sample, owed: tuple[Array, ...], extent: int) -> Array:
    """The rest of the op on one PE, from its own operands and the combined partials."""
    x = np.asarray(one.arrays[0])
    match one.op.kind:
        case "reduce_mean":
            axes = one.op.attrs["axes"]
            mean = owed[0] / extent
            return mean if one.op.attrs["keep"] else np.squeeze(mean, axes)  # type: ignore[arg-type]
        case "matmul" | "matmul_quant":
            return owed[0]
        case "softmax":
            return np.exp(x - owed[0]) / owed[1]
        case "attention":
            top, total, weighted = owed
            if len(one.arrays) > 4 and one.arrays[4] is not None:
                total = total + np.exp(np.asarray(one.arrays[4])[:, None, None] - np.where(np.isneginf(top), 0, top))
            return weighted / np.where(total == 0, 1, total)
    mean = owed[0] / extent if one.op.kind == "layer_norm" else 0
    y = (x - mean) / np.sqrt(owed[-1] / extent - np.square(mean) + one.op.attrs["epsilon"])
    weight, bias = (*one.arrays[1:], None, None)[:2]
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


# --- the laws


def every_cut(extent: int, loop: Loop) -> Iterator[list[NDArray[np.int64]]]:
    for parts, cyclic in itertools.product((2, 3, 7), (True,) if loop.cyclic else (False, True)):
        yield shares(extent, parts, cyclic)


def check_parallel(one: Sample, cuts: Mapping[str, list[NDArray[np.int64]]]) -> None:
    """Cut parallel loops, compute each piece alone, and put the results together."""
    loops, whole = loops_of(one), evaluate(one)
    rebuilt = np.zeros_like(whole)
    written = np.zeros(whole.shape, np.int64)
    for chosen in itertools.product(*cuts.values()):
        steps = dict(zip(cuts, chosen, strict=True))
        piece = evaluate(piece_of(one, loops, steps, whole))
        place(rebuilt, piece, loops.outs[0], steps)
        place(written, cut(written, loops.outs[0], steps) + 1, loops.outs[0], steps)
    assert (written == 1).all(), "each element is some piece's own"
    if one.op.kind in ("matmul", "matmul_quant", "attention"):  # BLAS orders sums by shape, exponentials are inexact
        np.testing.assert_allclose(rebuilt, whole, rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(rebuilt, whole)
    for index, partial in enumerate(loops.partials):
        mine = partials(one)[index]
        for chosen in itertools.product(*cuts.values()):
            steps = dict(zip(cuts, chosen, strict=True))
            contributed = partials(piece_of(one, loops, steps, whole))[index]
            np.testing.assert_allclose(contributed, cut(mine, partial.access, steps), rtol=1e-5, atol=1e-6)


def check_reduction(one: Sample, loop: Loop, cuts: list[NDArray[np.int64]]) -> None:
    loops, whole = loops_of(one), evaluate(one)
    assert loop.combine is not None
    pieces = [piece_of(one, loops, {loop.name: steps}, whole) for steps in cuts]
    if one.op.kind in ("embedding", "embedding_quant") or loop.name == "e":
        held = experts_held if loop.name == "e" else rows_held
        contributed = [held(one, steps) for steps in cuts]
        np.testing.assert_array_equal(np.sum(contributed, axis=0), whole)
    elif not loops.partials:
        fold = FOLD[loop.combine]
        np.testing.assert_array_equal(fold.reduce([evaluate(piece) for piece in pieces]), whole)
    else:
        assert loop.combine is (Combine.SOFTMAX if one.op.kind in ("softmax", "attention") else Combine.SUM)
        owed = combine(one.op.kind, [partials(piece) for piece in pieces])
        extent = math.prod(at(x.extent, one.n_past) for x in loops.loops if x.combine is not None)
        rebuilt = np.zeros_like(whole)
        for piece, steps in zip(pieces, cuts, strict=True):
            place(rebuilt, finish(piece, owed, extent).astype(whole.dtype), loops.outs[0], {loop.name: steps})
        np.testing.assert_allclose(rebuilt, whole, rtol=1e-4, atol=1e-5)


def rows_held(one: Sample, steps: NDArray[np.int64]) -> Array:
    """The rows of a table that one PE can contribute, zero for all others."""
    ids, whole = np.asarray(one.arrays[1]), evaluate(one)
    return np.where(np.isin(ids, steps)[..., None], whole, 0)


def experts_held(one: Sample, steps: NDArray[np.int64]) -> Array:
    """What one PE contributes for the experts it holds, zero for rows that choose another."""
    x, w, ids = (np.asarray(a) for a in one.arrays)
    chosen = np.where(ids < 0, ids + len(w), ids)
    return np.where(np.isin(chosen, steps)[:, None], np.einsum("mk,mkn->mn", x, w[chosen]), 0)


@pytest.mark.parametrize("one", SAMPLES, ids=str)
def test_each_dimension_follows_its_loop_exactly(one: Sample) -> None:
    loops = loops_of(one)
    outs = spec_of(one.op).infer(one.op, one.types)
    names = [loop.name for loop in loops.loops]
    assert len(set(names)) == len(names)
    assert [a is None for a in loops.ins] == [t is None for t in one.types]
    tensors: list[tuple[tuple[Dim, ...], Access]] = [
        (t.shape, a) for t, a in zip((*one.types, *outs), (*loops.ins, *loops.outs), strict=True) if t and a is not None
    ]
    tensors += [(p.shape, p.access) for p in loops.partials]
    for position, (shape, access) in enumerate(tensors):
        assert len(shape) == len(access)
        followed = [i.loop for i in access if i.loop is not None]
        assert len(set(followed)) == len(followed), "no loop cuts two dimensions of one tensor"
        for dim, index in zip(shape, access, strict=True):
            if index.loop is not None and not (loops.loop(index.loop).cyclic and position == 0):
                extent = loops.loop(index.loop).extent
                assert dim == extent * index.granule or ragged(dim, extent, index.granule)
    for loop in loops.loops:
        in_result = any(i.loop == loop.name for i in loops.outs[0])
        assert in_result or loop.combine is not None, "a parallel loop cuts the result"
    for array, partial in zip(partials(one) if loops.partials else (), loops.partials, strict=True):
        assert array.shape == tuple(at(d, one.n_past) for d in partial.shape)
        assert array.dtype == partial.dtype.numpy


def ragged(dim: Dim, extent: Dim, block: int) -> bool:
    """Whether the last block of a dimension in blocks of quantised numbers is shorter than the others."""
    return isinstance(dim, int) and isinstance(extent, int) and (extent - 1) * block < dim < extent * block


@pytest.mark.parametrize("one", SAMPLES, ids=str)
def test_each_loop_can_be_cut(one: Sample) -> None:
    for loop in loops_of(one).loops:
        if one.op.kind == "kv_append" and loop.cyclic:
            continue  # its pieces differ in what they append: see below
        for cuts in every_cut(at(loop.extent, one.n_past), loop):
            if loop.combine is None:
                check_parallel(one, {loop.name: cuts})
            else:
                check_reduction(one, loop, cuts)


@pytest.mark.parametrize("one", SAMPLES, ids=str)
def test_any_two_parallel_loops_can_be_cut_together(one: Sample) -> None:
    free = [loop for loop in loops_of(one).loops if loop.combine is None and not loop.cyclic]
    for a, b in itertools.combinations(free, 2):
        cuts = {x.name: shares(at(x.extent, one.n_past), 2, cyclic) for x, cyclic in ((a, False), (b, True))}
        check_parallel(one, cuts)


@pytest.mark.parametrize("one", [s for s in SAMPLES if s.op.kind == "kv_append"], ids=str)
def test_a_cache_grows_in_place_on_cyclic_tiles(one: Sample) -> None:
    """Each PE keeps its slots of the past, in their order, and takes from what is new the elements that fall to it."""
    loops, whole = loops_of(one), evaluate(one)
    past, new = (np.asarray(a) for a in one.arrays)
    (loop,) = (x for x in loops.loops if x.cyclic)
    for cuts in every_cut(whole.shape[2], loop):
        for steps in cuts:
            kept = cut(past, loops.ins[0] or (), {loop.name: steps})
            falls = steps[steps >= past.shape[2]] - past.shape[2]
            taken = np.take(cut(new, loops.ins[1] or (), {loop.name: steps}), falls, axis=2)
            piece = cut(whole, loops.outs[0], {loop.name: steps})
            np.testing.assert_array_equal(np.concatenate([kept, taken], axis=2), piece)


@pytest.mark.parametrize("one", SAMPLES, ids=str)
def test_pieces_do_the_work_of_the_whole(one: Sample) -> None:
    """Cutting a parallel loop divides all work; cutting a reduction divides the multiply-accumulates."""
    loops, whole = loops_of(one), evaluate(one)
    spec = spec_of(one.op)
    ins = [None if a is None else a.shape for a in one.arrays]
    total = spec.work(one.op, ins, [whole.shape])
    for loop in loops.loops:
        cuts = shares(at(loop.extent, one.n_past), 3, loop.cyclic)
        if not cuts or (one.op.kind == "kv_append" and loop.cyclic):
            continue
        pieces = [piece_of(one, loops, {loop.name: steps}, whole) for steps in cuts]
        out = [cut(whole, loops.outs[0], {loop.name: steps}).shape for steps in cuts]
        tiles = [[None if a is None else a.shape for a in p.arrays] for p in pieces]
        works = [spec.work(p.op, t, [o]) for p, t, o in zip(pieces, tiles, out, strict=True)]
        if spec.chosen is not None and loop.name in "me":  # bounds: choices may all fall on one piece
            assert total.macs <= sum(w.macs for w in works) <= total.macs * len(works)
            continue
        assert sum(w.macs for w in works) == total.macs
        again = one.op.kind == "matmul_quant" and all(i.loop != loop.name for i in loops.ins[1] or ())
        if loop.combine is None and not again:  # a weight that is not cut is dequantised by each piece
            assert sum(w.simple for w in works) == total.simple
            assert sum(w.special for w in works) == total.special
        stacked = [None if a is None else stack([t[i] or () for t in tiles]) for i, a in enumerate(ins)]
        together = spec.work(one.op, stacked, [stack(out)])
        for name in ("macs", "simple", "special"):
            counts = np.broadcast_to(getattr(together, name), len(cuts))
            np.testing.assert_array_equal(counts, [getattr(w, name) for w in works])


def stack(shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.int64]]:
    """The shapes of several tiles as one shape of arrays."""
    return [np.array(extents) for extents in zip(*shapes, strict=True)]


# --- shapes drawn at random


@st.composite
def reshapes(draw: st.DrawFn) -> Sample:
    """Two shapes of equal product: one list of factors, grouped in two ways, with ones strewn in."""
    factors = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    shapes = []
    for _ in range(2):
        marks = draw(st.lists(st.booleans(), min_size=len(factors), max_size=len(factors)))
        shape = [1]
        for factor, starts in zip(factors, marks, strict=True):
            if starts:
                shape.append(factor)
            else:
                shape[-1] *= factor
        shapes.append(tuple(shape[draw(st.integers(0, int(shape[0] == 1 and len(shape) > 1))) :]))
    size = math.prod(factors)
    return sample("reshape", np.arange(size, dtype=np.float32).reshape(shapes[0]), shape=shapes[1])


@st.composite
def broadcasts(draw: st.DrawFn) -> Sample:
    shape = draw(st.lists(st.integers(1, 5), max_size=4))
    operands = []
    for seed in range(3):
        kept = [d if draw(st.booleans()) else 1 for d in shape[draw(st.integers(0, len(shape))) :]]
        operands.append(flags(*kept) if seed == 0 else f32(*kept, seed=seed))
    return sample("where", *operands)


@st.composite
def products(draw: st.DrawFn) -> Sample:
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    m, n, k = (draw(st.integers(1, 6)) for _ in range(3))
    left = [d if draw(st.booleans()) else 1 for d in batch]
    right = [d if draw(st.booleans()) else 1 for d in batch[draw(st.integers(0, len(batch))) :]]
    return sample("matmul", f32(*left, m, k), f32(*right, k, n, seed=1))


@st.composite
def attentions(draw: st.DrawFn) -> Sample:
    b, h, group, s, t, d, dv = (draw(st.integers(1, 3)) for _ in range(7))
    full = (b, h * group, s, t)
    mask = None
    if draw(st.booleans()):
        shape = [x if draw(st.booleans()) else 1 for x in full][draw(st.integers(0, 3)) :]
        mask = flags(*shape) if draw(st.booleans()) else f32(*shape, seed=3)
    k, v = f32(b, h, t, d, seed=1), f32(b, h, t, dv, seed=2)
    return sample("attention", f32(b, h * group, s, d), k, v, mask, scale=0.5)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.one_of(reshapes(), broadcasts(), products(), attentions()), st.integers(2, 5), st.booleans(), st.booleans())
def test_drawn_ops_can_be_cut(one: Sample, parts: int, cyclic: bool, other: bool) -> None:
    test_each_dimension_follows_its_loop_exactly(one)
    loops = loops_of(one).loops
    cuts = {x.name: shares(at(x.extent, one.n_past), parts, cyclic) for x in loops if x.combine is None}
    for name, share in cuts.items():
        check_parallel(one, {name: share})
    for loop in loops:
        if loop.combine is not None:
            check_reduction(one, loop, shares(at(loop.extent, one.n_past), parts, other))


def test_reshape_cuts_what_both_sides_number_alike() -> None:
    def text(a: tuple[int, ...], b: tuple[int, ...]) -> str:
        loops = loops_of(sample("reshape", np.zeros(a), shape=b))
        extents = {x.name: x.extent for x in loops.loops}
        sides = [side or () for side in (*loops.ins, *loops.outs)]
        return " -> ".join(" ".join(f"{extents[i.loop]}/{i.granule}" if i.loop else "-" for i in s) for s in sides)

    assert text((2, 11, 96), (2, 11, 6, 16)) == "2/1 11/1 6/16 -> 2/1 11/1 6/1 -"
    assert text((2, 11, 6, 16), (2, 11, 96)) == "2/1 11/1 6/1 - -> 2/1 11/1 6/16"
    assert text((2, 6, 5, 16), (12, 5, 16)) == "2/1 - 5/1 16/1 -> 2/6 5/1 16/1"
    assert text((1, 1, 96), (96,)) == "- - 96/1 -> 96/1"
    assert text((3, 4), (2, 6)) == "- - -> - -"


def test_an_empty_reshape_has_no_loops() -> None:
    assert loops_of(sample("reshape", f32(2, 0, 3), shape=(0, 6))).loops == ()



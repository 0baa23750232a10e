"""Rewrites that tidy: each a few lines of IR in, the IR after in tests/golden/, and equal values, bit by bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rewriting import applied, assert_same, shown

from wafercc.passes.base import Rewrite
from wafercc.passes.rewrite import (
    DeadCode,
    FoldConstants,
    FoldWeights,
    MergeEqual,
    Simplify,
    SplitProjection,
    TransposeReshape,
    Unflatten,
    UnitTranspose,
)

DEAD = """
graph dead
input %x: f32[4]
weight %w: f32[4]
%a: f32[4] = add(%x, %w)  @a
%b: f32[4] = exp(%a)  @b
%y: f32[4] = neg(%x)  @y
return %y
"""
EQUAL = """
graph equal
input %x: f32[4]
%a: f32[4] = exp(%x)  @a
%b: f32[4] = exp(%x)  @b
%one: f32[4] = fill(value=1.0, dtype=f32, shape=[4])  @one
%i: i64[4] = fill(value=1, dtype=i64, shape=[4])  @i
%also: f32[4] = fill(value=1.0, dtype=f32, shape=[4])  @also
%c: f32[4] = add(%a, %one)  @c
%d: f32[4] = add(%b, %also)  @d
%y: f32[4] = mul(%c, %d)  @y
return %y, %i, %d
"""
ARITHMETIC = """
graph arithmetic past_max=9
input %x: f32[2,n_past+2]
%past: i64[] = fill(value=n_past, dtype=i64, shape=[])  @past
%two: i64[] = constant(value=2, dtype=i64, shape=[])  @two
%total: i64[] = add(%past, %two)  @total
%wide: i64[3] = expand(%total, shape=[3])  @wide
%new: i64[2] = range(start=0, step=1, count=2, dtype=i64)  @new
%rows: i64[2] = add(%new, %past)  @rows
%twice: i64[2] = mul(%rows, %two)  @twice
%back: i64[2] = sub(%total, %new)  @back
%half: f32[] = constant(value=0.25, dtype=f32, shape=[])  @half
%root: f32[] = sqrt(%half)  @root
%scale: f32[2,n_past+2] = expand(%root, shape=[2,n_past+2])  @scale
%y: f32[2,n_past+2] = mul(%x, %scale)  @y
return %y, %wide, %twice, %back
"""
LITERALS = """
graph literals
input %x: f32[2,2]
input %z: f32[2,2]
%a: i64[3] = constant(value=[1,2,3], dtype=i64, shape=[3])  @a
%b: i64[2] = range(start=5, step=-1, count=2, dtype=i64)  @b
%ab: i64[5] = concat(%a, %b, axis=0)  @ab
%some: i64[2] = slice(%ab, axis=0, start=2, step=1, count=2)  @some
%zero: i64[2] = fill(value=0, dtype=i64, shape=[2])  @zero
%big: bool[2] = gt(%some, %zero)  @big
%chosen: f32[2,2] = where(%big, %x, %z)  @chosen
return %chosen, %ab
"""
NEIGHBOURS = """
graph neighbours past_max=9
input %x: f32[2,3,n_past+4]
input %m: bool[3,1]
%r1: f32[6,n_past+4] = reshape(%x, shape=[6,n_past+4])  @r1
%r2: f32[3,2,n_past+4] = reshape(%r1, shape=[3,2,n_past+4])  @r2
%t1: f32[n_past+4,3,2] = transpose(%r2, perm=[2,0,1])  @t1
%t2: f32[3,2,n_past+4] = transpose(%t1, perm=[1,2,0])  @t2
%s1: f32[3,2,n_past+2] = slice(%t2, axis=2, start=1, step=1, count=n_past+2)  @s1
%s2: f32[3,2,2] = slice(%s1, axis=2, start=n_past, step=1, count=2)  @s2
%all: f32[3,2,2] = slice(%s2, axis=1, start=0, step=1, count=2)  @all
%joined: f32[3,2,n_past+6] = concat(%all, %t2, axis=2)  @joined
%first: f32[3,2,2] = slice(%joined, axis=2, start=0, step=1, count=2)  @first
%rest: f32[3,2,n_past+3] = slice(%joined, axis=2, start=3, step=1, count=n_past+3)  @rest
%not1: bool[3,1] = not(%m)  @not1
%not2: bool[3,1] = not(%not1)  @not2
%as_float: f32[3,1] = cast(%not2, to=f32)  @as_float
%as_bool: bool[3,1] = cast(%as_float, to=bool)  @as_bool
%tall: bool[3,1,1] = reshape(%as_bool, shape=[3,1,1])  @tall
%full: bool[3,2,2] = expand(%tall, shape=[3,2,2])  @full
%y: f32[3,2,2] = where(%full, %first, %s2)  @y
return %y, %rest
"""
TURNS = """
graph turns
input %x: f32[2,3,4]
%a: f32[3,4,2] = transpose(%x, perm=[1,2,0])  @a
%b: f32[4,3,2] = transpose(%a, perm=[1,0,2])  @b
return %b
"""
NEUTRAL = """
graph neutral
input %x: f32[2,3]
input %m: bool[2,3]
input %none: f32[0,3]
%one: f32[] = constant(value=1.0, dtype=f32, shape=[])  @one
%ones: f32[2,3] = fill(value=1.0, dtype=f32, shape=[2,3])  @ones
%zero: f32[] = constant(value=0.0, dtype=f32, shape=[])  @zero
%yes: bool[] = constant(value=true, dtype=bool, shape=[])  @yes
%no: bool[] = constant(value=false, dtype=bool, shape=[])  @no
%a: f32[2,3] = mul(%one, %x)  @a
%b: f32[2,3] = div(%a, %ones)  @b
%c: f32[2,3] = sub(%b, %zero)  @c
%d: f32[2,3] = sub(%zero, %c)  @d
%row: f32[3] = fill(value=0.0, dtype=f32, shape=[3])  @row
%wider: f32[3] = add(%row, %one)  @wider
%grown: f32[2,3] = mul(%wider, %ones)  @grown
%m1: bool[2,3] = and(%yes, %m)  @m1
%m2: bool[2,3] = or(%m1, %m1)  @m2
%m3: bool[2,3] = and(%m2, %no)  @m3
%grew: f32[2,3] = concat(%none, %d, axis=0)  @grew
%y: f32[2,3] = where(%m3, %grew, %d)  @y
%z: f32[2,3] = where(%m2, %y, %grown)  @z
return %z
"""
WEIGHTS = """
graph weights
input %x: f32[2,4]
weight %w: f32[6,4]
weight %norm: f32[6]
weight %row: f32[1,6]
%t: f32[4,6] = transpose(%w, perm=[1,0])  @t
%half: f32[] = constant(value=0.5, dtype=f32, shape=[])  @half
%s: f32[4,6] = mul(%t, %half)  @s
%y: f32[2,6] = matmul(%x, %s)  @y
%one: f32[] = constant(value=1.0, dtype=f32, shape=[])  @one
%g: f32[6] = add(%one, %norm)  @g
%z: f32[2,6] = mul(%y, %g)  @z
%tall: f32[2,6] = expand(%row, shape=[2,6])  @tall
%r: f32[2,6] = add(%z, %tall)  @r
return %r
"""
GEMM = """
graph gemm past_max=9
input %x: f32[2,n_past+1,4]
weight %w: f32[4,8]
weight %b: f32[8]
weight %w2: f32[8,4]
%flat: f32[2*n_past+2,4] = reshape(%x, shape=[2*n_past+2,4])  @flat
%mm: f32[2*n_past+2,8] = matmul(%flat, %w)  @mm
%biased: f32[2*n_past+2,8] = add(%b, %mm)  @biased
%act: f32[2*n_past+2,8] = gelu(%biased, approximate=tanh)  @act
%gated: f32[2*n_past+2,8] = mul(%act, %biased)  @gated
%p: f32[2*n_past+2,8] = softmax(%gated, axis=1)  @p
%sum: f32[2*n_past+2,1] = reduce_sum(%p, axes=[1], keep=true)  @sum
%low: f32[2*n_past+2,4] = slice(%p, axis=1, start=0, step=1, count=4)  @low
%high: f32[2*n_past+2,4] = slice(%p, axis=1, start=4, step=1, count=4)  @high
%swapped: f32[2*n_past+2,8] = concat(%high, %low, axis=1)  @swapped
%shared: f32[2*n_past+2,8] = mul(%swapped, %sum)  @shared
%mm2: f32[2*n_past+2,4] = matmul(%shared, %w2)  @mm2
%normed: f32[2*n_past+2,4] = rms_norm(%mm2, epsilon=0.001)  @normed
%y: f32[2,n_past+1,4] = reshape(%normed, shape=[2,n_past+1,4])  @y
return %y
"""
ATTENDED = """
graph attended
input %x: f32[2,5,3,4]
weight %w: f32[12,8]
%rows: f32[10,12] = reshape(%x, shape=[10,12])  @rows
%flat: f32[10,8] = matmul(%rows, %w)  @flat
%y: f32[2,5,8] = reshape(%flat, shape=[2,5,8])  @y
return %y
"""
QKV = """
graph qkv
input %x: f32[2,3,4]
weight %w: f32[4,10]
weight %b: f32[10]
%mm: f32[2,3,10] = matmul(%x, %w)  @mm
%all: f32[2,3,10] = add(%b, %mm)  @all
%q: f32[2,3,6] = slice(%all, axis=2, start=0, step=1, count=6)  @q
%k: f32[2,3,4] = slice(%all, axis=2, start=6, step=1, count=4)  @k
return %q, %k
"""
ONE_TOKEN = """
graph one_token past_max=9
input %x: f32[2,1,3,n_past+1]
%t: f32[2,3,1,n_past+1] = transpose(%x, perm=[0,2,1,3])  @t
%last: i64[1] = fill(value=n_past, dtype=i64, shape=[1])  @last
%keys: i64[n_past+1] = range(start=0, step=1, count=n_past+1, dtype=i64)  @keys
%see: bool[n_past+1] = le(%keys, %last)  @see
%later: bool[n_past+1] = gt(%keys, %last)  @later
%before: bool[n_past+1] = lt(%keys, %last)  @before
return %t, %see, %later, %before
"""
KEYS = """
graph keys past_max=9
input %k: f32[2,3,n_past+1,4]
%merged: f32[6,n_past+1,4] = reshape(%k, shape=[6,n_past+1,4])  @merged
%turned: f32[6,4,n_past+1] = transpose(%merged, perm=[0,2,1])  @turned
%y: f32[2,3,4,n_past+1] = reshape(%turned, shape=[2,3,4,n_past+1])  @y
return %y
"""
EXAMPLES: dict[str, tuple[Rewrite, str]] = {
    "dead_code": (DeadCode(), DEAD),
    "merge_equal": (MergeEqual(), EQUAL),
    "fold_arithmetic": (FoldConstants(), ARITHMETIC),
    "fold_literals": (FoldConstants(), LITERALS),
    "simplify_neighbours": (Simplify(), NEIGHBOURS),
    "simplify_turns": (Simplify(), TURNS),
    "simplify_neutral": (Simplify(), NEUTRAL),
    "fold_weights": (FoldWeights(), WEIGHTS),
    "unflatten": (Unflatten(), GEMM),
    "unflatten_heads": (Unflatten(), ATTENDED),
    "split_projection": (SplitProjection(), QKV),
    "unit_transpose": (UnitTranspose(), ONE_TOKEN),
    "fold_comparisons": (FoldConstants(), ONE_TOKEN),
    "transpose_reshape": (TransposeReshape(), KEYS),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_rewrite_turns_the_text_into_the_golden_one(name: str, golden: Callable[[str, str], None]) -> None:
    before, after, _, _ = applied(*EXAMPLES[name])
    golden(f"rewrite_{name}", shown(before, after))


DIFFERENT_ROWS = """
graph different_rows
input %a: f32[2,6,4]
input %b: f32[3,4,4]
%fa: f32[12,4] = reshape(%a, shape=[12,4])  @fa
%fb: f32[12,4] = reshape(%b, shape=[12,4])  @fb
%y: f32[12,4] = add(%fa, %fb)  @y
return %y
"""
REGROUPED = """
graph regrouped
input %x: f32[2,6,2]
%r: f32[2,3,4] = reshape(%x, shape=[2,3,4])  @r
%y: f32[2,4,3] = transpose(%r, perm=[0,2,1])  @y
return %y
"""
OVERLAPPING = QKV.replace("start=6, step=1, count=4", "start=5, step=1, count=4").replace("count=6)", "count=10)")
OVERLAPPING = OVERLAPPING.replace("f32[2,3,6] = slice", "f32[2,3,10] = slice")
READ_WHOLE = QKV.replace("return %q, %k", "%other: f32[2,3,10] = exp(%all)  @other\nreturn %q, %k, %other")
LEFT_ALONE: dict[str, tuple[Rewrite, str]] = {
    "rows merged from other dimensions": (Unflatten(), DIFFERENT_ROWS),
    "a reshape that cuts into what is transposed": (TransposeReshape(), REGROUPED),
    "slices that overlap": (SplitProjection(), OVERLAPPING),
    "a projection that is also read whole": (SplitProjection(), READ_WHOLE),
    "a transpose that moves numbers": (UnitTranspose(), KEYS),
}


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_what_a_rewrite_must_not_touch_comes_back_as_it_was(what: str) -> None:
    before, after, _, _ = applied(*LEFT_ALONE[what])
    assert after == before


# These change the shape of a matrix product, and with it the order in which BLAS sums.
REORDERED = frozenset({"unflatten", "unflatten_heads", "split_projection"})


@pytest.mark.parametrize("name", EXAMPLES)
def test_tidying_keeps_every_bit_but_the_order_of_sums(name: str) -> None:
    assert_same(*applied(*EXAMPLES[name]), tolerance=1e-6 if name in REORDERED else 0.0)

"""Rewrites that fuse: what exporters spell out becomes the op it means, with equal values; lookalikes stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rewriting import applied, assert_same, random_array, shown

from wafercc.ir.evaluate import evaluate
from wafercc.passes.base import Rewrite
from wafercc.passes.rewrite import (
    FuseAttention,
    FuseGelu,
    FuseLayerNorm,
    FuseRelu,
    FuseRmsNorm,
    FuseRope,
    FuseSilu,
    FuseSwiglu,
)

RMS = """
graph rms
input %x: f32[2,3,8]
weight %w: f32[8]
%two: f32[] = constant(value=2.0, dtype=f32, shape=[])  @two
%eps: f32[] = constant(value=0.001, dtype=f32, shape=[])  @eps
%one: f32[] = constant(value=1.0, dtype=f32, shape=[])  @one
%square: f32[2,3,8] = pow(%x, %two)  @square
%mean: f32[2,3,1] = reduce_mean(%square, axes=[2], keep=true)  @mean
%sum: f32[2,3,1] = add(%mean, %eps)  @sum
%root: f32[2,3,1] = sqrt(%sum)  @root
%inverse: f32[2,3,1] = reciprocal(%root)  @inverse
%scaled: f32[2,3,8] = mul(%x, %inverse)  @scaled
%y: f32[2,3,8] = mul(%w, %scaled)  @y
return %y
"""
RMS_DIV = RMS.replace("pow(%x, %two)", "mul(%x, %x)").replace("reciprocal(%root)", "div(%one, %root)")
RMS_QUOTIENT = RMS.replace("mul(%x, %inverse)", "div(%x, %root)").replace("mul(%w, %scaled)", "mul(%scaled, %w)")
RMS_HALF = """
graph rms_half
input %x: f16[2,3,8]
weight %w: f16[8]
%two: f32[] = constant(value=2.0, dtype=f32, shape=[])  @two
%eps: f32[] = constant(value=0.001, dtype=f32, shape=[])  @eps
%wide: f32[2,3,8] = cast(%x, to=f32)  @wide
%square: f32[2,3,8] = pow(%wide, %two)  @square
%mean: f32[2,3,1] = reduce_mean(%square, axes=[2], keep=true)  @mean
%sum: f32[2,3,1] = add(%eps, %mean)  @sum
%root: f32[2,3,1] = sqrt(%sum)  @root
%inverse: f32[2,3,1] = reciprocal(%root)  @inverse
%scaled: f32[2,3,8] = mul(%wide, %inverse)  @scaled
%narrow: f16[2,3,8] = cast(%scaled, to=f16)  @narrow
%y: f16[2,3,8] = mul(%w, %narrow)  @y
return %y
"""
LAYER = """
graph layer
input %x: f32[2,3,8]
weight %w: f32[8]
weight %b: f32[8]
%eps: f32[] = constant(value=0.001, dtype=f32, shape=[])  @eps
%mean: f32[2,3,1] = reduce_mean(%x, axes=[2], keep=true)  @mean
%centred: f32[2,3,8] = sub(%x, %mean)  @centred
%square: f32[2,3,8] = mul(%centred, %centred)  @square
%variance: f32[2,3,1] = reduce_mean(%square, axes=[2], keep=true)  @variance
%sum: f32[2,3,1] = add(%variance, %eps)  @sum
%root: f32[2,3,1] = sqrt(%sum)  @root
%scaled: f32[2,3,8] = div(%centred, %root)  @scaled
%weighted: f32[2,3,8] = mul(%scaled, %w)  @weighted
%y: f32[2,3,8] = add(%weighted, %b)  @y
return %y
"""
ROPE = """
graph rope past_max=9
input %x: f32[2,3,n_past+1,8]
input %angle: f32[2,n_past+1,4]
%both: f32[2,n_past+1,8] = concat(%angle, %angle, axis=2)  @both
%cos: f32[2,n_past+1,8] = cos(%both)  @cos
%sin: f32[2,n_past+1,8] = sin(%both)  @sin
%c: f32[2,1,n_past+1,8] = reshape(%cos, shape=[2,1,n_past+1,8])  @c
%s: f32[2,1,n_past+1,8] = reshape(%sin, shape=[2,1,n_past+1,8])  @s
%straight: f32[2,3,n_past+1,8] = mul(%x, %c)  @straight
%x1: f32[2,3,n_past+1,4] = slice(%x, axis=3, start=0, step=1, count=4)  @x1
%x2: f32[2,3,n_past+1,4] = slice(%x, axis=3, start=4, step=1, count=4)  @x2
%minus: f32[2,3,n_past+1,4] = neg(%x2)  @minus
%turned: f32[2,3,n_past+1,8] = concat(%minus, %x1, axis=3)  @turned
%sine: f32[2,3,n_past+1,8] = mul(%turned, %s)  @sine
%y: f32[2,3,n_past+1,8] = add(%straight, %sine)  @y
return %y
"""
ROPE_HALF = """
graph rope_half
input %x: f32[2,3,5,8]
input %c: f32[2,1,5,4]
input %s: f32[2,1,5,4]
%x1: f32[2,3,5,4] = slice(%x, axis=3, start=0, step=1, count=4)  @x1
%x2: f32[2,3,5,4] = slice(%x, axis=3, start=4, step=1, count=4)  @x2
%a: f32[2,3,5,4] = mul(%x1, %c)  @a
%b: f32[2,3,5,4] = mul(%x2, %s)  @b
%d: f32[2,3,5,4] = mul(%x2, %c)  @d
%e: f32[2,3,5,4] = mul(%x1, %s)  @e
%low: f32[2,3,5,4] = sub(%a, %b)  @low
%high: f32[2,3,5,4] = add(%d, %e)  @high
%y: f32[2,3,5,8] = concat(%low, %high, axis=3)  @y
return %y
"""
ROPE_PARTIAL = """
graph rope_partial
input %x: f32[2,3,5,8]
input %c: f32[2,1,5,2]
input %s: f32[2,1,5,2]
%turning: f32[2,3,5,4] = slice(%x, axis=3, start=0, step=1, count=4)  @turning
%rest: f32[2,3,5,4] = slice(%x, axis=3, start=4, step=1, count=4)  @rest
%turned: f32[2,3,5,4] = rope(%turning, %c, %s, interleaved=false, rotary=4)  @turned
%y: f32[2,3,5,8] = concat(%turned, %rest, axis=3)  @y
return %y
"""
ROPE_PAIRS = """
graph rope_pairs
input %x: f32[2,3,5,12]
input %angles: f32[2,5,4]
%column: f32[2,5,4,1] = reshape(%angles, shape=[2,5,4,1])  @column
%twice: f32[2,5,4,2] = expand(%column, shape=[2,5,4,2])  @twice
%table: f32[2,1,5,8] = reshape(%twice, shape=[2,1,5,8])  @table
%c: f32[2,1,5,8] = cos(%table)  @c
%s: f32[2,1,5,8] = sin(%table)  @s
%turning: f32[2,3,5,8] = slice(%x, axis=3, start=0, step=1, count=8)  @turning
%rest: f32[2,3,5,4] = slice(%x, axis=3, start=8, step=1, count=4)  @rest
%even: f32[2,3,5,4] = slice(%turning, axis=3, start=0, step=2, count=4)  @even
%odd: f32[2,3,5,4] = slice(%x, axis=3, start=1, step=2, count=4)  @odd
%minus: f32[2,3,5,4] = neg(%odd)  @minus
%left: f32[2,3,5,4,1] = reshape(%minus, shape=[2,3,5,4,1])  @left
%right: f32[2,3,5,4,1] = reshape(%even, shape=[2,3,5,4,1])  @right
%stack: f32[2,3,5,4,2] = concat(%left, %right, axis=4)  @stack
%rotated: f32[2,3,5,8] = reshape(%stack, shape=[2,3,5,8])  @rotated
%straight: f32[2,3,5,8] = mul(%turning, %c)  @straight
%across: f32[2,3,5,8] = mul(%s, %rotated)  @across
%turned: f32[2,3,5,8] = add(%straight, %across)  @turned
%y: f32[2,3,5,12] = concat(%turned, %rest, axis=3)  @y
return %y
"""
GELU = """
graph gelu
input %x: f32[2,8]
%half: f32[] = constant(value=0.5, dtype=f32, shape=[])  @half
%three: f32[] = constant(value=3.0, dtype=f32, shape=[])  @three
%k: f32[] = constant(value=0.044714998453855515, dtype=f32, shape=[])  @k
%r: f32[] = constant(value=0.7978845834732056, dtype=f32, shape=[])  @r
%one: f32[] = constant(value=1.0, dtype=f32, shape=[])  @one
%h: f32[2,8] = mul(%x, %half)  @h
%cube: f32[2,8] = pow(%x, %three)  @cube
%small: f32[2,8] = mul(%cube, %k)  @small
%inner: f32[2,8] = add(%x, %small)  @inner
%scaled: f32[2,8] = mul(%inner, %r)  @scaled
%tanh: f32[2,8] = tanh(%scaled)  @tanh
%gate: f32[2,8] = add(%tanh, %one)  @gate
%y: f32[2,8] = mul(%h, %gate)  @y
return %y
"""
GELU_OTHER_ORDER = (
    GELU.replace("%h: f32[2,8] = mul(%x, %half)  @h\n", "")
    .replace("%cube: f32[2,8] = pow(%x, %three)", "%sq: f32[2,8] = mul(%x, %x)  @sq\n%cube: f32[2,8] = mul(%sq, %x)")
    .replace("%y: f32[2,8] = mul(%h, %gate)", "%h: f32[2,8] = mul(%half, %gate)  @h\n%y: f32[2,8] = mul(%x, %h)")
)
GELU_ERF = """
graph gelu_erf
input %x: f32[2,8]
%half: f32[] = constant(value=0.5, dtype=f32, shape=[])  @half
%root: f32[] = constant(value=1.4142135381698608, dtype=f32, shape=[])  @root
%one: f32[] = constant(value=1.0, dtype=f32, shape=[])  @one
%scaled: f32[2,8] = div(%x, %root)  @scaled
%erf: f32[2,8] = erf(%scaled)  @erf
%gate: f32[2,8] = add(%one, %erf)  @gate
%whole: f32[2,8] = mul(%x, %gate)  @whole
%y: f32[2,8] = mul(%half, %whole)  @y
return %y
"""
SILU = """
graph silu
input %x: f32[2,8]
%one: f32[] = constant(value=1.0, dtype=f32, shape=[])  @one
%s: f32[2,8] = sigmoid(%x)  @s
%a: f32[2,8] = mul(%s, %x)  @a
%minus: f32[2,8] = neg(%x)  @minus
%e: f32[2,8] = exp(%minus)  @e
%d: f32[2,8] = add(%one, %e)  @d
%b: f32[2,8] = div(%x, %d)  @b
return %a, %b
"""
SWIGLU = """
graph swiglu
input %gate: f32[2,8]
input %up: f32[2,8]
%s: f32[2,8] = silu(%gate)  @s
%y: f32[2,8] = mul(%up, %s)  @y
return %y
"""
RELU = """
graph relu
input %x: f32[2,8]
%zero: f32[] = constant(value=0.0, dtype=f32, shape=[])  @zero
%y: f32[2,8] = max(%x, %zero)  @y
return %y
"""
SDPA = """
graph sdpa past_max=9
input %q: f32[2,6,1,4]
input %k: f32[2,2,n_past+1,4]
input %v: f32[2,2,n_past+1,4]
input %see: bool[2,1,1,n_past+1]
%zero: f32[] = constant(value=0.0, dtype=f32, shape=[])  @zero
%low: f32[] = constant(value=-3.4028234663852886e+38, dtype=f32, shape=[])  @low
%root: f32[] = constant(value=0.7071067690849304, dtype=f32, shape=[])  @root
%k5: f32[2,2,1,n_past+1,4] = reshape(%k, shape=[2,2,1,n_past+1,4])  @k5
%kr: f32[2,2,3,n_past+1,4] = expand(%k5, shape=[2,2,3,n_past+1,4])  @kr
%kh: f32[2,6,n_past+1,4] = reshape(%kr, shape=[2,6,n_past+1,4])  @kh
%v5: f32[2,2,1,n_past+1,4] = reshape(%v, shape=[2,2,1,n_past+1,4])  @v5
%vr: f32[2,2,3,n_past+1,4] = concat(%v5, %v5, %v5, axis=2)  @vr
%vh: f32[2,6,n_past+1,4] = reshape(%vr, shape=[2,6,n_past+1,4])  @vh
%kt: f32[2,6,4,n_past+1] = transpose(%kh, perm=[0,1,3,2])  @kt
%qs: f32[2,6,1,4] = mul(%q, %root)  @qs
%ks: f32[2,6,4,n_past+1] = mul(%kt, %root)  @ks
%mask: f32[2,1,1,n_past+1] = where(%see, %zero, %low)  @mask
%scores: f32[2,6,1,n_past+1] = matmul(%qs, %ks)  @scores
%masked: f32[2,6,1,n_past+1] = add(%scores, %mask)  @masked
%p: f32[2,6,1,n_past+1] = softmax(%masked, axis=3)  @p
%bad: bool[2,6,1,n_past+1] = isnan(%p)  @bad
%safe: f32[2,6,1,n_past+1] = where(%bad, %zero, %p)  @safe
%y: f32[2,6,1,4] = matmul(%safe, %vh)  @y
return %y
"""
PLAIN = """
graph plain
input %q: f32[2,3,5,4]
input %k: f32[2,3,5,4]
input %v: f32[2,3,5,4]
input %see: bool[2,1,5,5]
%low: f32[] = constant(value=-1000000.0, dtype=f32, shape=[])  @low
%two: f32[] = constant(value=2.0, dtype=f32, shape=[])  @two
%kt: f32[2,3,4,5] = transpose(%k, perm=[0,1,3,2])  @kt
%product: f32[2,3,5,5] = matmul(%q, %kt)  @product
%scores: f32[2,3,5,5] = div(%product, %two)  @scores
%masked: f32[2,3,5,5] = where(%see, %scores, %low)  @masked
%p: f32[2,3,5,5] = softmax(%masked, axis=3)  @p
%y: f32[2,3,5,4] = matmul(%p, %v)  @y
return %y
"""
CAPPED = PLAIN.replace(
    "%masked:", "%t: f32[2,3,5,5] = tanh(%scores)  @t\n%capped: f32[2,3,5,5] = mul(%t, %two)  @capped\n%masked:"
).replace("where(%see, %scores, %low)", "where(%see, %capped, %low)")
BIASED = PLAIN.replace("%see: bool[2,1,5,5]", "%bias: f32[3,5,5]").replace(
    "where(%see, %scores, %low)", "add(%bias, %scores)"
)
GUARDED = """
graph guarded
input %q: f32[2,3,5,4]
input %k: f32[2,3,5,4]
input %v: f32[2,3,5,4]
input %see: bool[2,1,5,5]
%low: f32[] = constant(value=-3.4028234663852886e+38, dtype=f32, shape=[])  @low
%one: f32[] = constant(value=1.0, dtype=f32, shape=[])  @one
%zero: f32[] = constant(value=0.0, dtype=f32, shape=[])  @zero
%seen: f32[2,1,5,5] = cast(%see, to=f32)  @seen
%count: f32[2,1,5,1] = reduce_sum(%seen, axes=[3], keep=true)  @count
%none: bool[2,1,5,1] = lt(%count, %one)  @none
%hide: bool[2,1,5,5] = not(%see)  @hide
%hidden: f32[2,1,5,5] = cast(%hide, to=f32)  @hidden
%mask: f32[2,1,5,5] = mul(%hidden, %low)  @mask
%kt: f32[2,3,4,5] = transpose(%k, perm=[0,1,3,2])  @kt
%scores: f32[2,3,5,5] = matmul(%q, %kt)  @scores
%masked: f32[2,3,5,5] = add(%scores, %mask)  @masked
%p: f32[2,3,5,5] = softmax(%masked, axis=3)  @p
%o: f32[2,3,5,4] = matmul(%p, %v)  @o
%y: f32[2,3,5,4] = where(%none, %zero, %o)  @y
return %y
"""
HIDDEN = GUARDED.replace("mul(%hidden, %low)", "where(%hide, %low, %zero)")
SUNK = """
graph sunk past_max=9
input %q: f32[2,6,1,4]
input %k: f32[2,2,n_past+1,4]
input %v: f32[2,2,n_past+1,4]
input %see: bool[2,1,1,n_past+1]
input %sinks: f32[6]
%zero: f32[] = constant(value=0.0, dtype=f32, shape=[])  @zero
%low: f32[] = constant(value=-3.4028234663852886e+38, dtype=f32, shape=[])  @low
%k5: f32[2,2,1,n_past+1,4] = reshape(%k, shape=[2,2,1,n_past+1,4])  @k5
%kr: f32[2,2,3,n_past+1,4] = expand(%k5, shape=[2,2,3,n_past+1,4])  @kr
%kt5: f32[2,2,3,4,n_past+1] = transpose(%kr, perm=[0,1,2,4,3])  @kt5
%kt: f32[2,6,4,n_past+1] = reshape(%kt5, shape=[2,6,4,n_past+1])  @kt
%v5: f32[2,2,1,n_past+1,4] = reshape(%v, shape=[2,2,1,n_past+1,4])  @v5
%vr: f32[2,2,3,n_past+1,4] = expand(%v5, shape=[2,2,3,n_past+1,4])  @vr
%vh: f32[2,6,n_past+1,4] = reshape(%vr, shape=[2,6,n_past+1,4])  @vh
%scores: f32[2,6,1,n_past+1] = matmul(%q, %kt)  @scores
%mask: f32[2,1,1,n_past+1] = where(%see, %zero, %low)  @mask
%masked: f32[2,6,1,n_past+1] = add(%scores, %mask)  @masked
%sink4: f32[1,6,1,1] = reshape(%sinks, shape=[1,6,1,1])  @sink4
%column: f32[2,6,1,1] = expand(%sink4, shape=[2,6,1,1])  @column
%all: f32[2,6,1,n_past+2] = concat(%masked, %column, axis=3)  @all
%top: f32[2,6,1,1] = reduce_max(%all, axes=[3], keep=true)  @top
%shifted: f32[2,6,1,n_past+2] = sub(%all, %top)  @shifted
%p: f32[2,6,1,n_past+2] = softmax(%shifted, axis=3)  @p
%kept: f32[2,6,1,n_past+1] = slice(%p, axis=3, start=0, step=1, count=n_past+1)  @kept
%y: f32[2,6,1,4] = matmul(%kept, %vh)  @y
return %y
"""
MASKED_TWICE = """
graph masked_twice past_max=9
input %q: f32[2,3,2,4]
input %k: f32[2,3,n_past+2,4]
input %v: f32[2,3,n_past+2,4]
input %see: bool[2,1,1,n_past+2]
input %near: bool[2,1,2,n_past+2]
input %slopes: f32[3,1,n_past+2]
%low: f32[] = constant(value=-3.4028234663852886e+38, dtype=f32, shape=[])  @low
%half: f32[] = constant(value=0.5, dtype=f32, shape=[])  @half
%kt: f32[2,3,4,n_past+2] = transpose(%k, perm=[0,1,3,2])  @kt
%scores: f32[2,3,2,n_past+2] = matmul(%q, %kt)  @scores
%scaled: f32[2,3,2,n_past+2] = mul(%scores, %half)  @scaled
%tilted: f32[2,3,2,n_past+2] = add(%scaled, %slopes)  @tilted
%shown: f32[2,3,2,n_past+2] = where(%see, %tilted, %low)  @shown
%masked: f32[2,3,2,n_past+2] = where(%near, %shown, %low)  @masked
%p: f32[2,3,2,n_past+2] = softmax(%masked, axis=3)  @p
%y: f32[2,3,2,4] = matmul(%p, %v)  @y
return %y
"""
HALF = """
graph half
input %q: f16[2,3,5,4]
input %kt: f16[2,3,4,5]
input %v: f16[2,3,5,4]
%quarter: f16[] = constant(value=0.25, dtype=f16, shape=[])  @quarter
%scores: f16[2,3,5,5] = matmul(%q, %kt)  @scores
%scaled: f16[2,3,5,5] = mul(%scores, %quarter)  @scaled
%wide: f32[2,3,5,5] = cast(%scaled, to=f32)  @wide
%p: f32[2,3,5,5] = softmax(%wide, axis=3)  @p
%narrow: f16[2,3,5,5] = cast(%p, to=f16)  @narrow
%y: f16[2,3,5,4] = matmul(%narrow, %v)  @y
return %y
"""
EXAMPLES: dict[str, tuple[Rewrite, str]] = {
    "rms_norm": (FuseRmsNorm(), RMS),
    "rms_norm_div": (FuseRmsNorm(), RMS_DIV),
    "rms_norm_quotient": (FuseRmsNorm(), RMS_QUOTIENT),
    "rms_norm_half": (FuseRmsNorm(), RMS_HALF),
    "layer_norm": (FuseLayerNorm(), LAYER),
    "rope": (FuseRope(), ROPE),
    "rope_half_tables": (FuseRope(), ROPE_HALF),
    "rope_partial": (FuseRope(), ROPE_PARTIAL),
    "rope_pairs": (FuseRope(), ROPE_PAIRS),
    "gelu": (FuseGelu(), GELU),
    "gelu_other_order": (FuseGelu(), GELU_OTHER_ORDER),
    "gelu_erf": (FuseGelu(), GELU_ERF),
    "silu": (FuseSilu(), SILU),
    "swiglu": (FuseSwiglu(), SWIGLU),
    "relu": (FuseRelu(), RELU),
    "attention_sdpa": (FuseAttention(), SDPA),
    "attention_plain": (FuseAttention(), PLAIN),
    "attention_capped": (FuseAttention(), CAPPED),
    "attention_biased": (FuseAttention(), BIASED),
    "attention_guarded": (FuseAttention(), GUARDED),
    "attention_hidden": (FuseAttention(), HIDDEN),
    "attention_half": (FuseAttention(), HALF),
    "attention_sunk": (FuseAttention(), SUNK),
    "attention_masked_twice": (FuseAttention(), MASKED_TWICE),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_rewrite_turns_the_text_into_the_golden_one(name: str, golden: Callable[[str, str], None]) -> None:
    before, after, _, _ = applied(*EXAMPLES[name])
    golden(f"rewrite_{name}", shown(before, after))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_fused_graph_gives_the_same_numbers(name: str) -> None:
    before, after, weights, after_weights = applied(*EXAMPLES[name])
    assert len(after.ops) < len(before.ops)
    assert_same(before, after, weights, after_weights, 2e-3 if "half" in name and "tables" not in name else 2e-6)


def test_a_guard_that_zeroes_rows_without_any_key_is_kept_by_attention_itself() -> None:
    before, after, weights, after_weights = applied(FuseAttention(), GUARDED)
    inputs = {v: random_array(v, before, 0) for v in before.inputs}
    inputs["see"][:, :, 2] = False
    (wanted,) = evaluate(before, inputs, weights).values()
    (found,) = evaluate(after, inputs, after_weights).values()
    assert (found[:, :, 2] == 0).all() and (wanted[:, :, 2] == 0).all()


def unlike(text: str, *changes: tuple[str, str]) -> str:
    """A text that a rewrite would take, changed so that it must not."""
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


UNLIKE: dict[str, tuple[Rewrite, str]] = {
    "mean over another axis": (
        FuseRmsNorm(),
        unlike(RMS, ("axes=[2]", "axes=[1]"), ("f32[2,3,1]", "f32[2,1,8]")),
    ),
    "another power": (FuseRmsNorm(), unlike(RMS, ("value=2.0", "value=4.0"))),
    "no root": (FuseRmsNorm(), unlike(RMS, ("reciprocal(%root)", "reciprocal(%sum)"))),
    "not centred on its mean": (
        FuseLayerNorm(),
        unlike(LAYER, ("%mean: f32[2,3,1] = reduce_mean", "%mean: f32[2,3,1] = reduce_max")),
    ),
    "tables of unequal halves": (
        FuseRope(),
        unlike(
            ROPE,
            ("concat(%angle, %angle, axis=2)", "concat(%angle, %more, axis=2)"),
            ("%both:", "%more: f32[2,n_past+1,4] = exp(%angle)  @more\n%both:"),
        ),
    ),
    "halves not negated": (FuseRope(), unlike(ROPE, ("neg(%x2)", "abs(%x2)"))),
    "halves swapped": (FuseRope(), unlike(ROPE, ("concat(%minus, %x1, axis=3)", "concat(%x1, %minus, axis=3)"))),
    "another sine": (FuseRope(), unlike(ROPE_HALF, ("mul(%x1, %s)", "mul(%x1, %c)"))),
    "another cube": (FuseGelu(), unlike(GELU, ("value=3.0", "value=2.0"))),
    "another constant": (FuseGelu(), unlike(GELU, ("value=0.79", "value=0.81"))),
    "not half": (FuseGelu(), unlike(GELU, ("value=0.5", "value=0.4"))),
    "another gate": (FuseSilu(), unlike(SILU, ("sigmoid(%x)", "tanh(%x)"), ("div(%x, %d)", "div(%d, %x)"))),
    "max with one": (FuseRelu(), unlike(RELU, ("value=0.0", "value=1.0"))),
    "softmax over queries": (FuseAttention(), unlike(PLAIN, ("softmax(%masked, axis=3)", "softmax(%masked, axis=2)"))),
    "masked with a small number": (FuseAttention(), unlike(PLAIN, ("value=-1000000.0", "value=-10.0"))),
    "weights changed after the softmax": (
        FuseAttention(),
        unlike(PLAIN, ("matmul(%p, %v)", "matmul(%q2, %v)"), ("%y:", "%q2: f32[2,3,5,5] = add(%p, %see2)  @q2\n%y:"))
        .replace("%q2:", "%see2: f32[2,3,5,5] = exp(%scores)  @see2\n%q2:"),
    ),
}  # fmt: skip


def test_a_choice_that_is_no_guard_stays_around_attention() -> None:
    """Zero where every key is seen, instead of where none is."""
    text = unlike(GUARDED, ("lt(%count, %one)", "lt(%one, %count)"))
    before, after, weights, after_weights = applied(FuseAttention(), text)
    assert {"attention", "where"} <= {op.kind for op in after}
    assert_same(before, after, weights, after_weights, 2e-6)


@pytest.mark.parametrize("what", UNLIKE)
def test_what_only_looks_alike_is_left_alone(what: str) -> None:
    rewrite, text = UNLIKE[what]
    before, after, weights, after_weights = applied(rewrite, text)
    assert not {op.kind for op in after} & {
        "rms_norm", "layer_norm", "rope", "gelu", "silu", "relu", "attention"
    } - {op.kind for op in before}  # fmt: skip
    assert_same(before, after, weights, after_weights)

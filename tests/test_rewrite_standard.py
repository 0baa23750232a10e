"""The standard rewrites as a whole: a layer as exporters write it becomes the layer it means; any may be left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import pytest
from rewriting import assert_same, random_weights, shown

from wafercc.ir.evaluate import check
from wafercc.ir.graph import Graph, OpId
from wafercc.ir.text import parse_graph
from wafercc.ir.weights import Weights, WeightSource
from wafercc.passes.base import run_rewrites
from wafercc.passes.rewrite import NAMES, STANDARD, DeadCode, MergeEqual

# One Llama layer, one new token, as torch writes it: two query heads share one kv head of width four.
LLAMA = """
graph llama past_max=9
input %h: f32[2,1,8]
input %position: i64[2,1]
input %attend: i64[2,n_past+1]
input %past.key: f32[2,1,n_past,4]
input %past.value: f32[2,1,n_past,4]
weight %inv_freq: f32[2]
weight %norm: f32[8]
weight %wq: f32[8,8]
weight %wk: f32[4,8]
weight %wv: f32[4,8]
weight %wo: f32[8,8]
weight %gate: f32[8,16]
weight %up: f32[8,16]
weight %down: f32[16,8]
%two: f32[] = constant(value=2.0, dtype=f32, shape=[])  @two
%eps: f32[] = constant(value=1e-06, dtype=f32, shape=[])  @eps
%zero: f32[] = constant(value=0.0, dtype=f32, shape=[])  @zero
%low: f32[] = constant(value=-3.4028234663852886e+38, dtype=f32, shape=[])  @low
%scale: f32[] = constant(value=0.7071067690849304, dtype=f32, shape=[])  @scale
%new: i64[1] = range(start=0, step=1, count=1, dtype=i64)  @new
%past: i64[] = fill(value=n_past, dtype=i64, shape=[])  @past
%rows: i64[1] = add(%new, %past)  @rows
%rows4: i64[1,1,1,1] = reshape(%rows, shape=[1,1,1,1])  @rows4
%keys: i64[n_past+1] = range(start=0, step=1, count=n_past+1, dtype=i64)  @keys
%keys4: i64[1,1,1,n_past+1] = reshape(%keys, shape=[1,1,1,n_past+1])  @keys4
%causal: bool[1,1,1,n_past+1] = le(%keys4, %rows4)  @causal
%valid: bool[2,n_past+1] = cast(%attend, to=bool)  @valid
%valid4: bool[2,1,1,n_past+1] = reshape(%valid, shape=[2,1,1,n_past+1])  @valid4
%see: bool[2,1,1,n_past+1] = and(%causal, %valid4)  @see
%seeing: bool[2,1,1,n_past+1] = expand(%see, shape=[2,1,1,n_past+1])  @seeing
%mask: f32[2,1,1,n_past+1] = where(%seeing, %zero, %low)  @mask
%p3: i64[2,1,1] = reshape(%position, shape=[2,1,1])  @p3
%pf: f32[2,1,1] = cast(%p3, to=f32)  @pf
%angle: f32[2,1,2] = mul(%pf, %inv_freq)  @angle
%both: f32[2,1,4] = concat(%angle, %angle, axis=2)  @both
%cos: f32[2,1,4] = cos(%both)  @cos
%sin: f32[2,1,4] = sin(%both)  @sin
%cos4: f32[2,1,1,4] = reshape(%cos, shape=[2,1,1,4])  @cos4
%sin4: f32[2,1,1,4] = reshape(%sin, shape=[2,1,1,4])  @sin4
%sq: f32[2,1,8] = pow(%h, %two)  @sq
%ms: f32[2,1,1] = reduce_mean(%sq, axes=[2], keep=true)  @ms
%mse: f32[2,1,1] = add(%ms, %eps)  @mse
%rms: f32[2,1,1] = sqrt(%mse)  @rms
%inv: f32[2,1,1] = reciprocal(%rms)  @inv
%hn: f32[2,1,8] = mul(%h, %inv)  @hn
%x: f32[2,1,8] = mul(%norm, %hn)  @x
%q: f32[2,1,8] = matmul(%x, %wq)  @q
%q4: f32[2,1,2,4] = reshape(%q, shape=[2,1,2,4])  @q4
%qt: f32[2,2,1,4] = transpose(%q4, perm=[0,2,1,3])  @qt
%wkt: f32[8,4] = transpose(%wk, perm=[1,0])  @wkt
%k: f32[2,1,4] = matmul(%x, %wkt)  @k
%k4: f32[2,1,1,4] = reshape(%k, shape=[2,1,1,4])  @k4
%kt: f32[2,1,1,4] = transpose(%k4, perm=[0,2,1,3])  @kt
%wvt: f32[8,4] = transpose(%wv, perm=[1,0])  @wvt
%v: f32[2,1,4] = matmul(%x, %wvt)  @v
%v4: f32[2,1,1,4] = reshape(%v, shape=[2,1,1,4])  @v4
%vt: f32[2,1,1,4] = transpose(%v4, perm=[0,2,1,3])  @vt
%qc: f32[2,2,1,4] = mul(%qt, %cos4)  @qc
%q1: f32[2,2,1,2] = slice(%qt, axis=3, start=0, step=1, count=2)  @q1
%q2: f32[2,2,1,2] = slice(%qt, axis=3, start=2, step=1, count=2)  @q2
%qm: f32[2,2,1,2] = neg(%q2)  @qm
%qr: f32[2,2,1,4] = concat(%qm, %q1, axis=3)  @qr
%qs: f32[2,2,1,4] = mul(%qr, %sin4)  @qs
%qx: f32[2,2,1,4] = add(%qc, %qs)  @qx
%kc: f32[2,1,1,4] = mul(%kt, %cos4)  @kc
%k1: f32[2,1,1,2] = slice(%kt, axis=3, start=0, step=1, count=2)  @k1
%k2: f32[2,1,1,2] = slice(%kt, axis=3, start=2, step=1, count=2)  @k2
%km: f32[2,1,1,2] = neg(%k2)  @km
%kr: f32[2,1,1,4] = concat(%km, %k1, axis=3)  @kr
%ks: f32[2,1,1,4] = mul(%kr, %sin4)  @ks
%kx: f32[2,1,1,4] = add(%kc, %ks)  @kx
%present.key: f32[2,1,n_past+1,4] = kv_append(%past.key, %kx, axis=2)  @key
%present.value: f32[2,1,n_past+1,4] = kv_append(%past.value, %vt, axis=2)  @value
%key5: f32[2,1,1,n_past+1,4] = reshape(%present.key, shape=[2,1,1,n_past+1,4])  @key5
%keyr: f32[2,1,2,n_past+1,4] = expand(%key5, shape=[2,1,2,n_past+1,4])  @keyr
%keyh: f32[2,2,n_past+1,4] = reshape(%keyr, shape=[2,2,n_past+1,4])  @keyh
%value5: f32[2,1,1,n_past+1,4] = reshape(%present.value, shape=[2,1,1,n_past+1,4])  @value5
%valuer: f32[2,1,2,n_past+1,4] = expand(%value5, shape=[2,1,2,n_past+1,4])  @valuer
%valueh: f32[2,2,n_past+1,4] = reshape(%valuer, shape=[2,2,n_past+1,4])  @valueh
%key3: f32[4,n_past+1,4] = reshape(%keyh, shape=[4,n_past+1,4])  @key3
%keyt: f32[4,4,n_past+1] = transpose(%key3, perm=[0,2,1])  @keyt
%keyth: f32[2,2,4,n_past+1] = reshape(%keyt, shape=[2,2,4,n_past+1])  @keyth
%qscaled: f32[2,2,1,4] = mul(%qx, %scale)  @qscaled
%kscaled: f32[2,2,4,n_past+1] = mul(%keyth, %scale)  @kscaled
%scores: f32[2,2,1,n_past+1] = matmul(%qscaled, %kscaled)  @scores
%masked: f32[2,2,1,n_past+1] = add(%scores, %mask)  @masked
%p: f32[2,2,1,n_past+1] = softmax(%masked, axis=3)  @p
%bad: bool[2,2,1,n_past+1] = isnan(%p)  @bad
%safe: f32[2,2,1,n_past+1] = where(%bad, %zero, %p)  @safe
%o: f32[2,2,1,4] = matmul(%safe, %valueh)  @o
%ot: f32[2,1,2,4] = transpose(%o, perm=[0,2,1,3])  @ot
%or: f32[2,8] = reshape(%ot, shape=[2,8])  @or
%op: f32[2,8] = matmul(%or, %wo)  @op
%o3: f32[2,1,8] = reshape(%op, shape=[2,1,8])  @o3
%r: f32[2,1,8] = add(%h, %o3)  @r
%g: f32[2,1,16] = matmul(%r, %gate)  @g
%gs: f32[2,1,16] = sigmoid(%g)  @gs
%silu: f32[2,1,16] = mul(%g, %gs)  @silu
%u: f32[2,1,16] = matmul(%r, %up)  @u
%gu: f32[2,1,16] = mul(%silu, %u)  @gu
%d: f32[2,1,8] = matmul(%gu, %down)  @d
%y: f32[2,1,8] = add(%r, %d)  @y
state %past.key -> %present.key
state %past.value -> %present.value
return %y, %present.key, %present.value
"""
FUSIONS = frozenset(name for name in NAMES if name.startswith("fuse_"))


def layer() -> tuple[Graph, Weights]:
    graph = parse_graph(LLAMA)
    check(graph)
    return graph, random_weights(graph)


def test_an_exported_layer_becomes_the_layer_it_means(golden: Callable[[str, str], None]) -> None:
    graph, weights = layer()
    after = run_rewrites(graph, weights, STANDARD, checked=True)
    golden("rewrite_standard_llama", shown(graph, after.graph))
    kinds = Counter(op.kind for op in after.graph)
    assert kinds["attention"] == 1 and kinds["rope"] == 2 and kinds["rms_norm"] == 1 and kinds["swiglu"] == 1
    assert not kinds.keys() & {"softmax", "concat", "neg", "pow", "reduce_mean", "expand", "transpose"}
    assert_same(graph, after.graph, weights, after.weights, 1e-5)


@pytest.mark.parametrize("left_out", [frozenset({name}) for name in sorted(NAMES)] + [FUSIONS, NAMES])
def test_any_rewrite_may_be_left_out(left_out: frozenset[str]) -> None:
    graph, weights = layer()
    after = run_rewrites(graph, weights, STANDARD, left_out, checked=True)
    assert left_out.isdisjoint(run.name for run in after.runs)
    assert_same(graph, after.graph, weights, after.weights, 1e-5)


def test_without_rewrites_the_very_same_graph_comes_back() -> None:
    graph, weights = layer()
    after = run_rewrites(graph, weights, STANDARD, NAMES)
    assert after.graph is graph and after.weights is weights and after.runs == ()


def test_a_settled_graph_is_returned_as_the_same_object_by_every_rewrite() -> None:
    settled = run_rewrites(*layer(), STANDARD)
    for rewrite in STANDARD:
        graph, weights = rewrite(settled.graph, settled.weights)
        assert graph is settled.graph and weights is settled.weights, rewrite.name


def test_runs_tell_what_each_rewrite_did() -> None:
    graph, weights = layer()
    names: list[str] = []
    after = run_rewrites(graph, weights, (MergeEqual(), DeadCode()), seen=lambda name, _: names.append(name))
    assert [run.name for run in after.runs[:2]] == ["merge_equal", "dead_code"]
    assert after.runs[0].ops_before == len(graph.ops) and after.runs[-1].ops_after == len(after.graph.ops)
    assert all(run.seconds >= 0 for run in after.runs)
    assert set(names) <= {"merge_equal", "dead_code"}


def test_rewriting_reads_no_weight() -> None:
    graph, _ = layer()

    def unreadable() -> None:
        raise AssertionError("a rewrite read a weight")

    weights = Weights({w: WeightSource(unreadable, w) for w in graph.weights})  # type: ignore[arg-type]
    after = run_rewrites(graph, weights, STANDARD)
    assert set(after.graph.weights) <= set(after.weights.sources)
    assert after.weights.sources["wk.transpose"].origin == "transpose(wk)"  # type: ignore[index]


def test_a_model_without_numbers_rewrites_like_one_with_them() -> None:
    graph, weights = layer()
    absent = Weights({w: WeightSource(None, w) for w in graph.weights})
    without, with_numbers = run_rewrites(graph, absent, STANDARD), run_rewrites(graph, weights, STANDARD)
    assert without.graph == with_numbers.graph
    assert all(without.weights.sources[w].load is None for w in without.graph.weights)


def test_interface_names_and_states_survive() -> None:
    graph, weights = layer()
    after = run_rewrites(graph, weights, STANDARD).graph
    assert (after.inputs, after.outputs, after.states) == (graph.inputs, graph.outputs, graph.states)
    assert len({op.id for op in after}) == len(after.ops)


def test_two_graph_outputs_of_equal_value_keep_their_names() -> None:
    text = """
graph twice
input %x: f32[4]
%a: f32[4] = exp(%x)  @a
%b: f32[4] = exp(%x)  @b
%c: f32[4] = reshape(%x, shape=[4])  @c
%t: f32[4] = neg(%x)  @t
%d: f32[4] = reshape(%t, shape=[4])  @d
%e: f32[4] = reshape(%t, shape=[4])  @e
return %a, %b, %c, %d, %e
"""
    graph = parse_graph(text)
    after = run_rewrites(graph, Weights(), STANDARD)
    assert after.graph.outputs == graph.outputs and OpId("c") in after.graph.op
    assert_same(graph, after.graph, Weights(), after.weights)


@dataclass(frozen=True)
class Broken:
    name: ClassVar[str] = "broken"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return graph.with_ops(graph.ops[1:]), weights


@pytest.mark.parametrize("checked", [True, False])
def test_a_rewrite_that_breaks_the_graph_is_caught(checked: bool) -> None:
    graph, weights = layer()
    with pytest.raises(AssertionError, match="broken" if checked else "one of the rewrites"):
        run_rewrites(graph, weights, (Broken(),), checked=checked)

"""The reference evaluator and the check of a graph's types."""

from __future__ import annotations

import numpy as np
import pytest

from wafercc.errors import CompileError, ImportFailed, RunError
from wafercc.ir.evaluate import check, evaluate
from wafercc.ir.graph import ValueName
from wafercc.ir.optable import Array
from wafercc.ir.text import parse_graph
from wafercc.ir.weights import Weights, WeightSource

DECODER = parse_graph("""\
graph decoder past_max=7
input %ids: i64[1,1]
input %past: f32[1,2,n_past,4]
weight %wte: f32[10,8]
weight %head: f32[8,10]
%x: f32[1,1,8] = embedding(%wte, %ids)  @embed
%q: f32[1,1,2,4] = reshape(%x, shape=[1,1,2,4])  @split
%qt: f32[1,2,1,4] = transpose(%q, perm=[0,2,1,3])  @turn
%kv: f32[1,2,n_past+1,4] = kv_append(%past, %qt, axis=2)  @append
%a: f32[1,2,1,4] = attention(%qt, %kv, %kv, scale=0.5)  @attend
%at: f32[1,1,2,4] = transpose(%a, perm=[0,2,1,3])  @back
%m: f32[1,1,8] = reshape(%at, shape=[1,1,8])  @merge
%p: i64[1] = fill(value=n_past+1, dtype=i64, shape=[1])  @position
%logits: f32[1,1,10] = matmul(%m, %head)  @lm_head
state %past -> %kv
return %logits, %kv, %p
""")


def weights() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {"wte": rng.normal(size=(10, 8)).astype(np.float32), "head": rng.normal(size=(8, 10)).astype(np.float32)}


def expected(ids: int, past: Array, held: dict[str, Array]) -> tuple[Array, Array]:
    """The decoder above, written out."""
    x = held["wte"][ids].astype(np.float64).reshape(1, 2, 1, 4)
    cache = np.concatenate([past, x], axis=2)
    scores = np.exp(0.5 * np.einsum("bhsd,bhtd->bhst", x, cache))
    mixed = np.einsum("bhst,bhtd->bhsd", scores / scores.sum(-1, keepdims=True), cache)
    return mixed.transpose(0, 2, 1, 3).reshape(1, 1, 8) @ held["head"].astype(np.float64), cache


@pytest.mark.parametrize("n_past", [0, 1, 7])
def test_one_graph_decodes_at_every_length_of_its_cache(n_past: int) -> None:
    check(DECODER)
    past = np.random.default_rng(1).normal(size=(1, 2, n_past, 4)).astype(np.float32)
    ids = np.array([[3]])
    result = evaluate(DECODER, {"ids": ids, "past": past}, Weights.of(weights()), n_past)
    logits, cache = expected(3, past, weights())
    assert list(result) == ["logits", "kv", "p"]
    np.testing.assert_allclose(result[ValueName("logits")], logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result[ValueName("kv")], cache.astype(np.float32))
    assert result[ValueName("p")].tolist() == [n_past + 1]


def test_each_weight_is_read_once_and_only_if_used() -> None:
    read: list[str] = []

    def source(name: str, array: Array) -> WeightSource:
        def load() -> Array:
            read.append(name)
            return array

        return WeightSource(load, name)

    store = Weights({ValueName(n): source(n, a) for n, a in (weights() | {"spare": np.zeros(1)}).items()})
    past = np.zeros((1, 2, 0, 4), np.float32)
    evaluate(DECODER, {"ids": np.array([[3]]), "past": past}, store)
    assert read == ["wte", "head"]


def test_a_value_is_freed_after_its_last_use() -> None:
    chain = ["graph chain", "input %x0: f32[100000]"]
    chain += [f"%x{i + 1}: f32[100000] = neg(%x{i})  @n{i}" for i in range(50)]
    graph = parse_graph("\n".join([*chain, "return %x50"]))
    import tracemalloc

    tracemalloc.start()
    evaluate(graph, {"x0": np.ones(100000, np.float32)}, Weights())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 400_000


def test_outputs_may_be_inputs_or_weights() -> None:
    graph = parse_graph("graph g\ninput %x: f32[1]\nweight %w: f32[1]\nreturn %x, %w, %x\n")
    check(graph)
    result = evaluate(graph, {"x": np.ones(1, np.float32)}, Weights.of({"w": np.zeros(1, np.float32)}))
    assert {name: array.tolist() for name, array in result.items()} == {"x": [1], "w": [0]}


GOOD = {"ids": np.array([[3]]), "past": np.zeros((1, 2, 2, 4), np.float32)}
WRONG_INPUTS = [
    ({"ids": GOOD["ids"]}, 2, "graph decoder: inputs missing: past"),
    (GOOD | {"mask": GOOD["ids"]}, 2, "graph decoder: inputs unknown: mask"),
    (GOOD, 8, "graph decoder: n_past is 8, but the context capacity allows 0 to 7 (compile with a larger context)"),
    (GOOD, 3, "input past: takes f32[1,2,n_past,4] (with n_past 3: [1, 2, 3, 4]), was given float32[1, 2, 2, 4]"),
    (
        GOOD | {"ids": np.array([[3]], np.int32)},
        2,
        "input ids: takes i64[1,1] (with n_past 2: [1, 1]), was given int32[1, 1]",
    ),
    (
        GOOD | {"ids": np.array([[10]])},
        2,
        "op embed: index 10 is outside 0 to 9 (token and position ids must lie inside their tables)",
    ),
]


@pytest.mark.parametrize(("inputs", "n_past", "message"), WRONG_INPUTS, ids=[w[2][:40] for w in WRONG_INPUTS])
def test_wrong_inputs_are_one_clear_error(inputs: dict[str, Array], n_past: int, message: str) -> None:
    with pytest.raises(RunError) as caught:
        evaluate(DECODER, inputs, Weights.of(weights()), n_past)
    assert str(caught.value) == message


def test_a_weightless_graph_is_refused_by_name() -> None:
    with pytest.raises(CompileError, match="weight wte: the model names this weight but carries no numbers"):
        evaluate(DECODER, GOOD, Weights({ValueName("wte"): WeightSource(None)}), 2)


WRONG_GRAPHS = [
    ("%y: f32[2] = exp(%x)  @o", "op o: gives f32[1] for y, declared f32[2]"),
    ("%y: f32[1] = exp(%z)  @o\n%z: f32[1] = exp(%x)  @p", "op o: reads z before anything writes it"),
    ("%y: f32[1], %z: f32[1] = exp(%x)  @o", "op o: exp gives 1 results, 2 are named"),
    ("%y: f32[1] = exp(%x)  @o\n%z: f32[1] = exp(%x)  @o", "op o: two ops have this name"),
    ("%y: f32[1] = expp(%x)  @o", "op o: unknown op kind expp (see docs/ops.md for the op table)"),
    ("%z: f32[1] = exp(%x)  @o", "value y: it is an output, but nothing writes it"),
    ("%y: f32[1] = exp(%x)  @o\nstate %y -> %x", "graph g: state y -> x must join an input to an output"),
]


@pytest.mark.parametrize(("lines", "message"), WRONG_GRAPHS, ids=[w[1][:40] for w in WRONG_GRAPHS])
def test_a_wrong_graph_is_one_clear_error(lines: str, message: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        check(parse_graph(f"graph g\ninput %x: f32[1]\n{lines}\nreturn %y\n"))
    assert str(caught.value) == message

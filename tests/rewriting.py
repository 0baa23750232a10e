"""What rewrite tests share: apply a rewrite to IR text, show both texts, hold the values of both graphs together."""

from __future__ import annotations

import zlib

import numpy as np

from wafercc.ir.evaluate import check, evaluate
from wafercc.ir.graph import Graph, ValueName
from wafercc.ir.text import parse_graph, print_graph
from wafercc.ir.weights import Array, Weights
from wafercc.passes.base import Rewrite, run_rewrites
from wafercc.passes.rewrite import DeadCode

N_PASTS = (0, 1, 5)


def random_array(name: str, graph: Graph, n_past: int) -> Array:
    """Numbers that depend on the value's name alone; rows of a mask begin with true, so every query sees a key."""
    wanted = graph.types[ValueName(name)]
    rng = np.random.default_rng([zlib.crc32(name.encode()), n_past])
    shape = wanted.at(n_past)
    if wanted.dtype == "bool":
        array = rng.random(shape) < 0.6
        array[..., :1] = True
        return array
    if wanted.dtype.is_float:
        return rng.standard_normal(shape).astype(wanted.dtype.numpy)
    array = rng.integers(0, 3, shape)
    array[..., :1] = 1
    return array.astype(wanted.dtype.numpy)


def random_weights(graph: Graph) -> Weights:
    return Weights.of({w: random_array(w, graph, 0) for w in graph.weights})


def applied(rewrite: Rewrite, text: str) -> tuple[Graph, Graph, Weights, Weights]:
    """The graph of a text, and what is left of it after the rewrite and dead_code; with the weights of both."""
    graph = parse_graph(text)
    check(graph)
    weights = random_weights(graph)
    after = run_rewrites(graph, weights, (rewrite, DeadCode()), checked=True)
    return graph, after.graph, weights, after.weights


def shown(before: Graph, after: Graph) -> str:
    return f"{print_graph(before)}\nbecomes\n\n{print_graph(after)}"


def assert_same(before: Graph, after: Graph, weights: Weights, after_weights: Weights, tolerance: float = 0.0) -> None:
    """Both graphs give equal outputs for a few past lengths, up to ``tolerance`` of the largest number."""
    for n_past in N_PASTS if before.past_max else (0,):
        inputs = {v: random_array(v, before, n_past) for v in before.inputs}
        wanted = evaluate(before, inputs, weights, n_past)
        found = evaluate(after, inputs, after_weights, n_past)
        assert list(found) == list(wanted)
        for name, array in wanted.items():
            a, b = found[name].astype(np.float64), array.astype(np.float64)
            assert found[name].dtype == array.dtype and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(np.abs(b).max(initial=0))))

"""Every rewrite, and all of them together, keep the values of random graphs of arithmetic, broadcasting and moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rewriting import assert_same, random_weights

from wafercc.errors import ImportFailed
from wafercc.ir.dtypes import DType
from wafercc.ir.evaluate import check
from wafercc.ir.graph import Attr, Graph, Op, OpId, TensorType, ValueName
from wafercc.ir.optable import spec_of
from wafercc.passes.base import run_rewrites
from wafercc.passes.rewrite import STANDARD

pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice")
LARGEST = 200
X, W, V = ValueName("x"), ValueName("w"), ValueName("v")


@dataclass
class Builder:
    """A graph that grows by ops drawn at random; draws that the op table refuses add nothing."""

    draw: st.DrawFn
    types: dict[ValueName, TensorType] = field(
        default_factory=lambda: {
            X: TensorType(DType.F32, (2, 3, 4)),
            W: TensorType(DType.F32, (4, 4)),
            V: TensorType(DType.F32, (4,)),
        }
    )
    ops: list[Op] = field(default_factory=list)

    def pick(self, *dtypes: DType) -> ValueName:
        fitting = [v for v, t in self.types.items() if t.dtype in dtypes]
        return self.draw(st.sampled_from(fitting)) if fitting else X

    def add(self, kind: str, *inputs: ValueName, **attrs: Attr) -> None:
        name = ValueName(f"{kind}{len(self.ops)}")
        op = Op(OpId(name), kind, inputs, (name,), attrs)
        try:
            (found,) = spec_of(op).infer(op, [self.types[v] for v in inputs])
        except ImportFailed:
            return
        if found.elements <= LARGEST:
            self.ops.append(op)
            self.types[name] = found

    def step(self) -> None:
        draw = self.draw
        x = self.pick(DType.F32)
        shape = tuple(d for d in self.types[x].shape if isinstance(d, int))
        match draw(st.sampled_from(KINDS)):
            case "unary":
                self.add(draw(st.sampled_from(["neg", "tanh", "abs", "sigmoid", "relu"])), x)
            case "binary":
                self.add(draw(st.sampled_from(["add", "sub", "mul", "max"])), x, self.pick(DType.F32))
            case "fill":
                wide = draw(st.sampled_from([(), shape]))
                self.add("fill", value=draw(st.sampled_from([0.0, 1.0, 0.5])), dtype=DType.F32, shape=wide)
            case "count":
                count = draw(st.sampled_from([1, *shape]))
                self.add("range", start=draw(st.integers(-2, 2)), step=1, count=count, dtype=DType.I64)
                self.add(draw(st.sampled_from(["add", "sub", "mul"])), self.pick(DType.I64), self.pick(DType.I64))
            case "cast":
                any_type = self.pick(DType.F32, DType.I64, DType.BOOL)
                self.add("cast", any_type, to=draw(st.sampled_from([DType.F32, DType.BOOL, DType.I64])))
            case "logic":
                self.add(draw(st.sampled_from(["and", "or"])), self.pick(DType.BOOL), self.pick(DType.BOOL))
                self.add("not", self.pick(DType.BOOL))
            case "compare":
                self.add("lt", self.pick(DType.I64), self.pick(DType.I64))
            case "where":
                self.add("where", self.pick(DType.BOOL), x, self.pick(DType.F32))
            case "merge":
                self.add("reshape", x, shape=(math.prod(shape[:-1]), *shape[-1:]))
            case "reshape":
                equal = [t.shape for t in self.types.values() if t.elements == math.prod(shape)]
                self.add("reshape", x, shape=draw(st.sampled_from([*equal, (*shape, 1), (1, *shape), shape[::-1]])))
                if len(shape) == 3:
                    self.add("transpose", [*self.types][-1], perm=(0, 2, 1))
            case "transpose":
                self.add("transpose", x, perm=tuple(draw(st.permutations(range(len(shape))))))
                self.add("transpose", [*self.types][-1], perm=tuple(draw(st.permutations(range(len(shape))))))
            case "expand":
                self.add("expand", x, shape=draw(st.sampled_from([(2, *shape), shape, (2, *shape[1:])])))
            case "slice" if shape:
                axis = draw(st.integers(0, len(shape) - 1))
                start = draw(st.integers(0, max(0, shape[axis] - 1)))
                count = draw(st.integers(0, shape[axis] - start))
                self.add("slice", x, axis=axis, start=start, step=1, count=count)
            case "concat" if shape:
                other = self.pick(DType.F32)
                if self.types[other].rank == len(shape):
                    self.add("concat", x, other, axis=draw(st.integers(0, len(shape) - 1)))
            case "along" if shape:
                last = len(shape) - 1
                self.add("reduce_sum", x, axes=(last,), keep=True)
                self.add("softmax", x, axis=last)
            case "matmul":
                self.add("matmul", x, self.pick(DType.F32))
                self.add("rms_norm", x, epsilon=0.01)


KINDS = (
    *("unary", "binary", "fill", "count", "cast", "logic", "compare", "where", "merge", "merge", "reshape"),
    *("transpose", "transpose", "expand", "slice", "concat", "along", "matmul"),
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    builder = Builder(draw)
    for _ in range(draw(st.integers(3, 20))):
        builder.step()
    builder.add("neg", X)
    made = [op.outputs[0] for op in builder.ops]
    outputs = tuple(dict.fromkeys([*draw(st.lists(st.sampled_from(made), max_size=2)), made[-1]]))
    graph = Graph("random", builder.types, (X,), outputs, (W, V), tuple(builder.ops))
    check(graph)
    return graph


@pytest.mark.parametrize("rewrite", {p.name: p for p in STANDARD}.values(), ids=lambda p: str(p.name))
@settings(max_examples=25, deadline=None, derandomize=True)
@given(graph=graphs())
def test_each_rewrite_keeps_the_values_of_random_graphs(rewrite: object, graph: Graph) -> None:
    weights = random_weights(graph)
    after, after_weights = rewrite(graph, weights)  # type: ignore[operator]
    check(after)
    assert_same(graph, after, weights, after_weights, 1e-5)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(graph=graphs())
def test_all_rewrites_together_keep_the_values_of_random_graphs_and_settle(graph: Graph) -> None:
    weights = random_weights(graph)
    after = run_rewrites(graph, weights, STANDARD)
    assert_same(graph, after.graph, weights, after.weights, 1e-5)
    again = run_rewrites(after.graph, after.weights, STANDARD)
    assert again.graph is after.graph and again.weights is after.weights

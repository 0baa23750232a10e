"""What compiles verifies, what verifies runs, and what runs equals the reference evaluation: over random graphs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from wafercc.errors import CompileError
from wafercc.importer import Imported, Source
from wafercc.ir.dtypes import DType
from wafercc.ir.evaluate import check, evaluate
from wafercc.ir.graph import Attr, Graph, Op, OpId, TensorType, ValueName
from wafercc.ir.optable import spec_of
from wafercc.ir.weights import Weights
from wafercc.passes.journal import Journal
from wafercc.passes.machine import find_machine
from wafercc.passes.options import Options
from wafercc.passes.pipeline import compile_graph
from wafercc.program import Program


@dataclass
class Draw:
    """A graph growing op by op from one input of shape [batch, tokens, width]."""

    rng: np.random.Generator
    types: dict[ValueName, TensorType] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)

    def op(self, kind: str, *inputs: ValueName, **attrs: Attr) -> ValueName:
        name = ValueName(f"v{len(self.ops)}")
        op = Op(OpId(f"{kind}.{len(self.ops)}"), kind, inputs, (name,), attrs)
        self.types[name] = spec_of(op).infer(op, [self.types[v] for v in inputs])[0]
        self.ops.append(op)
        return name

    def weight(self, *shape: int) -> ValueName:
        name = ValueName(f"w{len(self.weights)}")
        self.weights[name] = (self.rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        self.types[name] = TensorType(DType.F32, shape)
        return name

    def step(self, x: ValueName, choice: int, size: int) -> ValueName:
        """One random step; the value keeps its three dimensions."""
        batch, tokens, width = self.types[x].shape
        assert isinstance(batch, int) and isinstance(tokens, int) and isinstance(width, int)
        match choice:
            case 0:
                return self.op("matmul", x, self.weight(width, size))
            case 1:
                return self.op("rms_norm", x, self.weight(width), epsilon=1e-5)
            case 2:
                return self.op("softmax", x, axis=2)
            case 3:
                return self.op("add", x, self.op("silu", x))
            case 4:
                return self.op("transpose", x, perm=(0, 2, 1))
            case 5:
                heads = next(h for h in (4, 3, 2, 1) if width % h == 0)
                cut = self.op("reshape", x, shape=(batch, tokens, heads, width // heads))
                turned = self.op("transpose", cut, perm=(0, 2, 1, 3))
                seen = self.op("attention", turned, turned, turned, scale=0.3, softcap=0.0)
                return self.op("reshape", self.op("transpose", seen, perm=(0, 2, 1, 3)), shape=(batch, tokens, width))
            case 6:
                return self.op("sub", x, self.op("reduce_mean", x, axes=(1,), keep=True))
            case _:
                half = self.op("slice", x, axis=2, start=0, step=1, count=max(1, width // 2))
                return self.op("concat", half, x, axis=2)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, Weights, np.ndarray]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(2, 20)))
    drawing, x = Draw(rng), ValueName("x")
    drawing.types[x] = TensorType(DType.F32, shape)
    value = x
    for choice in draw(st.lists(st.integers(0, 7), min_size=1, max_size=7)):
        value = drawing.step(value, choice, draw(st.integers(2, 24)))
    names = tuple(ValueName(w) for w in drawing.weights)
    graph = Graph("random", drawing.types, (x,), (value,), names, tuple(drawing.ops))
    check(graph)
    return graph, Weights.of(drawing.weights), rng.standard_normal(shape).astype(np.float32)


MESHES = ("mesh:36x30", "mesh:24x40", "mesh:17x13", "mesh:9x9")
REGIONS = (None, (1, 1), (2, 3), (5, 4), (8, 8), (9, 16))


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    graphs(),
    st.sampled_from(MESHES),
    st.sampled_from(REGIONS),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.01, 0.03]),
    st.integers(0, 9),
)
def test_a_random_program_verifies_and_equals_its_evaluation(
    made: tuple[Graph, Weights, np.ndarray],
    mesh: str,
    region: tuple[int, int] | None,
    stages: int,
    rate: float,
    seed: int,
) -> None:
    graph, weights, x = made
    options = Options(
        target=mesh,
        region=region,
        stages=min(stages, len(graph.ops)) if region else None,
        defect_rate=rate,
        defect_seed=seed,
    )
    imported = Imported(graph, weights, (), Source("random.onnx", "test", {}, "", len(graph.ops)))
    try:
        program = Program(compile_graph(imported, Journal(options, find_machine(options))))
    except CompileError as refusal:
        event(f"refused: {type(refusal).__name__}")
        assert refusal.where and refusal.hint and any(c.isdigit() for c in refusal.message), str(refusal)
        return
    event("compiled")
    program.verify()
    wanted = evaluate(graph, {"x": x}, weights)
    result = program.run({"x": x})
    for name, array in result.outputs.items():
        np.testing.assert_allclose(array, wanted[ValueName(name)], rtol=2e-4, atol=2e-5)
    assert result.cycles > 0

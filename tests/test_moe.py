"""Mixture of experts: in every form exporters write it is onnxruntime's result, and only chosen experts' PEs work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from importer_models import F32, I64, Array, agrees, model, run_graph, run_onnxruntime, saved
from onnx import helper

import wafercc
from wafercc.importer import Binding, import_model
from wafercc.ir.block import Compute, Guard
from wafercc.ir.program import PlacedProgram
from wafercc.passes.rewrite.fuse_experts import FuseExperts
from wafercc.passes.rewrite.guard_dense import GuardDense
from wafercc.verify import verify

RNG = np.random.default_rng(11)
T, H, F, E = 3, 8, 6, 4


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def fused_op(op_type: str, inputs: list[str], tensors: dict[str, Array], **attrs: Any) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x", "logits", *inputs], ["y"], "it", domain="com.microsoft", **attrs)
    width = attrs.pop("width", H)
    return model([node], {"x": (F32, (1, T, width)), "logits": (F32, (T, E))}, ["y"], tensors)


@pytest.mark.parametrize("normalised", [0, 1])
@pytest.mark.parametrize("kind", ["relu", "silu", "gelu", "identity"])
def test_moe_of_every_activation(kind: str, normalised: int, tmp_path: Path) -> None:
    tensors = {"w1": normal(E, F, H), "b1": normal(E, F), "w2": normal(E, H, F), "b2": normal(E, H)}
    proto = fused_op("MoE", [*tensors], tensors, k=2, activation_type=kind, normalize_routing_weights=normalised)
    agrees(proto, {"x": normal(1, T, H), "logits": normal(T, E)}, tmp_path)


@pytest.mark.parametrize("others", [{}, {"swiglu_limit": 0.5, "activation_alpha": 1.7, "activation_beta": 1.0}])
def test_moe_with_gate_and_linear_part_interleaved(others: dict[str, float], tmp_path: Path) -> None:
    tensors = {"w1": normal(E, 2 * F, H), "b1": normal(E, 2 * F), "w2": normal(E, H, F)}
    attrs = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1, **others}
    agrees(fused_op("MoE", [*tensors], tensors, **attrs), {"x": normal(1, T, H), "logits": normal(T, E)}, tmp_path)


def test_moe_with_separate_gate_and_up(tmp_path: Path) -> None:
    """onnxruntime has no CPU kernel for it: plain numpy is the judge."""
    w1, w2, w3, x, logits = normal(E, F, H), normal(E, H, F), normal(E, F, H), normal(1, T, H), normal(T, E)
    attrs = {"k": 2, "activation_type": "silu", "normalize_routing_weights": 1}
    proto = fused_op("MoE", ["w1", "", "w2", "", "w3"], {"w1": w1, "w2": w2, "w3": w3}, **attrs)
    expected = np.zeros((T, H))
    for t in range(T):
        chosen = np.argsort(-logits[t])[:2]
        shares = np.exp(logits[t, chosen]) / np.exp(logits[t, chosen]).sum()
        for expert, share in zip(chosen, shares, strict=True):
            gate = w1[expert] @ x[0, t]
            expected[t] += share * (w2[expert] @ (gate / (1 + np.exp(-gate)) * (w3[expert] @ x[0, t])))
    feeds = {"x": x, "logits": logits}
    program = wafercc.compile(saved(proto, tmp_path), inputs_like=feeds, target="mesh:8x8")
    np.testing.assert_allclose(program.run(feeds).outputs["y"][0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("bits", "block"), [(4, 0), (8, 0), (4, 16), (8, 16)])
def test_qmoe_of_every_width_and_block(bits: int, block: int, tmp_path: Path) -> None:
    hidden, inner = 32, 48
    tensors: dict[str, Array] = {}
    for name, out, width in (("1", 2 * inner, hidden), ("2", hidden, inner)):
        numbers = RNG.integers(0, 256, (E, out, width * bits // 8)).astype(np.uint8)
        scales = RNG.random((E, out, width // block) if block else (E, out)) * 0.02 + 0.01
        tensors |= {f"w{name}": numbers, f"s{name}": scales.astype(np.float32)}
    attrs: dict[str, Any] = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "expert_weight_bits": bits}
    attrs |= {"block_size": block} if block else {}
    node = helper.make_node(
        "QMoE", ["x", "logits", "w1", "s1", "", "w2", "s2", ""], ["y"], "it", domain="com.microsoft", **attrs
    )
    proto = model([node], {"x": (F32, (1, T, hidden)), "logits": (F32, (T, E))}, ["y"], tensors)
    feeds = {"x": normal(1, T, hidden), "logits": normal(T, E)}
    got = run_graph(import_model(saved(proto, tmp_path), Binding(inputs_like=feeds)), feeds)["y"]
    want = run_onnxruntime(proto, feeds)["y"]
    # Of 8 bits in blocks onnxruntime rounds what it multiplies to 8 bits too.
    assert np.abs(got - want).max() < (0.02 if (bits, block) == (8, 16) else 1e-5) * np.abs(want).max()


# --- picked matrices and dispatch


def picked(tokens: int, hidden: int, out: int, experts: int) -> onnx.ModelProto:
    """What torch exports: whole matrices gathered per choice, times the token."""
    nodes = [
        helper.make_node("TopK", ["scores", "two"], ["best", "ids"], axis=-1),
        helper.make_node("Reshape", ["ids", "flat"], ["chosen"]),
        helper.make_node("Gather", ["w", "chosen"], ["matrices"], axis=0),
        helper.make_node("Unsqueeze", ["x", "one"], ["each"]),
        helper.make_node("Expand", ["each", "both"], ["twice"]),
        helper.make_node("Reshape", ["twice", "columns"], ["rows"]),
        helper.make_node("MatMul", ["matrices", "rows"], ["y"], "it"),
    ]
    tensors = {
        "w": RNG.standard_normal((experts, out, hidden)).astype(np.float32),
        "two": np.array([2]),
        "flat": np.array([-1]),
        "one": np.array([1]),
        "both": np.array([tokens, 2, hidden]),
        "columns": np.array([tokens * 2, hidden, 1]),
    }
    inputs = {"x": (F32, (tokens, hidden)), "scores": (F32, (tokens, experts))}
    return model(nodes, inputs, ["y"], tensors)


def scores(*chosen: tuple[int, int], experts: int = 8) -> Array:
    result = np.zeros((len(chosen), experts), np.float32)
    for row, (best, second) in enumerate(chosen):
        result[row, best], result[row, second] = 2, 1
    return result


def test_picked_matrices_become_products_with_chosen_experts(tmp_path: Path) -> None:
    proto = picked(2, 8, 6, 8)
    feeds = {"x": normal(2, 8), "scores": scores((3, 0), (0, 7))}
    agrees(proto, feeds, tmp_path)
    imported = import_model(saved(proto, tmp_path), Binding())
    graph, _ = FuseExperts()(imported.graph, imported.weights)
    (op,) = (op for op in graph.ops if op.kind == "moe_experts")
    assert op.attrs["distinct"] == 2
    program = wafercc.compile(saved(proto, tmp_path), inputs_like=feeds, target="mesh:8x8")
    w = np.asarray(onnx.numpy_helper.to_array(proto.graph.initializer[0]))
    expected = [w[e] @ feeds["x"][t] for t, e in ((0, 3), (0, 0), (1, 0), (1, 7))]
    np.testing.assert_allclose(program.run(feeds).outputs["y"][..., 0], expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def dispatched(tmp_path_factory: pytest.TempPathFactory) -> wafercc.Program:
    """Eight experts on eight columns of PEs, two tokens."""
    proto = picked(2, 64, 64, 8)
    (path,) = [saved(proto, tmp_path_factory.mktemp("moe"))]
    shapes = {"x": (2, 64), "scores": (2, 8)}
    return wafercc.compile(
        path, shapes=shapes, target="mesh:8x8", stages=1, strategies={"moe_experts": "rows=k columns=e"}
    )


def experts_cycles(program: wafercc.Program, feeds: dict[str, Array] | None) -> tuple[int, int]:
    """The busiest PE's cycles in the experts' product, and how many PEs work in it."""
    result = program.run(feeds or {}, timing_only=feeds is None)
    (record,) = (op for op in result.report.ops if op.kind == "moe_experts")
    return record.busy_cycles, record.pes


def test_cycles_depend_on_which_experts_are_chosen(dispatched: wafercc.Program) -> None:
    x = normal(2, 64)
    apart = experts_cycles(dispatched, {"x": x, "scores": scores((0, 1), (2, 3))})
    shared = experts_cycles(dispatched, {"x": x, "scores": scores((0, 1), (1, 0))})
    unknown = experts_cycles(dispatched, None)
    assert apart[1] == 4 * 8 and shared[1] == 2 * 8, "each chosen expert wakes its own column of PEs"
    assert shared[0] > apart[0], "two tokens of one expert take its PEs longer"
    assert unknown[0] == shared[0], "without values a step takes as long as it may"


def test_two_of_eight_experts_cost_less_than_all_eight(tmp_path: Path) -> None:
    tensors = {"w1": normal(8, 64, 64), "w2": normal(8, 64, 64)}
    feeds = {"x": normal(1, 1, 64), "logits": normal(1, 8)}
    cycles = {}
    for k in (2, 8):
        node = helper.make_node("MoE", ["x", "logits", "w1", "", "w2"], ["y"], "it", domain="com.microsoft", k=k)
        proto = model([node], {"x": (F32, (1, 1, 64)), "logits": (F32, (1, 8))}, ["y"], tensors)
        program = wafercc.compile(saved(proto, tmp_path), inputs_like=feeds, target="mesh:4x4", stages=1)
        records = [r for r in program.run(feeds).report.ops if r.kind == "moe_experts"]
        cycles[k] = sum(r.busy_cycles for r in records), program.run(feeds).cycles
    assert cycles[2][0] < cycles[8][0] / 2 and cycles[2][1] < cycles[8][1]


def mutated(program: PlacedProgram, change: Any) -> PlacedProgram:
    (name,) = (n for n, b in program.blocks.items() if any(isinstance(s, Compute) and s.guard for s in b.steps))
    block = program.blocks[name]
    steps = tuple(
        replace(s, guard=change(s.guard)) if isinstance(s, Compute) and s.guard is not None else s
        for s in block.steps
    )
    return replace(program, blocks={**program.blocks, name: replace(block, steps=steps)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: replace(g, wakes=((), *g.wakes[1:])), "choice 0 wakes no part, part 0 holds it"),
        (lambda g: replace(g, wakes=(*g.wakes[:7], (7, 3))), "choice 3 wakes parts 3 7, part 3 holds it"),
        (lambda g: replace(g, wakes=g.wakes[::-1]), "choice 0 wakes part 7, part 0 holds it"),
        (lambda g: replace(g, wakes=g.wakes[:4]), "its guard is for 4 parts of the mesh"),
        (lambda g: None, "works by choice but has no guard"),
    ],
    ids=["removed", "doubled", "moved", "short", "gone"],
)
def test_each_expert_has_exactly_one_owner(dispatched: wafercc.Program, change: Any, message: str) -> None:
    assert not verify(dispatched.placed)
    found = [str(v) for v in verify(mutated(dispatched.placed, change))]
    assert any(message in one for one in found), found


def test_a_guard_survives_its_file(dispatched: wafercc.Program, tmp_path: Path) -> None:
    dispatched.save(tmp_path / "it.wafer")
    again = wafercc.load(tmp_path / "it.wafer")
    guards = [s.guard for b in again.placed.blocks.values() for s in b.steps if isinstance(s, Compute) and s.guard]
    assert [g.wakes for g in guards if isinstance(g, Guard)] == [tuple((e,) for e in range(8))]


def unrolled(tokens: int, experts: int) -> onnx.ModelProto:
    """What TorchScript exports: for each expert the rows that chose it, multiplied and added where they came from."""
    nodes, total = [], "nothing"
    tensors: dict[str, Array] = {"zero": np.array([0]), "one": np.array([1])}
    tensors["nothing"] = np.zeros((tokens, H), np.float32)
    for e in range(experts):
        tensors |= {f"w{e}": normal(H, H), f"e{e}": np.array(e)}
        nodes += [
            helper.make_node("Equal", ["choice", f"e{e}"], [f"mine{e}"]),
            helper.make_node("NonZero", [f"mine{e}"], [f"at{e}"]),
            helper.make_node("Split", [f"at{e}"], [f"row2{e}", f"slot{e}"], axis=0, num_outputs=2),
            helper.make_node("Squeeze", [f"row2{e}", "zero"], [f"row{e}"]),
            helper.make_node("Gather", ["x", f"row{e}"], [f"rows{e}"], axis=0),
            helper.make_node("MatMul", [f"rows{e}", f"w{e}"], [f"inner{e}"], f"product{e}"),
            helper.make_node("Relu", [f"inner{e}"], [f"relu{e}"]),
            helper.make_node("MatMul", [f"relu{e}", f"w{e}"], [f"update{e}"], f"down{e}"),
            helper.make_node("Shape", [f"update{e}"], [f"shape{e}"]),
            helper.make_node("Unsqueeze", [f"row{e}", "one"], [f"column{e}"]),
            helper.make_node("Expand", [f"column{e}", f"shape{e}"], [f"places{e}"]),
            helper.make_node("ScatterElements", [total, f"places{e}", f"update{e}"], [f"y{e}"], reduction="add"),
        ]
        total = f"y{e}"
    return model(nodes, {"x": (F32, (tokens, H)), "choice": (I64, (tokens, 2))}, [total], tensors)


@pytest.mark.parametrize("tokens", [1, 3])
def test_an_unrolled_loop_costs_nothing_for_experts_that_no_token_chose(tokens: int, tmp_path: Path) -> None:
    proto = unrolled(tokens, 3)
    feeds = {"x": normal(tokens, H), "choice": np.array([[2, 0], [2, 5], [2, 0]])[:tokens]}
    agrees(proto, feeds, tmp_path)
    program = wafercc.compile(saved(proto, tmp_path), inputs_like=feeds, target="mesh:6x6")
    result = program.run(feeds)
    assert not verify(program.placed)
    w = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    expected = np.zeros((tokens, H))
    for row, slot in np.ndindex(tokens, 2):
        if (e := feeds["choice"][row, slot]) < 3:
            expected[row] += np.maximum(feeds["x"][row] @ w[f"w{e}"], 0) @ w[f"w{e}"]
    np.testing.assert_allclose(result.outputs["y2"], expected, rtol=1e-4, atol=1e-5)
    cycles = {r.op.split(".")[0]: (r.busy_cycles, r.pes) for r in result.report.ops if r.kind == "moe_experts"}
    assert len(cycles) == 6, "both products of each expert"
    assert cycles["product1"] == cycles["down1"] == (0, 0)
    assert cycles["product2"][1] > 0


def dense(tokens: int, *ends: onnx.NodeProto) -> onnx.ModelProto:
    """What optimum exports: every expert for every token, weighted by the chosen shares scattered into zeros."""
    nodes = [
        helper.make_node("TopK", ["logits", "two"], ["best", "ids"], axis=-1),
        helper.make_node("Softmax", ["best"], ["chosen"], axis=-1),
        helper.make_node("ScatterElements", ["none", "ids", "chosen"], ["shares"], axis=1),
        helper.make_node("Expand", ["x", "each"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w1"], ["inner"], "up"),
        helper.make_node("Add", ["inner", "b1"], ["biased"]),
        helper.make_node("Relu", ["biased"], ["active"]),
        helper.make_node("MatMul", ["active", "w2"], ["outer"], "down"),
        helper.make_node("Transpose", ["shares"], ["by_expert"], perm=[1, 0]),
        helper.make_node("Unsqueeze", ["by_expert", "last"], ["column"]),
        helper.make_node("Mul", ["outer", "column"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "first"], ["y"], keepdims=0),
        *ends,
    ]
    tensors = {"w1": normal(E, H, F), "b1": normal(E, 1, F), "w2": normal(E, F, H), "two": np.array([2])}
    nodes.insert(0, helper.make_node("ConstantOfShape", ["size"], ["none"]))
    tensors |= {"size": np.array([tokens, E]), "each": np.array([E, tokens, H])}
    tensors |= {"last": np.array([2]), "first": np.array([0])}
    inputs = {"x": (F32, (1, tokens, H)), "logits": (F32, (tokens, E))}
    return model(nodes, inputs, [end.output[0] for end in ends] or ["y"], tensors)


def test_dense_experts_run_for_the_tokens_whose_share_is_not_zero(tmp_path: Path) -> None:
    proto = dense(3)
    feeds = {"x": normal(1, 3, H), "logits": scores((1, 2), (2, 1), (1, 2), experts=E)}
    agrees(proto, feeds, tmp_path)
    program = wafercc.compile(saved(proto, tmp_path), inputs_like=feeds, target="mesh:4x4", stages=1)
    result = program.run(feeds)
    np.testing.assert_allclose(result.outputs["y"], run_onnxruntime(proto, feeds)["y"], rtol=1e-4, atol=1e-4)
    assert [r.op.split(".")[0] for r in result.report.ops if r.kind == "moe_experts"] == ["up", "down"]
    plain = wafercc.compile(
        saved(proto, tmp_path), inputs_like=feeds, target="mesh:4x4", stages=1, disabled_passes=("guard_dense",)
    )
    assert not [r for r in plain.run(feeds).report.ops if r.kind == "moe_experts"]


def test_dense_experts_whose_results_are_also_read_elsewhere_all_run(tmp_path: Path) -> None:
    ends = helper.make_node("Add", ["y", "y"], ["twice"]), helper.make_node("Add", ["active", "active"], ["z"])
    found = []
    for proto in (dense(3, *ends[:1]), dense(3, *ends)):
        imported = import_model(saved(proto, tmp_path), Binding())
        graph, _ = GuardDense()(imported.graph, imported.weights)
        found.append([op.kind for op in graph.ops].count("moe_experts"))
    assert found == [2, 1], "what is read beside the product with the shares stays"

"""Mixture of experts: in every form exporters write it is onnxruntime's result, and only chosen experts' PEs work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from importer_models import F32, Array, agrees, model, run_graph, run_onnxruntime, saved
from onnx import helper

import wafercc
from wafercc.importer import Binding, import_model
from wafercc.ir.block import Compute, Guard
from wafercc.ir.program import PlacedProgram
from wafercc.passes.rewrite.fuse_experts import FuseExperts
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

"""Ops that tools fuse (projected attention, norms with sums, scaled products) mean what onnxruntime computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from importer_models import Array, model, run_graph, run_onnxruntime, saved
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from wafercc.importer import Binding, Imported, import_model

RNG = np.random.default_rng(5)
TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int32": TensorProto.INT32}
HEADS = 2


def draw(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def single(
    op_type: str,
    operands: list[Array | None],
    outputs: int = 1,
    domain: str = "com.microsoft",
    opset: int = 20,
    **attrs: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node, all of whose operands are fed."""
    fed = {f"x{i}": array for i, array in enumerate(operands) if array is not None}
    names = ["" if array is None else f"x{i}" for i, array in enumerate(operands)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op_type, names, results, "it", domain=domain, **attrs)
    specs = {name: (TYPES[str(array.dtype)], array.shape) for name, array in fed.items()}
    return model([node], specs, results, opset=opset), fed


def same(folder: Path, op_type: str, operands: list[Array | None], outputs: int = 1, **attrs: Any) -> Imported:
    proto, fed = single(op_type, operands, outputs, **attrs)
    imported = import_model(saved(proto, folder), Binding(inputs_like=fed))
    got = run_graph(imported, {name: fed[name] for name in imported.graph.inputs})
    for name, want in run_onnxruntime(proto, fed).items():
        assert got[name].shape == want.shape and got[name].dtype == want.dtype, name
        np.testing.assert_allclose(got[name], want, rtol=2e-5, atol=2e-5, err_msg=name)
    return imported


PROJECTED_MASKS: dict[str, Array | None] = {
    "none": None,
    "ends": np.array([3, 4], np.int32),
    "ends-and-starts": np.array([4, 3, 1, 0], np.int32),
    "keys": np.array([[1, 1, 1, 0], [0, 1, 1, 1]], np.int32),
    "pairs": np.tril(np.ones((2, 4, 4), np.int32)),
}


@pytest.mark.parametrize("mask", PROJECTED_MASKS)
def test_attention_that_projects_its_heads(mask: str, tmp_path: Path) -> None:
    given = PROJECTED_MASKS[mask]
    same(tmp_path, "Attention", [draw(2, 4, 8), draw(8, 24), draw(24), given], num_heads=HEADS)


def test_attention_that_projects_its_heads_onto_a_cache(tmp_path: Path) -> None:
    x, weights, bias = draw(2, 3, 8), draw(8, 24), draw(24)
    same(tmp_path, "Attention", [x, weights, bias], 2, num_heads=HEADS, unidirectional=1)
    past = draw(2, 2, HEADS, 5, 4)
    imported = same(tmp_path, "Attention", [x, weights, bias, None, past], 2, num_heads=HEADS, unidirectional=1)
    assert [op.kind for op in imported.graph if op.kind == "kv_append"], "the cache of both grows in place"
    same(tmp_path, "Attention", [x, draw(8, 28), draw(28)], num_heads=HEADS, qkv_hidden_sizes=[8, 8, 12], scale=0.2)


def test_decoder_masked_attention_with_room_in_its_cache(tmp_path: Path) -> None:
    """Slots behind the new token keep what they held."""
    new = [draw(2, 1, 16) for _ in range(3)]
    past = [draw(2, HEADS, 9, 8) for _ in range(2)]
    operands = [*new, None, None, *past, np.array([3], np.int32)]
    same(tmp_path, "DecoderMaskedMultiHeadAttention", operands, 3, num_heads=HEADS, past_present_share_buffer=1)


@pytest.mark.parametrize("op_type", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_a_norm_of_a_sum_gives_the_sum_too(op_type: str, tmp_path: Path) -> None:
    x, skip, weight, bias = draw(2, 3, 8), draw(2, 3, 8), draw(8), draw(8)
    beta = [draw(8)] if op_type == "SkipLayerNormalization" else []
    proto, fed = single(op_type, [x, skip, weight, *beta, bias], 4, epsilon=1e-3)
    del proto.graph.node[0].output[:]
    proto.graph.node[0].output.extend(["y0", "", "", "y3"])
    del proto.graph.output[1:3]
    imported = import_model(saved(proto, tmp_path), Binding(inputs_like=fed))
    got = run_graph(imported, fed)
    for name, want in run_onnxruntime(proto, fed).items():
        np.testing.assert_allclose(got[name], want, rtol=2e-5, atol=2e-5, err_msg=name)
    # Without a batch of its own, the skip is the same for all sequences.
    same(tmp_path, op_type, [x, skip[0], weight, *beta, bias])


def test_norms_give_their_statistics(tmp_path: Path) -> None:
    x, weight, bias = draw(2, 3, 8), draw(3, 8), draw(3, 8)
    same(tmp_path, "LayerNormalization", [x, weight, bias], 3, domain="", axis=1)
    same(tmp_path, "SimplifiedLayerNormalization", [x, draw(8)], 2, domain="", axis=-1)


@pytest.mark.parametrize(("opset", "per"), [(18, 2), (21, 6)])
def test_group_norms(opset: int, per: int, tmp_path: Path) -> None:
    proto, fed = single("GroupNormalization", [draw(2, 6, 4), draw(per), draw(per)], 1, "", opset, num_groups=2)
    imported = import_model(saved(proto, tmp_path), Binding(inputs_like=fed))
    np.testing.assert_allclose(run_graph(imported, fed)["y0"], group_norm(*fed.values()), rtol=1e-4, atol=1e-5)


def group_norm(x: Array, scale: Array, bias: Array) -> Array:
    grouped = x.reshape(2, 2, -1).astype(np.float64)
    mean, spread = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    plain = ((grouped - mean) / np.sqrt(spread + 1e-5)).reshape(x.shape)
    each = [np.repeat(p, 6 // len(p))[:, None] for p in (scale, bias)]
    return np.asarray(plain * each[0] + each[1])


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_embeddings_summed_and_normalised(segments: bool, positions: bool, tmp_path: Path) -> None:
    ids = np.array([[1, 2, 3], [3, 0, 1]], np.int32)
    kinds = np.array([[0, 0, 1], [1, 0, 1]], np.int32) if segments else None
    table = draw(2, 8) if segments else None
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    places = np.array([[4, 2, 0], [1, 1, 5]], np.int32) if positions else None
    operands = [ids, kinds, draw(5, 8), draw(6, 8), table, draw(8), draw(8), mask, places]
    same(tmp_path, "EmbedLayerNormalization", operands, 3, mask_index_type=1)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
def test_products_that_transpose_and_scale(batch: int, last: int, tmp_path: Path) -> None:
    a = draw(2, 3, 4, 5)
    turned = a.transpose(1, 2, 0, 3) if batch else a
    turned = np.swapaxes(turned, -1, -2) if last else turned
    b = draw(*turned.shape[:-2], turned.shape[-1], 6)
    same(tmp_path, "FusedMatMul", [a, b], transA=last, transBatchA=batch, alpha=0.5)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Tanh", "Sigmoid"])
def test_products_with_an_activation(activation: str, tmp_path: Path) -> None:
    more = {"activation_alpha": 0.2} if activation == "LeakyRelu" else {}
    same(tmp_path, "FusedGemm", [draw(3, 4), draw(5, 4), draw(5)], transB=1, activation=activation, **more)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize(("new", "starts"), [(1, [3, 0]), (2, [3, 1]), (3, [2, 2])])
@pytest.mark.parametrize("axis", [-2, 1])
def test_tokens_written_into_a_cache(axis: int, new: int, starts: list[int], mode: str, tmp_path: Path) -> None:
    """TensorScatter, which onnxruntime lacks, against the reference of the standard."""
    shape = [2, 3, 3, 3]
    shape[axis] = 5
    tokens = list(shape)
    tokens[axis] = new
    if mode == "circular":
        starts = [s + 2 for s in starts]
    given = [draw(*shape), draw(*tokens), np.array(starts, np.int64)]
    proto, fed = single("TensorScatter", given, 1, "", 24, axis=axis, mode=mode)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y0", TensorProto.FLOAT, shape))
    want = ReferenceEvaluator(proto).run(None, fed)[0]
    imported = import_model(saved(proto, tmp_path), Binding(inputs_like=fed))
    np.testing.assert_array_equal(run_graph(imported, fed)["y0"], want)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("mask", ["bool", "float"])
def test_attention_gives_its_scores_as_far_as_asked(mode: int, mask: str, tmp_path: Path) -> None:
    q, k, v = draw(2, 4, 3, 8), draw(2, 2, 5, 8), draw(2, 2, 5, 8)
    seen = RNG.integers(0, 2, (3, 5)).astype(bool)
    seen[:, 0] = True
    cap = 1.5 if mode else 0.0  # the reference caps what it calls raw
    given = [q, k, v, seen if mask == "bool" else draw(3, 5)]
    names = [f"x{i}" for i in range(4)]
    node = helper.make_node(
        "Attention", names, ["y0", "", "", "y3"], "it", qk_matmul_output_mode=mode, softcap=cap, is_causal=1
    )
    types = {**TYPES, "bool": TensorProto.BOOL}
    specs = {n: (types[str(a.dtype)], a.shape) for n, a in zip(names, given, strict=True)}
    proto = model([node], specs, ["y0", "y3"], opset=23)
    fed = dict(zip(names, given, strict=True))
    got = run_graph(import_model(saved(proto, tmp_path), Binding(inputs_like=fed)), fed)
    for value in proto.graph.output:
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, None))
    for name, want in zip(("y0", "y3"), ReferenceEvaluator(proto).run(None, fed), strict=True):
        np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5, err_msg=name)

"""Attention operators of com.microsoft mean what onnxruntime computes: all forms of masks, caches and positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from importer_models import BOOL, F32, I64, Array, model, run_graph, run_onnxruntime, saved
from onnx import ModelProto, TensorProto, helper

import wafercc
from wafercc.errors import ImportFailed
from wafercc.importer import Binding, Imported, import_model

RNG = np.random.default_rng(11)
TYPES = {"float32": F32, "int64": I64, "int32": TensorProto.INT32, "bool": BOOL}
WIDTH, HEADS, KV_HEADS = 16, 4, 2


def draw(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def node_model(
    op_type: str, names: Sequence[str], inputs: dict[str, Array], stored: dict[str, Array], outputs: int, **attrs: Any
) -> ModelProto:
    results = [f"y{i}" for i in range(outputs)]
    given = {**inputs, **stored}
    node = helper.make_node(
        op_type, [n if n in given else "" for n in names], results, "it", domain="com.microsoft", **attrs
    )
    specs = {name: (TYPES[str(array.dtype)], array.shape) for name, array in inputs.items()}
    return model([node], specs, results, stored)


def compared(
    proto: ModelProto, inputs: dict[str, Array], folder: Path, valid: Array | None = None, slots: Array | None = None
) -> Imported:
    """The evaluated import against onnxruntime; ``valid`` [batch, rows] and ``slots`` [batch, keys] say what counts."""
    imported = import_model(saved(proto, folder), Binding(inputs_like=inputs))
    got = run_graph(imported, inputs)
    for name, want in run_onnxruntime(proto, inputs).items():
        have = got[name]
        assert have.shape == want.shape, name
        if valid is not None and name == "y0":
            have, want = have[valid], want[valid]
        if slots is not None and name in ("y1", "y2"):
            have, want = (np.swapaxes(x, 1, 2)[slots] for x in (have, want))
        np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-5, err_msg=name)
    return imported


GROUPED = (
    *("q", "k", "v", "past_k", "past_v", "lengths", "total", "cos", "sin", "positions", "bias", "sink"),
    *("k_scale", "v_scale", "q_norm", "k_norm", "valid"),
)


def tables(rows: int = 64, rotary: int = WIDTH) -> dict[str, Array]:
    angles = np.outer(np.arange(rows), 10000.0 ** (-np.arange(rotary // 2) / (rotary // 2)))
    return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}


def grouped_inputs(ends: Sequence[int], new: int, past: int | None, packed: bool = False) -> dict[str, Array]:
    """Queries, keys and values of ``new`` tokens, after which sequence i holds ``ends[i]``, on a buffer of ``past``."""
    batch = len(ends)
    inputs = {"q": draw(batch, new, (HEADS + 2 * KV_HEADS * packed) * WIDTH)}
    if not packed:
        inputs |= {name: draw(batch, new, KV_HEADS * WIDTH) for name in "kv"}
    if past is not None:
        inputs |= {name: draw(batch, KV_HEADS, past, WIDTH) for name in ("past_k", "past_v")}
    return inputs


def grouped(
    folder: Path,
    ends: Sequence[int],
    new: int,
    past: int | None = None,
    total: int | None = None,
    known: bool = False,
    packed: bool = False,
    extra: dict[str, Array] | None = None,
    **attrs: Any,
) -> Imported:
    """One GroupQueryAttention node against onnxruntime, its lengths fed or, ``known``, stored in the model."""
    inputs = grouped_inputs(ends, new, past, packed) | (extra or {})
    total = max(ends) if total is None else total
    lengths = {"lengths": np.array(ends, np.int32) - 1}
    stored: dict[str, Array] = {"total": np.array(total, np.int32)}
    if attrs.get("do_rotary"):
        stored |= tables()
    if known:
        stored |= lengths
    else:
        inputs |= lengths
    attrs = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, **attrs}
    proto = node_model("GroupQueryAttention", GROUPED, inputs, stored, 3, **attrs)
    rows = np.minimum(new, np.array(ends)) if extra is None or "valid" not in extra else extra["valid"]
    valid = np.arange(new) < rows[:, None]
    capacity = new if past is None else max(past, total)
    return compared(proto, inputs, folder, valid, np.arange(capacity) < np.array(ends)[:, None])


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(
    ("ends", "new", "past"),
    [
        ([5], 5, None),
        ([5, 3], 5, None),
        ([9], 1, 8),
        ([9], 3, 6),
        ([5], 5, 0),
        ([5], 5, 12),
        ([7], 1, 12),
        ([7], 3, 12),
        ([12], 2, 12),
        ([9, 4], 1, 8),
        ([7, 4, 1], 1, 12),
    ],
)
def test_caches_that_grow_or_have_room_and_sequences_of_different_lengths(
    ends: list[int], new: int, past: int | None, known: bool, packed: bool, tmp_path: Path
) -> None:
    grouped(tmp_path, ends, new, past, known=known, packed=packed, do_rotary=1)


@pytest.mark.parametrize(("ends", "new", "past"), [([5, 3], 5, None), ([9], 3, 6), ([9, 4], 1, 8), ([7], 1, 12)])
@pytest.mark.parametrize(
    "attrs",
    [
        {"local_window_size": 3},
        {"local_window_size": 3, "softcap": 1.5, "scale": 0.4},
        {"smooth_softmax": 1},
        {"do_rotary": 1, "rotary_interleaved": 1},
        {"causal": 0},
    ],
    ids=lambda attrs: "-".join(attrs),
)
def test_windows_caps_smooth_softmax_and_pairs(
    attrs: dict[str, Any], ends: list[int], new: int, past: int | None, tmp_path: Path
) -> None:
    grouped(tmp_path, ends, new, past, **attrs)


def test_sinks_biases_and_position_ids(tmp_path: Path) -> None:
    grouped(tmp_path, [5, 3], 5, extra={"sink": draw(HEADS)}, local_window_size=2)
    grouped(tmp_path, [9, 4], 1, 8, extra={"sink": draw(HEADS), "bias": draw(2, 1, 1, 9)})
    grouped(tmp_path, [7], 1, 12, extra={"bias": draw(1, HEADS, 1, 7)})
    grouped(tmp_path, [9, 4], 1, 8, extra={"positions": np.array([[11], [2]])}, do_rotary=1)
    # In a prompt only the first id of the batch counts.
    grouped(tmp_path, [3, 3], 3, extra={"positions": np.array([[4, 9, 1], [7, 7, 7]])}, do_rotary=1)


def test_chunks_padded_on_the_right(tmp_path: Path) -> None:
    valid = np.array([3, 1, 0], np.int32)
    grouped(tmp_path, [8, 4, 5], 3, 8, total=11, extra={"valid": valid}, do_rotary=1)
    grouped(tmp_path, [8, 4, 5], 3, 12, total=12, extra={"valid": valid}, local_window_size=3)


def resident(tokens: int, capacity: int, window: int) -> int:
    step = capacity - window + 1
    return tokens if tokens <= capacity else tokens - step * -(-(tokens - capacity) // step)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("window", "capacity"), [(4, 4), (4, 6), (3, 8)])
@pytest.mark.parametrize(("ends", "new"), [([3], 1), ([9], 1), ([14], 3), ([5], 5), ([13, 4], 1), ([20], 12)])
def test_sliding_caches(ends: list[int], new: int, window: int, capacity: int, known: bool, tmp_path: Path) -> None:
    inputs = grouped_inputs(ends, new, capacity)
    lengths = np.array(ends, np.int32) - 1
    stored = {"total": np.array(max(ends), np.int32), **tables()} | ({"lengths": lengths} if known else {})
    inputs |= {} if known else {"lengths": lengths}
    attrs = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "local_window_size": window, "sliding_window_cache": 1}
    proto = node_model("GroupQueryAttention", GROUPED, inputs, stored, 3, do_rotary=1, **attrs)
    held = np.array([resident(end, capacity, window) for end in ends])
    compared(proto, inputs, tmp_path, slots=np.arange(capacity) < held[:, None])


def test_one_sequence_needs_no_lengths_at_run_time(tmp_path: Path) -> None:
    """Its places follow from shapes: the cache grows in place, and a single token needs no mask."""
    imported = grouped(tmp_path, [9], 1, 8)
    assert "lengths" not in {str(v) for op in imported.graph for v in op.operands}
    assert [len(op.inputs) for op in imported.graph if op.kind == "attention"] == [3]


def test_what_grouped_attention_cannot_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImportFailed, match="keeps its cache quantised"):
        grouped(tmp_path, [9], 1, 8, extra={"k_scale": draw(1)})


# --- MultiHeadAttention

MULTI = ("q", "k", "v", "bias", "padding", "added", "past_k", "past_v")


def multi(folder: Path, inputs: dict[str, Array], outputs: int = 1, valid: Array | None = None, **attrs: Any) -> None:
    proto = node_model("MultiHeadAttention", MULTI, inputs, {}, outputs, num_heads=HEADS, **attrs)
    compared(proto, inputs, folder, valid)


def test_multi_head_attention(tmp_path: Path) -> None:
    hidden = HEADS * WIDTH
    qkv = {"q": draw(2, 3, hidden), "k": draw(2, 5, hidden), "v": draw(2, 5, 2 * hidden)}
    multi(tmp_path, qkv)
    multi(tmp_path, qkv | {"bias": draw(4 * hidden)}, scale=0.3)
    multi(tmp_path, qkv | {"added": draw(1, HEADS, 3, 5)})
    multi(tmp_path, qkv | {"added": draw(2, 1, 3, 5), "padding": np.array([[1, 1, 1, 0, 0], [1] * 5], np.int32)})
    multi(tmp_path, qkv | {"padding": RNG.integers(0, 2, (2, 3, 5)).astype(np.int32) | np.eye(3, 5, dtype=np.int32)})
    across = {"q": draw(2, 3, hidden), "k": draw(2, HEADS, 5, WIDTH), "v": draw(2, HEADS, 5, WIDTH)}
    multi(tmp_path, across)
    own = {name: draw(2, 3, hidden) for name in "qkv"}
    multi(tmp_path, own, unidirectional=1)
    past = {name: draw(2, HEADS, 4, WIDTH) for name in ("past_k", "past_v")}
    multi(tmp_path, own | past, 3, unidirectional=1)
    multi(tmp_path, own | past | {"added": draw(1, 1, 3, 7)}, 3)


# --- on a mesh


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("ends", "new", "past", "attrs", "target"),
    [
        ([9, 4], 1, 12, {"do_rotary": 1, "local_window_size": 5}, "mesh:4x4"),
        ([9], 3, 16, {"smooth_softmax": 1}, "mesh:5x3"),
        ([9], 1, 8, {"local_window_size": 4, "sliding_window_cache": 1, "do_rotary": 1}, "mesh:8x8"),
    ],
    ids=["batch-with-room", "smooth-with-room", "sliding"],
)
def test_a_cache_with_room_on_a_mesh(
    ends: list[int], new: int, past: int, attrs: dict[str, Any], target: str, tmp_path: Path
) -> None:
    inputs = grouped_inputs(ends, new, past) | {"lengths": np.array(ends, np.int32) - 1}
    sink = {"sink": draw(HEADS)} if "smooth_softmax" not in attrs else {}
    stored = {"total": np.array(max(ends), np.int32), **tables(), **sink}
    attrs = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, **attrs}
    proto = node_model("GroupQueryAttention", GROUPED, inputs, stored, 3, **attrs)
    program = wafercc.compile(saved(proto, tmp_path), target=target, inputs_like=inputs)
    program.verify()
    got = program.run(inputs)
    held = np.array([resident(e, past, 4) if "sliding_window_cache" in attrs else e for e in ends])
    slots = np.arange(past) < held[:, None]
    for name, want in run_onnxruntime(proto, inputs).items():
        have = got.outputs[name]
        if name != "y0":
            have, want = (np.swapaxes(x, 1, 2)[slots] for x in (have, want))
        np.testing.assert_allclose(have, want, rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("window", [3, 40])
def test_a_sliding_cache_serves_every_length_up_to_the_context(window: int, tmp_path: Path) -> None:
    """Its buffer is as wide as the window, whatever the past, and holds the newest tokens."""
    names = ("q", "k", "v", "past_k", "past_v", "lengths", "count", "cos", "sin")
    attrs = {"num_heads": HEADS, "kv_num_heads": KV_HEADS, "local_window_size": window, "sliding_window_cache": 1}
    nodes = [
        helper.make_node("ReduceSum", ["attention_mask", "one"], ["sum"], "sum", keepdims=0),
        helper.make_node("Sub", ["sum", "one"], ["less"], "less"),
        helper.make_node("Cast", ["less"], ["lengths"], "lengths", to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "axis"], ["total"], "total"),
        helper.make_node("Cast", ["total"], ["count"], "count", to=TensorProto.INT32),
        helper.make_node(
            "GroupQueryAttention",
            names,
            ["y", "present_k", "present_v"],
            "it",
            domain="com.microsoft",
            do_rotary=1,
            **attrs,
        ),
    ]
    hidden = {"q": HEADS * WIDTH, "k": KV_HEADS * WIDTH, "v": KV_HEADS * WIDTH}
    specs: dict[str, Any] = {name: (F32, ["batch", "new", size]) for name, size in hidden.items()}
    specs |= {name: (F32, ["batch", KV_HEADS, "sliding", WIDTH]) for name in ("past_k", "past_v")}
    specs["attention_mask"] = (I64, ["batch", "total"])
    stored = {**tables(), "one": np.array([1]), "axis": np.array(1)}
    proto = model(nodes, specs, ["y", "present_k", "present_v"], stored)
    imported = import_model(saved(proto, tmp_path), Binding(context=48))
    assert imported.graph.past_max == 47 and len(imported.graph.states) == 2
    for past in (0, 1, 9, 47):
        inputs = {name: draw(1, 1, size) for name, size in hidden.items()}
        inputs |= {name: draw(1, KV_HEADS, window, WIDTH) for name in ("past_k", "past_v")}
        inputs["attention_mask"] = np.ones((1, past + 1), np.int64)
        got = run_graph(imported, inputs, past)
        want = run_onnxruntime(proto, inputs)
        np.testing.assert_allclose(got["y"], want["y"], rtol=2e-5, atol=2e-5)
        for name in ("present_k", "present_v"):
            np.testing.assert_allclose(got[name][:, :, : past + 1], want[name][:, :, : past + 1], rtol=2e-5, atol=2e-5)

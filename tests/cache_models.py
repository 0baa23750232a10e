"""Small decoders with caches in all layouts and under all names that exporters use: one attention each, no norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from importer_models import F32, I64, Array, Dims, model
from onnx import helper

HEADS, WIDTH, HIDDEN, VOCABULARY = 2, 4, 8, 16
Nodes = list[onnx.NodeProto]


@dataclass(frozen=True)
class Layout:
    """How a cache stands: declared dimensions of keys and values, nodes that give (b,h,s,d) keys and values of all
    tokens from caches and new ones, and how caches come and go."""

    caches: Mapping[str, Dims]
    presents: tuple[str, ...]
    nodes: Callable[[], Nodes]


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str] | str, **attrs: object) -> onnx.NodeProto:
    names = [outputs] if isinstance(outputs, str) else list(outputs)
    return helper.make_node(kind, list(inputs), names, f"n_{names[0]}", **attrs)


def _direct() -> Nodes:
    """(b,h,s,d), extended along s."""
    return [
        node("Concat", ["past_key_values.0.key", "k"], "present.0.key", axis=2),
        node("Concat", ["past_key_values.0.value", "v"], "present.0.value", axis=-2),
        node("Identity", ["present.0.key"], "keys"),
        node("Identity", ["present.0.value"], "values"),
    ]


def _sequence_first() -> Nodes:
    """(b,s,h,d), extended along s and turned afterwards."""
    return [
        node("Transpose", ["k"], "k_bshd", perm=[0, 2, 1, 3]),
        node("Transpose", ["v"], "v_bshd", perm=[0, 2, 1, 3]),
        node("Concat", ["cache_k", "k_bshd"], "k_out", axis=1),
        node("Concat", ["cache_v", "v_bshd"], "v_out", axis=1),
        node("Transpose", ["k_out"], "keys", perm=[0, 2, 1, 3]),
        node("Transpose", ["v_out"], "values", perm=[0, 2, 1, 3]),
    ]


def _turned() -> Nodes:
    """Keys (b,s,h,d) and values (s,b,h,d), turned before they are extended and back for the output."""
    return [
        node("Transpose", ["a"], "a_bhsd", perm=[0, 2, 1, 3]),
        node("Transpose", ["b"], "b_bhsd", perm=[1, 2, 0, 3]),
        node("Concat", ["a_bhsd", "k"], "keys", axis=2),
        node("Concat", ["b_bhsd", "v"], "values", axis=2),
        node("Transpose", ["keys"], "a_next", perm=[0, 2, 1, 3]),
        node("Transpose", ["values"], "b_next", perm=[2, 0, 1, 3]),
    ]


def _packed() -> Nodes:
    """(2,b,h,s,d): keys and values in one tensor."""
    return [
        node("Gather", ["past_0", "zero"], "past_k", axis=0),
        node("Gather", ["past_0", "one"], "past_v", axis=0),
        node("Concat", ["past_k", "k"], "keys", axis=2),
        node("Concat", ["past_v", "v"], "values", axis=2),
        node("Unsqueeze", ["keys", "at_zero"], "keys_5d"),
        node("Unsqueeze", ["values", "at_zero"], "values_5d"),
        node("Concat", ["keys_5d", "values_5d"], "present_0", axis=0),
    ]


def _columns() -> Nodes:
    """Keys (b,h,d,s), as they enter the product with queries; values (b*h,s,d)."""
    return [
        node("Transpose", ["k"], "k_bhds", perm=[0, 1, 3, 2]),
        node("Concat", ["past_key", "k_bhds"], "present_key", axis=3),
        node("Transpose", ["present_key"], "keys", perm=[0, 1, 3, 2]),
        node("Reshape", ["v", "merged"], "v_flat"),
        node("Concat", ["past_value", "v_flat"], "present_value", axis=1),
        node("Reshape", ["present_value", "apart"], "values"),
    ]


def _merged() -> Nodes:
    """(b,h,s,d) outside, (b*h,s,d) where it is extended."""
    return [
        node("Reshape", ["kc", "merged"], "kc_flat"),
        node("Reshape", ["vc", "merged"], "vc_flat"),
        node("Reshape", ["k", "merged"], "k_flat"),
        node("Reshape", ["v", "merged"], "v_flat"),
        node("Concat", ["kc_flat", "k_flat"], "k_all", axis=1),
        node("Concat", ["vc_flat", "v_flat"], "v_all", axis=1),
        node("Reshape", ["k_all", "apart"], "keys"),
        node("Reshape", ["v_all", "apart"], "values"),
        node("Identity", ["keys"], "kc_new"),
        node("Identity", ["values"], "vc_new"),
    ]


def _flat() -> Nodes:
    """(b,s,h*d), one tensor for keys, one for values."""
    return [
        node("Concat", ["state_k", "k_rows"], "new_state_k", axis=1),
        node("Concat", ["state_v", "v_rows"], "new_state_v", axis=1),
        node("Reshape", ["new_state_k", "heads"], "k_bshd"),
        node("Reshape", ["new_state_v", "heads"], "v_bshd"),
        node("Transpose", ["k_bshd"], "keys", perm=[0, 2, 1, 3]),
        node("Transpose", ["v_bshd"], "values", perm=[0, 2, 1, 3]),
    ]


LAYOUTS: Mapping[str, Layout] = {
    "bhsd": Layout(
        {name: ["batch", HEADS, "past", WIDTH] for name in ("past_key_values.0.key", "past_key_values.0.value")},
        ("present.0.key", "present.0.value"),
        _direct,
    ),
    "bshd": Layout(
        {name: ["batch", "cached", HEADS, WIDTH] for name in ("cache_k", "cache_v")},
        ("k_out", "v_out"),
        _sequence_first,
    ),
    "turned": Layout({"a": ["n", "s7", HEADS, WIDTH], "b": ["s9", "n", HEADS, WIDTH]}, ("a_next", "b_next"), _turned),
    "packed": Layout({"past_0": [2, "batch", HEADS, "past_len", WIDTH]}, ("present_0",), _packed),
    "bhds": Layout(
        {"past_key": ["b", HEADS, WIDTH, "s1"], "past_value": [HEADS, "s1", WIDTH]},
        ("present_key", "present_value"),
        _columns,
    ),
    "merged": Layout({name: ["b", HEADS, "s1", WIDTH] for name in ("kc", "vc")}, ("kc_new", "vc_new"), _merged),
    "flat": Layout(
        {name: [1, "s3", HEADS * WIDTH] for name in ("state_k", "state_v")}, ("new_state_k", "new_state_v"), _flat
    ),
}


def _scattered() -> Nodes:
    """(b,h,capacity,d): written at the positions given, as an index into the turned cache."""
    nodes = [node("Unsqueeze", ["cache_position", "one_axis"], "places")]
    for name in "kv":
        nodes += [
            node("Transpose", [f"{name}_cache"], f"{name}_turned", perm=[2, 0, 1, 3]),
            node("Transpose", [name], f"{name}_new", perm=[2, 0, 1, 3]),
            node("ScatterND", [f"{name}_turned", "places", f"{name}_new"], f"{name}_written"),
            node("Transpose", [f"{name}_written"], f"{name}_cache_out", perm=[1, 2, 0, 3]),
        ]
    return [
        *nodes,
        node("Identity", ["k_cache_out"], "keys"),
        node("Identity", ["v_cache_out"], "values"),
    ]


def _tensor_scattered() -> Nodes:
    """(b,h,capacity,d): opset 24's own op, which takes the first place of each sequence."""
    return [
        node("Slice", ["cache_position", "at_zero", "one_axis"], "first"),
        node("TensorScatter", ["k_cache", "k", "first"], "k_cache_out"),
        node("TensorScatter", ["v_cache", "v", "first"], "v_cache_out"),
        node("Identity", ["k_cache_out"], "keys"),
        node("Identity", ["v_cache_out"], "values"),
    ]


_FIXED: Mapping[str, Dims] = {f"{name}_cache": ["b", HEADS, "max_len", WIDTH] for name in "kv"}
FIXED: Mapping[str, Layout] = {
    "scattered": Layout(_FIXED, ("k_cache_out", "v_cache_out"), _scattered),
    "tensor_scattered": Layout(_FIXED, ("k_cache_out", "v_cache_out"), _tensor_scattered),
}


def decoder(layout: Layout, fixed: bool = False, opset: int = 20) -> onnx.ModelProto:
    """Embedding, one causal attention over cache and new tokens, logits; new tokens see all before them. ``fixed``:
    where the new tokens stand is an input, and caches have a capacity."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {
        "embedding": rng.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32),
        **{f"w{name}": rng.standard_normal((HIDDEN, HIDDEN)).astype(np.float32) * 0.5 for name in "qkv"},
        "head": rng.standard_normal((HIDDEN, VOCABULARY)).astype(np.float32),
        "heads": np.array([0, 0, HEADS, WIDTH]),
        "merged": np.array([HEADS, -1, WIDTH]),
        "apart": np.array([1, HEADS, -1, WIDTH]),
        "rows": np.array([0, 0, HIDDEN]),
        "zero": np.array(0),
        "one": np.array(1),
        "at_zero": np.array([0]),
        "far": np.array(-1e9, np.float32),
        "scale": np.array(WIDTH**-0.5, np.float32),
    }
    nodes = [node("Gather", ["embedding", "input_ids"], "x")]
    for name in "qkv":
        nodes += [
            node("MatMul", ["x", f"w{name}"], f"{name}_rows"),
            node("Reshape", [f"{name}_rows", "heads"], f"{name}_split"),
            node("Transpose", [f"{name}_split"], name, perm=[0, 2, 1, 3]),
        ]
    nodes += layout.nodes()
    counted = [
        node("Shape", ["input_ids"], "new", start=1, end=2),
        node("Sub", ["total", "new"], "before"),
        node("Squeeze", ["before"], "start"),
        node("Range", ["start", "end", "one"], "positions"),
    ]
    nodes += [
        node("Shape", ["keys"], "total", start=2, end=3),
        node("Squeeze", ["total"], "end"),
        node("Range", ["zero", "end", "one"], "columns"),
        *([node("Identity", ["cache_position"], "positions")] if fixed else counted),
        node("Unsqueeze", ["positions", "one_axis"], "lines"),
        node("LessOrEqual", ["columns", "lines"], "seen"),
        node("Where", ["seen", "nothing", "far"], "mask"),
        node("Transpose", ["keys"], "keys_t", perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "keys_t"], "scores"),
        node("Mul", ["scores", "scale"], "scaled"),
        node("Add", ["scaled", "mask"], "masked"),
        node("Softmax", ["masked"], "weights", axis=-1),
        node("MatMul", ["weights", "values"], "context"),
        node("Transpose", ["context"], "joined", perm=[0, 2, 1, 3]),
        node("Reshape", ["joined", "rows"], "flat"),
        node("MatMul", ["flat", "head"], "logits"),
    ]
    tensors |= {"one_axis": np.array([1]), "nothing": np.array(0, np.float32)}
    inputs: dict[str, tuple[int, Dims]] = {"input_ids": (I64, ["b", "t"])}
    inputs |= {"cache_position": (I64, ["t"])} if fixed else {}
    inputs |= {name: (F32, dims) for name, dims in layout.caches.items()}
    return model(nodes, inputs, ("logits", *layout.presents), tensors, opset)


def grouped() -> onnx.ModelProto:
    """GroupQueryAttention, as GenAI's builder calls it: lengths from the mask, the width of heads from the weights."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {
        "embedding": rng.standard_normal((VOCABULARY, HIDDEN)).astype(np.float32),
        "qkv": rng.standard_normal((HIDDEN, 32)).astype(np.float32) * 0.5,
        "one": np.array([1]),
        "at_one": np.array(1),
    }
    nodes = [
        node("ReduceSum", ["attention_mask", "one"], "counts", keepdims=0),
        node("Sub", ["counts", "one"], "last"),
        node("Cast", ["last"], "seqlens", to=onnx.TensorProto.INT32),
        node("Shape", ["attention_mask"], "extents"),
        node("Gather", ["extents", "at_one"], "length", axis=0),
        node("Cast", ["length"], "total", to=onnx.TensorProto.INT32),
        node("Gather", ["embedding", "input_ids"], "x"),
        node("MatMul", ["x", "qkv"], "rows"),
        node(
            "GroupQueryAttention",
            ["rows", "", "", "past_key", "past_value", "seqlens", "total"],
            ["y", "present_key", "present_value"],
            domain="com.microsoft",
            num_heads=2,
            kv_num_heads=1,
        ),
    ]
    wide: Dims = ["batch_size", 1, "past_sequence_length", "kv_cache_dim"]
    inputs: dict[str, tuple[int, Dims]] = {
        "input_ids": (I64, ["batch_size", "sequence_length"]),
        "attention_mask": (I64, ["batch_size", "total_sequence_length"]),
        "past_key": (F32, wide),
        "past_value": (F32, wide),
    }
    outputs = ("y", "present_key", "present_value")
    return model(nodes, inputs, outputs, tensors)

"""A small Llama-style decoder as ONNX, with random weights: what `make demo` compiles.

It is written the way exporters write decoders: standard ops only, symbolic batch and sequence, rotary tables and causal
mask computed in the graph, norms and SwiGLU spelled out, grouped-query attention by expanding the keys and values. The
weights are drawn from a fixed seed, so the same configuration always gives the same file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 18
ATTENTION = "/model/layers.{}/self_attn"
MLP = "/model/layers.{}/mlp"


@dataclass(frozen=True)
class TinyLlama:
    """The sizes of the decoder. The defaults have 4 layers and about 0.9 million parameters."""

    layers: int = 4
    hidden: int = 128
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 384
    vocabulary: int = 512
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-5
    seed: int = 0

    @property
    def head_size(self) -> int:
        return self.hidden // self.heads

    def onnx(self) -> ModelProto:
        """The decoder as a model: ``input_ids [batch, sequence]`` to ``logits [batch, sequence, vocabulary]``."""
        writer = _Writer(np.random.default_rng(self.seed))
        positions = _positions(writer)
        tables = _rotary_tables(writer, self, positions)
        mask = _causal_mask(writer, positions)
        writer.scope = "/model/embed_tokens"
        x = writer.op("Gather", writer.weight("model.embed_tokens.weight", self.vocabulary, self.hidden), "input_ids")
        for layer in range(self.layers):
            x = _attention(writer, self, layer, x, tables, mask)
            x = _mlp(writer, self, layer, x)
        writer.scope = "/model/norm"
        x = _rms_norm(writer, self, x, "model.norm.weight")
        head = writer.weight("lm_head.weight", self.hidden, self.vocabulary)
        writer.nodes.append(helper.make_node("MatMul", [x, head], ["logits"], name="/lm_head/MatMul"))
        graph = helper.make_graph(
            writer.nodes,
            "tiny_llama",
            [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", self.vocabulary])],
            writer.initializers,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=9, producer_name="wafercc.models.tiny_llama")

    def prompt(self, tokens: int) -> dict[str, NDArray[np.int64]]:
        """A prompt of random tokens, as the inputs of the model."""
        ids = np.random.default_rng(self.seed + 1).integers(0, self.vocabulary, (1, tokens), np.int64)
        return {"input_ids": ids}


@dataclass
class _Writer:
    """Nodes and weights as they are added; names count up as an exporter's do."""

    random: np.random.Generator
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    scope: str = "/model"

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result; its name is the result's."""
        result = f"{self.scope}/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [result], name=result, **attributes))
        return result

    def constant(self, value: float | int | Sequence[int]) -> str:
        name = f"constant_{len(self.initializers)}"
        dtype = np.float32 if isinstance(value, float) else np.int64
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def table(self, values: NDArray[np.float32]) -> str:
        name = f"table_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def weight(self, name: str, rows: int, columns: int) -> str:
        """A matrix of normal numbers, scaled so that what it is multiplied with keeps its size."""
        scale = 1.0 if "embed" in name else rows**-0.5
        values = (self.random.standard_normal((rows, columns)) * scale).astype(np.float32)
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def gain(self, name: str, extent: int) -> str:
        values = (1 + 0.1 * self.random.standard_normal(extent)).astype(np.float32)
        self.initializers.append(numpy_helper.from_array(values, name))
        return name


def _positions(w: _Writer) -> str:
    """0, 1, 2, ... along the sequence."""
    length = w.op("Squeeze", w.op("Shape", "input_ids", start=1, end=2), w.constant([0]))
    return w.op("Range", w.constant(0), length, w.constant(1))


def _rotary_tables(w: _Writer, model: TinyLlama, positions: str) -> tuple[str, str]:
    """Cosine and sine of position times frequency, ``[sequence, head_size]``, each half the same."""
    w.scope = "/model/rotary_emb"
    exponents = np.arange(0, model.head_size, 2, dtype=np.float32) / model.head_size
    frequencies = w.table((model.rope_base**-exponents).astype(np.float32)[None, :])
    column = w.op("Unsqueeze", w.op("Cast", positions, to=TensorProto.FLOAT), w.constant([1]))
    angles = w.op("MatMul", column, frequencies)
    both = w.op("Concat", angles, angles, axis=-1)
    return w.op("Cos", both), w.op("Sin", both)


def _causal_mask(w: _Writer, positions: str) -> str:
    """0 where a token may look, the lowest number where it may not: ``[sequence, sequence]``."""
    w.scope = "/model/mask"
    keys, queries = w.op("Unsqueeze", positions, w.constant([0])), w.op("Unsqueeze", positions, w.constant([1]))
    seen = w.op("LessOrEqual", keys, queries)
    return w.op("Where", seen, w.constant(0.0), w.constant(float(np.finfo(np.float32).min)))


def _rms_norm(w: _Writer, model: TinyLlama, x: str, gain: str) -> str:
    square = w.op("Pow", x, w.constant(2.0))
    mean = w.op("ReduceMean", square, w.constant([-1]), keepdims=1)
    root = w.op("Sqrt", w.op("Add", mean, w.constant(model.norm_epsilon)))
    return w.op("Mul", w.gain(gain, model.hidden), w.op("Mul", x, w.op("Reciprocal", root)))


def _heads(w: _Writer, model: TinyLlama, x: str, name: str, heads: int) -> str:
    """Project and split: ``[batch, heads, sequence, head_size]``."""
    projected = w.op("MatMul", x, w.weight(name, model.hidden, heads * model.head_size))
    shape = w.constant([0, 0, heads, model.head_size])
    return w.op("Transpose", w.op("Reshape", projected, shape), perm=[0, 2, 1, 3])


def _rotate(w: _Writer, model: TinyLlama, x: str, tables: tuple[str, str]) -> str:
    half = model.head_size // 2
    axis, middle = w.constant([-1]), w.constant([half])
    low = w.op("Slice", x, w.constant([0]), middle, axis)
    high = w.op("Slice", x, middle, w.constant([model.head_size]), axis)
    turned = w.op("Concat", w.op("Neg", high), low, axis=-1)
    return w.op("Add", w.op("Mul", x, tables[0]), w.op("Mul", turned, tables[1]))


def _repeat(w: _Writer, model: TinyLlama, x: str, batch_sequence: tuple[str, str]) -> str:
    """Each key or value head for all of its query heads."""
    batch, sequence = batch_sequence
    group, size = w.constant([model.heads // model.kv_heads]), w.constant([model.head_size])
    kv, heads = w.constant([model.kv_heads]), w.constant([model.heads])
    wide = w.op("Concat", batch, kv, group, sequence, size, axis=0)
    flat = w.op("Concat", batch, heads, sequence, size, axis=0)
    return w.op("Reshape", w.op("Expand", w.op("Unsqueeze", x, w.constant([2])), wide), flat)


def _attention(w: _Writer, model: TinyLlama, layer: int, x: str, tables: tuple[str, str], mask: str) -> str:
    w.scope, prefix = ATTENTION.format(layer), f"model.layers.{layer}.self_attn"
    normed = _rms_norm(w, model, x, f"model.layers.{layer}.input_layernorm.weight")
    q = _rotate(w, model, _heads(w, model, normed, f"{prefix}.q_proj.weight", model.heads), tables)
    k = _rotate(w, model, _heads(w, model, normed, f"{prefix}.k_proj.weight", model.kv_heads), tables)
    v = _heads(w, model, normed, f"{prefix}.v_proj.weight", model.kv_heads)
    extents = (w.op("Shape", "input_ids", start=0, end=1), w.op("Shape", "input_ids", start=1, end=2))
    k, v = _repeat(w, model, k, extents), _repeat(w, model, v, extents)
    scores = w.op("MatMul", q, w.op("Transpose", k, perm=[0, 1, 3, 2]))
    scaled = w.op("Mul", scores, w.constant(model.head_size**-0.5))
    shares = w.op("Softmax", w.op("Add", scaled, mask), axis=-1)
    mixed = w.op("Transpose", w.op("MatMul", shares, v), perm=[0, 2, 1, 3])
    joined = w.op("Reshape", mixed, w.constant([0, 0, model.hidden]))
    return w.op("Add", x, w.op("MatMul", joined, w.weight(f"{prefix}.o_proj.weight", model.hidden, model.hidden)))


def _mlp(w: _Writer, model: TinyLlama, layer: int, x: str) -> str:
    w.scope, prefix = MLP.format(layer), f"model.layers.{layer}.mlp"
    normed = _rms_norm(w, model, x, f"model.layers.{layer}.post_attention_layernorm.weight")
    gate = w.op("MatMul", normed, w.weight(f"{prefix}.gate_proj.weight", model.hidden, model.intermediate))
    up = w.op("MatMul", normed, w.weight(f"{prefix}.up_proj.weight", model.hidden, model.intermediate))
    active = w.op("Mul", w.op("Mul", gate, w.op("Sigmoid", gate)), up)
    down = w.weight(f"{prefix}.down_proj.weight", model.intermediate, model.hidden)
    return w.op("Add", x, w.op("MatMul", active, down))

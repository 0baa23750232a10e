"""Graphs: well-formed models of the ops that the importer knows, with absurd shapes, attributes and initialisers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import Any

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper

from wafercc.importer import lower as _filled
from wafercc.importer.registry import LOWERINGS

assert _filled  # importing it fills the registry
TYPES = sorted(LOWERINGS)
EXTENTS = (0, 1, 1, 2, 2, 3, 4, 4, 8, 8, 16, 16, 64, 100)
ABSURD = (-1, 1 << 20, 1 << 31, 1 << 32, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63))
SYMBOLS = ("batch", "sequence", "past_sequence_length", "past_sequence_length + sequence", "total", "s44", "-1", "")
KINDS = (
    *(TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT64, TensorProto.BOOL),
    *(TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8),
    *(TensorProto.UINT4, TensorProto.DOUBLE),
)
F32, I64 = TensorProto.FLOAT, TensorProto.INT64
SHAPES = ((4,), (2, 4), (4, 4), (1, 4, 8), (2, 4, 8, 8), (1, 2, 4, 8), ("batch", "sequence", 8), (1, 1), ())
CONTRIBUTED = (
    *("num_heads", "kv_num_heads", "scale", "do_rotary", "local_window_size", "smooth_softmax", "K", "N", "bits"),
    *("block_size", "k", "activation_type", "normalize_routing_weights", "epsilon", "axis", "rotary_embedding_dim"),
    *("interleaved", "softcap", "mask_filter_value", "unidirectional", "transA", "transB", "alpha", "gather_axis"),
)


def random_model(random: Random) -> onnx.ModelProto:
    """A model of one to eight nodes of random types on random operands. In *gentle* ones operands have types that the
    op takes, and inputs one shape, so that more of them import; in others most names resolve and few shapes fit.
    """
    gentle = random.random() < 0.6
    absurd = 0.01 if gentle else random.choice((0.0, 0.0, 0.05, 0.3))
    names = [f"in{i}" for i in range(random.randint(1, 3))]
    inputs = [_input(name, random, absurd) for name in names]
    if gentle:
        shape, kind = random.choice(SHAPES), random.choice((F32, F32, F32, I64, TensorProto.FLOAT16))
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name in names]
    tensors = [_tensor(f"w{i}", random, absurd) for i in range(random.randint(0, 5) + 3 * gentle)]
    values = {value.name: _type(value.type.tensor_type.elem_type) for value in inputs}
    values |= {tensor.name: _type(tensor.data_type) for tensor in tensors}
    nodes = []
    for position in range(random.choice((1, 1, 2, 3, 5, 8))):
        node = _node(random.choice(TYPES), position, values, random, gentle)
        nodes.append(node)
        values |= dict.fromkeys(node.output)
    outputs = [onnx.ValueInfoProto(name=name) for name in nodes[-1].output if name]
    graph = helper.make_graph(nodes, "fuzz", inputs, outputs, tensors)
    opset = random.choice((13, 18, 20, 23, 23))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _extent(random: Random, absurd: float) -> int:
    return random.choice(ABSURD if random.random() < absurd else EXTENTS)


def _input(name: str, random: Random, absurd: float) -> onnx.ValueInfoProto:
    dims: list[int | str] = [_extent(random, absurd) for _ in range(random.choice((0, 1, 2, 2, 3, 3, 4, 4, 6)))]
    dims = [random.choice(SYMBOLS) if random.random() < 0.2 else dim for dim in dims]
    return helper.make_tensor_value_info(name, random.choice(KINDS), dims)


def _tensor(name: str, random: Random, absurd: float) -> TensorProto:
    """An initialiser: small shapes and axes, or floats; now and then one whose declared size is a lie."""
    if random.random() < 0.6:
        choices = ABSURD if random.random() < absurd else (*EXTENTS, -1, -2, 0, 1)
        numbers = [random.choice(choices) for _ in range(random.randint(0, 5))]
        dims = [] if len(numbers) == 1 and random.random() < 0.5 else [len(numbers)]
        return helper.make_tensor(name, TensorProto.INT64, dims, numbers)
    dims = [_extent(random, absurd) for _ in range(random.choice((0, 1, 1, 2, 3)))]
    kind = random.choice(KINDS)
    count = math.prod(dims) if max(dims, default=0) <= 100 and min(dims, default=0) >= 0 else 4
    tensor = TensorProto(name=name, data_type=kind, dims=[max(d, -(1 << 63)) for d in dims])
    bits = 4 if kind == TensorProto.UINT4 else 8 * helper.tensor_dtype_to_np_dtype(kind).itemsize
    tensor.raw_data = random.randbytes(-(-min(count, 1 << 16) * bits // 8)) if random.random() < 0.97 else b"abc"
    return tensor


def _type(kind: int) -> str:
    return f"tensor({TensorProto.DataType.Name(kind).lower()})"


def _node(
    key: tuple[str, str], position: int, values: Mapping[str, str | None], random: Random, gentle: bool
) -> NodeProto:
    domain, op_type = key
    allowed: list[set[str]] = []
    name = f"n{position}" if random.random() < 0.9 else "n"
    if onnx.defs.has(op_type, domain):
        schema = onnx.defs.get_schema(op_type, domain)
        least, most = schema.min_input, min(schema.max_input, schema.min_input + 6)
        known = {each.name: each.type for each in schema.attributes.values()}
        needed = {each.name for each in schema.attributes.values() if each.required}
        results = max(1, min(schema.max_output, schema.min_output + random.randint(0, 2)))
        allowed = [set(each.types) for each in schema.inputs] if gentle else []
    else:
        least, most, known, needed, results = 1, 9, dict.fromkeys(CONTRIBUTED), set(), random.randint(1, 3)
    count = random.randint(least, most)
    inputs = []
    for i in range(count):
        fit = allowed[min(i, len(allowed) - 1)] if allowed else None
        names = [name for name, kind in values.items() if fit is None or kind is None or kind in fit] or list(values)
        inputs.append(random.choice(names[-6:] if random.random() < 0.6 else names))
    inputs = [given if gentle or random.random() < 0.95 else "" for given in inputs]
    outputs = [f"v{position}_{i}" for i in range(results)]
    node = helper.make_node(op_type, inputs, outputs, name, domain=domain)
    for attribute, kind in sorted(known.items()):
        if random.random() < (0.95 if attribute in needed else 0.35):
            made = _attribute(attribute, kind, random)
            if made is not None:
                node.attribute.append(made)
    return node


def _attribute(name: str, kind: Any, random: Random) -> AttributeProto | None:
    """An attribute of its type, mostly; without a schema, any."""
    small = (-1, 0, 1, 1, 2, 2, 3, 4, 8, 16, 10, 7, random.choice(ABSURD))
    words = ("", "sum", "none", "tanh", "constant", "wrap", "ij,jk->ik", "...i,i...->", "bij,bjk->bik", "ii->i")
    if random.random() < 0.03:
        kind = None
    match kind:
        case onnx.defs.OpSchema.AttrType.INT:
            value: Any = random.choice(small)
        case onnx.defs.OpSchema.AttrType.INTS:
            value = [random.choice(small) for _ in range(random.randint(1, 5))]
        case onnx.defs.OpSchema.AttrType.FLOAT:
            value = random.choice((0.0, 1.0, -1.0, 1e-5, 3e38, float("inf"), float("nan")))
        case onnx.defs.OpSchema.AttrType.FLOATS:
            value = [1.0, float("nan")]
        case onnx.defs.OpSchema.AttrType.STRING:
            value = random.choice(words)
        case onnx.defs.OpSchema.AttrType.TENSOR:
            value = _tensor("", random, 0.2)
        case onnx.defs.OpSchema.AttrType.GRAPH:
            value = helper.make_graph([], "body", [], [])
        case None:
            value = random.choice((*small, 1.0, "x", [1, 2], [1.0]))
        case _:
            return None
    return helper.make_attribute(name, value)

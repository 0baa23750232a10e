"""Widths: the elements of one head of a cache, where an exporter gave them a symbol instead of a number.

They follow from the weights: an attention op's keys are as wide as the product that makes them, over the heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .nodes import Model, Node, Tensor
from .registry import MICROSOFT
from .states import State

Made = Mapping[str, Node]

_MOST_STEPS = 64  # from an attention op back to the product that makes its keys
_OPERAND_0 = frozenset(
    {"RotaryEmbedding", "Cast", "Identity", "DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "Clip"}
)
_BY_WEIGHT = frozenset({"MatMul", "MatMulInteger", "FusedMatMul", "Gemm"})
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div"})
_NORMS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")


def known_widths(model: Model, states: Sequence[State]) -> dict[str, int]:
    """Symbol → extent, for the last dimension of caches whose attention op says what it must be."""
    caches = {state.input: state for state in states}
    open_widths = {
        spec.name: spec.dims[-1]
        for spec in model.inputs
        if spec.name in caches and isinstance(spec.dims[-1], str) and caches[spec.name].axis != len(spec.dims) - 1
    }
    if not open_widths:
        return {}
    made = {name: node for node in model.nodes for name in node.outputs if name is not None}
    found: dict[str, int] = {}
    for node in model.nodes:
        for past in node.inputs:
            symbol = open_widths.get(past or "")
            if isinstance(symbol, str) and symbol not in found and (width := _head_width(node, made, model.tensors)):
                found[symbol] = width
    return found


def _head_width(node: Node, made: Made, tensors: Mapping[str, Tensor]) -> int | None:
    """Elements of a head of the cache that this node extends."""

    def last(position: int) -> int | None:
        name = node.inputs[position] if node.has(position) else None
        return None if name is None else _extent(name, made, tensors, _MOST_STEPS)

    heads = node.int_attr("num_heads", 0) or node.int_attr("q_num_heads", 0)
    kept = node.int_attr("kv_num_heads", heads)
    match node.domain, node.op_type:
        case ("", "Concat"):
            return last(1)
        case ("", "Attention"):
            return _part(last(1), kept or 1)
        case (_, "GroupQueryAttention" | "MultiHeadAttention") if node.domain == MICROSOFT and heads:
            return _part(last(1), kept) if node.has(1) else _part(last(0), heads + 2 * kept)
    return None


def _part(extent: int | None, parts: int) -> int | None:
    return extent // parts if extent is not None and parts and extent % parts == 0 else None


def _extent(name: str, made: Made, tensors: Mapping[str, Tensor], steps: int) -> int | None:
    """The last extent of a value, as far as weights and attributes show it."""
    if name in tensors:
        shape = tensors[name].shape
        return shape[-1] if shape else None
    node = made.get(name)
    if node is None or not steps:
        return None

    def last(position: int) -> int | None:
        operand = node.inputs[position] if node.has(position) else None
        return None if operand is None else _extent(operand, made, tensors, steps - 1)

    if node.op_type in _OPERAND_0:
        return last(0)
    if node.op_type in _NORMS:
        return last(1)
    if node.op_type in _ELEMENTWISE:
        return max((e for e in (last(0), last(1)) if e is not None), default=None)
    if node.op_type in _BY_WEIGHT:
        weight = tensors.get(node.inputs[1] or "") if node.has(1) else None
        turned = node.int_attr("transB", 0) and weight is not None and len(weight.shape) == 2
        return weight.shape[0] if turned and weight is not None else last(1)
    return _by_attributes(node, name, last, made, tensors)


def _by_attributes(
    node: Node, name: str, last: Callable[[int], int | None], made: Made, tensors: Mapping[str, Tensor]
) -> int | None:
    match node.op_type:
        case "MatMulNBits":
            return node.int_attr("N", 0) or None
        case "Transpose":
            perm = node.ints_attr("perm")
            return last(0) if perm and perm[-1] == len(perm) - 1 else None
        case "Reshape":
            target = _numbers(node, 1, made, tensors) or (0,)
            if len(target) == 4 and target[-1] == -1:  # [batch, sequence, hidden] into heads
                return _part(last(0), target[2])
            return target[-1] if target[-1] > 0 else None
        case "Split":
            sizes = node.ints_attr("split") or _numbers(node, 1, made, tensors)
            if sizes and len(sizes) == len(node.outputs):
                return sizes[node.outputs.index(name)]
            return _part(last(0), len(node.outputs))
    return None


def _numbers(node: Node, position: int, made: Made, tensors: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """A small integer operand that is stored in the model."""
    name = node.inputs[position] if node.has(position) else None
    held = tensors.get(name or "")
    source = made.get(name or "")
    if held is None and source is not None and source.op_type == "Constant":
        value = source.attrs.get("value")
        held = value if isinstance(value, Tensor) else None
    if held is None or held.load is None or held.dtype.is_float or held.elements > 16:
        return None
    return tuple(int(n) for n in held.load().reshape(-1).tolist())

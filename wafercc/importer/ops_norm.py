"""Normalisations: over the last dimension directly, over several by flattening them first."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.dtypes import DType
from ..ir.graph import Attr
from .content import Value, number, product
from .context import Context
from .heads import counted
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_rotary import rows_of
from .ops_shape import reshaped, sliced
from .registry import MICROSOFT, axis_of, lowers


@lowers("LayerNormalization")
def layer_normalization(node: Node, cx: Context) -> Sequence[Value | None]:
    """Mean and inverse standard deviation are its further outputs."""
    x, axis = cx.input(node, 0), _axis(node, cx)
    result = _normalised(node, cx, "layer_norm", [cx.input(node, 1), cx.optional(node, 2)], axis)
    return [result, *_statistics(node, cx, x, axis, 1, centred=True)]


@lowers("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(node: Node, cx: Context) -> Sequence[Value | None]:
    return _rms_normalised(node, cx)


@lowers("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified(node: Node, cx: Context) -> Sequence[Value | None]:
    return _rms_normalised(node, cx)


def _rms_normalised(node: Node, cx: Context) -> Sequence[Value | None]:
    """The inverse of the root mean square is its further output."""
    x, axis = cx.input(node, 0), _axis(node, cx)
    result = _normalised(node, cx, "rms_norm", [cx.optional(node, 1)], axis)
    return [result, *_statistics(node, cx, x, axis, 0, centred=False)[1:]]


def _axis(node: Node, cx: Context) -> int:
    return axis_of(node, node.int_attr("axis", -1), cx.input(node, 0).rank)


def _normalised(node: Node, cx: Context, kind: str, parameters: Sequence[Value | None], axis: int) -> Value:
    x = cx.input(node, 0)
    flat = reshaped(cx, x, (*x.shape[:axis], product(x.shape[axis:])))
    given = [None if p is None else _spread(cx, p, x, axis) for p in parameters]
    result = cx.emit(kind, [flat, *given], {"epsilon": node.float_attr("epsilon", 1e-5)})
    return reshaped(cx, result, x.shape)


def _spread(cx: Context, parameter: Value, x: Value, axis: int) -> Value:
    """A weight or bias with one number per normalised element, flattened."""
    whole = x.shape[axis:]
    if parameter.shape != whole and product(parameter.shape) != product(whole):
        parameter = cx.emit("expand", [parameter], {"shape": whole})
    return reshaped(cx, parameter, (product(whole),))


def _statistics(node: Node, cx: Context, x: Value, axis: int, first: int, centred: bool) -> list[Value | None]:
    """Mean and inverse deviation in f32, each if the node names it: the mean as output ``first``, then the other."""
    mean: Value | None = None
    inverse: Value | None = None
    attrs: dict[str, Attr] = {"axes": tuple(range(axis, x.rank)), "keep": True}
    wide = convert(cx, x, DType.F32) if node.wants(first + 1) or (first and node.wants(first)) else x
    if centred and (node.wants(first) or node.wants(first + 1)):
        mean = cx.emit("reduce_mean", [wide], attrs)
    if node.wants(first + 1):
        apart = wide if mean is None else cx.emit("sub", [wide, mean])
        spread = cx.emit("reduce_mean", [cx.emit("mul", [apart, apart])], attrs)
        floor = like(cx, node.float_attr("epsilon", 1e-5), spread)
        inverse = cx.emit("reciprocal", [cx.emit("sqrt", [cx.emit("add", [spread, floor])])])
    return [mean, inverse]


@lowers("GroupNormalization")
def group_normalization(node: Node, cx: Context) -> Value:
    """A layer norm of each group of channels; scale and bias belong to channels since opset 21, to groups before."""
    x, groups = cx.input(node, 0), node.int_attr("num_groups", 0)
    batch, channels = x.shape[0], number(x.shape[1])
    if groups < 1 or channels % groups:
        raise node.fail(f"cannot cut {channels} channels into {groups} groups")
    inner = product(x.shape[2:])
    flat = reshaped(cx, x, (batch, groups, channels // groups * inner))
    result = cx.emit("layer_norm", [flat, None, None], {"epsilon": node.float_attr("epsilon", 1e-5)})
    scale, bias = cx.input(node, 1), cx.input(node, 2)
    parts = channels if scale.shape == (channels,) else groups
    result = reshaped(cx, result, (batch, parts, channels // parts * inner))
    scale, bias = (reshaped(cx, convert(cx, p, x.dtype), (parts, 1)) for p in (scale, bias))
    result = cx.emit("add", [cx.emit("mul", [result, scale]), bias])
    return reshaped(cx, result, x.shape)


@lowers("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_normalization(node: Node, cx: Context) -> Sequence[Value | None]:
    """The norm of input + skip (+ bias); the sum itself is the fourth output."""
    total = cx.emit("add", [cx.input(node, 0), cx.input(node, 1)])
    plain = node.op_type == "SkipLayerNormalization"
    weight, beta = cx.input(node, 2), cx.optional(node, 3) if plain else None
    bias = cx.optional(node, 4 if plain else 3)
    if bias is not None:
        total = cx.emit("add", [total, bias])
    attrs = {"epsilon": node.float_attr("epsilon", 1e-12 if plain else 1e-5)}
    kind, operands = ("layer_norm", [total, weight, beta]) if plain else ("rms_norm", [total, weight])
    statistics = _statistics(node, cx, total, total.rank - 1, 1, centred=plain)
    return [cx.emit(kind, operands, attrs), *statistics, total]


@lowers("EmbedLayerNormalization", domain=MICROSOFT)
def embed_normalization(node: Node, cx: Context) -> Sequence[Value | None]:
    """The norm of the sum of embeddings of words, positions and segments; then lengths by the mask, and the sum."""
    ids, words = cx.input(node, 0), cx.input(node, 2)
    positions = cx.optional(node, 8)
    if positions is None:
        positions = counted(cx, 1, ids.shape[1], rank=2)
    total = cx.emit("add", [rows_of(cx, words, ids), rows_of(cx, cx.input(node, 3), positions)])
    segments, table = cx.optional(node, 1), cx.optional(node, 4)
    if segments is not None and table is not None:
        total = cx.emit("add", [total, rows_of(cx, table, segments)])
    attrs = {"epsilon": node.float_attr("epsilon", 1e-12)}
    result = cx.emit("layer_norm", [total, cx.input(node, 5), cx.input(node, 6)], attrs)
    mask = cx.optional(node, 7)
    if mask is None:
        lengths = cx.fill(0, (ids.shape[0],), DType.I32)
    else:
        lengths = cx.emit("reduce_sum", [convert(cx, mask, DType.I32)], {"axes": (1,), "keep": False})
    return [result, lengths, total]


@lowers("BatchNormalization")
def batch_normalization(node: Node, cx: Context) -> Value:
    """By statistics that the model holds."""
    if node.int_attr("training_mode", 0):
        raise node.fail("is in training mode", hint="export the model in evaluation mode")
    x = cx.input(node, 0)
    column = (number(x.shape[1]), *(1,) * (x.rank - 2))
    scale, bias, mean, var = (convert(cx, reshaped(cx, cx.input(node, i), column), x.dtype) for i in range(1, 5))
    spread = cx.emit("sqrt", [cx.emit("add", [var, like(cx, node.float_attr("epsilon", 1e-5), var)])])
    return cx.emit("add", [cx.emit("mul", [cx.emit("div", [cx.emit("sub", [x, mean]), spread]), scale]), bias])


@lowers("InstanceNormalization")
def instance_normalization(node: Node, cx: Context) -> Value:
    """A layer norm of each channel."""
    x = cx.input(node, 0)
    flat = reshaped(cx, x, (*x.shape[:2], product(x.shape[2:])))
    result = cx.emit("layer_norm", [flat, None, None], {"epsilon": node.float_attr("epsilon", 1e-5)})
    scale, bias = (reshaped(cx, convert(cx, cx.input(node, i), x.dtype), (x.shape[1], 1)) for i in (1, 2))
    return reshaped(cx, cx.emit("add", [cx.emit("mul", [result, scale]), bias]), x.shape)


@lowers("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    attrs: dict[str, Attr] = {
        "axes": tuple(sorted(axis_of(node, a, x.rank) for a in node.ints_attr("axes") or (0, 2, 3))),
        "keep": True,
    }
    apart = cx.emit("sub", [x, cx.emit("reduce_mean", [x], attrs)])
    spread = cx.emit("sqrt", [cx.emit("reduce_mean", [cx.emit("mul", [apart, apart])], attrs)])
    return cx.emit("div", [apart, cx.emit("add", [spread, like(cx, 1e-9, spread)])])


@lowers("LpNormalization")
def lp_normalization(node: Node, cx: Context) -> Value:
    """Along one axis divided by the sum of sizes (p 1) or the root of the sum of squares (p 2); 0 where that is 0."""
    x = cx.input(node, 0)
    attrs: dict[str, Attr] = {"axes": (axis_of(node, node.int_attr("axis", -1), x.rank),), "keep": True}
    plain = node.int_attr("p", 2) == 1
    total = cx.emit("reduce_sum", [cx.emit("abs", [x]) if plain else cx.emit("mul", [x, x])], attrs)
    size = total if plain else cx.emit("sqrt", [total])
    return cx.emit("where", [cx.emit("eq", [size, like(cx, 0, x)]), like(cx, 0, x), cx.emit("div", [x, size])])


@lowers("LRN")
def local_response(node: Node, cx: Context) -> Value:
    """Each channel against the squares of its neighbours."""
    x, size = cx.input(node, 0), node.int_attr("size", 1)
    channels, before = number(x.shape[1]), (size - 1) // 2
    zeros = [cx.fill(0.0, (x.shape[0], n, *x.shape[2:]), x.dtype) for n in (before, size - 1 - before) if n]
    squares = cx.emit("mul", [x, x])
    ends = [zeros[0], squares, *zeros[1:]] if before else [squares, *zeros]
    wide = cx.emit("concat", ends, {"axis": 1})
    total = sliced(cx, wide, 1, 0, 1, channels)
    for i in range(1, size):
        total = cx.emit("add", [total, sliced(cx, wide, 1, i, 1, channels)])
    scaled = cx.emit("mul", [total, like(cx, node.float_attr("alpha", 1e-4) / size, x)])
    base = cx.emit("add", [scaled, like(cx, node.float_attr("bias", 1.0), x)])
    return cx.emit("div", [x, cx.emit("pow", [base, like(cx, node.float_attr("beta", 0.75), x)])])

"""Normalisations: over the last dimension directly, over several by flattening them first."""

from __future__ import annotations

from collections.abc import Sequence

from .content import Value, product
from .context import Context
from .nodes import Node
from .ops_shape import reshaped
from .registry import MICROSOFT, axis_of, lowers

STATISTICS_HINT = "statistics are needed for training only: export the model in evaluation mode"


@lowers("LayerNormalization")
def layer_normalization(node: Node, cx: Context) -> Value:
    _refuse(node, (1, 2))
    return _normalised(node, cx, "layer_norm", [cx.input(node, 1), cx.optional(node, 2)])


@lowers("RMSNormalization", "SimplifiedLayerNormalization")
def rms_normalization(node: Node, cx: Context) -> Value:
    _refuse(node, (1,))
    return _normalised(node, cx, "rms_norm", [cx.optional(node, 1)])


@lowers("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified(node: Node, cx: Context) -> Value | Sequence[Value | None]:
    return rms_normalization(node, cx)


def _refuse(node: Node, outputs: tuple[int, ...]) -> None:
    for output in outputs:
        if node.wants(output):
            raise node.fail(f"gives its statistics as output {output}, which is not supported", STATISTICS_HINT)


def _normalised(node: Node, cx: Context, kind: str, parameters: Sequence[Value | None]) -> Value:
    x = cx.input(node, 0)
    axis = axis_of(node, node.int_attr("axis", -1), x.rank)
    last = product(x.shape[axis:])
    flat = reshaped(cx, x, (*x.shape[:axis], last))
    given = [None if p is None else _spread(cx, p, x, axis) for p in parameters]
    result = cx.emit(kind, [flat, *given], {"epsilon": node.float_attr("epsilon", 1e-5)})
    return reshaped(cx, result, x.shape)


def _spread(cx: Context, parameter: Value, x: Value, axis: int) -> Value:
    """A weight or bias with one number per normalised element, flattened."""
    whole = x.shape[axis:]
    if parameter.shape != whole and product(parameter.shape) != product(whole):
        parameter = cx.emit("expand", [parameter], {"shape": whole})
    return reshaped(cx, parameter, (product(whole),))


@lowers("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_normalization(node: Node, cx: Context) -> Sequence[Value | None]:
    """The norm of input + skip (+ bias); the sum itself is the fourth output."""
    _refuse(node, (1, 2))
    total = cx.emit("add", [cx.input(node, 0), cx.input(node, 1)])
    plain = node.op_type == "SkipLayerNormalization"
    weight, beta = cx.input(node, 2), cx.optional(node, 3) if plain else None
    bias = cx.optional(node, 4 if plain else 3)
    if bias is not None:
        total = cx.emit("add", [total, bias])
    attrs = {"epsilon": node.float_attr("epsilon", 1e-12 if plain else 1e-5)}
    kind, operands = ("layer_norm", [total, weight, beta]) if plain else ("rms_norm", [total, weight])
    return [cx.emit(kind, operands, attrs), None, None, total]

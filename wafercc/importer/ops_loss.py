"""Losses of classifications, which some exports compute beside their logits."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.dtypes import DType
from ..ir.graph import Attr
from .content import Value
from .context import Context
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_shape import reshaped
from .registry import lowers


@lowers("NegativeLogLikelihoodLoss")
def negative_log_likelihood(node: Node, cx: Context) -> Value:
    return _loss(node, cx, cx.input(node, 0))


@lowers("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(node: Node, cx: Context) -> Sequence[Value]:
    """The loss of log(softmax(x)) along dimension 1; the second output is that logarithm."""
    x = cx.input(node, 0)
    shifted = cx.emit("sub", [x, cx.emit("reduce_max", [x], {"axes": (1,), "keep": True})])
    total = cx.emit("reduce_sum", [cx.emit("exp", [shifted])], {"axes": (1,), "keep": True})
    shares = cx.emit("sub", [shifted, cx.emit("log", [total])])
    return [_loss(node, cx, shares), shares]


def _loss(node: Node, cx: Context, shares: Value) -> Value:
    """-shares[n, target[n, ...], ...], weighted by the target's class; ignored targets weigh nothing."""
    target, weight = convert(cx, cx.input(node, 1), DType.I64), cx.optional(node, 2)
    ignored: Value | None = None
    if "ignore_index" in node.attrs:
        ignored = cx.emit("eq", [target, cx.fill(node.int_attr("ignore_index", 0), (), DType.I64)])
        target = cx.emit("where", [ignored, cx.fill(0, (), DType.I64), target])
    column = reshaped(cx, target, (target.shape[0], 1, *target.shape[1:]))
    found = cx.emit("gather_elements", [shares, column], {"axis": 1})
    loss = cx.emit("neg", [reshaped(cx, found, target.shape)])
    share: Value | None = None
    if weight is not None:
        share = cx.emit("gather", [weight, target], {"axis": 0})
    elif ignored is not None:
        share = cx.emit("expand", [like(cx, 1.0, loss)], {"shape": loss.shape})
    if share is not None and ignored is not None:
        share = cx.emit("where", [ignored, like(cx, 0.0, share), share])
    if share is not None:
        loss = cx.emit("mul", [loss, share])
    reduction = node.str_attr("reduction", "mean")
    every: dict[str, Attr] = {"axes": tuple(range(loss.rank)), "keep": False}
    if reduction == "none":
        return loss
    if reduction == "mean" and share is None:
        return cx.emit("reduce_mean", [loss], every)
    total = cx.emit("reduce_sum", [loss], every)
    if reduction == "sum" or share is None:
        return total
    return cx.emit("div", [total, cx.emit("reduce_sum", [share], every)])

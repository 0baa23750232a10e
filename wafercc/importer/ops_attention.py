"""Attention as opsets 23 to 25 define it, lowered to the kind `attention`.

The IR's attention takes heads apart, one mask and no cache: caches become `kv_append`, the causal rule becomes a
mask of compared positions (so it holds for any ``n_past``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .content import Value, known_dim, number
from .context import Context
from .heads import Place, appended, before, causal_rules, combined, counted, fitted, join_heads, split_heads
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_shape import reshaped, transposed
from .registry import lowers


@lowers("Attention")
def attention(node: Node, cx: Context) -> Sequence[Value | None]:
    q, k, v = cx.input(node, 0), cx.input(node, 1), cx.input(node, 2)
    flat = q.rank == 3
    if flat:
        q = split_heads(node, cx, q, node.int_attr("q_num_heads", 0), "q_num_heads")
        kv_heads = node.int_attr("kv_num_heads", 0)
        k, v = (split_heads(node, cx, x, kv_heads, "kv_num_heads") for x in (k, v))
    start: Place = 0
    if node.has(4) != node.has(5):
        raise node.fail("has a past key or a past value, but not both")
    if node.has(4):
        start = cx.input(node, 4).shape[2]
        k = appended(node, cx, cx.input(node, 4), k, 1)
        v = appended(node, cx, cx.input(node, 5), v, 2)
    mask = _mask(node, cx, q, k, start)
    width = number(q.shape[3])
    attrs = {
        "scale": node.float_attr("scale", 1 / math.sqrt(width)) or 1 / math.sqrt(width),
        "softcap": node.float_attr("softcap", 0.0),
    }
    result = cx.emit("attention", [q, k, v] if mask is None else [q, k, v, mask], attrs)
    scores = _scores(node, cx, (q, k), mask, attrs["scale"], attrs["softcap"]) if node.wants(3) else None
    return [join_heads(cx, result) if flat else result, k, v, scores]


def _mask(node: Node, cx: Context, q: Value, k: Value, start: Place) -> Value | None:
    """The given mask, widened to all keys, combined with the causal rule, the window and the lengths of the keys.

    Without a past, the lengths say where the keys end, and the queries are the last of them.
    """
    rows, columns = q.shape[2], k.shape[2]
    mask = cx.optional(node, 3)
    if mask is not None:
        mask = fitted(cx, mask, columns)
    rules: list[Value] = []
    lengths = cx.optional(node, 6)
    if lengths is not None:
        rules.append(before(cx, counted(cx, 3, columns), lengths))
        if not node.has(4):
            start = cx.emit("sub", [lengths, known_dim(rows, lengths.dtype)])
    left: int | None = node.int_attr("left_window_size", -1)
    right: int | None = node.int_attr("right_window_size", -1)
    left = left if left is not None and left >= 0 else None
    right = right if right is not None and right >= 0 else None
    if node.int_attr("is_causal", 0):
        right = 0
    return combined(cx, mask, [*rules, *causal_rules(cx, rows, columns, start, left, right)])


def _scores(
    node: Node, cx: Context, qk: tuple[Value, Value], mask: Value | None, scale: float, softcap: float
) -> Value:
    """What attention does not keep: the scores [batch, heads, rows, keys] as far as ``qk_matmul_output_mode`` says.

    0 are the scaled products, 1 with the soft cap, 2 with the mask too, 3 the weights (0 in rows that see nothing).
    """
    q, k = qk
    batch, heads, rows, width = q.shape
    kv_heads = number(k.shape[1])
    grouped = reshaped(cx, q, (batch, kv_heads, number(heads) // kv_heads, rows, width))
    keys = reshaped(cx, transposed(cx, k, (0, 1, 3, 2)), (batch, kv_heads, 1, width, k.shape[2]))
    scores = reshaped(cx, cx.emit("matmul", [grouped, keys]), (batch, heads, rows, k.shape[2]))
    scores = cx.emit("mul", [scores, like(cx, scale, scores)])
    mode = node.int_attr("qk_matmul_output_mode", 0)
    if mode >= 1 and softcap:
        cap = like(cx, softcap, scores)
        scores = cx.emit("mul", [cx.emit("tanh", [cx.emit("div", [scores, cap])]), cap])
    if mode >= 2 and mask is not None:
        if mask.dtype.is_float:
            scores = cx.emit("add", [scores, convert(cx, mask, scores.dtype)])
        else:
            scores = cx.emit("where", [mask, scores, like(cx, -math.inf, scores)])
    if mode < 3:
        return scores
    weights = cx.emit("softmax", [scores], {"axis": 3})
    return cx.emit("where", [cx.emit("isnan", [weights]), like(cx, 0.0, weights), weights])

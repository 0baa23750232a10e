"""GroupQueryAttention of com.microsoft: heads, rotary embedding, a cache and a causal mask in one node.

What the node calls ``seqlens_k`` is where the cache ends after this run, one less; exporters compute it from the
attention mask. A run with as many tokens as the cache then holds is a prompt. Where the batch is one sequence, the
operator's contract says that it ends at ``total_sequence_length``, which is a shape: then all places are known while
importing. In a batch each sequence ends somewhere else, and slots and mask are computed when the program runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..ir.dims import Dim, Undecided
from ..ir.dtypes import DType
from .content import Value, greatest, known_dim, number
from .context import PAST_HINT, Context
from .heads import (
    Place,
    appended,
    before,
    causal_rules,
    combined,
    counted,
    fitted,
    join_heads,
    known_number,
    split_heads,
)
from .nodes import Node
from .ops_elementwise import convert
from .ops_rotary import rows_from, rows_of, turned
from .ops_shape import reshaped, sliced
from .registry import MICROSOFT, lowers
from .sliding import sliding_attention_operands
from .slots import Slots, written


@lowers("GroupQueryAttention", domain=MICROSOFT)
def group_query_attention(node: Node, cx: Context) -> Sequence[Value | None]:
    if node.has(12) or node.has(13):
        raise node.fail("keeps its cache quantised, which is not supported")
    if node.wants(3):
        raise node.fail("gives its scores as output 3, which is not supported")
    if node.has(3) != node.has(4):
        raise node.fail("has a past key or a past value, but not both")
    q, k, v = _projections(node, cx)
    tokens = _tokens(node, cx, q)
    if node.int_attr("do_rotary", 0):
        q, k = _rotated(node, cx, q, k, tokens)
    window = node.int_attr("local_window_size", -1)
    bias = cx.optional(node, 10)
    capacity = cx.input(node, 3).shape[2] if node.has(3) else 0
    if node.int_attr("sliding_window_cache", 0) and window > 0 and node.has(3) and capacity >= window:
        keys, values, mask, present = sliding_attention_operands(node, cx, (k, v), tokens.start, window, bias)
    else:
        keys, values = _cached(node, cx, k, tokens, 1), _cached(node, cx, v, tokens, 2)
        mask, present = _mask(node, cx, keys.shape[2], tokens, window, bias), (keys, values)
    return [join_heads(cx, _attention(node, cx, q, keys, values, mask)), *present]


def _attention(node: Node, cx: Context, q: Value, k: Value, v: Value, mask: Value | None) -> Value:
    width = number(q.shape[3])
    scale = node.float_attr("scale", 0.0) or 1 / math.sqrt(width)
    sink = cx.optional(node, 11)
    if sink is None and node.int_attr("smooth_softmax", 0) == 1:
        sink = cx.fill(0.0, (q.shape[1],), DType.F32)
    operands = [q, k, v, mask, sink]
    while operands[-1] is None:
        operands.pop()
    return cx.emit("attention", operands, {"scale": scale, "softcap": node.float_attr("softcap", 0.0)})


def _projections(node: Node, cx: Context) -> tuple[Value, Value, Value]:
    """Queries, keys and values with heads apart, normalised head by head if the node says so."""
    heads, kv_heads = node.int_attr("num_heads", 0), node.int_attr("kv_num_heads", 0)
    q = cx.input(node, 0)
    if node.has(1) != node.has(2):
        raise node.fail("has keys or values, but not both")
    if node.has(1):
        k, v = cx.input(node, 1), cx.input(node, 2)
    else:
        hidden, together = number(q.shape[2]), heads + 2 * kv_heads
        if together < 1 or hidden % together:
            raise node.fail(f"cannot cut a hidden size of {hidden} into {heads} query and 2 x {kv_heads} kv heads")
        width = hidden // together
        k = sliced(cx, q, 2, heads * width, 1, kv_heads * width)
        v = sliced(cx, q, 2, (heads + kv_heads) * width, 1, kv_heads * width)
        q = sliced(cx, q, 2, 0, 1, heads * width)
    q = split_heads(node, cx, q, heads)
    k, v = (split_heads(node, cx, x, kv_heads, "kv_num_heads") for x in (k, v))
    shared = node.float_attr("qk_norm_epsilon", 1e-6)
    if node.has(14):
        q = cx.emit("rms_norm", [q, cx.input(node, 14)], {"epsilon": node.float_attr("q_norm_epsilon", shared)})
    if node.has(15):
        k = cx.emit("rms_norm", [k, cx.input(node, 15)], {"epsilon": node.float_attr("k_norm_epsilon", shared)})
    return q, k, v


# --- where the tokens stand


@dataclass(frozen=True)
class Tokens:
    """The new tokens: where they start, where the cache ends with them, and its length if the model says one."""

    new: Dim
    start: Place
    end: Place
    total: Dim | None

    @property
    def prompt(self) -> bool:
        return self.total is not None and self.total == self.new


def _tokens(node: Node, cx: Context, q: Value) -> Tokens:
    batch, _, new, _ = q.shape
    total = known_number(cx, cx.input(node, 6))
    lengths = cx.input(node, 5)
    last = known_number(cx, lengths)
    end: Place
    if last is not None:
        end = last + 1
    elif batch == 1 and total is not None:
        end = total
    else:
        flat = convert(cx, reshaped(cx, lengths, (batch,)), DType.I64)
        end = cx.emit("add", [flat, known_dim(1)])
    start: Place
    if node.has(16):
        held = end if isinstance(end, Value) else cx.fill(end, (batch,), DType.I64)
        start = cx.emit("sub", [held, convert(cx, reshaped(cx, cx.input(node, 16), (batch,)), DType.I64)])
    elif (total is not None and total == new) or not node.has(3):
        start = 0
    elif isinstance(end, Value):
        start = cx.emit("max", [cx.emit("sub", [end, known_dim(new)]), known_dim(0)])
    else:
        start = _at_least_0(node, end - new)
    return Tokens(new, start, end, total)


def _at_least_0(node: Node, dim: Dim) -> Dim:
    try:
        return greatest(dim, 0)
    except Undecided as problem:
        raise node.fail(f"where its new tokens start depends on n_past: {problem}", hint=PAST_HINT) from None


def _rotated(node: Node, cx: Context, q: Value, k: Value, tokens: Tokens) -> tuple[Value, Value]:
    """In a prompt, position ids count: from the first one of the whole batch, as onnxruntime has it."""
    tables = cx.input(node, 7), cx.input(node, 8)
    positions = cx.optional(node, 9)
    if positions is None:
        sliding = node.int_attr("sliding_window_cache", 0)
        most = None if sliding or tokens.total is None else tokens.total
        cos, sin = (rows_from(cx, table, tokens.start, tokens.new, most) for table in tables)
    elif tokens.prompt:
        first = sliced(cx, sliced(cx, positions, 0, 0, 1, 1), 1, 0, 1, 1)
        ids = cx.emit("add", [convert(cx, first, DType.I64), counted(cx, 1, tokens.new, rank=2)])
        cos, sin = (rows_of(cx, table, ids) for table in tables)
    else:
        cos, sin = (rows_of(cx, table, positions) for table in tables)
    pairs = bool(node.int_attr("rotary_interleaved", 0))
    return turned(cx, q, (cos, sin), 1, pairs), turned(cx, k, (cos, sin), 1, pairs)


# --- the cache and the mask


def _cached(node: Node, cx: Context, new: Value, tokens: Tokens, output: int) -> Value:
    """All keys or values: the new ones, behind or in the slots of a cache."""
    if not node.has(output + 2):
        return new
    past = cx.input(node, output + 2)
    try:
        capacity = past.shape[2] if tokens.total is None else greatest(tokens.total, past.shape[2])
    except Undecided as problem:
        raise node.fail(f"the extent of its cache depends on n_past: {problem}", hint=PAST_HINT) from None
    if past.shape[2] == 0 and tokens.total is None:
        raise node.fail("has an empty cache and a length that depends on the model's data", hint=PAST_HINT)
    slots = Slots(tokens.start, tokens.new, past.shape[2], capacity)
    return appended(node, cx, past, new, output) if slots.grows else written(node, cx, past, new, slots)


def _mask(node: Node, cx: Context, columns: Dim, tokens: Tokens, window: int, bias: Value | None) -> Value | None:
    if node.int_attr("causal", 1):
        left = window - 1 if window > 0 else None
        rules = causal_rules(cx, tokens.new, columns, tokens.start, left, 0)
    elif tokens.end == columns:
        rules = []
    else:
        rules = [before(cx, counted(cx, 3, columns), tokens.end)]
    if bias is not None:
        bias = fitted(cx, bias, columns)
    return combined(cx, bias, rules)

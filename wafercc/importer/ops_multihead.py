"""MultiHeadAttention, Attention and DecoderMaskedMultiHeadAttention of com.microsoft.

Their masks have many forms, told apart by shape alone. All become one bool mask: what onnxruntime adds to a hidden
score (-10000) leaves no weight, except in rows that see nothing, which are padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir.dims import Dim
from ..ir.dtypes import DType
from .content import Value, known_dim, number
from .context import Context
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
    placed,
    split_heads,
)
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_linear import matmul
from .ops_shape import reshaped, sliced
from .registry import MICROSOFT, lowers
from .slots import Slots, written


@lowers("MultiHeadAttention", domain=MICROSOFT)
def multi_head_attention(node: Node, cx: Context) -> Sequence[Value | None]:
    _refuse(node, 9, 3)
    heads = node.int_attr("num_heads", 0)
    q, k, v = _separate(node, cx, heads)
    past = (cx.optional(node, 6), cx.optional(node, 7))
    return _attended(node, cx, (q, k, v), past, (cx.optional(node, 4), cx.optional(node, 5)), cx.optional(node, 8))


@lowers("DecoderMaskedMultiHeadAttention", domain=MICROSOFT)
def decoder_masked_attention(node: Node, cx: Context) -> Sequence[Value | None]:
    """One new token: with its own keys a MultiHeadAttention in another order of operands."""
    _refuse(node, 9, 3)
    heads = node.int_attr("num_heads", 0)
    q, k, v = cx.input(node, 0), cx.optional(node, 1), cx.optional(node, 2)
    if k is None or v is None:
        third = number(q.shape[2]) // 3
        q, k, v = (sliced(cx, q, 2, third * i, 1, third) for i in range(3))
    q, k, v = _biased(cx, (q, k, v), cx.optional(node, 10))
    apart = [x if x.rank == 4 else split_heads(node, cx, x, heads) for x in (q, k, v)]
    past = (cx.optional(node, 5), cx.optional(node, 6))
    masks = (cx.optional(node, 3), cx.optional(node, 4))
    return _attended(node, cx, (apart[0], apart[1], apart[2]), past, masks, cx.optional(node, 7))


@lowers("Attention", domain=MICROSOFT)
def projected_attention(node: Node, cx: Context) -> Sequence[Value | None]:
    """Projects q, k and v with one matrix; past and present hold keys and values together, [2, b, heads, t, width]."""
    if node.int_attr("do_rotary", 0):
        raise node.fail("turns its heads by angles that it does not say, which is not supported")
    heads = node.int_attr("num_heads", 0)
    weights, bias = cx.input(node, 1), cx.optional(node, 2)
    total = number(weights.shape[1])
    sizes = node.ints_attr("qkv_hidden_sizes") or (total // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != total:
        raise node.fail(f"cannot cut {total} projected elements into q, k and v of {sizes}")
    parts = []
    for i, size in enumerate(sizes):
        first = sum(sizes[:i])
        part = matmul(cx, cx.input(node, 0), sliced(cx, weights, 1, first, 1, size))
        if bias is not None:
            part = cx.emit("add", [part, sliced(cx, bias, 0, first, 1, size)])
        parts.append(split_heads(node, cx, part, heads))
    q, k, v = parts
    masks = cx.optional(node, 3), cx.optional(node, 5)
    together = cx.optional(node, 4)
    if together is None:
        pair = _pair(cx, k, v) if node.wants(1) else None
        return [join_heads(cx, _result(node, cx, (q, k, v), masks, 0)), pair]
    start = cx.optional(node, 6)
    new = _pair(cx, k, v)
    if start is None:
        present = appended(node, cx, together, new, 1, axis=3)
        place: Place = together.shape[3]
    else:
        place = _place(cx, start, q.shape[0])
        flat = reshaped(cx, together, (2 * together.shape[1], *together.shape[2:]))
        flat_new = reshaped(cx, new, (2 * new.shape[1], *new.shape[2:]))
        slots = Slots(_twice(cx, place), q.shape[2], together.shape[3], together.shape[3])
        present = reshaped(cx, written(node, cx, flat, flat_new, slots), together.shape)
    k, v = (reshaped(cx, sliced(cx, present, 0, i, 1, 1), present.shape[1:]) for i in range(2))
    return [join_heads(cx, _result(node, cx, (q, k, v), masks, place)), present]


def _twice(cx: Context, place: Place) -> Place:
    return cx.emit("concat", [place, place], {"axis": 0}) if isinstance(place, Value) else place


def _pair(cx: Context, k: Value, v: Value) -> Value:
    parts = [reshaped(cx, x, (1, *x.shape)) for x in (k, v)]
    return cx.emit("concat", parts, {"axis": 0})


def _refuse(node: Node, indirection: int, scores: int) -> None:
    if node.has(indirection):
        raise node.fail("follows beams through its cache, which is not supported", hint="export without beam search")
    if node.wants(scores):
        raise node.fail(f"gives its scores as output {scores}, which is not supported")


# --- q, k and v


def _separate(node: Node, cx: Context, heads: int) -> tuple[Value, Value, Value]:
    """[batch, heads, sequence, width] of each, from one, two or three operands, with the projection's bias added."""
    q, k, v = cx.input(node, 0), cx.optional(node, 1), cx.optional(node, 2)
    bias = cx.optional(node, 3)
    if k is None or q.rank == 5:
        q, k, v = _unpacked(cx, q, 3)
    elif k.rank == 5:
        k, v = _unpacked(cx, k, 2)
    if v is None:
        raise node.fail("has keys but no values")
    q, k, v = _biased(cx, (q, k, v), bias)
    apart = [x if x.rank == 4 else split_heads(node, cx, x, heads) for x in (q, k, v)]
    return apart[0], apart[1], apart[2]


def _unpacked(cx: Context, x: Value, parts: int) -> list[Value]:
    """[batch, sequence, heads, parts, width] as parts of [batch, sequence, heads * width]."""
    batch, rows, heads, _, width = x.shape
    return [reshaped(cx, sliced(cx, x, 3, i, 1, 1), (batch, rows, heads * width)) for i in range(parts)]


def _biased(cx: Context, qkv: tuple[Value, Value, Value], bias: Value | None) -> tuple[Value, Value, Value]:
    """The bias of the projection, [q | k | v], on what has not been through the cache (which has heads apart)."""
    if bias is None:
        return qkv
    first, found = 0, []
    total = number(bias.shape[0])
    hidden = number(qkv[0].shape[2])
    for x, size in zip(qkv, (hidden, hidden, total - 2 * hidden), strict=True):
        part = sliced(cx, bias, 0, first, 1, size)
        first += size
        found.append(x if x.rank == 4 else cx.emit("add", [x, part]))
    return found[0], found[1], found[2]


# --- the cache


def _attended(
    node: Node,
    cx: Context,
    qkv: tuple[Value, Value, Value],
    past: tuple[Value | None, Value | None],
    masks: tuple[Value | None, Value | None],
    length: Value | None,
) -> list[Value | None]:
    """Output, present key and present value; ``length`` says how much of a buffer of fixed capacity is filled."""
    q, k, v = qkv
    start: Place = 0
    if past[0] is not None and past[1] is not None:
        if length is None:
            start = past[0].shape[2]
            k, v = appended(node, cx, past[0], k, 1), appended(node, cx, past[1], v, 2)
        else:
            start = _place(cx, length, q.shape[0])
            slots = Slots(start, q.shape[2], past[0].shape[2], past[0].shape[2])
            k, v = written(node, cx, past[0], k, slots), written(node, cx, past[1], v, slots)
    return [join_heads(cx, _result(node, cx, (q, k, v), masks, start)), k, v]


def _place(cx: Context, length: Value, batch: Dim) -> Place:
    """A past length: a number if it is known, otherwise an i64 for each sequence."""
    known = known_number(cx, length)
    if known is not None:
        return known
    flat = convert(cx, reshaped(cx, length, (1,)), DType.I64)
    return cx.emit("expand", [flat], {"shape": (batch,)})


def _result(
    node: Node,
    cx: Context,
    qkv: tuple[Value, Value, Value],
    masks: tuple[Value | None, Value | None],
    start: Place,
) -> Value:
    q, k, v = qkv
    rows, columns = q.shape[2], k.shape[2]
    rules = _hidden(node, cx, masks[0], rows, columns, start)
    if node.int_attr("unidirectional", 0):
        rules += causal_rules(cx, rows, columns, start, None, 0)
    elif isinstance(start, Value) or (start != 0 and start + rows != columns):
        end = cx.emit("add", [placed(cx, start), known_dim(rows)])
        rules.append(cx.emit("lt", [counted(cx, 3, columns), end]))
    bias = masks[1]
    mask = combined(cx, None if bias is None else fitted(cx, bias, columns), rules)
    scale = node.float_attr("scale", 0.0) or 1 / math.sqrt(number(q.shape[3]))
    operands = [q, k, v] if mask is None else [q, k, v, mask]
    return cx.emit("attention", operands, {"scale": scale, "softcap": 0.0})


# --- masks


def _hidden(node: Node, cx: Context, mask: Value | None, rows: Dim, columns: Dim, start: Place) -> list[Value]:
    """A mask operand as bool masks against [batch, heads, rows, columns]."""
    if mask is None:
        return []
    shape = mask.shape
    match mask.rank:
        case 1:
            return _by_length(node, cx, mask, columns)
        case 2:
            seen = reshaped(cx, _nonzero(cx, mask), (shape[0], 1, 1, shape[1]))
        case 3:
            seen = reshaped(cx, _nonzero(cx, mask), (shape[0], 1, *shape[1:]))
        case 4:
            if isinstance(start, Value):
                raise node.fail("has a mask of four dimensions and a past length that is not known")
            seen = sliced(cx, sliced(cx, _nonzero(cx, mask), 2, start, 1, rows), 3, 0, 1, columns)
        case rank:
            raise node.fail(f"has a mask of {rank} dimensions")
    return [fitted(cx, seen, columns)]


def _nonzero(cx: Context, mask: Value) -> Value:
    return mask if mask.dtype is DType.BOOL else cx.emit("ne", [mask, like(cx, 0, mask)])


def _by_length(node: Node, cx: Context, mask: Value, columns: Dim) -> list[Value]:
    """Where keys end, for each sequence; then maybe where they begin, or sums of lengths that say nothing new."""
    batch = cx.input(node, 0).shape[0]
    ends = sliced(cx, mask, 0, 0, 1, batch)
    keys = counted(cx, 3, columns)
    rules = [before(cx, keys, ends)]
    if mask.shape[0] == 2 * batch:
        begin = placed(cx, sliced(cx, mask, 0, batch, 1, batch))
        rules.append(cx.emit("ge", [keys, begin]))
    return rules

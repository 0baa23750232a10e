"""Attention and rotary embedding as opset 23 and 24 define them, lowered to the kinds `attention` and `rope`.

The IR's attention takes heads apart, one mask and no cache: caches become `kv_append`, the causal rule becomes a
mask of compared positions (so it holds for any ``n_past``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..ir.dims import Dim
from ..ir.dtypes import DType
from .content import Ramp, Value, number
from .context import Context
from .nodes import Node
from .ops_elementwise import like
from .ops_reduce import triangle
from .ops_shape import reshaped, sliced, transposed
from .registry import MICROSOFT, lowers


@lowers("Attention")
def attention(node: Node, cx: Context) -> Sequence[Value]:
    if node.wants(3):
        raise node.fail("gives its scores as output 3, which is not supported")
    q, k, v = cx.input(node, 0), cx.input(node, 1), cx.input(node, 2)
    flat = q.rank == 3
    if flat:
        q = _heads(node, cx, q, "q_num_heads")
        k, v = _heads(node, cx, k, "kv_num_heads"), _heads(node, cx, v, "kv_num_heads")
    past: Dim = 0
    if node.has(4) != node.has(5):
        raise node.fail("has a past key or a past value, but not both")
    if node.has(4):
        past = cx.input(node, 4).shape[2]
        k = appended(node, cx, cx.input(node, 4), k, 1)
        v = appended(node, cx, cx.input(node, 5), v, 2)
    mask = _mask(node, cx, q, k, past)
    width = number(q.shape[3])
    attrs = {
        "scale": node.float_attr("scale", 1 / math.sqrt(width)) or 1 / math.sqrt(width),
        "softcap": node.float_attr("softcap", 0.0),
    }
    result = cx.emit("attention", [q, k, v] if mask is None else [q, k, v, mask], attrs)
    if flat:
        result = transposed(cx, result, (0, 2, 1, 3))
        result = reshaped(cx, result, (*result.shape[:2], result.shape[2] * result.shape[3]))
    return [result, k, v]


def _heads(node: Node, cx: Context, x: Value, attribute: str) -> Value:
    """[batch, sequence, heads * width] as [batch, heads, sequence, width]."""
    heads = node.int_attr(attribute, 0)
    hidden = x.shape[-1]
    if heads < 1 or not isinstance(hidden, int) or hidden % heads:
        raise node.fail(f"cannot cut a hidden size of {hidden} into {attribute} = {heads} heads")
    return transposed(cx, reshaped(cx, x, (*x.shape[:2], heads, hidden // heads)), (0, 2, 1, 3))


def appended(node: Node, cx: Context, past: Value, new: Value, output: int) -> Value:
    """A cache with the new keys or values behind it; in place if it is the state that this output continues."""
    wanted = node.outputs[output] if node.wants(output) else None
    kind = "kv_append" if past.name is not None and wanted and cx.states.get(past.name) == wanted else "concat"
    return cx.emit(kind, [past, new], {"axis": 2})


def _mask(node: Node, cx: Context, q: Value, k: Value, past: Dim) -> Value | None:
    """The given mask, widened to all keys, combined with the causal rule, the window and the lengths of the keys."""
    rows, columns = q.shape[2], k.shape[2]
    mask = cx.optional(node, 3)
    if mask is not None:
        mask = _widened(cx, mask, columns)
    rules: list[Value] = []
    lengths = cx.optional(node, 6)
    offset: Value | None = None
    if lengths is not None:
        column = cx.ramp(Ramp(0, (0, 0, 0, 1)), (1, 1, 1, columns), DType.I64)
        lengths = reshaped(cx, lengths, (*lengths.shape[:1], 1, 1, 1))
        rules.append(cx.emit("lt", [column, lengths]))
        offset = cx.emit("sub", [lengths, cx.fill(rows, (), DType.I64)]) if not node.has(4) else None
    left, right = node.int_attr("left_window_size", -1), node.int_attr("right_window_size", -1)
    if node.int_attr("is_causal", 0):
        right = 0 if right < 0 else min(right, 0)
    if right >= 0:
        rules.append(_positions(cx, rows, columns, past, offset, right, "le"))
    if left >= 0:
        rules.append(_positions(cx, rows, columns, past, offset, -left, "ge"))
    return _combined(cx, mask, rules, q)


def _positions(cx: Context, rows: Dim, columns: Dim, past: Dim, offset: Value | None, shift: int, kind: str) -> Value:
    """Where the key position compares with query position + shift; ``offset`` is per batch entry, where given."""
    if offset is None:
        return triangle(cx, rows, columns, past + shift, kind)
    column = cx.ramp(Ramp(0, (0, 0, 0, 1)), (1, 1, 1, columns), DType.I64)
    row = cx.ramp(Ramp(shift, (0, 0, 1, 0)), (1, 1, rows, 1), DType.I64)
    return cx.emit(kind, [column, cx.emit("add", [row, offset])])


def _widened(cx: Context, mask: Value, columns: Dim) -> Value:
    """A mask over fewer keys than there are hides the rest."""
    have = mask.shape[-1]
    if have == columns:
        return mask
    hidden: float = False if mask.dtype is DType.BOOL else -math.inf
    rest = cx.fill(hidden, (*mask.shape[:-1], columns - have), mask.dtype)
    return cx.emit("concat", [mask, rest], {"axis": mask.rank - 1})


def _combined(cx: Context, mask: Value | None, rules: Sequence[Value], q: Value) -> Value | None:
    seen: Value | None = None
    for rule in rules:
        seen = rule if seen is None else cx.emit("and", [seen, rule])
    if mask is None or seen is None:
        return seen if mask is None else mask
    if mask.dtype is DType.BOOL:
        return cx.emit("and", [mask, seen])
    return cx.emit("where", [seen, mask, like(cx, -math.inf, mask)])


@lowers("RotaryEmbedding")
def rotary_embedding(node: Node, cx: Context) -> Value:
    """Caches are [positions, width / 2] and picked by position ids, or [batch, sequence, width / 2] without them."""
    return _rotated(node, cx, (cx.input(node, 1), cx.input(node, 2)), cx.optional(node, 3))


@lowers("RotaryEmbedding", domain=MICROSOFT)
def contributed_rotary_embedding(node: Node, cx: Context) -> Value:
    """The same with operands in another order; a single position id is the first of consecutive ones."""
    if node.int_attr("is_packed_batching", 0) or node.float_attr("scale", 1.0) != 1.0:
        raise node.fail("packs batches or scales positions, which is not supported")
    x, positions = cx.input(node, 0), cx.input(node, 1)
    if positions.rank == 1:
        rows = x.shape[1] if x.rank == 3 else x.shape[2]
        positions = cx.emit("add", [positions, cx.ramp(Ramp(0, (1,)), (rows,), positions.dtype)])
        positions = reshaped(cx, positions, (1, rows))
    return _rotated(node, cx, (cx.input(node, 2), cx.input(node, 3)), positions)


def _rotated(node: Node, cx: Context, caches: tuple[Value, Value], positions: Value | None) -> Value:
    """x is [batch, heads, sequence, width] or, flat, [batch, sequence, heads * width]."""
    x = cx.input(node, 0)
    flat = x.rank == 3
    if flat:
        heads, hidden = node.int_attr("num_heads", 0), x.shape[2]
        width = number(caches[0].shape[-1]) * 2
        if node.domain and not heads and isinstance(hidden, int):
            heads = hidden // width
        if heads < 1 or not isinstance(hidden, int) or hidden % heads:
            raise node.fail(f"cannot cut a hidden size of {hidden} into num_heads = {heads} heads")
        x = reshaped(cx, x, (*x.shape[:2], heads, hidden // heads))
    rotary = node.int_attr("rotary_embedding_dim", 0) or number(x.shape[-1])
    angles = []
    for cache in caches:
        table = sliced(cx, cache, cache.rank - 1, 0, 1, rotary // 2)
        rows = table if positions is None else _rows(cx, table, positions)
        head_axis = 2 if flat else 1
        angles.append(reshaped(cx, rows, (*rows.shape[:head_axis], 1, *rows.shape[head_axis:])))
    attrs = {"interleaved": bool(node.int_attr("interleaved", 0)), "rotary": rotary}
    result = cx.emit("rope", [x, *angles], attrs)
    return reshaped(cx, result, cx.input(node, 0).shape)


def _rows(cx: Context, table: Value, positions: Value) -> Value:
    if table.weight and table.rank == 2:
        return cx.emit("embedding", [table, positions])
    return cx.emit("gather", [table, positions], {"axis": 0})

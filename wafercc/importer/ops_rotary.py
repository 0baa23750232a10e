"""Rotary embedding, as a standard op, as a contributed one, and inside other ops: tables, rows picked, kind `rope`."""

from __future__ import annotations

from ..ir.dims import Affine, Dim, upper
from ..ir.dtypes import DType
from .content import Ramp, Value, number, ramp_of
from .context import Context
from .heads import Place, counted, placed
from .nodes import Node
from .ops_shape import reshaped, sliced
from .registry import MICROSOFT, lowers


@lowers("RotaryEmbedding")
def rotary_embedding(node: Node, cx: Context) -> Value:
    """Caches are [positions, width / 2] and picked by position ids, or [batch or 1, sequence, width / 2] without."""
    return _node(node, cx, (cx.input(node, 1), cx.input(node, 2)), cx.optional(node, 3))


@lowers("RotaryEmbedding", domain=MICROSOFT)
def contributed_rotary_embedding(node: Node, cx: Context) -> Value:
    """The same with operands in another order; a single position id is the first of consecutive ones.

    Its attribute ``scale`` is read by no kernel of onnxruntime.
    """
    if node.int_attr("is_packed_batching", 0):
        raise node.fail("packs sequences of different lengths into one, which is not supported")
    x, positions = cx.input(node, 0), cx.input(node, 1)
    if positions.rank == 1:
        rows = x.shape[1] if x.rank == 3 else x.shape[2]
        positions = cx.emit("add", [positions, cx.ramp(Ramp(0, (1,)), (rows,), positions.dtype)])
        positions = reshaped(cx, positions, (1, rows))
    return _node(node, cx, (cx.input(node, 2), cx.input(node, 3)), positions)


def _node(node: Node, cx: Context, caches: tuple[Value, Value], positions: Value | None) -> Value:
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
        angles.append(table if positions is None else rows_of(cx, table, positions))
    result = turned(cx, x, (angles[0], angles[1]), 2 if flat else 1, bool(node.int_attr("interleaved", 0)))
    return reshaped(cx, result, cx.input(node, 0).shape)


def turned(cx: Context, x: Value, angles: tuple[Value, Value], head_axis: int, interleaved: bool) -> Value:
    """x of four dimensions turned by angles [batch or 1, sequence, rotary / 2], given as cosines and sines."""
    spread = [reshaped(cx, a, (*a.shape[:head_axis], 1, *a.shape[head_axis:])) for a in angles]
    rotary = 2 * number(angles[0].shape[-1])
    return cx.emit("rope", [x, *spread], {"interleaved": interleaved, "rotary": rotary})


def rows_of(cx: Context, table: Value, positions: Value) -> Value:
    """The rows of a table [positions, width] at ids [batch, sequence]: a slice where these count up from a number."""
    ramp = ramp_of(positions)
    if ramp is not None and ramp.steps[0] == 0 and ramp.steps[1] in (0, 1) and not isinstance(ramp.start, Affine):
        rows = positions.shape[1]
        if (ramp.steps[1] == 1 or rows == 1) and ramp.start >= 0 and _fits(ramp.start + rows, table.shape[0]):
            picked = sliced(cx, table, 0, ramp.start, 1, rows)
            return reshaped(cx, picked, (1, *picked.shape))
    if table.weight and table.rank == 2:
        return cx.emit("embedding", [table, positions])
    return cx.emit("gather", [table, positions], {"axis": 0})


def rows_from(cx: Context, table: Value, start: Place, rows: Dim, most: Dim | None = None) -> Value:
    """``rows`` consecutive rows of a table from ``start``; no position reaches ``most``, where that is known."""
    if most is not None and table.shape[0] > upper(most):
        table = sliced(cx, table, 0, 0, 1, upper(most))
    ids = counted(cx, 1, rows, 0 if isinstance(start, Value) else start, rank=2)
    if isinstance(start, Value):
        ids = cx.emit("add", [ids, placed(cx, start, rank=2)])
    assert ids.dtype is DType.I64
    return rows_of(cx, table, ids)


def _fits(end: Dim, extent: Dim) -> bool:
    return not isinstance(end, Affine) and not isinstance(extent, Affine) and end <= extent

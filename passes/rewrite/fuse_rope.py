"""Fuse rotary embeddings: the ways exporters spell x turned by position become one rope op.

    x * cos + concat(-x2, x1) * sin                   tables of full width, both halves equal
    x * cos + flatten(stack(-x2, x1)) * sin           tables of full width, neighbours equal; x1, x2 taking turns in x
    concat(x1 * cos - x2 * sin, x2 * cos + x1 * sin)  tables of half width
    concat(rope(x[..., :r]), x[..., r:])              only the first r elements turn

with x1, x2 the halves of x elsewhere. The op wants tables of half width, so for the first two forms the table is
followed up to the concatenation of one value with itself, or its repetition side by side, that proves it to hold each
angle twice; a table that cannot be seen to do so is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...ir.graph import Attr, Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .simplify import permutation

UNARY = ("cos", "sin", "cast", "neg")


@dataclass(frozen=True)
class FuseRope:
    """Equal bit by bit in f32: the products and the sum are the same ones."""

    name: ClassVar[str] = "fuse_rope"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, _rule)


def _rule(draft: Draft, op: Op) -> ValueName | None:
    if op.kind == "add":
        return _full_tables(draft, op)
    if op.kind == "concat" and len(op.operands) == 2 and op.attrs["axis"] == len(draft.shape(op.outputs[0])) - 1:
        return _half_tables(draft, op) or _partial(draft, op)
    return None


def _full_tables(draft: Draft, op: Op) -> ValueName | None:
    a, b = op.operands
    for straight, turned in ((a, b), (b, a)):
        first, second = draft.made_by(straight, "mul"), draft.made_by(turned, "mul")
        if first is None or second is None:
            continue
        for rotated, sin in (second.operands, second.operands[::-1]):
            parts = _rotated(draft, rotated)
            if parts is None:
                continue
            for x, cos in (first.operands, first.operands[::-1]):
                if draft.types[x] != draft.types[op.outputs[0]] or not _consists(draft, x, parts):
                    continue
                half_cos, half_sin = (_half(draft, table, parts.pairs) for table in (cos, sin))
                if half_cos is not None and half_sin is not None:
                    return _rope(draft, x, half_cos, half_sin, parts.pairs)
    return None


def _half_tables(draft: Draft, op: Op) -> ValueName | None:
    low, high = draft.made_by(op.operands[0], "sub"), draft.made_by(op.operands[1], "add")
    if low is None or high is None:
        return None
    straight, turned = (draft.made_by(v, "mul") for v in low.operands)
    if straight is None or turned is None:
        return None
    for x1, cos in (straight.operands, straight.operands[::-1]):
        for x2, sin in (turned.operands, turned.operands[::-1]):
            x = _joined(draft, x1, x2)
            if x is None or draft.types[x] != draft.types[op.outputs[0]]:
                continue
            wanted = {frozenset((x2, cos)), frozenset((x1, sin))}
            found = {frozenset(m.operands) for v in high.operands if (m := draft.made_by(v, "mul")) is not None}
            if found == wanted and cos != x1 and sin != x2:
                return _rope(draft, x, cos, sin)
    return None


def _partial(draft: Draft, op: Op) -> ValueName | None:
    rope, rest = draft.made_by(op.operands[0], "rope"), draft.made_by(op.operands[1], "slice")
    turned = draft.made_by(rope.operands[0], "slice") if rope is not None else None
    if rope is None or rest is None or turned is None or turned.operands != rest.operands:
        return None
    (x,) = turned.operands
    last, rotary = op.attrs["axis"], rope.attrs["rotary"]
    first = {"axis": last, "start": 0, "step": 1, "count": rotary}
    second = {"axis": last, "start": rotary, "step": 1, "count": rest.attrs["count"]}
    if turned.attrs != first or rest.attrs != second or draft.types[x] != draft.types[op.outputs[0]]:
        return None
    return draft.emit("rope", x, *rope.operands[1:], **rope.attrs)


def _rope(draft: Draft, x: ValueName, cos: ValueName, sin: ValueName, pairs: bool = False) -> ValueName | None:
    rotary = draft.shape(x)[-1]
    attrs: dict[str, Attr] = {"interleaved": pairs, "rotary": rotary}
    return draft.emit("rope", x, cos, sin, **attrs) if draft.infer("rope", (x, cos, sin), attrs) else None


@dataclass(frozen=True)
class _Parts:
    """The two numbers of each pair, of all pairs; ``pairs``: they are neighbours, otherwise halves."""

    x1: ValueName
    x2: ValueName
    pairs: bool


def _rotated(draft: Draft, value: ValueName) -> _Parts | None:
    """What value is made of as (-x2, x1), half behind half or number beside number."""
    op = draft.made_by(value, "concat")
    if op is not None and len(op.operands) == 2 and op.attrs["axis"] == len(draft.shape(value)) - 1:
        neg = draft.made_by(op.operands[0], "neg")
        return None if neg is None else _Parts(op.operands[1], neg.operands[0], False)
    flat = draft.made_by(value, "reshape")
    op = draft.made_by(flat.operands[0], "concat") if flat is not None else None
    shape = draft.shape(value)
    if op is None or len(op.operands) != 2 or op.attrs["axis"] != len(shape):
        return None
    columns = [draft.made_by(column, "reshape") for column in op.operands]
    x2, x1 = (None if column is None else column.operands[0] for column in columns)
    neg = draft.made_by(x2, "neg")
    width = shape[-1]
    if neg is None or x1 is None or not isinstance(width, int) or width % 2:
        return None
    apart = (*shape[:-1], width // 2)
    if draft.shape(x1) != apart or any(draft.shape(column) != (*apart, 1) for column in op.operands):
        return None
    return _Parts(x1, neg.operands[0], True)


def _consists(draft: Draft, x: ValueName, parts: _Parts) -> bool:
    """Whether x is x1 and x2, one behind the other or taking turns: slices of one value, at the right places."""
    whole, first, second = (_span(draft, value) for value in (x, parts.x1, parts.x2))
    if whole is None or first is None or second is None or whole[3] % 2:
        return False
    root, start, step, count = whole
    half = count // 2
    if parts.pairs:
        return first == (root, start, 2 * step, half) and second == (root, start + step, 2 * step, half)
    return first == (root, start, step, half) and second == (root, start + half * step, step, half)


def _span(draft: Draft, value: ValueName) -> tuple[ValueName, int, int, int] | None:
    """``(root, start, step, count)``: which elements of the last dimension of a root a chain of slices takes."""
    shape = draft.shape(value)
    count = shape[-1] if shape else None
    if not isinstance(count, int):
        return None
    start, step = 0, 1
    while (op := draft.made_by(value, "slice")) is not None and op.attrs["axis"] == len(shape) - 1:
        at, by = op.attrs["start"], op.attrs["step"]
        if not isinstance(at, int) or not isinstance(by, int):
            break
        start, step, value = at + by * start, by * step, op.operands[0]
    return value, start, step, count


def _joined(draft: Draft, x1: ValueName, x2: ValueName) -> ValueName | None:
    """``x`` where x1 and x2 are the two halves of its last dimension."""
    low, high = draft.made_by(x1, "slice"), draft.made_by(x2, "slice")
    if low is None or high is None or low.operands != high.operands:
        return None
    (x,) = low.operands
    width = draft.shape(x)[-1]
    if not isinstance(width, int) or width % 2:
        return None
    common = {"axis": len(draft.shape(x)) - 1, "step": 1, "count": width // 2}
    return x if low.attrs == {**common, "start": 0} and high.attrs == {**common, "start": width // 2} else None


def _half(draft: Draft, table: ValueName, pairs: bool = False) -> ValueName | None:
    """Every angle of a table once, if it is seen to hold each twice: in both halves, or in neighbours (``pairs``)."""
    shape = draft.shape(table)
    op = draft.made_by(table, *UNARY, "mul", "div", "concat", "reshape", "expand", "transpose")
    if op is None or not shape or not isinstance(shape[-1], int) or shape[-1] % 2:
        return None
    if pairs and op.kind == "reshape" and (found := _beside(draft, op, shape[-1] // 2)) is not None:
        return found
    if op.kind == "concat":
        twice = not pairs and op.operands == (op.operands[0],) * 2 and op.attrs["axis"] == len(shape) - 1
        return op.operands[0] if twice else None
    if op.kind in ("mul", "div"):
        return _half_of_scaled(draft, op, pairs)
    (x,) = op.operands
    if draft.shape(x)[-1:] != shape[-1:] or (op.kind == "transpose" and permutation(op)[-1] != len(shape) - 1):
        return None
    half = _half(draft, x, pairs)
    if half is None:
        return None
    attrs = dict(op.attrs)
    if op.kind in ("reshape", "expand"):
        attrs["shape"] = (*shape[:-1], shape[-1] // 2)
    return draft.emit(op.kind, half, **attrs)


def _beside(draft: Draft, op: Op, half: int) -> ValueName | None:
    """The angles [..., half] of a table that is each of them twice, side by side: [..., half, 2, 1, ...] flattened."""
    (wide,) = op.operands
    twice = draft.made_by(wide, "expand", "concat")
    shape = draft.shape(wide)
    ones = next((i for i, d in enumerate(reversed(shape)) if d != 1), 0)
    lead, tail = shape[: len(shape) - ones], shape[len(shape) - ones :]
    if twice is None or lead[-2:] != (half, 2) or len(set(twice.operands)) != 1:
        return None
    column = twice.operands[0]
    if draft.shape(column) != (*lead[:-1], 1, *tail):
        return None
    return draft.emit("reshape", column, shape=(*draft.shape(op.outputs[0])[:-1], half))


def _half_of_scaled(draft: Draft, op: Op, pairs: bool) -> ValueName | None:
    """Half of a table that is combined with something the same all along the last dimension."""
    halves = [v if draft.shape(v)[-1:] in ((), (1,)) else _half(draft, v, pairs) for v in op.operands]
    return None if None in halves else draft.emit(op.kind, *halves, **op.attrs)

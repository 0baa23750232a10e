"""Fuse attention: scores, scale, mask, softmax and weighted values become one attention op.

    matmul(where(isnan(p), 0, p), v)   with p = softmax(s) over the last axis
    s = tanh(s' / cap) * cap | s' + mask | where(mask, s', low) | s' * scale      in any order that ends at
    s' = matmul(q * scale, transpose(k) * scale)

maybe with a sink, which is one more score in each row (see `sink_form`),
with casts to f32 and back in half precision, with k and v repeated for grouped heads (then the op reads the
unrepeated ones), and with a guard around it that sets rows without any key to 0. k comes from anywhere: a cache, a
concat, a projection.

Rows that see no key are padding, whose values nobody may rely on: the fused op gives 0 there, where a mask of the
lowest finite number gives the mean of v and one of minus infinity NaN unless guarded. All other rows are equal up to
rounding. But where a model quantises values over the range that they have at run time, padding counts: then masks stay
numbers that are added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from ...ir.dtypes import DType
from ...ir.graph import Attr, Graph, Op, ValueName
from ...ir.weights import Weights
from .draft import Draft, rewrite
from .mask_form import is_low, negated, sees, sees_nothing
from .match import is_number, scaled, uncast
from .simplify import permutation
from .sink_form import all_but_last, with_sink


@dataclass(frozen=True)
class FuseAttention:
    """The batch and the heads must be dimensions of their own, [batch, heads, rows, width]."""

    name: ClassVar[str] = "fuse_attention"

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        return rewrite(graph, weights, partial(_rule, padding_counts=_ranges_at_run_time(graph)))


def _ranges_at_run_time(graph: Graph) -> bool:
    """Whether the scale of some quantisation is computed by the model."""
    makers = (graph.producer.get(op.operands[1]) for op in graph.ops if op.kind == "quantize")
    return any(maker is not None and maker.kind not in ("constant", "fill") for maker in makers)


def _rule(draft: Draft, op: Op, padding_counts: bool) -> ValueName | None:
    if op.kind == "where":
        return _guarded(draft, op)
    if op.kind == "cast":
        return _widened(draft, op)
    if op.kind == "attention":
        return _regrouped(draft, op)
    if op.kind != "matmul" or len(draft.shape(op.outputs[0])) != 4:
        return None
    weights, v = op.operands
    softmax = _before_softmax(draft, weights)
    if softmax is None:
        return None
    scores, sink = softmax
    found = _scores(draft, scores, padding_counts)
    if found is None or found.q is None or found.k is None:
        return None
    k, v = _ungrouped(draft, found.k, v)
    inputs: tuple[ValueName | None, ...] = (found.q, k, v)
    if found.mask is not None or sink is not None:
        inputs = (*inputs, found.mask, sink) if sink is not None else (*inputs, found.mask)
    attrs: dict[str, Attr] = {"scale": found.scale, "softcap": found.softcap}
    return draft.emit("attention", *inputs, **attrs) if draft.infer("attention", inputs, attrs) else None


@dataclass(frozen=True)
class _Scores:
    """What has been read on the way from the softmax up to the product of q and k."""

    q: ValueName | None = None
    k: ValueName | None = None
    mask: ValueName | None = None
    scale: float = 1.0
    softcap: float = 0.0


def _before_softmax(draft: Draft, weights: ValueName) -> tuple[ValueName, ValueName | None] | None:
    """The scores where a value is their softmax over the last axis, possibly with NaN replaced by 0; and a sink."""
    weights = uncast(draft, weights)
    whole = all_but_last(draft, weights)
    if whole is not None:
        weights = whole
    guard = draft.made_by(weights, "where")
    if guard is not None:
        condition, zero, weights = guard.operands
        isnan = draft.made_by(condition, "isnan")
        if isnan is None or isnan.operands[0] != weights or not is_number(draft, zero, 0):
            return None
        weights = uncast(draft, weights)
    softmax = draft.made_by(weights, "softmax")
    if softmax is None or softmax.attrs["axis"] != len(draft.shape(weights)) - 1:
        return None
    rows = uncast(draft, softmax.operands[0])
    return (rows, None) if whole is None else with_sink(draft, rows)


def _scores(draft: Draft, value: ValueName, padding_counts: bool) -> _Scores | None:
    """Read masks, scales and a soft cap upward until the product of q and k.

    The op caps before it masks and scales before it caps; a graph in another order is not this op.
    """
    found = _Scores()
    masked = _unmasked(draft, value, padding_counts)
    if masked is not None:
        value, mask = masked
        found = replace(found, mask=mask)
    capped, cap = scaled(draft, uncast(draft, value))
    tanh = draft.made_by(capped, "tanh")
    if tanh is not None:
        inside, factor = scaled(draft, uncast(draft, tanh.operands[0]))
        if cap <= 0:
            return None
        return _product(draft, inside, replace(found, softcap=cap, scale=factor * cap))
    return _product(draft, capped, replace(found, scale=cap))


def _unmasked(draft: Draft, value: ValueName, padding_counts: bool) -> tuple[ValueName, ValueName] | None:
    """``(scores, mask)`` where value adds a mask to scores or chooses between them and a low number."""
    op = draft.made_by(value, "add", "where")
    if op is None or (op.kind == "where" and padding_counts):
        return None
    if op.kind == "where":
        condition, a, b = op.operands
        if draft.shape(a) == draft.shape(value) and is_low(draft, b):
            return a, condition
        if draft.shape(b) == draft.shape(value) and is_low(draft, a):
            return b, negated(draft, condition)
        return None
    a, b = op.operands
    for scores, mask in ((a, b), (b, a)):
        source = scaled(draft, uncast(draft, scores))[0]
        if draft.shape(scores) == draft.shape(value) and draft.made_by(source, "matmul", "tanh"):
            return scores, (None if padding_counts else sees(draft, mask)) or mask
    return None


def _product(draft: Draft, value: ValueName, found: _Scores) -> _Scores | None:
    """The product of q and k, with the scales that were put on either before."""
    matmul = draft.made_by(uncast(draft, value), "matmul")
    if matmul is None or len(draft.shape(matmul.outputs[0])) != 4:
        return None
    q, q_scale = scaled(draft, matmul.operands[0])
    k_transposed, k_scale = scaled(draft, matmul.operands[1])
    if len(draft.shape(q)) != 4 or len(draft.shape(k_transposed)) != 4:
        return None
    transpose = draft.made_by(k_transposed, "transpose")
    if transpose is not None and permutation(transpose) == (0, 1, 3, 2):
        k, inner_scale = scaled(draft, transpose.operands[0])
    else:
        k, inner_scale = draft.emit("transpose", k_transposed, perm=(0, 1, 3, 2)), 1.0
    mask = found.mask
    if mask is not None and draft.types[mask].dtype not in (DType.BOOL, draft.types[q].dtype):
        mask = draft.emit("cast", mask, to=draft.types[q].dtype)
    return replace(found, q=q, k=k, mask=mask, scale=found.scale * q_scale * k_scale * inner_scale)


def _ungrouped(draft: Draft, k: ValueName, v: ValueName) -> tuple[ValueName, ValueName]:
    """k and v as they are before each of their heads is repeated for a group of query heads."""
    k0, v0 = _unrepeated(draft, k), _unrepeated(draft, v)
    if k0 is None or v0 is None or draft.shape(k0)[1] != draft.shape(v0)[1]:
        return k, v
    return k0, v0


def _regrouped(draft: Draft, op: Op) -> ValueName | None:
    """Attention, fused before or exported so, that reads repeated heads."""
    (q, k, v), more = op.operands[:3], op.inputs[3:]
    k0, v0 = _ungrouped(draft, k, v)
    return None if k0 == k else draft.emit("attention", q, k0, v0, *more, **op.attrs)


def _unrepeated(draft: Draft, value: ValueName) -> ValueName | None:
    """``x`` [b,hk,t,d] where value [b,hk*g,t,d] holds each head g times in a row."""
    join = draft.made_by(value, "reshape")
    repeat = draft.made_by(join.operands[0], "expand", "concat") if join is not None else None
    if repeat is None:
        return None
    wide = draft.shape(repeat.outputs[0])
    source = repeat.operands[0]
    if repeat.kind == "concat" and (repeat.attrs["axis"] != 2 or len(set(repeat.operands)) != 1):
        return None
    narrow, target = draft.shape(source), draft.shape(value)
    if len(wide) != 5 or len(narrow) != 5 or narrow[2] != 1 or narrow != (*wide[:2], 1, *wide[3:]):
        return None
    if target[0] != wide[0] or target[2:] != wide[3:]:
        return None
    split = draft.made_by(source, "reshape")
    shape = (*wide[:2], *wide[3:])
    if split is not None and draft.shape(split.operands[0]) == shape:
        return split.operands[0]
    return draft.emit("reshape", source, shape=shape)


def _guarded(draft: Draft, op: Op) -> ValueName | None:
    """where(the row sees nothing, 0, attention) is what attention gives anyway."""
    condition, zero, value = op.operands
    attention = draft.made_by(value, "attention")
    if attention is None or len(attention.inputs) < 4 or not is_number(draft, zero, 0):
        return None
    mask = attention.inputs[3]
    if mask is None:
        return None
    return value if sees_nothing(draft, condition) == mask and draft.types[mask].dtype is DType.BOOL else None


def _widened(draft: Draft, op: Op) -> ValueName | None:
    """cast(attention(cast(q), cast(k), cast(v))) of one narrow type is attention of these: it computes in f32."""
    attention = draft.made_by(op.operands[0], "attention")
    wanted = draft.types[op.outputs[0]].dtype
    if attention is None or wanted not in (DType.F16, DType.BF16):
        return None
    narrow = [uncast(draft, v) for v in attention.operands[:3]]
    if any(draft.types[v].dtype != wanted for v in narrow):
        return None
    return draft.emit("attention", *narrow, *attention.inputs[3:], **attention.attrs)

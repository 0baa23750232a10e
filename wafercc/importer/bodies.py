"""Bodies: nodes that hold graphs. Loops run a known number of times, so they are unrolled; branches are chosen where
their condition is known, and both run where it is not.

A body's names are its own: each time it runs they mean what it has computed then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..ir.dtypes import DType
from .content import Value, known_array, known_dim, number
from .context import PAST_HINT, Context
from .coverage import check_coverage
from .nodes import Branch, Node
from .ops_elementwise import convert, like
from .ops_linear import matmul
from .ops_shape import reshaped, sliced, transposed
from .registry import axis_of
from .sort import sorted_nodes

Walk = Callable[[Iterable[Node], Context], None]
MOST_TURNS = 4096
"""Times that the bodies of all loops of a model run together."""


def run_body(node: Node, body: object, given: Sequence[Value], cx: Context, walk: Walk) -> list[Value]:
    """The results of a body for what it is given.

    Raises:
        ImportFailed: it is missing or takes another number of values, or one of its nodes cannot be lowered.
    """
    if not isinstance(body, Branch):
        raise node.fail("lacks a body")
    if len(given) != len(body.inputs):
        raise node.fail(f"gives its body {len(given)} values, which takes {len(body.inputs)}")
    check_coverage(body.nodes, node.where)
    for name, tensor in body.tensors.items():
        cx.values[name] = cx.add_tensor(tensor)
    cx.values.update(zip(body.inputs, given, strict=True))
    inside = {name for inner in body.nodes for name in inner.outputs if name is not None}
    walk(sorted_nodes(body.nodes, frozenset(cx.values) - inside), cx)
    return [cx.values[name] for name in body.outputs]


def branch(node: Node, cx: Context, walk: Walk) -> Sequence[Value]:
    """An If whose condition is known runs one branch; otherwise both, and the condition chooses among equal shapes."""
    condition = cx.input(node, 0)
    known = cx.array(condition)
    if known is not None and known.dtype != object:
        chosen = node.attrs.get("then_branch" if bool(known.all()) else "else_branch")
        results = run_body(node, chosen, (), cx, walk)
        if len(results) != len(node.outputs):
            raise node.fail("lacks a branch, or the branch has other results than the node")
        return results
    sides = [run_body(node, node.attrs.get(side), (), cx, walk) for side in ("then_branch", "else_branch")]
    for a, b in zip(*sides, strict=True):
        if a.type != b.type:
            raise node.fail(
                f"branches on what is computed from the model's data, into {a.type} or {b.type}", hint=PAST_HINT
            )
    seen = reshaped(cx, condition, ())
    return [cx.emit("where", [seen, a, b]) for a, b in zip(*sides, strict=True)]


def loop(node: Node, cx: Context, walk: Walk) -> Sequence[Value | None]:
    """A Loop unrolled: its trip count is known, its condition known at every turn."""
    count = cx.optional(node, 0)
    turns = MOST_TURNS if count is None else number(cx.dim(count, node, "the trip count"))
    going = cx.optional(node, 1) or known_array(np.asarray(True), DType.BOOL)
    carried = [cx.values[name] for name in node.inputs[2:] if name is not None]
    stacked: list[list[Value]] = []
    for turn in range(turns):
        if not _known(node, cx, going):
            break
        _take_turn(node, cx)
        results = run_body(node, node.attrs.get("body"), [known_dim(turn), going, *carried], cx, walk)
        going, carried = results[0], results[1 : 1 + len(carried)]
        stacked.append(results[1 + len(carried) :])
    scans = [_stack(cx, list(column), 0) for column in zip(*stacked, strict=True)]
    return [*carried, *scans]


def _known(node: Node, cx: Context, going: Value) -> bool:
    array = cx.array(going)
    if array is None or array.dtype == object:
        raise node.fail("goes on for as long as what it computes says; loops run a known number of times")
    return bool(array.all())


def _take_turn(node: Node, cx: Context) -> None:
    cx.turns += 1
    if cx.turns > MOST_TURNS:
        raise node.fail(f"would make the model's loops run more than {MOST_TURNS} times", hint="export fewer steps")


def scan(node: Node, cx: Context, walk: Walk) -> Sequence[Value | None]:
    """A Scan unrolled along the axes of its scanned inputs."""
    if node.version < 9:
        raise node.fail(f"is of opset {node.version}; those of 9 and later are supported")
    values, count = cx.inputs(node), node.int_attr("num_scan_inputs", 1)
    states, scanned = values[: len(values) - count], values[len(values) - count :]
    axes = [axis_of(node, a, v.rank) for a, v in zip(_each(node, "scan_input_axes", count), scanned, strict=True)]
    backward = _each(node, "scan_input_directions", count)
    turns = number(scanned[0].shape[axes[0]])
    stacked: list[list[Value]] = []
    for turn in range(turns):
        _take_turn(node, cx)
        parts = [
            _without(cx, sliced(cx, v, axis, turns - 1 - turn if back else turn, 1, 1), axis)
            for v, axis, back in zip(scanned, axes, backward, strict=True)
        ]
        results = run_body(node, node.attrs.get("body"), [*states, *parts], cx, walk)
        states = results[: len(states)]
        stacked.append(results[len(states) :])
    columns = [list(column) for column in zip(*stacked, strict=True)]
    outs = _each(node, "scan_output_axes", len(columns))
    reverse = _each(node, "scan_output_directions", len(columns))
    made = [
        _stack(cx, column[::-1] if back else column, axis % (column[0].rank + 1))
        for column, axis, back in zip(columns, outs, reverse, strict=True)
    ]
    return [*states, *made]


def _each(node: Node, name: str, count: int) -> tuple[int, ...]:
    return node.ints_attr(name) or (0,) * count


def _without(cx: Context, x: Value, axis: int) -> Value:
    return reshaped(cx, x, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _stack(cx: Context, parts: list[Value], axis: int) -> Value:
    rows = [reshaped(cx, part, (*part.shape[:axis], 1, *part.shape[axis:])) for part in parts]
    return cx.emit("concat", rows, {"axis": axis})


def flex_attention(node: Node, cx: Context, walk: Walk) -> Sequence[Value]:
    """Attention whose scores, and probabilities, pass through graphs of the model's own."""
    q, k, v = (cx.input(node, position) for position in range(3))
    group = number(q.shape[1]) // number(k.shape[1])
    k, v = (_repeated(cx, x, group) for x in (k, v))
    scale = node.float_attr("scale", 0.0) or 1 / math.sqrt(number(q.shape[-1]))
    wide = q.dtype if q.dtype is DType.F64 else DType.F32
    q, k = convert(cx, q, wide), convert(cx, k, wide)
    scores = matmul(cx, q, transposed(cx, k, (0, 1, 3, 2)))
    scores = cx.emit("mul", [scores, like(cx, scale, scores)])
    if "score_mod" in node.attrs:
        (scores,) = run_body(node, node.attrs["score_mod"], [scores], cx, walk)
    shares = cx.emit("softmax", [scores], {"axis": 3})
    if "prob_mod" in node.attrs:
        (shares,) = run_body(node, node.attrs["prob_mod"], [shares], cx, walk)
    return [convert(cx, matmul(cx, shares, convert(cx, v, shares.dtype)), v.dtype)]


def _repeated(cx: Context, x: Value, group: int) -> Value:
    """Each head so many times in a row."""
    if group == 1:
        return x
    b, h, s, d = x.shape
    x = reshaped(cx, x, (b, h, 1, s, d))
    return reshaped(cx, cx.emit("expand", [x], {"shape": (b, h, group, s, d)}), (b, h * group, s, d))


Body = Callable[[Node, Context, Walk], Sequence[Value | None]]
BODIES: Mapping[tuple[str, str], Body] = {
    ("", "If"): branch,
    ("", "Loop"): loop,
    ("", "Scan"): scan,
    ("ai.onnx.preview", "FlexAttention"): flex_attention,
}

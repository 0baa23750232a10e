"""A sliding cache: a buffer of fixed capacity that holds the newest tokens in order from slot 0.

GroupQueryAttention's ``sliding_window_cache``: with capacity C >= window W, after T tokens the buffer holds the last
L(T) of them, where G = C - W + 1 and

    L(T) = T                             if T <= C
    L(T) = T - G * ceil((T - C) / G)     otherwise

so it makes room for G tokens at once. Slots behind them hold nothing that may be relied on; here they are 0.
"""

from __future__ import annotations

from .content import Value, known_dim, number
from .context import Context
from .heads import Place, causal_rules, combined, counted, placed
from .nodes import Node
from .ops_elementwise import convert
from .ops_shape import sliced

Pair = tuple[Value, Value]


def sliding_attention_operands(
    node: Node, cx: Context, new: Pair, start: Place, window: int, bias: Value | None
) -> tuple[Value, Value, Value | None, Pair]:
    """Keys, values and mask for attention, and the next content of the two caches.

    ``start`` is how many tokens came before the new ones; ``bias`` is indexed by position from the first token on.
    """
    past = cx.input(node, 3), cx.input(node, 4)
    if isinstance(start, int):
        return _at_number(cx, past, new, start, window, bias)
    if bias is not None:
        raise node.fail(
            "adds a bias to the scores of a sliding cache, at places that are not known while importing",
            hint="compile for one past length with --shape",
        )
    return _computed(cx, past, new, start, window)


def _at_number(
    cx: Context, past: Pair, new: Pair, start: int, window: int, bias: Value | None
) -> tuple[Value, Value, Value | None, Pair]:
    capacity, rows = number(past[0].shape[2]), number(new[0].shape[2])
    held, end = _held(start, capacity, window), start + rows
    first = start - held
    keys, values = (
        x if held == 0 else cx.emit("concat", [sliced(cx, p, 2, 0, 1, held), x], {"axis": 2})
        for p, x in zip(past, new, strict=True)
    )
    keep = _held(end, capacity, window)
    present = (_kept(cx, keys, keep, capacity), _kept(cx, values, keep, capacity))
    rules = causal_rules(cx, rows, held + rows, start, window - 1, 0, first)
    if bias is not None:
        bias = sliced(cx, bias, bias.rank - 1, first, 1, held + rows)
    return keys, values, combined(cx, bias, rules), present


def _held(tokens: int, capacity: int, window: int) -> int:
    step = capacity - window + 1
    return tokens - step * max(0, -(-(tokens - capacity) // step))


def _kept(cx: Context, x: Value, keep: int, capacity: int) -> Value:
    """The last tokens, and nothing behind them."""
    have = number(x.shape[2])
    x = sliced(cx, x, 2, have - keep, 1, keep)
    if keep == capacity:
        return x
    rest = cx.fill(0.0, (*x.shape[:2], capacity - keep, x.shape[3]), x.dtype)
    return cx.emit("concat", [x, rest], {"axis": 2})


def _computed(cx: Context, past: Pair, new: Pair, start: Place, window: int) -> tuple[Value, Value, Value | None, Pair]:
    """The same where the number of tokens before is known only when the program runs, maybe for each sequence."""
    capacity, rows = number(past[0].shape[2]), number(new[0].shape[2])
    before_them = placed(cx, start) if isinstance(start, Value) else known_dim(start)
    held = _held_then(cx, before_them, capacity, window)
    keep = _held_then(cx, cx.emit("add", [before_them, known_dim(rows)]), capacity, window)
    keys, values = (cx.emit("concat", [p, x], {"axis": 2}) for p, x in zip(past, new, strict=True))
    mask = _mask(cx, before_them, held, capacity, rows, window)
    # Slot i holds the token that is keep - i from the end; among the keys it is one of the past, or a new one.
    token = cx.emit("sub", [cx.emit("add", [counted(cx, 2, capacity), cx.emit("add", [held, known_dim(rows)])]), keep])
    behind = cx.emit("add", [token, cx.emit("sub", [known_dim(capacity), held])])
    place = cx.emit("where", [cx.emit("lt", [token, held]), token, behind])
    chosen = convert(cx, cx.emit("eq", [counted(cx, 3, capacity + rows), place]), keys.dtype)
    filled = cx.emit("lt", [counted(cx, 2, capacity), keep])
    empty = cx.fill(0.0, (), keys.dtype)
    kept = (cx.emit("where", [filled, cx.emit("matmul", [chosen, x]), empty]) for x in (keys, values))
    return keys, values, mask, (next(kept), next(kept))


def _held_then(cx: Context, tokens: Value, capacity: int, window: int) -> Value:
    """`_held` as ops."""
    step = known_dim(capacity - window + 1)
    over = cx.emit("max", [cx.emit("sub", [tokens, known_dim(capacity)]), known_dim(0)])
    times = cx.emit("div", [cx.emit("add", [over, known_dim(capacity - window)]), step])
    return cx.emit("sub", [tokens, cx.emit("mul", [times, step])])


def _mask(cx: Context, start: Value, held: Value, capacity: int, rows: int, window: int) -> Value:
    """Among past slots and new tokens, those at most a window back: a slot by its token's position, if it holds one."""
    slot = counted(cx, 3, capacity + rows)
    old = cx.emit("lt", [slot, held])
    fresh = cx.emit("ge", [slot, known_dim(capacity)])
    position = cx.emit(
        "where",
        [
            fresh,
            cx.emit("add", [slot, cx.emit("sub", [start, known_dim(capacity)])]),
            cx.emit("add", [slot, cx.emit("sub", [start, held])]),
        ],
    )
    query = cx.emit("add", [counted(cx, 2, rows), start])
    near = cx.emit("gt", [position, cx.emit("sub", [query, known_dim(window)])])
    seen = cx.emit("and", [near, cx.emit("le", [position, query])])
    return cx.emit("and", [seen, cx.emit("or", [old, fresh])])

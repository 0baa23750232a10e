"""Recurrences: RNN, GRU and LSTM, linear attention and causal convolutions with state, unrolled step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..ir.dtypes import DType
from .content import Value, number
from .context import Context
from .nodes import Node
from .ops_elementwise import convert, like
from .ops_linear import matmul
from .ops_shape import reshaped, sliced, transposed
from .registry import lowers

MOST_STEPS = 256
"""Tokens over which a recurrence is unrolled."""

Step = Callable[[Value], Value]


@lowers("RNN", "GRU", "LSTM")
def recurrent(node: Node, cx: Context) -> Sequence[Value | None]:
    """Outputs of all steps [t, directions, b, h], and the last states [directions, b, h]; layout 1 has b in front."""
    x, first = cx.input(node, 0), bool(node.int_attr("layout", 0))
    if cx.optional(node, 4) is not None:
        raise node.fail("has sequences of different lengths, which is not supported")
    x = transposed(cx, x, (1, 0, 2)) if first else x
    directions = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    chosen = directions[node.str_attr("direction", "forward")]
    if node.op_type != "RNN" and any(chosen):
        raise node.fail("runs backwards, which is not supported", hint="layout searches of it take minutes")
    runs = [_Direction(node, cx, x, i, back) for i, back in enumerate(chosen)]
    made = [run.run() for run in runs]
    rows = cx.emit("concat", [ys for ys, _ in made], {"axis": 1})
    lasts = [
        cx.emit("concat", [reshaped(cx, state[k], (1, *state[k].shape)) for _, state in made], {"axis": 0})
        for k in range(len(made[0][1]))
    ]
    if first:
        rows, lasts = transposed(cx, rows, (2, 0, 1, 3)), [transposed(cx, last, (1, 0, 2)) for last in lasts]
    return [rows, *lasts]


class _Direction:
    """One direction of a recurrent node: its weights, and its steps in turn."""

    def __init__(self, node: Node, cx: Context, x: Value, index: int, back: bool) -> None:
        self.node, self.cx, self.x, self.index, self.back = node, cx, x, index, back
        self.gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[node.op_type]
        self.hidden = number(cx.input(node, 2).shape[-1])
        names = [str(n, "utf-8") if isinstance(n, bytes) else str(n) for n in node.attrs.get("activations") or ()]
        plain = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}[node.op_type]
        self.acts = [self._activation(n) for n in (names[index * len(plain) :] or plain)[: len(plain)]]
        self.w, self.r = (self._parts(self._own(position), self.gates) for position in (1, 2))
        bias = cx.optional(node, 3)
        self.b = None if bias is None else self._parts(self._own(3), 2 * self.gates)

    def _activation(self, name: str) -> Step:
        known = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}
        if name.lower() not in known:
            raise self.node.fail(f"has the activation {name}; supported: Sigmoid, Tanh, Relu")
        return lambda x: self.cx.emit(known[name.lower()], [x])

    def _own(self, position: int) -> Value:
        """This direction's part of an input that has all directions in its first dimension."""
        whole = self.cx.input(self.node, position)
        return reshaped(self.cx, sliced(self.cx, whole, 0, self.index, 1, 1), whole.shape[1:])

    def _parts(self, x: Value, count: int) -> list[Value]:
        return [sliced(self.cx, x, 0, i * self.hidden, 1, self.hidden) for i in range(count)]

    def _start(self, position: int) -> Value:
        given = self.cx.optional(self.node, position)
        shape = (self.x.shape[1], self.hidden)
        if given is None:
            return self.cx.fill(0.0, shape, self.x.dtype)
        if self.node.int_attr("layout", 0):
            given = transposed(self.cx, given, (1, 0, 2))
        return reshaped(self.cx, sliced(self.cx, given, 0, self.index, 1, 1), shape)

    def run(self) -> tuple[Value, list[Value]]:
        """The outputs [t, 1, b, h], and the last states."""
        cx, steps = self.cx, number(self.x.shape[0])
        if steps > MOST_STEPS:
            raise self.node.fail(f"runs over {steps} steps; recurrences take at most {MOST_STEPS}")
        states = [self._start(5)] + ([self._start(6)] if self.node.op_type == "LSTM" else [])
        step = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.node.op_type]
        rows: list[Value] = []
        for t in range(steps - 1, -1, -1) if self.back else range(steps):
            states = step(reshaped(cx, sliced(cx, self.x, 0, t, 1, 1), self.x.shape[1:]), states)
            rows.append(reshaped(cx, states[0], (1, 1, *states[0].shape)))
        return cx.emit("concat", rows[::-1] if self.back else rows, {"axis": 0}), states

    def _add(self, *terms: Value) -> Value:
        total = terms[0]
        for term in terms[1:]:
            total = self.cx.emit("add", [total, term])
        return total

    def _of(self, weights: list[Value], x: Value, gate: int, bias: int) -> Value:
        result = matmul(self.cx, x, transposed(self.cx, weights[gate], (1, 0)))
        return result if self.b is None else self._add(result, self.b[bias + gate])

    def _both(self, x: Value, h: Value, gate: int) -> Value:
        return self._add(self._of(self.w, x, gate, 0), self._of(self.r, h, gate, self.gates))

    def _mul(self, a: Value, b: Value) -> Value:
        return self.cx.emit("mul", [a, b])

    def _rnn(self, x: Value, states: list[Value]) -> list[Value]:
        return [self.acts[0](self._both(x, states[0], 0))]

    def _gru(self, x: Value, states: list[Value]) -> list[Value]:
        (h,) = states
        z, r = (self.acts[0](self._both(x, h, gate)) for gate in (0, 1))
        if self.node.int_attr("linear_before_reset", 0):
            inner = self._add(self._of(self.w, x, 2, 0), self._mul(r, self._of(self.r, h, 2, 3)))
        else:
            inner = self._both(x, self._mul(r, h), 2)
        new = self.acts[1](inner)
        return [self._add(self._mul(self.cx.emit("sub", [like(self.cx, 1.0, z), z]), new), self._mul(z, h))]

    def _lstm(self, x: Value, states: list[Value]) -> list[Value]:
        h, c = states
        peep = self.cx.optional(self.node, 7)
        p = None if peep is None else self._parts(self._own(7), 3)

        def gate(k: int, seen: Value, which: int) -> Value:
            inner = self._both(x, h, k)
            return self.acts[0](inner if p is None else self._add(inner, self._mul(p[which], seen)))

        i, f = gate(0, c, 0), gate(2, c, 2)
        new = self._add(self._mul(f, c), self._mul(i, self.acts[1](self._both(x, h, 3))))
        return [self._mul(gate(1, new, 1), self.acts[2](new)), new]


@lowers("CausalConvWithState")
def causal_conv(node: Node, cx: Context) -> Sequence[Value]:
    """A convolution of each channel over the present and the last k - 1 inputs, which are its state."""
    x, weight, bias, past = cx.input(node, 0), cx.input(node, 1), cx.optional(node, 2), cx.optional(node, 3)
    batch, channels, length = x.shape
    k = number(weight.shape[2])
    if past is None:
        past = cx.fill(0.0, (batch, channels, k - 1), x.dtype)
    whole = cx.emit("concat", [past, x], {"axis": 2}) if k > 1 else x
    wide = x.dtype if x.dtype is DType.F64 else DType.F32
    inner, taps = convert(cx, whole, wide), convert(cx, reshaped(cx, weight, (channels, k)), wide)
    total: Value | None = None
    for i in range(k):
        part = cx.emit("mul", [sliced(cx, inner, 2, i, 1, length), sliced(cx, taps, 1, i, 1, 1)])
        total = part if total is None else cx.emit("add", [total, part])
    assert total is not None
    if bias is not None:
        total = cx.emit("add", [total, reshaped(cx, convert(cx, bias, wide), (channels, 1))])
    if node.str_attr("activation", "none") in ("silu", "swish"):
        total = cx.emit("silu", [convert(cx, convert(cx, total, x.dtype), wide)])
    return [convert(cx, total, x.dtype), sliced(cx, whole, 2, length, 1, k - 1)]


@lowers("LinearAttention")
def linear_attention(node: Node, cx: Context) -> Sequence[Value]:
    """A state [b, kv heads, dk, dv] per head that decays, takes in k v^T at each token, and is read by q."""
    q, k, v = cx.input(node, 0), cx.input(node, 1), cx.input(node, 2)
    past, decay, beta = (cx.optional(node, position) for position in (3, 4, 5))
    heads, kv = node.int_attr("q_num_heads", 1), node.int_attr("kv_num_heads", 1)
    b, steps = q.shape[0], number(q.shape[1])
    dk, dv = number(q.shape[2]) // heads, number(v.shape[2]) // kv
    if steps > MOST_STEPS:
        raise node.fail(f"runs over {steps} tokens; recurrences take at most {MOST_STEPS}")
    scale = node.float_attr("scale", 0.0) or 1 / math.sqrt(dk)
    state = cx.fill(0.0, (b, kv, dk, dv), DType.F32) if past is None else convert(cx, past, DType.F32)

    def at(x: Value, t: int, dims: tuple[int, ...]) -> Value:
        return convert(cx, reshaped(cx, sliced(cx, x, 1, t, 1, 1), (b, *dims)), DType.F32)

    rows: list[Value] = []
    for t in range(steps):
        key, value = at(k, t, (kv, dk, 1)), at(v, t, (kv, 1, dv))
        if decay is not None:
            grown = cx.emit("exp", [at(decay, t, (kv, number(decay.shape[2]) // kv, 1))])
            state = cx.emit("mul", [state, grown])
        if beta is not None:
            held = matmul(cx, transposed(cx, key, (0, 1, 3, 2)), state)
            apart = cx.emit("sub", [value, held])
            value = cx.emit("mul", [at(beta, t, (number(beta.shape[2]), 1, 1)), apart])
        state = cx.emit("add", [state, cx.emit("mul", [key, value])])
        query = at(q, t, (kv, heads // kv, dk))
        read = reshaped(cx, matmul(cx, query, state), (b, 1, heads * dv))
        rows.append(cx.emit("mul", [read, like(cx, scale, read)]))
    result = cx.emit("concat", rows, {"axis": 1})
    return [convert(cx, result, q.dtype), convert(cx, state, past.dtype if past is not None else q.dtype)]

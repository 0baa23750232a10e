"""Graphs as text: one line per op, short, stable and diffable; ``parse_graph(print_graph(g)) == g``.

    graph tiny past_max=63
    input %x: f32[2,n_past+1,96]
    weight %w: f32[96,288]
    %y: f32[2,n_past+1,288] = matmul(%x, %w)  @layers.0/MatMul
    %z: f32[2,n_past+1,288] = softmax(%y, axis=2)  @layers.0/Softmax from "/layers.0/Softmax_3"
    state %past.key -> %present.key
    return %z

An absent operand is ``_``. Attributes are numbers, ``true``/``false``, dimensions, strings and ``[...]`` for tuples;
a float always shows a point or an exponent. Names and strings that are not plain words stand in JSON quotes.
``from`` names the ONNX node where it differs from the op ("" for none). ``value`` declares a type that no line above it
gives. Blank lines mean nothing, nor does what follows a ``#``.
"""

from __future__ import annotations

import json
import math

from ..errors import TextError
from .dims import Dim, parse_dim
from .dtypes import DType
from .graph import Attr, Graph, Op, TensorType, ValueName
from .lines import Excerpt, Line, excerpt_of, name_text, read_lines, word_text

_DTYPES = frozenset(map(str, DType))


def print_graph(graph: Graph) -> str:
    """The text of a graph, ending in a newline."""
    head = f"graph {word_text(graph.name)}"
    lines = [head if graph.past_max == 0 else f"{head} past_max={graph.past_max}"]
    shown: set[ValueName] = set()
    for label, names in (("input", graph.inputs), ("weight", graph.weights)):
        lines += [f"{label} {_typed(graph, v)}" for v in names]
        shown.update(names)
    for op in graph.ops:
        lines.append(print_op(graph, op))
        shown.update(op.outputs)
    lines += [f"value {_typed(graph, v)}" for v in sorted(set(graph.types) - shown)]
    lines += [f"state {_value(old)} -> {_value(new)}" for old, new in graph.states.items()]
    lines.append(f"return {', '.join(map(_value, graph.outputs))}".rstrip())
    return "\n".join(lines) + "\n"


def print_op(graph: Graph, op: Op) -> str:
    """The line of one op."""
    outputs = ", ".join(_typed(graph, v) for v in op.outputs)
    inside = ["_" if v is None else _value(v) for v in op.inputs]
    inside += [f"{name}={print_attr(value)}" for name, value in op.attrs.items()]
    origin = f" from {json.dumps(op.source)}" if op.source != op.id else ""
    return f"{outputs} = {op.kind}({', '.join(inside)})  @{name_text(op.id)}{origin}"


def print_attr(value: Attr) -> str:
    """The text of an attribute's value."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return repr(float(value))
        case str():
            return word_text(value)
        case tuple():
            return f"[{','.join(map(print_attr, value))}]"
        case _:
            return str(value)


def _typed(graph: Graph, value: ValueName) -> str:
    return f"{_value(value)}: {graph.types[value]}"


def _value(value: ValueName) -> str:
    return f"%{name_text(value)}"


def parse_graph(text: str | Excerpt) -> Graph:
    """The graph that a text describes. Types are taken as written; `evaluate.check` says whether they are right.

    Raises:
        TextError: a line is not of the form above; the message has its number and what was expected.
    """
    reader = _GraphReader()
    for line in read_lines(text, _GraphLine):
        line.past_max = reader.past_max
        reader.read(line)
    return reader.graph(excerpt_of(text))


class _GraphLine(Line):
    """A line of a graph. ``past_max``: what dimensions that depend on ``n_past`` are bounded by."""

    past_max = 0

    def dim(self) -> Dim:
        text = self.take("dim", "a dimension")
        if "n_past" in text and self.past_max == 0:
            raise self.error(f"{text} needs past_max on the graph's first line")
        return parse_dim(text, self.past_max)

    def type(self) -> TensorType:
        name = self.take("word", "an element type")
        if name not in _DTYPES:
            raise self.error(f"expected an element type, found {name!r}")
        self.expect("[")
        shape: list[Dim] = []
        while not self.accept("]"):
            if shape:
                self.expect(",")
            shape.append(self.dim())
        return TensorType(DType(name), tuple(shape))

    def typed(self) -> tuple[ValueName, TensorType]:
        value = self.value()
        self.expect(":")
        return value, self.type()

    def attr(self) -> Attr:
        match self.peek()[0]:
            case "dim":
                return self.dim()
            case "float":
                number = float(self.take("float", "a number"))
                return math.nan if math.isnan(number) else number
            case "word" | "string":
                if self.accept("true"):
                    return True
                return False if self.accept("false") else self.label("an attribute")
        if not self.accept("["):
            self.fail("a number, a word, a string or a list")
        items: list[Attr] = []
        while not self.accept("]"):
            if items:
                self.expect(",")
            items.append(self.attr())
        return tuple(items)

    def op(self) -> tuple[list[tuple[ValueName, TensorType]], Op]:
        outputs = [self.typed()]
        while self.accept(","):
            outputs.append(self.typed())
        self.expect("=")
        kind = self.take("word", "an op kind")
        self.expect("(")
        inputs: list[ValueName | None] = []
        attrs: dict[str, Attr] = {}
        first = True
        while not self.accept(")"):
            if not first:
                self.expect(",")
            first = False
            if not attrs and self.accept("_"):
                inputs.append(None)
            elif not attrs and self.peek()[0] == "value":
                inputs.append(self.value())
            else:
                name = self.take("word", "an attribute" if attrs else "an operand or an attribute")
                self.expect("=")
                attrs[name] = self.attr()
        op_id = self.op_name()
        source = self.quoted(self.take("string", "a quoted node name")) if self.accept("from") else op_id
        return outputs, Op(op_id, kind, tuple(inputs), tuple(v for v, _ in outputs), attrs, source)


class _GraphReader:
    """What the lines so far have said."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.past_max = 0
        self.types: dict[ValueName, TensorType] = {}
        self.inputs: list[ValueName] = []
        self.weights: list[ValueName] = []
        self.states: dict[ValueName, ValueName] = {}
        self.ops: list[Op] = []
        self.outputs: tuple[ValueName, ...] | None = None

    def read(self, line: _GraphLine) -> None:
        if self.name is None:
            self._head(line)
        elif self.outputs is not None:
            line.fail("nothing after return")
        elif line.peek()[0] == "value":
            typed, op = line.op()
            for one in typed:
                self._declare(line, *one)
            self.ops.append(op)
        elif line.accept("input"):
            self.inputs.append(self._declare(line, *line.typed()))
        elif line.accept("weight"):
            self.weights.append(self._declare(line, *line.typed()))
        elif line.accept("value"):
            self._declare(line, *line.typed())
        elif line.accept("state"):
            old = line.value()
            line.expect("->")
            self.states[old] = line.value()
        elif line.accept("return"):
            outputs = [line.value()] if line.peek()[0] != "end" else []
            while line.accept(","):
                outputs.append(line.value())
            self.outputs = tuple(outputs)
        else:
            line.fail("input, weight, value, state, return or an op")
        line.end()

    def _head(self, line: _GraphLine) -> None:
        line.expect("graph")
        self.name = line.label("the graph's name")
        if line.accept("past_max"):
            line.expect("=")
            text = line.take("dim", "a number")
            if not text.isdigit():
                raise line.error(f"expected a number, found {text!r}")
            self.past_max = int(text)

    def _declare(self, line: _GraphLine, value: ValueName, given: TensorType) -> ValueName:
        if value in self.types:
            raise line.error(f"{_value(value)} is declared twice")
        self.types[value] = given
        return value

    def graph(self, text: Excerpt) -> Graph:
        if self.name is None:
            raise TextError("expected 'graph', found the end of the text", where=text.end)
        if self.outputs is None:
            raise TextError("expected 'return', found the end of the text", where=text.end)
        return Graph(
            self.name,
            self.types,
            tuple(self.inputs),
            self.outputs,
            tuple(self.weights),
            tuple(self.ops),
            self.states,
            self.past_max,
        )

"""Graphs as text: what is printed parses back to the same graph, and a wrong line is one clear error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wafercc.errors import TextError
from wafercc.ir.dims import Affine, Dim
from wafercc.ir.dtypes import DType
from wafercc.ir.evaluate import check
from wafercc.ir.graph import Attr, Graph, Op, OpId, TensorType, ValueName
from wafercc.ir.text import parse_graph, print_graph

TINY = """\
graph tiny past_max=63
input %ids: i64[1,1]
input %past.0.key: f32[1,2,n_past,16]
weight %wte: f32[40,32]
%x: f32[1,1,32] = embedding(%wte, %ids)  @embed from "/model/Gather_3"
%n: f32[1,1,32] = rms_norm(%x, _, epsilon=1e-06)  @layers.0/norm
%k: f32[1,1,2,16] = reshape(%n, shape=[1,1,2,16])  @layers.0/split
%kt: f32[1,2,1,16] = transpose(%k, perm=[0,2,1,3])  @layers.0/turn
%"present 0": f32[1,2,n_past+1,16] = kv_append(%past.0.key, %kt, axis=2)  @layers.0/append
%h: f16[1,2,n_past+1,16] = cast(%"present 0", to=f16)  @"a \\"name\\""
state %past.0.key -> %"present 0"
return %x, %"present 0"
"""


def test_a_graph_prints_one_line_per_op() -> None:
    graph = parse_graph(TINY)
    check(graph)
    assert print_graph(graph) == TINY
    assert str(graph) == TINY
    assert graph.types[ValueName("present 0")].shape[2] == Affine(1, 1, 63)
    assert graph.ops[0].source == "/model/Gather_3"
    assert graph.ops[1].inputs == (ValueName("x"), None)
    assert graph.ops[-1].id == 'a "name"'


def test_blank_lines_and_comments_mean_nothing() -> None:
    lines = [f"  {line}\n\n# remark" for line in TINY.splitlines()]
    assert parse_graph("\n".join(lines)) == parse_graph(TINY)


def test_a_float_stays_a_float_and_an_integer_an_integer() -> None:
    text = "graph g\n%y: f32[] = k(a=1, b=1.0, c=true, d=-0.0, e=1e+300, f=nan, g=-inf, h=[[1],[]])  @o\nreturn %y\n"
    graph = parse_graph(text)
    values = list(graph.ops[0].attrs.values())
    assert [type(v) for v in values] == [int, float, bool, float, float, float, float, tuple]
    assert math.copysign(1, values[3]) == -1  # type: ignore[arg-type]
    assert print_graph(graph) == text


# --- the law, over graphs drawn at random

PAST_MAX = 63
odd_names = ["a", "layers.0/MatMul_1", "x::y", 'q"uo\\te', "new\nline", "-> %", "_", "true"]
names = st.text(max_size=6) | st.sampled_from(odd_names)
dims: st.SearchStrategy[Dim] = st.integers(0, 10**6) | st.builds(
    lambda scale, offset: Affine(scale, offset, PAST_MAX), st.integers(-3, 3).filter(bool), st.integers(-9, 9)
)
scalars: st.SearchStrategy[Attr] = st.one_of(
    st.integers(),
    st.floats(allow_nan=False),
    st.just(math.nan),
    st.booleans(),
    names,
    dims,
    st.sampled_from(list(DType)),
    st.sampled_from(["inf", "nan", "n_past", "false", "f32", "1", "1.0"]),
)
attrs: st.SearchStrategy[Attr] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6
)
types = st.builds(TensorType, st.sampled_from(list(DType)), st.lists(dims, max_size=4).map(tuple))
words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    values = [ValueName(n) for n in draw(st.lists(names, min_size=1, max_size=9, unique=True))]
    inputs = values[: draw(st.integers(0, 2))]
    weights = values[len(inputs) :][: draw(st.integers(0, 2))]
    rest = values[len(inputs) + len(weights) :]
    unused = rest[:1] if draw(st.booleans()) else []
    ops: list[Op] = []
    left = rest[len(unused) :]
    while left:
        count = draw(st.integers(1, 2))
        operands = draw(st.lists(st.none() | st.sampled_from(values), max_size=3))
        attributes = draw(st.dictionaries(words.filter(lambda w: w != "_"), attrs, max_size=3))
        op_id, source = OpId(draw(names)), draw(st.just("") | names)
        ops.append(Op(op_id, draw(words), tuple(operands), tuple(left[:count]), attributes, source))
        left = left[count:]
    outputs = tuple(draw(st.lists(st.sampled_from(values), max_size=3)))
    states = {old: draw(st.sampled_from(values)) for old in inputs if draw(st.booleans())}
    given_types = {v: draw(types) for v in values}
    return Graph(draw(names), given_types, tuple(inputs), outputs, tuple(weights), tuple(ops), states, PAST_MAX)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(graphs())
def test_what_is_printed_parses_back_to_the_same_graph(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert again == graph
    assert print_graph(again) == text
    for before, after in zip(graph.ops, again.ops, strict=True):
        assert after.source in (before.source, "")
        for name, value in before.attrs.items():
            assert same_kind(after.attrs[name], value)


def same_kind(a: Attr, b: Attr) -> bool:
    """Whether two equal attributes are of one type too: 1, 1.0 and true are equal in Python."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return all(map(same_kind, a, b))
    return isinstance(a, str) if isinstance(b, str) else type(a) is type(b)


# --- errors

BAD = [
    ("", 1, "expected 'graph', found the end of the text"),
    ("graph g", 1, "expected 'return', found the end of the text"),
    ("grph g", 1, "expected 'graph', found 'grph'"),
    ("graph g past_max=n_past", 1, "expected a number, found 'n_past'"),
    ("graph g\ninput x", 2, "expected a value (%name), found 'x'"),
    ("graph g\ninput %x f32[1]", 2, "expected ':', found 'f32'"),
    ("graph g\ninput %x: f33[1]", 2, "expected an element type, found 'f33'"),
    ("graph g\ninput %x: f32[1", 2, "expected ',', found the end of the line"),
    ("graph g\ninput %x: f32[a]", 2, "expected a dimension, found 'a'"),
    ("graph g\ninput %x: f32[n_past]", 2, "n_past needs past_max on the graph's first line"),
    ("graph g\ninput %x: f32[1] 2", 2, "expected the end of the line, found '2'"),
    ("graph g\ninput %x: f32[1]\ninput %x: f32[1]", 3, "%x is declared twice"),
    ("graph g\n%y: f32[1]", 2, "expected '=', found the end of the line"),
    ("graph g\n%y: f32[1] = k(%a axis=1)  @o", 2, "expected ',', found 'axis'"),
    ("graph g\n%y: f32[1] = k(axis=1, %a)  @o", 2, "expected an attribute, found '%a'"),
    ("graph g\n%y: f32[1] = k(axis=)  @o", 2, "expected a number, a word, a string or a list, found ')'"),
    ("graph g\n%y: f32[1] = k(%a)", 2, "expected an op name (@name), found the end of the line"),
    ("graph g\nstate %a %b", 2, "expected '->', found '%b'"),
    ("graph g\nreturn %a\nreturn %a", 3, "expected nothing after return, found 'return'"),
    ("graph g\nfoo", 2, "expected input, weight, value, state, return or an op, found 'foo'"),
    ("graph g\n%y: f32[1] = k(a=$)", 2, "cannot read '$)'"),
    ('graph "g\\x"', 1, 'not a JSON string: "g\\x"'),
]


@pytest.mark.parametrize(("text", "line", "message"), BAD, ids=[b[2] for b in BAD])
def test_a_wrong_line_is_one_clear_error(text: str, line: int, message: str) -> None:
    with pytest.raises(TextError) as caught:
        parse_graph(text)
    assert str(caught.value) == f"line {line}: {message}"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, len(TINY)), st.integers(0, 5), st.text(alphabet='%@"[]()=,:_- n1.\\', max_size=3))
def test_a_damaged_text_never_raises_anything_else(at: int, removed: int, added: str) -> None:
    try:
        parse_graph(TINY[:at] + added + TINY[at + removed :])
    except TextError as error:
        assert error.where.startswith("line ")

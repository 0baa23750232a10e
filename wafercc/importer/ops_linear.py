"""Products: MatMul with its 1-D cases, Gemm with scales and transposes, and products that a tool has fused."""

from __future__ import annotations

from dataclasses import dataclass

from ..ir.dims import Dim
from .content import Value, product
from .context import Context
from .nodes import Node
from .ops_elementwise import like
from .ops_shape import reshaped, transposed
from .quantized import quantized_weight, times
from .registry import MICROSOFT, lowers


@lowers("MatMul")
def matmul_node(node: Node, cx: Context) -> Value:
    return matmul(cx, cx.input(node, 0), cx.input(node, 1))


def matmul(cx: Context, a: Value, b: Value, plain: bool = True) -> Value:
    """numpy's matmul: a 1-D operand is a row on the left and a column on the right, and its dimension goes again. A
    weight that was dequantised is read as it is stored. ``plain``: onnxruntime sees this product as it stands."""
    left, right = a.rank == 1, b.rank == 1
    a = reshaped(cx, a, (1, *a.shape)) if left else a
    b = reshaped(cx, b, (*b.shape, 1)) if right else b
    parts = quantized_weight(cx, b)
    result = cx.emit("matmul", [a, b]) if parts is None else times(cx, a, parts, parts.round_block if plain else 0)
    dims = result.shape[:-2] + (() if left else result.shape[-2:-1]) + (() if right else result.shape[-1:])
    return reshaped(cx, result, dims)


@lowers("Gemm")
def gemm_node(node: Node, cx: Context) -> Value:
    return gemm(node, cx)


def gemm(node: Node, cx: Context) -> Value:
    """alpha * a @ b + beta * c."""
    a, b, c = cx.input(node, 0), cx.input(node, 1), cx.optional(node, 2)
    a = transposed(cx, a, (1, 0)) if node.int_attr("transA", 0) else a
    b = transposed(cx, b, (1, 0)) if node.int_attr("transB", 0) else b
    alpha, beta = node.float_attr("alpha", 1.0), node.float_attr("beta", 1.0)
    plain = alpha == beta == 1 and not node.int_attr("transB", 0) and (c is None or c.rank == 1)
    result = _scaled(cx, matmul(cx, a, b, plain), alpha)
    return result if c is None or beta == 0 else cx.emit("add", [result, _scaled(cx, c, beta)])


def _scaled(cx: Context, x: Value, factor: float) -> Value:
    return x if factor == 1 else cx.emit("mul", [x, like(cx, factor, x)])


@lowers("FusedGemm", domain=MICROSOFT)
def fused_gemm(node: Node, cx: Context) -> Value:
    """A Gemm and one of the activations that onnxruntime fuses into it."""
    x = gemm(node, cx)
    alpha = node.float_attr("activation_alpha", 0.01)
    match node.str_attr("activation", ""):
        case "Relu":
            return cx.emit("relu", [x])
        case "Sigmoid" | "Tanh" as kind:
            return cx.emit(kind.lower(), [x])
        case "LeakyRelu":
            low = cx.emit("mul", [x, like(cx, alpha, x)])
            return cx.emit("where", [cx.emit("gt", [x, like(cx, 0.0, x)]), x, low])
        case other:
            raise node.fail(f"has the activation {other!r}, which is not supported")


@lowers("FusedMatMul", "TransposeMatMul", domain=MICROSOFT)
def fused_matmul(node: Node, cx: Context) -> Value:
    a, b = (
        _turned(cx, cx.input(node, i), node.int_attr(f"transBatch{name}", 0), node.int_attr(f"trans{name}", 0))
        for i, name in enumerate("AB")
    )
    return _scaled(cx, matmul(cx, a, b), node.float_attr("alpha", 1.0))


def _turned(cx: Context, x: Value, batch: int, last: int) -> Value:
    """The first dimension moved behind the other batch dimensions, then the last two swapped."""
    if batch and x.rank > 2:
        x = transposed(cx, x, (*range(1, x.rank - 1), 0, x.rank - 1))
    return _swapped(cx, x) if last and x.rank > 1 else x


def _swapped(cx: Context, x: Value) -> Value:
    return transposed(cx, x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


@dataclass(frozen=True)
class _Terms:
    """The letters of an einsum of two operands, by role."""

    batch: str
    rows: str
    columns: str
    summed: str


@lowers("Einsum")
def einsum(node: Node, cx: Context) -> Value:
    """One or two operands without repeated letters or ellipsis: transposes, a sum, a batched matmul."""
    equation = node.str_attr("equation", "").replace(" ", "")
    left, _, output = equation.partition("->")
    letters = left.split(",")
    values = cx.inputs(node)
    plain = "->" in equation and "." not in equation and all(len(set(t)) == len(t) for t in (*letters, output))
    if not plain or len(values) not in (1, 2) or [len(t) for t in letters] != [v.rank for v in values]:
        raise node.fail(f"has the equation {equation!r}, which is not supported", "one or two operands, no ellipsis")
    values = [_summed_alone(cx, v, t, letters, output) for v, t in zip(values, letters, strict=True)]
    letters = [_kept(t, letters, output) for t in letters]
    if len(values) == 1:
        return transposed(cx, values[0], tuple(letters[0].index(letter) for letter in output))
    a, b = letters
    terms = _Terms(
        batch="".join(c for c in a if c in b and c in output),
        rows="".join(c for c in a if c not in b),
        columns="".join(c for c in b if c not in a),
        summed="".join(c for c in a if c in b and c not in output),
    )
    return _contracted(cx, values, letters, terms, output)


def _kept(term: str, letters: list[str], output: str) -> str:
    others = output + "".join(t for t in letters if t is not term)
    return "".join(c for c in term if c in others)


def _summed_alone(cx: Context, x: Value, term: str, letters: list[str], output: str) -> Value:
    """Letters that only one operand has and the result lacks are summed first."""
    gone = tuple(i for i, c in enumerate(term) if c not in _kept(term, letters, output))
    return cx.emit("reduce_sum", [x], {"axes": gone, "keep": False}) if gone else x


def _contracted(cx: Context, values: list[Value], letters: list[str], terms: _Terms, output: str) -> Value:
    extent: dict[str, Dim] = {
        c: d for v, t in zip(values, letters, strict=True) for c, d in zip(t, v.shape, strict=True)
    }

    def dims(text: str) -> tuple[Dim, ...]:
        return tuple(extent[c] for c in text)

    sides = []
    for value, term, order in zip(
        values, letters, ((terms.rows, terms.summed), (terms.summed, terms.columns)), strict=True
    ):
        moved = transposed(cx, value, tuple(term.index(c) for c in terms.batch + order[0] + order[1]))
        sides.append(reshaped(cx, moved, (*dims(terms.batch), product(dims(order[0])), product(dims(order[1])))))
    result = cx.emit("matmul", sides)
    flat = terms.batch + terms.rows + terms.columns
    return transposed(cx, reshaped(cx, result, dims(flat)), tuple(flat.index(c) for c in output))

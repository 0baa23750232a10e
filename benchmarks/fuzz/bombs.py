"""Bombs: small files that ask for a great deal: terabytes by folding, depth without end, thousands of everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from .wire import BYTES, encoded

F32, I64 = TensorProto.FLOAT, TensorProto.INT64
HUGE = (1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1)
Bomb = Callable[[Random], onnx.ModelProto | bytes]
OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]


def model(
    nodes: Sequence[NodeProto],
    outputs: Sequence[str] = ("y",),
    tensors: Sequence[TensorProto] = (),
    functions: Sequence[FunctionProto] = (),
    dims: Sequence[int | str] = (4, 4),
) -> onnx.ModelProto:
    values = [onnx.ValueInfoProto(name=name) for name in outputs]
    inputs = [helper.make_tensor_value_info("x", F32, dims)]
    graph = helper.make_graph(list(nodes), "bomb", inputs, values, list(tensors))
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=10, functions=list(functions))


def node(op_type: str, inputs: Sequence[str], output: str = "y", name: str = "", **attrs: object) -> NodeProto:
    return helper.make_node(op_type, inputs, [output], name or f"make_{output}", **attrs)


def ints(name: str, *numbers: int) -> TensorProto:
    return numpy_helper.from_array(np.array(numbers, np.int64), name)


def floats(name: str, *dims: int) -> TensorProto:
    return numpy_helper.from_array(np.ones(dims, np.float32), name)


def grown(random: Random) -> onnx.ModelProto:
    """One op that makes its operand enormous, and a reduction or a product that would read all of it."""
    huge = random.choice(HUGE)
    scalar = numpy_helper.from_array(np.array(huge, np.int64), "n")
    grow, tensors = random.choice(
        [
            (node("ConstantOfShape", ["n"], "g"), [ints("n", *[huge] * random.randint(1, 3))]),
            (node("Expand", ["x", "n"], "g"), [ints("n", huge, 4, 4)]),
            (node("Tile", ["x", "n"], "g"), [ints("n", huge, huge)]),
            (node("Pad", ["x", "n"], "g"), [ints("n", huge, 0, 0, huge)]),
            (node("Range", ["zero", "n", "one"], "g"), [scalar, ints("zero"), ints("one")]),
            (node("OneHot", ["i", "n", "v"], "g"), [ints("i", 1, 2), scalar, floats("v", 2)]),
            (node("Resize", ["x", "", "", "n"], "g"), [ints("n", huge, huge)]),
            (node("Trilu", ["e"], "g"), [floats("e", 4, 4)]),
        ]
    )
    for tensor in tensors:
        if tensor.name in ("zero", "one"):
            tensor.CopyFrom(numpy_helper.from_array(np.array(tensor.name == "one", np.int64), tensor.name))
    after = random.choice(["ReduceSum", "Cast", "Identity", "Mul", "Shape", "Transpose", "Gather", "CumSum"])
    more = {"Mul": ["g", "g"], "Gather": ["g", "i"], "CumSum": ["g", "i"]}.get(after, ["g"])
    attrs = {"to": F32} if after == "Cast" else {}
    if "i" in more and all(tensor.name != "i" for tensor in tensors):
        tensors = [*tensors, ints("i", 0)]
    return model([grow, node(after, more, "y", **attrs)], tensors=tensors)


def doubling(random: Random) -> onnx.ModelProto:
    """A value joined with itself again and again: sizes, or known numbers, grow as powers of two."""
    steps, known = random.choice((30, 62, 70, 500)), random.random() < 0.5
    first = "n" if known else "x"
    nodes = []
    for step in range(steps):
        inputs, out = [first if step == 0 else f"v{step - 1}"] * 2, f"v{step}"
        op = random.choice(["Concat", "Concat", "Add", "Mul"]) if random.random() < 0.3 else "Concat"
        nodes.append(node(op, inputs, out, **({"axis": 0} if op == "Concat" else {})))
    last = f"v{steps - 1}"
    nodes.append(node("ConstantOfShape" if known and random.random() < 0.5 else "Identity", [last]))
    return model(nodes, tensors=[ints("n", *random.choices((1, 2, 1 << 31, -1), k=2))])


def powers(random: Random) -> onnx.ModelProto:
    """Shape arithmetic that overflows: n squared again and again, then used as a shape."""
    nodes = [node("Shape", ["x"], "s0")]
    for step in range(random.choice((5, 8, 40))):
        op = random.choice(["Mul", "Mul", "Add", "Sub", "Div", "Mod", "Pow"])
        nodes.append(node(op, [f"s{step}", random.choice([f"s{step}", "c"])], f"s{step + 1}"))
    last = nodes[-1].output[0]
    use = random.choice([node("Reshape", ["x", last]), node("Expand", ["x", last]), node("ConstantOfShape", [last])])
    dims = random.choice([(4, 4), (1 << 20, 4), ("batch", "sequence"), (1 << 62, 2)])
    return model([*nodes, use], tensors=[ints("c", *random.choices((0, 1, 3, -1, 1 << 62), k=2))], dims=dims)


def nested(random: Random) -> bytes:
    """Ifs within Ifs, to a depth at the edge of what protobuf parses, and far wider than it is deep."""
    depth = random.choice((5, 12, 20, 30, 31, 32, 33, 60, 2000))
    body = node("Neg", ["x"], "r0").SerializeToString()
    for level in range(depth):
        inner = _branch("then_branch", body, f"r{level}")
        other = _branch("else_branch", body if depth <= 12 else _abs(f"r{level}"), f"r{level}")
        kind = random.choice(["If"] * 9 + ["Loop"])
        head = node(kind, ["c"], f"r{level + 1}").SerializeToString()
        body = head + encoded([(5, BYTES, inner), (5, BYTES, other)])
    condition = numpy_helper.from_array(np.array(random.random() < 0.8), "c")
    whole = model([], [f"r{depth}"], [condition])
    graph = whole.graph.SerializeToString() + encoded([(1, BYTES, body)])
    whole.ClearField("graph")
    return whole.SerializeToString() + encoded([(7, BYTES, graph)])


def _branch(name: str, body: bytes, output: str) -> bytes:
    """The attribute of an If whose graph has one node."""
    value = onnx.ValueInfoProto(name=output).SerializeToString()
    graph = encoded([(1, BYTES, body), (2, BYTES, b"b"), (12, BYTES, value)])
    return encoded([(1, BYTES, name.encode()), (6, BYTES, graph), (20, 0, onnx.AttributeProto.GRAPH)])


def _abs(output: str) -> bytes:
    return node("Abs", ["x"], output).SerializeToString()


def functions(random: Random) -> onnx.ModelProto:
    """Local functions that call each other: in a chain, in a ring, or twice each, which doubles what they come to."""
    count = random.choice((3, 30, 60, 300, 1500))
    way = random.choice(["chain", "ring", "double", "self"])
    made = []
    for i in range(count):
        last = i == count - 1
        callee = f"f{i + 1}" if not last else ("f0" if way == "ring" else "f0" if way == "self" and count == 1 else "")
        if way == "self" and i == 0:
            callee = "f0"
        if not callee:
            body = [node("Neg", ["a"], "b")]
        else:
            body = [helper.make_node(callee, ["a"], ["t"], "c1", domain="local")]
            second, domain = (callee, "local") if way == "double" else ("Abs", "")
            body.append(helper.make_node(second, ["t"], ["b"], "c2", domain=domain))
        made.append(helper.make_function("local", f"f{i}", ["a"], ["b"], body, OPSETS))
    calls = [helper.make_node("f0", ["x"], ["y"], "call", domain="local")]
    return model(calls, functions=made)


def called_often(random: Random) -> onnx.ModelProto:
    """One function with many calls."""
    body = [node("Neg", ["a"], "t"), node("Abs", ["t"], "b")]
    made = helper.make_function("local", "f", ["a"], ["b"], body, OPSETS)
    count = random.choice((100, 1500))
    calls = [helper.make_node("f", [f"v{i}" if i else "x"], [f"v{i + 1}"], "", domain="local") for i in range(count)]
    return model(calls, [f"v{count}"], functions=[made])


def many(random: Random) -> onnx.ModelProto:
    """Thousands of one thing: initialisers, nodes of one name, readers of one value, inputs, outputs, op types."""
    count = random.choice((300, 3000, 10_000))
    match random.randrange(7):
        case 0:
            tensors = [floats(f"w{i}", random.choice((0, 1, 2))) for i in range(count)]
            return model([node("Neg", ["x"])], tensors=tensors)
        case 1:
            chain = [node("Neg", [f"v{i}" if i else "x"], f"v{i + 1}", "same") for i in range(count // 4)]
            return model(chain, [f"v{count // 4}"])
        case 2:
            chain = [node("Neg", [f"v{i}" if i else "x"], f"v{i + 1}") for i in range(count // 4)]
            return model(chain[::-1], [f"v{count // 4}"])
        case 3:
            fan = [node("Exp", ["x"], f"v{i}") for i in range(count // 4)]
            return model([*fan, node("Concat", [f"v{i}" for i in range(count // 4)], axis=0)])
        case 4:
            return model([node(f"Op{i}", ["x"], f"v{i}") for i in range(count // 4)], ["v0"])
        case 5:
            parts, told = [f"v{i}" for i in range(count // 4)], random.choice((2, count))
            split = helper.make_node("Split", ["x"], parts, "s", num_outputs=told)
            return model([split], ["v0"], dims=(count, 4))
        case _:
            proto = model([node("Neg", ["x"])])
            for i in range(count // 4):
                proto.graph.input.append(helper.make_tensor_value_info(f"i{i}", F32, [f"d{i}", 4]))
            return proto


def knotted(random: Random) -> onnx.ModelProto:
    """Cycles, values written twice, names that are taken, inputs that are initialisers and outputs at once."""
    count = random.choice((2, 5, 50, 500))
    nodes = [node("Add", [f"v{i}", "x"], f"v{(i + 1) % count}", f"n{i}") for i in range(count)]
    match random.randrange(5):
        case 0:
            return model(nodes, ["v1"])
        case 1:
            return model([node("Neg", ["x"]), node("Abs", ["x"])])
        case 2:
            return model([node("Neg", ["x"], "x")], ["x"])
        case 3:
            return model([node("Neg", ["y"])], tensors=[floats("x", 4, 4)])
        case _:
            return model([node("Neg", ["x"])], ["y", "y", "x"], [floats("y", 4)])


def long_words(random: Random) -> onnx.ModelProto:
    """Names of a megabyte, or of characters that no terminal likes."""
    words = ("n" * (1 << 20), "\n" * 50, "\x1b[31m", "%%1", "a b", "é" * 100, "..", "/", "'\"", "%x", "\0")
    word = random.choice(words)
    where = random.randrange(4)
    op_type, value, name = (word if where == i else given for i, given in enumerate(("Neg", "y", "n")))
    proto = model([helper.make_node(op_type, ["x"], [value], name)], [value])
    if where == 3:
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = word
        proto.graph.name = word
    return proto


BOMBS: tuple[Bomb, ...] = (grown, grown, doubling, powers, nested, functions, called_often, many, knotted, long_words)

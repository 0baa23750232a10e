"""Shape-like inputs: those that say how large a result is, or which part of a tensor is meant.

A program has fixed shapes, so the numbers that shapes follow from are bound when it is compiled: a Reshape's shape,
a Slice's bounds, a Range's limits, a TopK's k. Which inputs of a graph those are is read off its nodes: the operands
listed here, and, backwards from them, whatever they are computed from. A graph input that carries data is never
bound: only integers (a Range and a OneHot also count in floats) of at most one dimension are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import TensorProto, inliner

# Op type → the operands that give shapes, axes, counts or bounds.
POSITIONS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "Loop": (0, 1),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
}
REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
POSITIONS.update(dict.fromkeys(REDUCTIONS, (1,)))

# Ops that count in floats, too.
REAL = ("OneHot", "Range")
# What knows the shape of its operand, and nothing of its numbers.
SHAPES = ("Shape", "Size")
COUNTING = {
    TensorProto.INT64, TensorProto.INT32, TensorProto.INT16, TensorProto.INT8, TensorProto.BOOL,
    TensorProto.UINT64, TensorProto.UINT32, TensorProto.UINT16, TensorProto.UINT8,
}  # fmt: skip


def shape_like(model: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the graph inputs that shapes follow from, in the order of the graph."""
    graph = inliner.inline_local_functions(model).graph if model.functions else model.graph
    nodes = list(_nodes(graph))
    writer = {name: node for node in nodes for name in node.output if name}
    wanted = [(name, node.op_type in REAL) for node in nodes for name in _operands(node)]
    reached: dict[str, bool] = {}
    while wanted:
        name, real = wanted.pop()
        if not name or reached.get(name, False) or (name in reached and not real):
            continue
        reached[name] = real
        node = writer.get(name)
        if node is not None and node.op_type not in SHAPES:
            wanted.extend((operand, real) for operand in node.input)
    return tuple(v.name for v in graph.input if v.name in reached and _may_be_bound(v, reached[v.name]))


def _operands(node: onnx.NodeProto) -> Iterator[str]:
    for position in POSITIONS.get(node.op_type, ()):
        if position < len(node.input):
            yield node.input[position]


def _nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attr in node.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attr.g)


def _may_be_bound(value: onnx.ValueInfoProto, real: bool) -> bool:
    kind = value.type.tensor_type
    return len(kind.shape.dim) <= 1 and (kind.elem_type in COUNTING or real)

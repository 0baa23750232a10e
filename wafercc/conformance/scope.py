"""Scope: which tests of the suite are about what a decoder compiler is for.

Out of scope is what needs training, vision, strings, sequences (with optionals and maps) or random numbers, by the op
types and element types of the test's model. Everything else is in scope, whether wafercc knows the op or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import onnx
from onnx import TensorProto

TRAINING_DOMAINS = ("ai.onnx.preview.training", "ai.onnx.training")
VISION = frozenset(
    {
        *("AffineGrid", "AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DeformConv"),
        *("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GridSample", "ImageDecoder", "LpPool", "MaxPool"),
        *("MaxRoiPool", "MaxUnpool", "NonMaxSuppression", "QLinearConv", "Resize", "RoiAlign", "Upsample"),
    }
)
STRING = frozenset({"RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"})
SEQUENCE = frozenset(
    {
        *("ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt"),
        *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap"),
        *("SplitToSequence", "ZipMap", "DictVectorizer", "CastMap"),
    }
)
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def out_of_scope(model: onnx.ModelProto, data: Sequence[Any]) -> str:
    """Why a test is out of scope (``training``, ``vision``, ``string``, ``sequence`` or ``random``); empty if it is
    not. ``data``: its inputs and outputs.
    """
    nodes = [*nodes_of(model.graph)]
    for function in model.functions:
        nodes += [inner for node in function.node for inner in (node, *_inside(node))]
    types = {node.op_type for node in nodes}
    if any(node.domain in TRAINING_DOMAINS for node in nodes) or any(map(_trains, nodes)):
        return "training"
    for reason, kinds in (("vision", VISION), ("string", STRING), ("sequence", SEQUENCE), ("random", RANDOM)):
        if types & kinds:
            return reason
    if any(_is_string(value) for value in data) or any(map(_holds_strings, nodes)):
        return "string"
    if any(not hasattr(value, "dtype") and not isinstance(value, TensorProto) for value in data):
        return "sequence"
    return ""


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside them."""
    for node in graph.node:
        yield node
        yield from _inside(node)


def _inside(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attr in node.attribute:
        if attr.type == onnx.AttributeProto.GRAPH:
            yield from nodes_of(attr.g)


def _trains(node: onnx.NodeProto) -> bool:
    """Dropout that drops, and normalisation that gives running statistics."""
    if node.op_type == "Dropout":
        return len(node.input) > 2 and bool(node.input[2])
    return node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute)


def _is_string(value: Any) -> bool:
    if isinstance(value, TensorProto):
        return bool(value.data_type == TensorProto.STRING)
    return getattr(getattr(value, "dtype", None), "kind", "") in "OSU" if hasattr(value, "dtype") else False


def _holds_strings(node: onnx.NodeProto) -> bool:
    return any(
        (a.type == onnx.AttributeProto.TENSOR and a.t.data_type == TensorProto.STRING) or a.name.endswith("_strings")
        for a in node.attribute
    )

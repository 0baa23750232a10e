"""What a graph means: the reference evaluator in plain numpy, and the check that its types are right.

This is the inner oracle: it knows nothing of layouts, PEs or cycles, so whatever a placed program computes can be held
against it. It keeps a value, or a weight, only from its first use to its last.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..errors import ImportFailed, RunError
from .graph import Graph, Op, ValueName
from .optable import spec_of
from .weights import Weights

Array = NDArray[np.generic]


def evaluate(graph: Graph, inputs: Mapping[str, Array], weights: Weights, n_past: int = 0) -> dict[ValueName, Array]:
    """The outputs of a graph, by name.

    Raises:
        RunError: the inputs are not those of the graph at this ``n_past``, or an index lies outside its table.
        ImportFailed: the graph has an op kind that the table does not know.
        CompileError: a weight carries no numbers.
    """
    values = _bind(graph, inputs, n_past)
    last_use = {value: op.id for op in graph.ops for value in op.operands}
    wanted = set(graph.outputs)
    for op in graph.ops:
        for operand in op.operands:
            if operand not in values:
                values[operand] = weights.load(operand)
        results = spec_of(op).evaluate(op, [None if v is None else values[v] for v in op.inputs], n_past)
        _assert_types(graph, op, results, n_past)
        for name, array in zip(op.outputs, results, strict=True):
            if name in wanted or name in last_use:
                values[name] = array
        for operand in dict.fromkeys(op.operands):
            if last_use[operand] == op.id and operand not in wanted:
                del values[operand]
    return {v: values[v] if v in values else weights.load(v) for v in graph.outputs}


def _bind(graph: Graph, inputs: Mapping[str, Array], n_past: int) -> dict[ValueName, Array]:
    """The inputs, after checking that they are those that the graph has."""
    if not 0 <= n_past <= graph.past_max:
        raise RunError(
            f"n_past is {n_past}, but the context capacity allows 0 to {graph.past_max}",
            where=f"graph {graph.name}",
            hint="compile with a larger context",
        )
    unknown = [name for name in inputs if name not in graph.inputs]
    missing = [name for name in graph.inputs if name not in inputs]
    if unknown or missing:
        words = [f"{text}: {', '.join(names)}" for text, names in (("missing", missing), ("unknown", unknown)) if names]
        raise RunError(f"inputs {'; '.join(words)}", where=f"graph {graph.name}")
    bound: dict[ValueName, Array] = {}
    for name in graph.inputs:
        wanted, array = graph.types[name], np.asarray(inputs[name])
        if array.dtype != wanted.dtype.numpy or array.shape != wanted.at(n_past):
            raise RunError(
                f"takes {wanted} (with n_past {n_past}: {list(wanted.at(n_past))}), "
                f"was given {array.dtype}{list(array.shape)}",
                where=f"input {name}",
            )
        bound[name] = array
    return bound


def _assert_types(graph: Graph, op: Op, results: tuple[Array, ...], n_past: int) -> None:
    for name, array in zip(op.outputs, results, strict=True):
        declared = graph.types[name]
        assert array.dtype == declared.dtype.numpy and array.shape == declared.at(n_past), (
            f"op {op.id} ({op.kind}) gives {array.dtype}{list(array.shape)} for {name}: {declared}"
        )


def check(graph: Graph) -> None:
    """Hold a graph against the op table: types follow from operands, and every value is written before it is read.

    Raises:
        ImportFailed: the first place where that is not so.
    """
    written = {*graph.inputs, *graph.weights}
    for value in written:
        if value not in graph.types:
            raise ImportFailed("it has no type", where=f"value {value}")
    if len(written) != len(graph.inputs) + len(graph.weights):
        raise ImportFailed("an input or weight is named twice", where=f"graph {graph.name}")
    if len({op.id for op in graph.ops}) != len(graph.ops):
        twice = next(op.id for i, op in enumerate(graph.ops) if op.id in {o.id for o in graph.ops[:i]})
        raise ImportFailed("two ops have this name", where=f"op {twice}")
    for op in graph.ops:
        _check_op(graph, op, written)
    for value in graph.outputs:
        if value not in written:
            raise ImportFailed("it is an output, but nothing writes it", where=f"value {value}")
    for old, new in graph.states.items():
        if old not in graph.inputs or new not in graph.outputs:
            raise ImportFailed(f"state {old} -> {new} must join an input to an output", where=f"graph {graph.name}")


def _check_op(graph: Graph, op: Op, written: set[ValueName]) -> None:
    """Check one op and mark its results as written."""
    for operand in op.operands:
        if operand not in written:
            raise ImportFailed(f"reads {operand} before anything writes it", where=f"op {op.id}")
    inferred = spec_of(op).infer(op, graph.in_types(op))
    if len(inferred) != len(op.outputs):
        raise ImportFailed(f"{op.kind} gives {len(inferred)} results, {len(op.outputs)} are named", where=f"op {op.id}")
    for value, given in zip(op.outputs, inferred, strict=True):
        if value in written:
            raise ImportFailed(f"writes {value} a second time", where=f"op {op.id}")
        if graph.types.get(value) != given:
            raise ImportFailed(f"gives {given} for {value}, declared {graph.types.get(value)}", where=f"op {op.id}")
        written.add(value)

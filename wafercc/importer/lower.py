"""Lower: `Model` → `Graph`: bind, walk the nodes once, drop what nothing needs, give everything its final name.

Cost: linear in nodes. No weight is read, except constants of a few elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..errors import ImportFailed
from ..ir.dims import Undecided
from ..ir.graph import Graph, Op, OpId, TensorType, ValueName
from ..ir.weights import Weights
from . import (
    ops_attention,
    ops_cache,
    ops_elementwise,
    ops_grouped,
    ops_linear,
    ops_lookup,
    ops_moe,
    ops_multihead,
    ops_nbits,
    ops_norm,
    ops_quant,
    ops_reduce,
    ops_rotary,
    ops_scatter,
    ops_select,
    ops_shape,
)
from .bind import bind
from .content import Value
from .context import PAST_HINT, Context
from .coverage import check_coverage
from .model import Binding, Imported
from .nodes import Branch, Model, Node
from .position_table import known_positions
from .registry import LOWERINGS
from .resident import keep_in_place
from .sort import sorted_nodes
from .states import find_states
from .widths import known_widths

MALFORMED = (TypeError, ValueError, IndexError, KeyError, ArithmeticError, AttributeError)
"""What a lowering function may run into when a node's attributes and operands contradict the ONNX standard."""

# Importing these files fills the registry.
FAMILIES = (
    ops_attention,
    ops_cache,
    ops_elementwise,
    ops_grouped,
    ops_linear,
    ops_lookup,
    ops_moe,
    ops_multihead,
    ops_nbits,
    ops_norm,
    ops_quant,
    ops_reduce,
    ops_rotary,
    ops_scatter,
    ops_select,
    ops_shape,
)


def lower_model(model: Model, binding: Binding) -> Imported:
    """The graph of a model under a binding.

    Raises:
        ImportFailed: an op, a dimension or a shape cannot be taken; see `import_model`.
    """
    check_coverage(model.nodes, model.source.file)
    states = find_states(model)
    bound = bind(model.inputs, states, binding, known_positions(model), known_widths(model, states))
    cx = Context({state.input: state.written for state in states})
    cx.uses.update(name for node in model.nodes for name in node.inputs if name is not None)
    cx.uses.update(model.outputs)
    for spec in model.inputs:
        type_ = TensorType(spec.dtype, bound.shapes[spec.name])
        cx.values[spec.name] = Value(type_, name=ValueName(spec.name))
        cx.types[ValueName(spec.name)] = type_
    for name, tensor in model.tensors.items():
        cx.values[name] = cx.add_tensor(tensor)
    try:
        _walk(model.nodes, cx)
    except ImportFailed as problem:
        if not bound.doubts:
            raise
        doubt = f"do the inputs fit together? {'; '.join(bound.doubts)}"
        raise ImportFailed(problem.message, where=problem.where, hint=doubt) from None
    inputs = tuple(ValueName(spec.name) for spec in model.inputs)
    outputs = _outputs(model, cx, inputs)
    held = {ValueName(s.input): ValueName(s.output) for s in states}
    graph = keep_in_place(replace(_graph(model, cx, inputs, outputs), states=held, past_max=bound.past_max))
    weights = Weights({name: cx.sources[name] for name in graph.weights})
    return Imported(graph, weights, bound.assumptions, model.source, bound.any_length)


def _walk(nodes: Iterable[Node], cx: Context) -> None:
    for node in nodes:
        cx.node = node
        if (node.domain, node.op_type) == ("", "If"):
            _branch(node, cx)
            continue
        try:
            made = LOWERINGS[node.domain, node.op_type](node, cx)
        except Undecided as problem:
            raise node.fail(str(problem), hint=PAST_HINT) from None
        except MALFORMED as problem:
            raise node.fail(
                f"is malformed: {problem}", hint="onnxruntime would reject it too; export it again"
            ) from problem
        results: Sequence[Value | None] = [made] if isinstance(made, Value) else made
        for position, name in enumerate(node.outputs):
            if name is None:
                continue
            value = results[position] if position < len(results) else None
            if value is None:
                raise node.fail(f"gives the output {position} ({name}), which is not supported")
            cx.values[name] = value
        if node.op_type == "Concat" and node.outputs[0] is not None:
            cx.joined[node.outputs[0]] = cx.inputs(node)
    cx.node = None


def _branch(node: Node, cx: Context) -> None:
    """An If whose condition is known runs one of its branches in place."""
    condition = cx.array(cx.input(node, 0))
    if condition is None or condition.dtype == object:
        raise node.fail("branches on what is computed from the model's data", hint=PAST_HINT)
    body = node.attrs.get("then_branch" if bool(condition.all()) else "else_branch")
    if not isinstance(body, Branch) or len(body.outputs) != len(node.outputs):
        raise node.fail("lacks a branch, or the branch has other results than the node")
    check_coverage(body.nodes, node.where)
    for name, tensor in body.tensors.items():
        cx.values[name] = cx.add_tensor(tensor)
    _walk(sorted_nodes(body.nodes, frozenset(cx.values)), cx)
    for outer, inner in zip(node.outputs, body.outputs, strict=True):
        if outer is not None:
            cx.values[outer] = cx.values[inner]


def _outputs(model: Model, cx: Context, inputs: Sequence[ValueName]) -> dict[ValueName, ValueName]:
    """Provisional value → graph output; every output gets a value of its own, copied if it is also something else."""
    found: dict[ValueName, ValueName] = {}
    for name in model.outputs:
        if ValueName(name) in inputs:
            raise ImportFailed(
                "is an input of the same name, given back unchanged",
                where=f"output {name}",
                hint="take it off the model's outputs",
            )
        value = cx.values[name]
        held = cx.tensor(value)
        if value.weight or held in inputs or held in found:
            held = cx.tensor(cx.copy(value))
        found[held] = ValueName(name)
    return found


def _live(ops: Sequence[Op], outputs: Iterable[ValueName]) -> tuple[Op, ...]:
    """The ops that some output needs, in order."""
    needed = set(outputs)
    kept: list[Op] = []
    for op in reversed(ops):
        if needed.intersection(op.outputs):
            kept.append(op)
            needed.update(op.operands)
    return tuple(reversed(kept))


def _graph(model: Model, cx: Context, inputs: tuple[ValueName, ...], outputs: Mapping[ValueName, ValueName]) -> Graph:
    """The graph under final names: those of ONNX where a value has one."""
    ops = _live(cx.ops, outputs)
    names = dict(outputs)
    taken: set[str] = set(cx.values) | set(cx.sources)
    written = {out for op in ops for out in op.outputs}
    given_back = set(outputs.values())
    for onnx_name, value in cx.values.items():
        if value.name in written and value.name not in names and onnx_name not in given_back:
            names[value.name] = ValueName(onnx_name)
    ids = _op_ids(ops)
    renamed = []
    for op, op_id in zip(ops, ids, strict=True):
        for out in op.outputs:
            if out not in names:
                names[out] = ValueName(_unique(f"{op_id}:0", taken))
        operands = tuple(None if v is None else names.get(v, v) for v in op.inputs)
        renamed.append(replace(op, id=op_id, inputs=operands, outputs=tuple(names[out] for out in op.outputs)))
    used = {v for op in renamed for v in (*op.operands, *op.outputs)} | set(inputs)
    types = {names.get(v, v): t for v, t in cx.types.items() if names.get(v, v) in used}
    weights = tuple(w for w in cx.sources if w in used)
    return Graph(model.name, types, inputs, tuple(ValueName(name) for name in model.outputs), weights, tuple(renamed))


def _op_ids(ops: Sequence[Op]) -> list[OpId]:
    """The last op of a node is called like the node, earlier ones by what they do for it."""
    last = {op.source: position for position, op in enumerate(ops)}
    taken: set[str] = set(last)
    ids = []
    for position, op in enumerate(ops):
        main = last[op.source] == position and op.source
        ids.append(OpId(op.source if main else _unique(f"{op.source or 'output'}.{op.kind}", taken)))
    return ids


def _unique(name: str, taken: set[str]) -> str:
    """The name, numbered if it is taken; takes it."""
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}.{count}"
    taken.add(found)
    return found

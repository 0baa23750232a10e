"""States: which inputs are caches, and which outputs are their next content.

A cache is an input that a node extends by what is new, and that is given back as an output: a Concat, an attention op
with past and present, or a scatter that writes into a cache of fixed capacity. Between input, node and output its
elements may move (`views.py`). Where nothing shows it (the exporter computes on the cache first), the names do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..ir.dtypes import DType
from .nodes import InputSpec, Model, Node, Tensor
from .registry import MICROSOFT
from .views import View, moved


@dataclass(frozen=True, slots=True)
class State:
    """A cache: the input, the output that continues it, the value that the extending node writes (if it reads the
    input and writes the output as they are), the axis that grows; ``fixed`` if it has all its capacity at once."""

    input: str
    output: str
    written: str
    axis: int
    fixed: bool = False


# Attention ops: positions of past inputs and of the present outputs that continue them, and the axis that grows.
_PASTS = {
    ("", "Attention"): ((4, 1, 2), (5, 2, 2)),
    (MICROSOFT, "Attention"): ((4, 1, 3),),
    (MICROSOFT, "DecoderMaskedMultiHeadAttention"): ((5, 1, 2), (6, 2, 2)),
    (MICROSOFT, "GroupQueryAttention"): ((3, 1, 2), (4, 2, 2)),
    (MICROSOFT, "MultiHeadAttention"): ((6, 1, 2), (7, 2, 2)),
}
_SCATTERS = frozenset({"ScatterND", "ScatterElements", "TensorScatter"})
_RENAMES = (
    ("past_key_values", "present_key_values"),
    ("past_key_values", "present"),
    ("past", "present"),
    ("input.", "output."),
    ("_in", "_out"),
    ("in_", "out_"),
)


def find_states(model: Model) -> tuple[State, ...]:
    """The caches of a model, in the order of its inputs. Cost: linear in nodes."""
    specs = {spec.name: spec for spec in model.inputs if spec.dtype is not DType.BOOL and len(spec.dims) >= 3}
    views: dict[str, View] = {name: View(name, tuple(range(len(spec.dims)))) for name, spec in specs.items()}
    written: dict[str, str] = {}
    tensors = {**model.tensors, **dict(_constants(model))}
    for node in model.nodes:
        for name, view, direct in _results(node, views, tensors):
            views[name] = view
            written[name] = name if direct else ""
            source = node.inputs[0] if node.inputs else None
            if not direct and _copies(node) and source is not None:
                written[name] = written.get(source, "")
    found: dict[str, State] = {}
    for output in model.outputs:
        last = views.get(output)
        if last is not None and last.grown is not None and last.input not in found:
            axis = last.grown if last.grown >= 0 else open_axis(specs[last.input])
            found[last.input] = State(last.input, output, written.get(output, ""), axis, last.fixed)
    taken = {state.output for state in found.values()}
    for name, spec in specs.items():
        like = _by_name(name, model.outputs) if name not in found and spec.dtype.is_float else None
        if like is not None and like not in taken:
            found[name] = State(name, like, "", open_axis(spec), fixed=model.output_dims.get(like) == spec.dims)
    return tuple(found[name] for name in specs if name in found)


def _constants(model: Model) -> Iterator[tuple[str, Tensor]]:
    for node in model.nodes:
        if not node.domain and node.op_type == "Constant" and node.outputs[0] is not None:
            value = node.attrs.get("value")
            if isinstance(value, Tensor):
                yield node.outputs[0], value


def _copies(node: Node) -> bool:
    return not node.domain and (node.op_type == "Identity" or (node.op_type == "Concat" and len(node.inputs) == 1))


def _results(
    node: Node, views: Mapping[str, View], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, View, bool]]:
    """The outputs of a node that are views of caches; and whether it extends the input itself, unmoved."""
    for position, output, axis in _PASTS.get((node.domain, node.op_type), ()):
        past = node.inputs[position] if node.has(position) else None
        view = views.get(past or "")
        if view is not None and node.wants(output):
            yield str(node.outputs[output]), replace(view, grown=view.axis(axis)), _unmoved(view)
    first = node.inputs[0] if node.inputs else None
    view = views.get(first or "")
    if view is None or node.domain:
        return
    made: View | None
    if node.op_type == "Concat":
        made = _joined(node, view, views)
        if made is not None and node.outputs[0] is not None:
            yield node.outputs[0], made, made.grown is not None and view.grown is None and _unmoved(view)
        return
    made = _written(node, view) if node.op_type in _SCATTERS else moved(node, view, tensors)
    for name in node.outputs:
        if made is not None and name is not None:
            yield name, made, False


def _unmoved(view: View) -> bool:
    return view.axes is not None and view.axes == tuple(range(len(view.axes)))


def _joined(node: Node, view: View, views: Mapping[str, View]) -> View | None:
    """A Concat extends a view by what is no view of a cache, or puts the parts of one cache together again."""
    others = [views.get(name or "") for name in node.inputs[1:]]
    if not others:
        return view
    if all(other is None for other in others):
        return replace(view, grown=view.axis(node.int_attr("axis", 1))) if view.grown is None else None
    same = all(other is not None and (other.input, other.grown) == (view.input, view.grown) for other in others)
    return replace(view, axes=None) if same and view.grown is not None else None


def _written(node: Node, view: View) -> View:
    """A scatter writes into a cache: along its axis, or along the first dimension where it has none."""
    axis = 0 if node.op_type == "ScatterND" else node.int_attr("axis", -2 if node.op_type == "TensorScatter" else 0)
    return replace(view, grown=view.axis(axis), fixed=True)


def _by_name(name: str, outputs: tuple[str, ...]) -> str | None:
    """The output that is called like an input, but for a word that says which of the two it is."""
    for old, new in _RENAMES:
        if old in name and (renamed := name.replace(old, new, 1)) in outputs:
            return renamed
    return None


def open_axis(spec: InputSpec) -> int:
    """The axis that an exporter left open, other than the batch; 2 if that does not single one out."""
    free = [axis for axis, dim in enumerate(spec.dims) if axis and not isinstance(dim, int)]
    return free[0] if len(free) == 1 else min(2, len(spec.dims) - 1)

"""States: which inputs are caches, and which outputs are their next content.

A cache is an input that a node extends by what is new and gives back as an output: a Concat, or an attention op with
past and present. Where neither shows it (the exporter reorders the cache first), the names do.
"""

from __future__ import annotations

from dataclasses import dataclass

from .nodes import InputSpec, Model, Node
from .registry import MICROSOFT


@dataclass(frozen=True, slots=True)
class State:
    """A cache: the input, the output that continues it, the value the extending node writes, the axis that grows."""

    input: str
    output: str
    written: str
    axis: int


# Attention ops: positions of past inputs, of the present outputs that continue them, and the axis that grows.
_PASTS = {
    ("", "Attention"): ((4, 1, 2), (5, 2, 2)),
    (MICROSOFT, "Attention"): ((4, 1, 3),),
    (MICROSOFT, "DecoderMaskedMultiHeadAttention"): ((5, 1, 2), (6, 2, 2)),
    (MICROSOFT, "GroupQueryAttention"): ((3, 1, 2), (4, 2, 2)),
    (MICROSOFT, "MultiHeadAttention"): ((6, 1, 2), (7, 2, 2)),
}
_RENAMES = (
    ("past_key_values", "present_key_values"),
    ("past_key_values", "present"),
    ("past", "present"),
    ("input.", "output."),
)


def find_states(model: Model) -> tuple[State, ...]:
    """The caches of a model, in the order of its inputs."""
    specs = {spec.name: spec for spec in model.inputs if spec.dtype.is_float and len(spec.dims) >= 3}
    root: dict[str, str] = {}
    for node in model.nodes:
        if _copies(node) and node.outputs[0] is not None and node.inputs[0] is not None:
            root[node.outputs[0]] = root.get(node.inputs[0], node.inputs[0])
    given_back = {root.get(name, name): name for name in model.outputs}
    found: dict[str, State] = {}
    for node in model.nodes:
        for past, written, axis in _extensions(node):
            past = root.get(past, past)
            if past in specs and written in given_back and past not in found:
                grows = axis % len(specs[past].dims)
                found[past] = State(past, given_back[written], written, grows)
    for name, spec in specs.items():
        if name not in found and (output := _by_name(name, model.outputs)):
            found[name] = State(name, output, "", _open_axis(spec))
    return tuple(found[name] for name in specs if name in found)


def _copies(node: Node) -> bool:
    return not node.domain and (node.op_type == "Identity" or (node.op_type == "Concat" and len(node.inputs) == 1))


def _extensions(node: Node) -> list[tuple[str, str, int]]:
    """What a node extends: (past, written value, axis)."""
    if not node.domain and node.op_type == "Concat" and len(node.inputs) == 2:
        past, written = node.inputs[0], node.outputs[0]
        return [(past, written, node.int_attr("axis", 1))] if past and written else []
    found = []
    for position, output, axis in _PASTS.get((node.domain, node.op_type), ()):
        if node.has(position) and node.wants(output):
            past, written = node.inputs[position], node.outputs[output]
            assert past is not None and written is not None
            found.append((past, written, axis))
    return found


def _by_name(name: str, outputs: tuple[str, ...]) -> str | None:
    for old, new in _RENAMES:
        if old in name and (renamed := name.replace(old, new, 1)) in outputs:
            return renamed
    return None


def _open_axis(spec: InputSpec) -> int:
    """The axis that an exporter left open, other than the batch; 2 if that does not single one out."""
    free = [axis for axis, dim in enumerate(spec.dims) if axis and not isinstance(dim, int)]
    return free[0] if len(free) == 1 else min(2, len(spec.dims) - 1)

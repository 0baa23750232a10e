"""Branches: decoders that hold two graphs behind an If on an input, such as ``use_cache_branch`` of merged decoders.

A program has no branches, so one is chosen: the one that the flag's value in ``inputs_like`` picks; otherwise, for a
flag named for the cache, that of true, which by convention reads it (and an empty cache serves for a first run). Its
nodes take the place of the If, before caches are looked for. Cost: linear in nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..ir.dtypes import DType
from .model import Assumption, Binding
from .nodes import Branch, Model, Node, Tensor
from .sort import sorted_nodes

_COPIES = frozenset({"Identity", "Squeeze", "Reshape", "Cast", "Unsqueeze"})


def choose_branches(model: Model, binding: Binding) -> tuple[Model, tuple[Assumption, ...]]:
    """The model without Ifs on its inputs, and what was assumed of these inputs; the same model if it has none.

    An If whose chosen branch uses names that are taken is left alone.
    """
    given = binding.inputs_like or {}
    scalars = [spec.name for spec in model.inputs if spec.dtype is DType.BOOL and len(spec.dims) <= 1]
    flags = {name for name in scalars if name in given or "cache" in name.lower()}
    if not flags:
        return model, ()
    origin = {flag: flag for flag in flags}
    chosen = {flag: bool(given[flag].all()) if flag in given else True for flag in flags}
    nodes: list[Node] = []
    tensors: dict[str, Tensor] = dict(model.tensors)
    used: dict[str, None] = {}
    for node in model.nodes:
        first = node.inputs[0] if node.inputs else None
        flag = origin.get(first or "")
        if flag is not None and node.op_type in _COPIES and node.outputs[0] is not None:
            origin[node.outputs[0]] = flag
        body = _body(node, flag, chosen, nodes, tensors)
        if flag is None or body is None:
            nodes.append(node)
            continue
        used[flag] = None
        tensors.update(body.tensors)
        nodes += body.nodes
        nodes += [
            Node(f"{node.name}/{outer}", "", "Identity", (inner,), (outer,), {}, node.version)
            for outer, inner in zip(node.outputs, body.outputs, strict=True)
            if outer is not None
        ]
    if not used:
        return model, ()
    known = frozenset(tensors) | {spec.name for spec in model.inputs}
    assumed = [Assumption(_said(flag, chosen[flag]), "--inputs-like with another value") for flag in used]
    flat = replace(model, nodes=sorted_nodes(nodes, known), tensors=tensors)
    return flat, tuple(a for flag, a in zip(used, assumed, strict=True) if flag not in given)


def _body(
    node: Node, flag: str | None, chosen: Mapping[str, bool], before: list[Node], tensors: Mapping[str, Tensor]
) -> Branch | None:
    """The branch of an If on a flag, if its names are its own."""
    if flag is None or node.domain or node.op_type != "If":
        return None
    body = node.attrs.get("then_branch" if chosen[flag] else "else_branch")
    if not isinstance(body, Branch) or len(body.outputs) != len(node.outputs):
        return None
    inside = {name for inner in body.nodes for name in inner.outputs} | set(body.tensors)
    taken = {name for earlier in before for name in earlier.outputs} | set(tensors) | set(node.outputs)
    return body if not inside & taken - {None} else None


def _said(flag: str, value: bool) -> str:
    return f"{flag} = {str(value).lower()}, whatever a run is given: only that branch is compiled"

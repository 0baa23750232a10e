"""Position table: how many positions a model knows, read off the tables that it looks positions up in.

GPT-2 learns a row for each position, other models store their rotary angles so. A sequence longer than the table
cannot be run, so no default length may exceed it. Cost: linear in nodes.
"""

from __future__ import annotations

from collections.abc import Mapping

from .nodes import Model, Node

# What depends on the shape of its operand only, not on its elements.
_SHAPE_OPS = ("Shape", "Size")


def known_positions(model: Model) -> int | None:
    """Rows of the smallest table that is indexed by positions; ``None`` where the model has no such table.

    Positions are the elements of an input of that name, or are computed: from a mask, or from shapes alone. Rows
    picked by constants, by token ids or by token types say nothing of the length.
    """
    producer = {name: node for node in model.nodes for name in node.outputs if name is not None}
    inputs = {spec.name for spec in model.inputs}
    rows = []
    for node in model.nodes:
        if node.domain or node.op_type != "Gather" or len(node.inputs) != 2 or node.attrs.get("axis", 0) != 0:
            continue
        table, ids = node.inputs
        held = model.tensors.get(table or "")
        if held is None or ids is None or len(held.shape) != 2 or not held.dtype.is_float:
            continue
        origins = _origins(ids, producer, inputs)
        if origins and all(_counts(name) for name in origins):
            rows.append(held.shape[0])
    return min(rows, default=None)


def _origins(name: str, producer: Mapping[str, Node], inputs: set[str]) -> set[str]:
    """The inputs whose elements a value is made of, and "" where it is made of some shape."""
    found: set[str] = set()
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in inputs:
            found.add(name)
        node = producer.get(name)
        if node is None:
            continue
        if not node.domain and node.op_type in _SHAPE_OPS:
            found.add("")
        else:
            ahead.extend(operand for operand in node.inputs if operand is not None)
    return found


def _counts(origin: str) -> bool:
    return not origin or "position" in origin.lower() or "mask" in origin.lower()

"""Coverage: which op types of a model wafercc can lower, counted before anything is lowered."""

from __future__ import annotations

from collections import Counter

from ..errors import ImportFailed
from .nodes import Branch, Model, Node
from .registry import LOWERINGS

STRUCTURAL = {("", "If")}
"""Op types that the driver resolves itself."""


def check_coverage(model: Model) -> None:
    """Refuse a model that has ops nobody lowers, naming all of them at once.

    Raises:
        ImportFailed: some op type is not supported.
    """
    counts = Counter(_all_types(model.nodes))
    missing = {key: n for key, n in counts.items() if key not in LOWERINGS and key not in STRUCTURAL}
    if not missing:
        return
    supported = {key: n for key, n in counts.items() if key not in missing}
    nodes, types = sum(missing.values()), len(missing)
    raise ImportFailed(
        f"{nodes} node{'s' if nodes != 1 else ''} of {types} unsupported op type{'s' if types != 1 else ''}: "
        f"{_listed(missing)}; supported here: {_listed(supported) or 'none'}",
        where=model.source.file,
        hint="export without fused or quantised ops, or see docs/ops.md for adding one",
    )


def _all_types(nodes: tuple[Node, ...]) -> list[tuple[str, str]]:
    found = []
    for node in nodes:
        found.append((node.domain, node.op_type))
        for value in node.attrs.values():
            if isinstance(value, Branch):
                found += _all_types(value.nodes)
    return found


def _listed(counts: dict[tuple[str, str], int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{f'{domain}::' if domain else ''}{op_type} x{n}" for (domain, op_type), n in ordered)

"""Coverage: which op types of a model wafercc can lower, counted before anything is lowered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..errors import ImportFailed
from .nodes import Node
from .registry import LOWERINGS

LISTED = 60
"""Op types that a message names; decoders have fewer."""

STRUCTURAL = {("", "If")}
"""Op types that the driver resolves itself."""


def check_coverage(nodes: Sequence[Node], where: str) -> None:
    """Refuse nodes of types that nobody lowers, naming all of them at once; ``where`` is the file or the branch.

    Raises:
        ImportFailed: some op type is not supported.
    """
    counts = Counter((node.domain, node.op_type) for node in nodes)
    missing = {key: n for key, n in counts.items() if key not in LOWERINGS and key not in STRUCTURAL}
    if not missing:
        return
    supported = {key: n for key, n in counts.items() if key not in missing}
    total, types = sum(missing.values()), len(missing)
    raise ImportFailed(
        f"{total} node{'s' if total != 1 else ''} of {types} unsupported op type{'s' if types != 1 else ''}: "
        f"{_listed(missing)}; supported here: {_listed(supported) or 'none'}",
        where=where,
        hint="export without fused or quantised ops, or see docs/ops.md for adding one",
    )


def _listed(counts: dict[tuple[str, str], int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{f'{domain}::' if domain else ''}{op_type} x{n}" for (domain, op_type), n in ordered[:LISTED]]
    more = [f"{len(ordered) - LISTED} more"] if len(ordered) > LISTED else []
    return ", ".join(words + more)

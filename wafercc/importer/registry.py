"""Registry: ONNX op type → the function that lowers it. One entry per type, filled by the ``ops_*`` files.

A lowering function takes a node and the context and returns the values of the node's outputs, in order; it may return
fewer where the missing ones are optional and unsupported (a node that names such an output is refused).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .content import Value
from .context import Context
from .nodes import Node

Lowering = Callable[[Node, Context], Value | Sequence[Value | None]]
MICROSOFT = "com.microsoft"

LOWERINGS: dict[tuple[str, str], Lowering] = {}


def lowers(*types: str, domain: str = "") -> Callable[[Lowering], Lowering]:
    """Register a function for these op types."""

    def register(function: Lowering) -> Lowering:
        for op_type in types:
            assert (domain, op_type) not in LOWERINGS, f"{op_type} is lowered twice"
            LOWERINGS[domain, op_type] = function
        return function

    return register


def axis_of(node: Node, axis: int, rank: int) -> int:
    """A possibly negative axis as one from 0 to rank - 1.

    Raises:
        ImportFailed: there is no such axis.
    """
    if not -rank <= axis < rank:
        raise node.fail(f"has the axis {axis}, but its operand has rank {rank}")
    return axis % rank


def axes_input(node: Node, cx: Context, position: int) -> tuple[int, ...] | None:
    """Axes given as an attribute (older opsets) or as an input; ``None`` if absent. Not yet normalised."""
    if (axes := node.ints_attr("axes")) is not None:
        return axes
    given = cx.optional(node, position)
    return None if given is None else cx.ints(given, node, "its list of axes")

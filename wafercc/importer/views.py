"""Views: which values are a cache with its elements moved, and which of its axes each of their dimensions is.

Exporters hand a cache to the node that extends it directly, transposed, or cut out of a tensor that packs keys and
values; and give it back in the same ways. Followed here on nodes alone, before any shape is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .nodes import Node, Tensor

Axes = tuple[int | None, ...]

SAME = frozenset({"Identity", "Cast", "Dropout"})
CUTS = frozenset({"Slice", "Split"})


@dataclass(frozen=True, slots=True)
class View:
    """A value made of one input by moves: for each dimension the axis of the input that it is, ``None`` for one of
    extent 1 that was put in; ``axes`` is ``None`` behind a reshape. ``grown``: the axis along which a node on the way
    extended it (-1: some axis). ``fixed``: that node wrote into it instead, so its extents are the same."""

    input: str
    axes: Axes | None
    grown: int | None = None
    fixed: bool = False

    def axis(self, position: int) -> int:
        """The axis of the input that a dimension is, possibly counted from the end; -1 where that is not known."""
        if self.axes is None or not -len(self.axes) <= position < len(self.axes):
            return -1
        found = self.axes[position]
        return -1 if found is None else found


def moved(node: Node, view: View, tensors: Mapping[str, Tensor]) -> View | None:
    """The view that a node makes of the one it reads first, if all it does is move its elements."""
    if node.domain:
        return None
    if node.op_type in SAME or node.op_type in CUTS:
        return view
    if node.op_type in ("Reshape", "Flatten"):
        return replace(view, axes=None)
    axes = view.axes
    if axes is None:
        return view if node.op_type in ("Transpose", "Unsqueeze", "Squeeze", "Gather") else None
    match node.op_type:
        case "Transpose":
            perm = node.ints_attr("perm") or tuple(reversed(range(len(axes))))
            return replace(view, axes=tuple(axes[p] for p in perm)) if len(perm) == len(axes) else None
        case "Unsqueeze":
            return _unsqueezed(view, axes, _axes(node, tensors))
        case "Squeeze":
            gone = _axes(node, tensors)
            kept = None if gone is None else {g % len(axes) for g in gone}
            left = None if kept is None else tuple(a for d, a in enumerate(axes) if d not in kept)
            return replace(view, axes=left)
        case "Gather":
            return _gathered(node, view, axes, tensors)
    return None


def _unsqueezed(view: View, axes: Axes, put: tuple[int, ...] | None) -> View:
    if put is None:
        return replace(view, axes=None)
    rank = len(axes) + len(put)
    new = {p % rank for p in put}
    rest = iter(axes)
    return replace(view, axes=tuple(None if d in new else next(rest, None) for d in range(rank)))


def _gathered(node: Node, view: View, axes: Axes, tensors: Mapping[str, Tensor]) -> View | None:
    """One index takes a dimension away; several (beams in a new order) leave it."""
    held = _tensor(node, 1, tensors)
    if held is None or not axes:
        return view if node.op_type == "Gather" and held is None else None
    axis = node.int_attr("axis", 0) % len(axes)
    if held.shape == ():
        return replace(view, axes=(*axes[:axis], *axes[axis + 1 :]))
    return view


def _axes(node: Node, tensors: Mapping[str, Tensor]) -> tuple[int, ...] | None:
    """Axes as an attribute or a stored tensor."""
    if (given := node.ints_attr("axes")) is not None:
        return given
    held = _tensor(node, 1, tensors)
    if held is None or held.load is None or held.elements > 16:
        return None
    return tuple(int(a) for a in held.load().reshape(-1).tolist())


def _tensor(node: Node, position: int, tensors: Mapping[str, Tensor]) -> Tensor | None:
    return tensors.get(node.inputs[position] or "") if node.has(position) else None

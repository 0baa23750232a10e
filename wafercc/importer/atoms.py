"""Atoms: how the elements of a tensor stand after transposes and reshapes.

The dimensions of a tensor, in runs that no reshape on the way parts, are its atoms. Every later dimension is a sequence
of atoms, so what two paths of moves do can be compared, undone, and done to another tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..ir.dims import Dim
from ..ir.graph import Op
from .content import Shape, product

Groups = tuple[tuple[int, ...], ...]


@dataclass
class Atoms:
    """The atoms of one tensor: ``extents`` by number, ``order`` as they stand in it. Splits as needed."""

    extents: dict[int, Dim]
    order: list[int]

    @staticmethod
    def of(shape: Shape) -> tuple[Atoms, Groups]:
        """The atoms of a tensor of this shape, and its dimensions in them. Those of extent 1 have none."""
        counted = [axis for axis, dim in enumerate(shape) if dim != 1]
        groups = tuple((axis,) if dim != 1 else () for axis, dim in enumerate(shape))
        return Atoms({axis: shape[axis] for axis in counted}, counted), groups

    def split(self, groups: Groups, atom: int, inner: int) -> Groups:
        """The dimensions after an atom is parted; its minor part has the extent ``inner``."""
        new, extent = max(self.extents) + 1, self.extents[atom]
        assert isinstance(extent, int)
        self.extents[atom], self.extents[new] = extent // inner, inner
        self.order = list(_parted(self.order, atom, new))
        return tuple(tuple(_parted(group, atom, new)) for group in groups)


def _parted(atoms: Iterable[int], atom: int, new: int) -> Iterable[int]:
    for one in atoms:
        yield one
        if one == atom:
            yield new


def through(atoms: Atoms, groups: Groups, ops: Sequence[Op], shapes: Sequence[Shape]) -> Groups | None:
    """The dimensions after some transposes and reshapes (whose results have these shapes), or ``None`` if elements are
    moved in a way that is not one of atoms. Other groups of the same atoms may be out of date afterwards: an atom may
    have been parted; `renewed` brings them up to date."""
    found: Groups | None = groups
    for op, shape in zip(ops, shapes, strict=True):
        if found is None:
            return None
        if op.kind == "transpose":
            perm = op.attrs["perm"]
            assert isinstance(perm, tuple)
            found = tuple(found[p] for p in perm if isinstance(p, int))
        else:
            found = _reshaped(atoms, found, shape)
    return found


def _reshaped(atoms: Atoms, groups: Groups, shape: Shape) -> Groups | None:
    """The atoms dealt out to the dimensions of another shape, in order."""
    ahead = [atom for group in groups for atom in group]
    dealt: list[tuple[int, ...]] = []
    for dim in shape:
        taken: list[int] = []
        while dim != product(tuple(atoms.extents[a] for a in taken)):
            if not ahead:
                return None
            have = product(tuple(atoms.extents[a] for a in taken))
            atom = ahead[0]
            extent = atoms.extents[atom]
            if isinstance(extent, int) and isinstance(dim, int) and isinstance(have, int) and have * extent > dim:
                if dim % have or extent % (dim // have):
                    return None
                outer = dim // have
                (parts,) = atoms.split((tuple(ahead),), atom, extent // outer)
                ahead = list(parts)
            taken.append(ahead.pop(0))
            if len(taken) > len(atoms.extents):
                return None
        dealt.append(tuple(taken))
    return tuple(dealt) if not ahead else None


def renewed(groups: Groups, before: Sequence[int], atoms: Atoms) -> Groups:
    """Groups made when the atoms stood in the order ``before``, in terms of the atoms that there are now."""
    followers: dict[int, list[int]] = {}
    current = -1
    for atom in atoms.order:
        if atom in before:
            current = atom
            followers[current] = []
        followers[current].append(atom)
    return tuple(tuple(part for atom in group for part in followers[atom]) for group in groups)


def flat(groups: Groups) -> list[int]:
    """All atoms, as they stand."""
    return [atom for group in groups for atom in group]

"""Dimensions: integers, or affine in the runtime scalar ``n_past``.

A decoder's shapes depend on how many tokens its cache already holds. Where that number is bound to a capacity
instead of a value, a dimension is ``scale * n_past + offset`` with ``0 <= n_past <= past_max``: tiles and SRAM are
sized for the maximum, kernels and cycles use the current value. Shape arithmetic of exporters folds to this form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


class Undecided(ValueError):
    """A comparison or division of dimensions has no single answer for every ``n_past``."""


@dataclass(frozen=True, slots=True)
class Affine:
    """The number ``scale * n_past + offset`` for ``0 <= n_past <= past_max``; never constant (``scale != 0``)."""

    scale: int
    offset: int
    past_max: int

    def __post_init__(self) -> None:
        assert self.scale != 0 and self.past_max >= 0

    def at(self, n_past: int) -> int:
        return self.scale * n_past + self.offset

    @property
    def lower(self) -> int:
        return min(self.at(0), self.at(self.past_max))

    @property
    def upper(self) -> int:
        return max(self.at(0), self.at(self.past_max))

    def __str__(self) -> str:
        head = {1: "n_past", -1: "-n_past"}.get(self.scale, f"{self.scale}*n_past")
        return head if self.offset == 0 else f"{head}{self.offset:+d}"

    def __add__(self, other: Dim) -> Dim:
        if isinstance(other, Affine):
            assert other.past_max == self.past_max
            return affine(self.scale + other.scale, self.offset + other.offset, self.past_max)
        return Affine(self.scale, self.offset + int(other), self.past_max)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Affine(-self.scale, -self.offset, self.past_max)

    def __sub__(self, other: Dim) -> Dim:
        return self + (-other)

    def __rsub__(self, other: Dim) -> Dim:
        return (-self) + other

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, Affine):
            raise Undecided(f"({self}) * ({other}) is not affine in n_past")
        return affine(self.scale * int(other), self.offset * int(other), self.past_max)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        if isinstance(other, Affine):
            if other.offset * self.scale == self.offset * other.scale and self.scale % other.scale == 0:
                return self.scale // other.scale
        elif self.scale % other == 0 and self.offset % other == 0:
            return affine(self.scale // other, self.offset // other, self.past_max)
        raise Undecided(f"({self}) / ({other}) is not affine in n_past")

    def __mod__(self, other: Dim) -> Dim:
        if not isinstance(other, Affine) and self.scale % other == 0:
            return self.offset % other
        raise Undecided(f"({self}) mod ({other}) depends on n_past")

    def __lt__(self, other: Dim) -> bool:
        return _always(other - self, 1)

    def __le__(self, other: Dim) -> bool:
        return _always(other - self, 0)

    def __gt__(self, other: Dim) -> bool:
        return _always(self - other, 1)

    def __ge__(self, other: Dim) -> bool:
        return _always(self - other, 0)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Affine):
            return (self.scale, self.offset, self.past_max) == (other.scale, other.offset, other.past_max)
        return False

    def __hash__(self) -> int:
        return hash((self.scale, self.offset, self.past_max))


Dim = int | Affine


def affine(scale: int, offset: int, past_max: int) -> Dim:
    """The dimension ``scale * n_past + offset``, a plain ``int`` where it does not depend on ``n_past``."""
    return Affine(scale, offset, past_max) if scale and past_max else offset


def at(dim: Dim, n_past: int) -> int:
    """The value of a dimension when the cache holds ``n_past`` tokens."""
    return dim.at(n_past) if isinstance(dim, Affine) else dim


def upper(dim: Dim) -> int:
    """The largest value of a dimension, reached at the context capacity."""
    return dim.upper if isinstance(dim, Affine) else dim


def shape_at(shape: tuple[Dim, ...], n_past: int) -> tuple[int, ...]:
    return tuple(at(d, n_past) for d in shape)


def shape_upper(shape: tuple[Dim, ...]) -> tuple[int, ...]:
    return tuple(upper(d) for d in shape)


def parse_dim(text: str, past_max: int) -> Dim:
    """The inverse of ``str``: ``12``, ``n_past``, ``n_past+1``, ``-2*n_past-3``.

    Raises:
        ValueError: the text is none of these.
    """
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    found = re.fullmatch(r"(-?)(?:(\d+)\*)?n_past([+-]\d+)?", text)
    if not found:
        raise ValueError(f"not a dimension: {text!r}")
    sign, scale, offset = found.groups()
    return affine(int(scale or 1) * (-1 if sign else 1), int(offset or 0), past_max)


def _always(difference: Dim, least: int) -> bool:
    """Whether ``difference >= least`` for every n_past; raises Undecided if it holds for some only."""
    if not isinstance(difference, Affine):
        return difference >= least
    if difference.lower >= least:
        return True
    if difference.upper < least:
        return False
    raise Undecided(f"whether {difference} >= {least} depends on n_past")

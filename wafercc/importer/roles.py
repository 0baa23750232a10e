"""Roles: what the open dimensions of a model's inputs count.

Exporters give caches of one model different symbols, and masks symbols related to nothing, so roles are read from where
a symbol stands, with its name as a second opinion.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum

from .nodes import InputSpec
from .states import State

Giver = Callable[[InputSpec, int, "Role"], None]


class Role(StrEnum):
    """What a dimension counts."""

    BATCH = "batch"
    NEW = "new tokens"
    PAST = "past length"
    TOTAL = "total length"
    CAPACITY = "cache capacity"


def roles_of(inputs: Sequence[InputSpec], states: Sequence[State]) -> dict[str, Role]:
    """Symbol → role. Caches decide first, then token inputs, then masks, then names."""
    roles: dict[str, Role] = {}

    def give(spec: InputSpec, axis: int, role: Role) -> None:
        if not isinstance(spec.dims[axis], int):
            roles.setdefault(symbol_of(spec, axis), role)

    caches = {state.input: state for state in states}
    masks = []
    for spec in inputs:
        if spec.name in caches:
            cache = caches[spec.name]
            give(spec, cache.axis, Role.CAPACITY if cache.fixed else Role.PAST)
            give(spec, _batch_axis(spec, cache.axis), Role.BATCH)
    for spec in inputs:
        rank = len(spec.dims)
        if spec.name in caches:
            continue
        if "mask" in spec.name.lower():
            masks.append(spec)
        elif rank == (3 if spec.dtype.is_float else 2):
            give(spec, 0, Role.BATCH)
            give(spec, 1, Role.NEW)
        elif not spec.dtype.is_float and rank == 3:  # positions of several kinds: [kinds, batch, new]
            give(spec, 1, Role.BATCH)
            give(spec, 2, Role.NEW)
        elif rank == 1 and not spec.dtype.is_float and re.search(r"position|input_ids|tokens", spec.name.lower()):
            give(spec, 0, Role.NEW)
    for spec in masks:
        _mask_roles(spec, give)
    for spec in inputs:
        for axis in range(1 if spec.name in caches else len(spec.dims)):  # heads and widths of caches count no tokens
            if not isinstance(spec.dims[axis], int) and (role := _named_role(symbol_of(spec, axis))):
                roles.setdefault(symbol_of(spec, axis), role)
    if not states:
        roles = {symbol: Role.NEW if role is Role.TOTAL else role for symbol, role in roles.items()}
    return {symbol: role for symbol, role in roles.items() if symbol in terms_of(symbol) or "[" in symbol}


def _batch_axis(spec: InputSpec, grows: int) -> int:
    """The axis of a cache that counts sequences: the first, unless that one grows or packs keys and values."""
    return 1 if grows == 0 or len(spec.dims) > 4 else 0


def _mask_roles(spec: InputSpec, give: Giver) -> None:
    rank = len(spec.dims)
    if rank >= 1:
        give(spec, rank - 1, Role.TOTAL)
    if rank >= 2:
        give(spec, 0, Role.BATCH)
    if rank >= 3:
        give(spec, rank - 2, Role.NEW)


def _named_role(symbol: str) -> Role | None:
    name = symbol.lower()
    if re.search(r"batch", name):
        return Role.BATCH
    if re.search(r"past|cache", name):
        return Role.PAST
    if re.search(r"total|kv_len", name):
        return Role.TOTAL
    return Role.NEW if re.search(r"seq|token|length", name) else None


def symbol_of(spec: InputSpec, axis: int) -> str:
    """The symbol of an open dimension; one that the exporter left unnamed is called by its place."""
    dim = spec.dims[axis]
    return dim if isinstance(dim, str) else f"{spec.name}[{axis}]"


def terms_of(symbol: str) -> tuple[str, ...]:
    """The plain symbols of a sum; a symbol that is no sum is its own only term."""
    parts = [part.strip() for part in symbol.split("+")]
    return tuple(part for part in parts if part and not part.isdigit())

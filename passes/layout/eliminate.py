"""Eliminate: the exact minimum of a sum of small cost tables, one variable at a time.

Each variable has a small domain; each table adds a cost that depends on a few variables. Eliminating a variable joins
the tables that mention it and minimises it out, remembering the best choice for every setting of its neighbours
(bucket elimination, Dechter 1999). The work is exponential only in the width of the elimination order, and the graphs
of decoder layers are thin: a residual stream with short loops beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.int64]
IMPOSSIBLE = 1 << 50


class TooWide(Exception):
    """Some joined table would have more entries than allowed; smaller domains would help."""


@dataclass(frozen=True)
class Factor:
    """Costs over some variables; axis i of ``costs`` runs over the domain of ``variables[i]``."""

    variables: tuple[int, ...]
    costs: Table


def minimise(sizes: Sequence[int], factors: Sequence[Factor], most_entries: int = 4_000_000) -> tuple[int, list[int]]:
    """The least total cost, and one choice per variable that has it; ties go to the lower index.

    Raises:
        TooWide: a join would exceed ``most_entries``.
    """
    alive: list[Factor] = list(factors)
    left = set(range(len(sizes)))
    chosen: list[tuple[int, tuple[int, ...], NDArray[np.intp]]] = []
    constant = 0
    neighbours: dict[int, set[int]] = {v: set() for v in left}
    for factor in alive:
        for v in factor.variables:
            neighbours[v].update(factor.variables)
    while left:
        variable = min(left, key=lambda v: (math.prod(sizes[u] for u in neighbours[v] | {v}), v))
        scope = tuple(sorted((neighbours[variable] | {variable}) - {variable}))
        entries = math.prod(sizes[u] for u in (*scope, variable))
        if entries > most_entries:
            raise TooWide(f"{entries} entries over {len(scope) + 1} variables")
        joined = np.zeros([sizes[u] for u in (*scope, variable)], np.int64)
        for factor in [f for f in alive if variable in f.variables]:
            joined += _aligned(factor, (*scope, variable))
        alive = [f for f in alive if variable not in f.variables]
        best = joined.argmin(axis=-1)
        chosen.append((variable, scope, best))
        reduced = np.minimum(joined.min(axis=-1), IMPOSSIBLE)
        if scope:
            alive.append(Factor(scope, reduced))
        else:
            constant += int(reduced)
        left.remove(variable)
        for u in scope:
            neighbours[u].update(scope)
            neighbours[u].discard(variable)
    result = [0] * len(sizes)
    for variable, scope, best in reversed(chosen):
        result[variable] = int(best[tuple(result[u] for u in scope)])
    return constant, result


def _aligned(factor: Factor, order: tuple[int, ...]) -> Table:
    """A factor's costs with one axis per variable of ``order``, of length 1 where it does not depend on it."""
    present = [v for v in order if v in factor.variables]
    costs = factor.costs.transpose([factor.variables.index(v) for v in present])
    sizes: Mapping[int, int] = dict(zip(present, costs.shape, strict=True))
    return costs.reshape([sizes.get(v, 1) for v in order])

"""Eliminate: the exact minimum of a sum of small cost tables, one variable at a time.

Each variable has a small domain; each table adds a cost that depends on a few variables. Eliminating a variable joins
the tables that mention it and minimises it out, remembering the best choice for every setting of its neighbours
(bucket elimination, Dechter 1999). The work is exponential only in the width of the elimination order, and the graphs
of decoder layers are thin: a residual stream with short loops beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True)
class _Bucket:
    """One variable's turn: all tables that mention it, joined; axes are ``scope``, then the variable itself."""

    variable: int
    scope: tuple[int, ...]
    joined: Table

    @property
    def order(self) -> tuple[int, ...]:
        return *self.scope, self.variable

    @property
    def reduced(self) -> Table:
        """What is passed on: the least cost for every setting of the neighbours."""
        least: Table = np.minimum(self.joined.min(axis=-1), IMPOSSIBLE)
        return least


def minimise(sizes: Sequence[int], factors: Sequence[Factor], most_entries: int = 4_000_000) -> tuple[int, list[int]]:
    """The least total cost, and one choice per variable that has it; ties go to the lower index.

    Raises:
        TooWide: a join would exceed ``most_entries``.
    """
    constant = 0
    chosen: list[tuple[int, tuple[int, ...], NDArray[np.intp]]] = []
    for bucket in _eliminate(sizes, factors, most_entries):
        chosen.append((bucket.variable, bucket.scope, bucket.joined.argmin(axis=-1)))
        if not bucket.scope:
            constant += int(bucket.reduced)
    result = [0] * len(sizes)
    for variable, scope, best in reversed(chosen):
        result[variable] = int(best[tuple(result[u] for u in scope)])
    return constant, result


def marginals(sizes: Sequence[int], factors: Sequence[Factor], most_entries: int = 4_000_000) -> list[Table]:
    """For each variable and each of its choices: the least total cost of all settings with that choice.

    Elimination passes costs up a tree of buckets; a second pass brings back down what each bucket knows of the rest,
    less what it heard from below (bucket-tree elimination, Kask et al. 2005).

    Raises:
        TooWide: a join would exceed ``most_entries``.
    """
    buckets = list(_eliminate(sizes, factors, most_entries))
    turn = {bucket.variable: i for i, bucket in enumerate(buckets)}
    total = sum(int(bucket.reduced) for bucket in buckets if not bucket.scope)
    beliefs: dict[int, Table] = {}
    found: list[Table] = [np.zeros(0, np.int64)] * len(sizes)
    for bucket in reversed(buckets):
        belief = bucket.joined
        if bucket.scope:
            parent = min(bucket.scope, key=lambda v: turn[v])
            order = buckets[turn[parent]].order
            rest = beliefs[parent] - _aligned(Factor(bucket.scope, bucket.reduced), order)
            others = tuple(i for i, v in enumerate(order) if v not in bucket.scope)
            left = tuple(v for v in order if v in bucket.scope)
            down = Factor(left, np.minimum(rest.min(axis=others), IMPOSSIBLE))
            belief = belief + _aligned(down, bucket.order)
        else:
            belief = belief + (total - int(bucket.reduced))
        beliefs[bucket.variable] = belief
        found[bucket.variable] = np.minimum(belief.min(axis=tuple(range(len(bucket.scope)))), IMPOSSIBLE)
    return found


def _eliminate(sizes: Sequence[int], factors: Sequence[Factor], most_entries: int) -> Iterator[_Bucket]:
    """The buckets in the order of elimination: always the variable whose join is smallest."""
    naming: dict[int, list[Factor]] = {v: [] for v in range(len(sizes))}
    neighbours: dict[int, set[int]] = {v: {v} for v in naming}
    for factor in factors:
        for v in factor.variables:
            naming[v].append(factor)
            neighbours[v].update(factor.variables)
    entries = {v: math.prod(sizes[u] for u in near) for v, near in neighbours.items()}
    while entries:
        variable = min(entries, key=lambda v: (entries[v], v))
        if entries[variable] > most_entries:
            raise TooWide(f"{entries[variable]} entries over {len(neighbours[variable])} variables")
        scope = tuple(sorted(neighbours[variable] - {variable}))
        joined = np.zeros([sizes[u] for u in (*scope, variable)], np.int64)
        gone = naming.pop(variable)
        for factor in gone:
            joined += _aligned(factor, (*scope, variable))
        bucket = _Bucket(variable, scope, joined)
        yield bucket
        del entries[variable]
        passed = Factor(scope, bucket.reduced) if scope else None
        for u in scope:
            naming[u] = [f for f in naming[u] if variable not in f.variables]
            naming[u] += [passed] if passed is not None else []
            neighbours[u].update(scope)
            neighbours[u].discard(variable)
            entries[u] = math.prod(sizes[w] for w in neighbours[u])


def _aligned(factor: Factor, order: tuple[int, ...]) -> Table:
    """A factor's costs with one axis per variable of ``order``, of length 1 where it does not depend on it."""
    present = [v for v in order if v in factor.variables]
    costs = factor.costs.transpose([factor.variables.index(v) for v in present])
    sizes: Mapping[int, int] = dict(zip(present, costs.shape, strict=True))
    return costs.reshape([sizes.get(v, 1) for v in order])

"""Variable elimination finds the true minimum."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wafercc.passes.layout.eliminate import IMPOSSIBLE, Factor, TooWide, marginals, minimise


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[Factor]]:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    factors = []
    for _ in range(draw(st.integers(0, 8))):
        scope = tuple(draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3, unique=True)))
        shape = [sizes[v] for v in scope]
        count = int(np.prod(shape))
        costs = draw(st.lists(st.integers(0, 50), min_size=count, max_size=count))
        factors.append(Factor(scope, np.array(costs, np.int64).reshape(shape)))
    return sizes, factors


def cost_of(choice: tuple[int, ...], factors: list[Factor]) -> int:
    return sum(int(f.costs[tuple(choice[v] for v in f.variables)]) for f in factors)


@given(problems())
def test_elimination_equals_trying_everything(problem: tuple[list[int], list[Factor]]) -> None:
    sizes, factors = problem
    least = min(cost_of(choice, factors) for choice in itertools.product(*(range(n) for n in sizes)))
    total, choice = minimise(sizes, factors)
    assert total == least
    assert cost_of(tuple(choice), factors) == least


@given(problems(), st.sets(st.integers(0, 30), max_size=6))
def test_marginals_equal_forcing_each_choice(problem: tuple[list[int], list[Factor]], closed: set[int]) -> None:
    """Also where some entries are impossible."""
    sizes, factors = problem
    for factor in factors:
        factor.costs[np.isin(factor.costs, list(closed))] = IMPOSSIBLE
    choices = list(itertools.product(*(range(n) for n in sizes)))
    for variable, found in enumerate(marginals(sizes, factors)):
        for choice in range(sizes[variable]):
            least = min(cost_of(c, factors) for c in choices if c[variable] == choice)
            assert int(found[choice]) == min(least, IMPOSSIBLE)


def test_a_join_that_would_be_too_wide_is_refused() -> None:
    star = [Factor((0, i), np.zeros((9, 9), np.int64)) for i in range(1, 5)]
    ring = [Factor((i, 1 + i % 4), np.zeros((9, 9), np.int64)) for i in range(1, 5)]
    with pytest.raises(TooWide):
        minimise([9] * 5, star + ring, most_entries=100)

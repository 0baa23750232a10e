"""Collectives add in the fabric's order: bit for bit what a plain simulation of PEs and messages gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placed_programs import all_reduce, numbers

from wafercc.ir.block import ReduceAlgorithm
from wafercc.ir.layout import Mesh
from wafercc.ir.loops import Combine
from wafercc.runtime.collectives import all_reduce as reduce_values
from wafercc.runtime.collectives import merge_softmax

Number = np.float32


def chain(own: dict[int, Number], pes: list[int], root: int) -> Number:
    """Each PE adds what its neighbour sent and sends the sum on; the root takes the side before it first."""
    total = own[root]
    for side in ([p for p in pes if p < root], [p for p in reversed(pes) if p > root]):
        message = None
        for pe in side:
            message = own[pe] if message is None else Number(message + own[pe])
        if message is not None:
            total = Number(message + total)
    return total


def tree(own: dict[int, Number], pes: list[int], root: int) -> Number:
    """In round l, the PEs at distance 2^l (mod 2^(l+1)) from the root send to the PE 2^l nearer."""
    held = dict(own)
    reach = 1
    while reach < len(pes):
        for sign in (-1, 1):
            senders = [p for p in pes if (p - root) * sign > 0 and (p - root) * sign % (2 * reach) == reach]
            for pe in senders:
                nearer = pe - sign * reach
                held[nearer] = Number(held[pe] + held[nearer])
        reach *= 2
    return held[root]


def two_phase(own: dict[int, Number], pes: list[int], root: int, group: int) -> Number:
    """Leaders stand at multiples of ``group`` from the root; each adds its group in a chain, the root then them."""
    leaders = [p for p in pes if (p - root) % group == 0]
    sums = {}
    for i, leader in enumerate(leaders):
        last = i == len(leaders) - 1
        members = [p for p in pes if p // group == i or (last and p // group > i)]
        sums[leader] = chain(own, members, leader)
    return chain(sums, leaders, root)


@settings(max_examples=120, deadline=None)
@given(st.integers(1, 17), st.data(), st.sampled_from(ReduceAlgorithm), st.integers(0, 99))
def test_every_algorithm_adds_in_the_order_of_its_messages(
    length: int, data: st.DataObject, algorithm: ReduceAlgorithm, seed: int
) -> None:
    root = data.draw(st.integers(0, length - 1))
    group = data.draw(st.integers(1, length))
    values = numbers(length, seed=seed)
    own = {i: values[i] for i in range(length)}
    pes = list(range(length))
    wanted = {
        ReduceAlgorithm.CHAIN: lambda: chain(own, pes, root),
        ReduceAlgorithm.TREE: lambda: tree(own, pes, root),
        ReduceAlgorithm.TWO_PHASE: lambda: two_phase(own, pes, root, group),
    }[algorithm]()
    step = all_reduce(["a"], ["b"], "x0", Combine.SUM, algorithm, root, group)
    (got,) = reduce_values(step, [values.reshape(1, length, 1)], Mesh.of([1], [length]))
    assert got.shape == (1, 1, 1)
    assert got[0, 0, 0] == wanted


def test_the_three_algorithms_do_differ_in_the_last_bits() -> None:
    values = numbers(1, 64, 50)
    results = [
        reduce_values(all_reduce(["a"], ["b"], "x0", Combine.SUM, how, 20, 8), [values], Mesh.of([1], [64]))[0]
        for how in ReduceAlgorithm
    ]
    assert not np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])


def test_lines_over_two_axes_run_from_major_to_minor() -> None:
    mesh = Mesh.of([2, 3], [2])
    values = numbers(2, 3, 2, 4)
    step = all_reduce(["a"], ["b"], "y0*y1", root=5)
    (got,) = reduce_values(step, [values], mesh)
    total = values[0, 0]
    for p in range(1, 6):
        total = total + values[p // 3, p % 3]
    assert np.array_equal(got, total[None, None])


@pytest.mark.parametrize("combine", [Combine.MAX, Combine.MIN])
def test_maximum_and_minimum_combine_all(combine: Combine) -> None:
    values = numbers(3, 5, 2)
    (got,) = reduce_values(all_reduce(["a"], ["b"], "x0", combine, root=2), [values], Mesh.of([3], [5]))
    wanted = values.max(axis=1, keepdims=True) if combine is Combine.MAX else values.min(axis=1, keepdims=True)
    assert np.array_equal(got, wanted)


def test_merging_with_nothing_seen_changes_nothing() -> None:
    nothing = (np.array([-np.inf], np.float32), np.array([0], np.float32), np.array([0], np.float32))
    some = (np.array([3], np.float32), np.array([2], np.float32), np.array([5], np.float32))
    for a, b in ((nothing, some), (some, nothing)):
        assert [float(x[0]) for x in merge_softmax(a, b)] == [3, 2, 5]
    assert [float(x[0]) for x in merge_softmax(nothing, nothing)] == [-np.inf, 0, 0]

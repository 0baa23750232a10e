"""Sharing a colour is allowed only where one net is over before the other starts: held against every single message.

The oracle lists the events of all PEs and messages of a small region and their dependences, and asks for a path from
each end of one message to each start of another at the routers where both pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from two_regions import two_regions

from wafercc.ir.block import AllGather, AllReduce, Block, Instance, ReduceAlgorithm
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import TensorType
from wafercc.ir.layout import Layout, Mesh, Split, Tiled
from wafercc.ir.loops import Combine
from wafercc.ir.program import CollectiveNet, Execute, PlacedProgram, Rect, Region
from wafercc.passes.route.order import Order
from wafercc.passes.route.patterns import Pattern
from wafercc.verify.sharing import Life

MESH = Mesh.of([4], [2, 3])
Pe = tuple[int, int]
Collective = AllReduce | AllGather


@dataclass
class Events:
    """What happens in a region, and what must have happened before; ``passes``: pattern → router → (start, end)."""

    graph: nx.DiGraph = field(default_factory=nx.DiGraph)
    passes: dict[Pattern, dict[Pe, list[tuple[object, object]]]] = field(default_factory=dict)

    def after(self, event: object, *before: object) -> None:
        self.graph.add_node(event)
        self.graph.add_edges_from((b, event) for b in before)

    def passing(self, pattern: Pattern, router: Pe, start: object, end: object) -> None:
        self.passes.setdefault(pattern, {}).setdefault(router, []).append((start, end))


def lines(along: str, group: int) -> Iterator[list[Pe]]:
    """Each group of each line of the mesh."""
    count, length = (4, 6) if along == "x" else (6, 4)
    for line, start in product(range(count), range(0, length, group)):
        yield [(line, i) if along == "x" else (i, line) for i in range(start, start + group)]


def message(events: Events, pattern: Pattern, number: int, way: Sequence[Pe], *before: object) -> object:
    """Words of one PE to another, over the routers between; its end, which its receiver waits for."""
    start, end = ("start", number, pattern, way[0]), ("end", number, pattern, way[0])
    events.after(start, *before)
    events.after(end, start)
    for router in way:
        events.passing(pattern, router, start, end)
    return end


def run(events: Events, number: int, step: Collective, taking_part: bool) -> None:
    """All events of one step; PEs without words only go on."""
    along = "x" if step.axes[0].startswith("x") else "y"
    span = MESH.parts(step.axes)
    for line in lines(along, span):
        begins = [("begin", number, pe) for pe in line]
        ends = [("end", number, pe) for pe in line]
        for begin, end, pe in zip(begins, ends, line, strict=True):
            events.after(begin, *([("end", number - 1, pe)] if number else []))
            events.after(end, begin)
        if not taking_part:
            continue
        gather = isinstance(step, AllGather)
        heard = collect(events, number, line, step, along) if gather else reduce(events, number, line, step, along)
        spread(events, number, line, step.root, Pattern(along, "broadcast", span, step.root), heard, gather)


def reduce(events: Events, number: int, line: list[Pe], step: AllReduce, along: str) -> list[object]:
    """The messages of a chain or a tree; what the root waits for."""
    root, size, chain = step.root, len(line), step.algorithm is ReduceAlgorithm.CHAIN
    arrived: dict[int, list[object]] = {i: [("begin", number, line[i])] for i in range(size)}
    reaches = [1] if chain else [1 << k for k in range(max(root, size - 1 - root).bit_length())]
    for level, reach in enumerate(reaches):
        for distance in range(size, 0, -1):
            for source in {root - distance, root + distance} & set(range(size)):
                if not chain and distance % (2 * reach) != reach:
                    continue
                goal = source + (reach if source < root else -reach)
                hop = 1 if goal > source else -1
                way = [line[i] for i in range(source, goal + hop, hop)]
                kind = Pattern(along, "chain", size, root) if chain else Pattern(along, "tree", size, root, level=level)
                arrived[goal].append(message(events, kind, number, way, *arrived[source]))
    return arrived[root]


def collect(events: Events, number: int, line: list[Pe], step: AllGather, along: str) -> list[object]:
    """Every PE's own words on their way to the root."""
    root, size = step.root, len(line)
    kind = Pattern(along, "collect", size, root)
    found: list[object] = []
    for source in set(range(size)) - {root}:
        hop = 1 if source < root else -1
        way = [line[i] for i in range(source, root + hop, hop)]
        found.append(message(events, kind, number, way, ("begin", number, line[source])))
    return found


def spread(
    events: Events, number: int, line: list[Pe], root: int, kind: Pattern, heard: Sequence[object], gather: bool
) -> None:
    """The multicast: a gather's starts at once and ends after the last part, a reduction's starts after it."""
    start = ("start", number, kind, line[root])
    events.after(start, ("begin", number, line[root]), *([] if gather else heard))
    for hop in (1, -1):
        before: object = start
        for i in range(root, len(line) if hop > 0 else -1, hop):
            passed = ("passed", number, kind, line[i])
            events.after(passed, before, *heard)
            events.passing(kind, line[i], start, passed)
            events.after(("end", number, line[i]), passed)
            before = passed


def never_together(events: Events, a: Pattern, b: Pattern) -> bool:
    """Whether at every router both pass, each message of one ends before each of the other starts, or the reverse."""
    for router in events.passes.get(a, {}).keys() & events.passes.get(b, {}).keys():
        for (start, end), (other_start, other_end) in product(events.passes[a][router], events.passes[b][router]):
            if not (nx.has_path(events.graph, end, other_start) or nx.has_path(events.graph, other_end, start)):
                return False
    return True


def value(axes: tuple[str, ...], whole: bool, gather: bool) -> Tiled:
    """What a step moves: cut over its own axes (a gather) or owing a sum over them; ``whole``: no tile is empty."""
    rows = Split(("y0",)) if axes != ("y0",) else Split()
    type_ = TensorType(DType.F32, (8 if whole else 2, 12))
    if gather:
        return Tiled(type_, Layout((rows, Split(axes))))
    return Tiled(type_, Layout((rows, Split()), tuple((axis, Combine.SUM) for axis in axes)))


@st.composite
def blocks(draw: st.DrawFn) -> tuple[Block, list[bool]]:
    """A block of two to five collectives, and whether all PEs take part in each."""
    steps: list[Collective] = []
    values: dict[str, Tiled] = {}
    whole: list[bool] = []
    for i in range(draw(st.integers(2, 5))):
        axes = draw(st.sampled_from([("x0", "x1"), ("x1",), ("y0",)]))
        span = MESH.parts(axes)
        root = draw(st.sampled_from([span // 2, 0, span - 1]))
        kind = draw(st.sampled_from(["chain", "tree", "gather"]))
        full = draw(st.booleans()) or axes == ("y0",)
        values[f"v{i}"] = value(axes, full, kind == "gather")
        values[f"w{i}"] = Tiled(values[f"v{i}"].type, Layout.replicated(2))
        if kind == "gather":
            steps.append(AllGather(f"s{i}", f"v{i}", f"w{i}", axes, root))
        else:
            how = ReduceAlgorithm.CHAIN if kind == "chain" else ReduceAlgorithm.TREE
            steps.append(AllReduce(f"s{i}", (f"v{i}",), (f"w{i}",), axes, Combine.SUM, how, root))
        whole.append(full)
    return Block("b", MESH, values, (), (), (), tuple(steps)), whole


def life_of(block: Block) -> Life:
    ys, xs = np.mgrid[0:4, 0:6].astype(np.int32)
    base: PlacedProgram = two_regions()
    program = replace(
        base,
        regions=(Region("r", Rect(0, 0, 0, 6, 4), xs, ys),),
        blocks={"b": block},
        instances=(Instance("i", "b", "r", {}, {}),),
        order=(Execute("i"),),
    )
    return Life.of(program, "r")


@settings(max_examples=150, deadline=None)
@given(blocks())
def test_only_nets_that_never_meet_in_time_may_share_a_colour(made: tuple[Block, list[bool]]) -> None:
    block, whole = made
    events = Events()
    for number, (step, full) in enumerate(zip(block.steps, whole, strict=True)):
        assert isinstance(step, AllReduce | AllGather)
        run(events, number, step, full)
    order, life = Order((block,), "r", crossing_at_pes=True), life_of(block)
    for a, b in product(order.turns, repeat=2):
        if a == b:
            continue
        chosen, judged = order.apart(a, b), life.apart(net(a), net(b), a.along == b.along)
        assert judged or not chosen, f"the router shares {a} and {b}, the verifier refuses"
        if judged and a in events.passes and b in events.passes:
            assert never_together(events, a, b), f"{a} and {b} may meet in {block.steps}"


def net(pattern: Pattern) -> CollectiveNet:
    return CollectiveNet(
        "r", pattern.along, pattern.group, pattern.root, pattern.kind, (0, 1), pattern.level, pattern.stride
    )


def chain_then(second: Collective) -> tuple[Pattern, Pattern, Order]:
    """A chain along rows, then another step; the first pattern of each and their order."""
    first = AllReduce("a", ("v",), ("w",), ("x0", "x1"), Combine.SUM, ReduceAlgorithm.CHAIN, 3)
    values = {
        "v": value(("x0", "x1"), True, False), "w": Tiled(TensorType(DType.F32, (8, 12)), Layout.replicated(2)),
        "u": value(second.axes, True, isinstance(second, AllGather)),
    }  # fmt: skip
    order = Order((Block("b", MESH, values, (), (), (), (first, second)),), "r", crossing_at_pes=True)
    patterns = list(order.turns)
    return patterns[0], patterns[2], order


def test_a_step_on_the_same_line_may_share_and_one_across_may_not() -> None:
    along = AllGather("g", "u", "w", ("x0", "x1"), 3)
    a, b, order = chain_then(along)
    assert order.apart(a, b)
    across = AllReduce("c", ("u",), ("w",), ("y0",), Combine.SUM, ReduceAlgorithm.CHAIN, 2)
    a, b, order = chain_then(across)
    assert not order.apart(a, b)


def test_a_gather_never_shares_with_its_own_multicast() -> None:
    gather = AllGather("g", "u", "w", ("x0", "x1"), 3)
    *_, order = chain_then(gather)
    assert not order.apart(Pattern("x", "collect", 6, 3), Pattern("x", "broadcast", 6, 3))

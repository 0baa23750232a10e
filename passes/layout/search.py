"""Search: choose one strategy per op so that a block's cycles are least and its SRAM bound holds.

A beam over the ops in order. A state knows in which layouts each live value can be had; taking a strategy costs its local
cycles, its reductions, and for each operand the cheapest relayout from a layout at hand. Weights may lie in any layout, for
their bytes. States that offer the same layouts are merged, the cheaper kept. With one axis per direction and a layer of 25-60
ops the beam finds the alternating split (K over rows, then K over columns) that needs no transposes.

Reads a template Graph, a Mesh and a Target; writes Solution. Cost: O(ops * beam * strategies).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wafercc.errors import CompileError, DoesNotFit
from wafercc.ir.graph import Graph, Op, OpId, TensorType, ValueName
from wafercc.ir.layout import UNCUT, Layout, Mesh, Split, tile_bytes, Tiled
from wafercc.ir.loops import Loops
from wafercc.ir.optable import spec_of
from wafercc.targets import Target

from . import price
from .relayout import plan
from .strategy import Strategy, dim_facts, op_loops, strategies

EARLY_SHARE = 4  # ops that run while the block waits for its input count a quarter


@dataclass(frozen=True)
class Choice:
    """What was decided for one op: its strategy, and from which layout each operand is fetched (None: as wanted)."""

    op: OpId
    strategy: Strategy
    sources: tuple[Layout | None, ...]


@dataclass(frozen=True)
class Solution:
    """A block's choices on one mesh, with the estimate they were chosen by."""

    mesh: Mesh
    choices: tuple[Choice, ...]
    inputs: Mapping[ValueName, Layout]
    outputs: Mapping[ValueName, Layout]
    fetched: Mapping[ValueName, Layout]
    cycles: int
    weight_bytes: int


@dataclass
class _State:
    cost: int
    bytes: int
    versions: dict[ValueName, tuple[Layout, ...]]
    resident: frozenset[tuple[ValueName, Layout]]
    choice: Choice | None = None
    parent: _State | None = None
    arrived: dict[ValueName, Layout] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """Options of the search: how many states are kept, how many strategies an op may try, forced strategies by op."""

    beam: int = 8
    tries: int = 20
    forced: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, graph: Graph, mesh: Mesh, target: Target, early: frozenset[ValueName], carried: frozenset[ValueName]
    ) -> Solution:
        """Solve one template. ``carried`` values cross stages and keep to the boundary layout; ``early`` ones are cheap.

        Raises:
            DoesNotFit: the weights exceed the SRAM of the mesh however they are cut.
        """
        return _Run(self, graph, mesh, target, early, carried).solve()


def boundary_layout(kind: TensorType, mesh: Mesh) -> Layout:
    """How values cross from stage to stage: the last dimension over the rows, copies along each row.

    Every row of one region then talks to the same row of the next: as many lanes as rows.
    """
    rows = tuple(a.name for a in mesh.axes if a.along == "y" and a.extent > 1)
    last = kind.shape[-1] if kind.shape else 1
    if not rows or not isinstance(last, int) or last < 2:
        return Layout.replicated(kind.rank)
    return Layout((*(UNCUT,) * (kind.rank - 1), Split(rows)))


class _Run:
    """One search: the tables that its steps share."""

    def __init__(
        self,
        options: Search,
        graph: Graph,
        mesh: Mesh,
        target: Target,
        early: frozenset[ValueName],
        carried: frozenset[ValueName],
    ) -> None:
        self.options, self.graph, self.mesh, self.target = options, graph, mesh, target
        self.early, self.carried = early, carried
        self.weights = frozenset(graph.weights)
        self.loops: dict[str, Loops] = {op.id: op_loops(graph, op) for op in graph.ops}
        self.facts = dim_facts(graph, self.loops)
        self.last_use = {v: i for i, op in enumerate(graph.ops) for v in op.operands}
        self.move_cost: dict[tuple[ValueName, Layout, Layout], int | None] = {}
        self.moved: dict[ValueName, int] = {}
        self.bound = target.pe.usable_bytes
        self.least_bytes = 0

    def solve(self) -> Solution:
        start: dict[ValueName, tuple[Layout, ...]] = {
            v: (boundary_layout(self.graph.types[v], self.mesh),) for v in self.graph.inputs if v in self.carried
        }
        beam = [_State(0, 0, start, frozenset())]
        for i, op in enumerate(self.graph.ops):
            beam = self.step(beam, i, op)
        best = min(beam, key=self.finish_cost)
        return self.solution(best)

    def step(self, beam: Sequence[_State], i: int, op: Op) -> list[_State]:
        tried = self.shortlist(op)
        dead = [v for v in (*op.operands, *op.outputs) if self.last_use.get(v, -1) <= i and v not in self.graph.outputs]
        merged: dict[tuple[object, ...], _State] = {}
        self.least_bytes = 0
        for state in beam:
            for strategy, own in tried:
                new = self.take(state, op, strategy, own)
                if new is None:
                    continue
                for value in dead:
                    new.versions.pop(value, None)
                key = tuple(sorted(new.versions.items(), key=lambda kv: kv[0]))
                known = merged.get(key)
                if known is None or new.cost < known.cost:
                    merged[key] = new
        if not merged:
            if self.least_bytes > self.bound:
                raise DoesNotFit(
                    f"weights need {self.least_bytes} bytes per PE on {self.mesh.rows}x{self.mesh.columns} PEs; "
                    f"{self.bound} are usable",
                    resource="SRAM bytes per PE",
                    demand=self.least_bytes,
                    bound=self.bound,
                    where=f"op {op.id}",
                    hint="use a larger region, more --stages, or a larger target",
                )
            raise CompileError("no layout of its operands leads to this op", where=f"op {op.id} ({op.kind})")
        return sorted(merged.values(), key=lambda s: s.cost)[: self.options.beam]

    def shortlist(self, op: Op) -> list[tuple[Strategy, int]]:
        """The strategies with the least cycles of their own, cheapest first."""
        found = strategies(self.graph, op, self.loops[op.id], self.facts, self.mesh)
        wanted = self.options.forced.get(op.id)
        if wanted is not None:
            named = [s for s in found if s.name == wanted]
            if not named:
                names = ", ".join(sorted({s.name for s in found}))
                raise CompileError(f"no strategy {wanted!r}; there are: {names}", where=f"op {op.id} ({op.kind})")
            found = named
        priced = sorted(((s, self.own_cycles(op, s)) for s in found), key=lambda pair: (pair[1], -pair[0].pes))
        early = all(v in self.early for v in op.outputs)
        return priced[: 6 if early else self.options.tries]

    def own_cycles(self, op: Op, strategy: Strategy) -> int:
        """Local work and reductions of one op, in cycles."""
        kind = next((t for t in self.graph.in_types(op) if t is not None), self.graph.out_types(op)[0])
        total = price.local_cycles(strategy.work, kind.dtype, self.target)
        if strategy.owed:
            axes = [axis for axis, _ in strategy.owed]
            loops = self.loops[op.id]
            if loops.partials:
                words = sum(
                    price.words_of(TensorType(p.dtype, p.shape), layout, self.mesh)
                    for p, layout in zip(loops.partials, strategy.partials, strict=True)
                )
                total += self.target.pe.task_cycles
            else:
                words = sum(
                    price.words_of(t, layout, self.mesh)
                    for t, layout in zip(self.graph.out_types(op), strategy.outs, strict=True)
                )
            for line in price.lines_of(self.mesh, axes):
                total += price.all_reduce(self.mesh.parts(line), words, self.target).cycles
        return total

    def take(self, state: _State, op: Op, strategy: Strategy, own: int) -> _State | None:
        """The state after running the op so; None if an operand cannot be had or SRAM is exceeded."""
        share = EARLY_SHARE if all(v in self.early for v in op.outputs) else 1
        cost, size = state.cost + own // share, state.bytes
        versions, resident, arrived = dict(state.versions), state.resident, state.arrived
        sources: list[Layout | None] = []
        for value, need in zip(op.inputs, strategy.ins, strict=True):
            if value is None or need is None:
                sources.append(None)
                continue
            if value in self.weights:
                sources.append(None)
                if (value, need) not in resident:
                    resident = resident | {(value, need)}
                    size += tile_bytes(Tiled(self.graph.types[value], need), self.mesh, self.graph.past_max)
                continue
            if value not in versions and value in self.graph.inputs:
                versions[value] = (need,)
                arrived = {**arrived, value: need}
            fetched = self.cheapest(value, versions[value], need)
            if fetched is None:
                return None
            source, cycles = fetched
            sources.append(source)
            cost += cycles // share
            if source != need:
                versions[value] = (*versions[value], need)
        if size > self.bound:
            self.least_bytes = min(self.least_bytes or size, size)
            return None
        for value, layout in zip(op.outputs, strategy.outs, strict=True):
            versions[value] = (layout,)
        return _State(cost, size, versions, resident, Choice(op.id, strategy, tuple(sources)), state, arrived)

    def cheapest(self, value: ValueName, at_hand: tuple[Layout, ...], need: Layout) -> tuple[Layout, int] | None:
        best: tuple[Layout, int] | None = None
        for have in at_hand:
            key = (value, have, need)
            if key not in self.move_cost:
                kind = self.graph.types[value]
                moves = plan(kind, have, need, self.mesh)
                self.move_cost[key] = (
                    None if moves is None else price.moves_cycles(kind, have, moves, self.mesh, self.target)
                )
            cycles = self.move_cost[key]
            if cycles is not None and (best is None or cycles < best[1]):
                best = (have, cycles)
        return best

    def finish_cost(self, state: _State) -> int:
        total = state.cost
        for value in self.graph.outputs:
            if value in self.carried:
                fetched = self.cheapest(value, state.versions[value], boundary_layout(self.graph.types[value], self.mesh))
                total += 10**9 if fetched is None else fetched[1]
        return total

    def solution(self, state: _State) -> Solution:
        choices: list[Choice] = []
        at: _State | None = state
        while at is not None and at.choice is not None:
            choices.append(at.choice)
            at = at.parent
        inputs: dict[ValueName, Layout] = {}
        for value in self.graph.inputs:
            kind = self.graph.types[value]
            if value in self.carried:
                inputs[value] = boundary_layout(kind, self.mesh)
            else:
                inputs[value] = state.arrived.get(value, Layout.replicated(kind.rank))
        outputs: dict[ValueName, Layout] = {}
        fetched: dict[ValueName, Layout] = {}
        for value in self.graph.outputs:
            kind = self.graph.types[value]
            need = boundary_layout(kind, self.mesh) if value in self.carried else state.versions[value][0]
            source = self.cheapest(value, state.versions[value], need)
            assert source is not None
            outputs[value], fetched[value] = need, source[0]
        return Solution(
            self.mesh, tuple(reversed(choices)), inputs, outputs, fetched, self.finish_cost(state), state.bytes
        )

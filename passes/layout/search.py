"""Search: choose one strategy per op so that a block's cycles are least and its SRAM bound holds.

The variables are the ops, their domains the strategies that are cheapest on their own; a value read by several ops,
and an input, get a variable too: the layout in which it is shared. Each variable costs its local cycles and
reductions, each edge the relayout between what is produced and what is wanted. Their sum is minimised exactly
(`eliminate.py`). Weights may lie in any layout, for their bytes; if those exceed SRAM, bytes are priced and the
search repeated.

Reads a template Graph, a Mesh and a Target; writes Solution. Cost: ops * strategies^(width + 1), width 2-4 for
decoder layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wafercc.errors import CompileError, DoesNotFit
from wafercc.ir.graph import Graph, Op, OpId, TensorType, ValueName
from wafercc.ir.layout import UNCUT, Layout, Mesh, Split, Tiled, tile_bytes
from wafercc.ir.loops import Loops
from wafercc.targets import Target

from . import price
from .eliminate import IMPOSSIBLE, Factor, Table, TooWide, minimise
from .relayout import plan
from .strategy import Strategy, dim_facts, is_whole, lines_of, op_loops, strategies

EARLY_SHARE = 4  # ops that run while the block waits for its input count a quarter
BYTE_PRICES = (0, 1, 8, 64)  # cycles per 64 bytes of weights, tried in turn until the bound holds


@dataclass(frozen=True)
class Solution:
    """A block's choices on one mesh: a strategy per op, the shared layout of values, and the estimate they were
    chosen by.
    """

    mesh: Mesh
    strategies: Mapping[OpId, Strategy]
    shared: Mapping[ValueName, Layout]
    outputs: Mapping[ValueName, Layout]
    cycles: int
    weight_bytes: int


@dataclass(frozen=True)
class Search:
    """Options of the search: how many strategies an op may try, fewer for ops off the critical path; forced ones by op.

    ``kept_bytes`` of SRAM are not for weights: caches and activations need them.
    """

    tries: int = 16
    early_tries: int = 6
    forced: Mapping[str, str] = field(default_factory=dict)
    kept_bytes: int = 0

    def __call__(
        self, graph: Graph, mesh: Mesh, target: Target, early: frozenset[ValueName], carried: frozenset[ValueName]
    ) -> Solution:
        """Solve one template. ``carried`` values cross stages and keep to the boundary layout; ``early`` ones are
        cheap.

        Raises:
            DoesNotFit: the weights exceed the SRAM of the mesh however they are cut.
            CompileError: a forced strategy does not exist.
        """
        problem = _Problem(self, graph, mesh, target, early, carried)
        bound, least = target.pe.usable_bytes - self.kept_bytes, 0
        for byte_price in BYTE_PRICES:
            solution = problem.solve(byte_price)
            if solution.weight_bytes <= bound:
                return solution
            least = solution.weight_bytes
        raise DoesNotFit(
            f"the weights of {len(graph.ops)} ops need {least} bytes per PE on {mesh.columns}x{mesh.rows} PEs; "
            f"{bound} are usable",
            resource="SRAM bytes per PE",
            demand=least,
            bound=bound,
            where=f"block with op {graph.ops[-1].id}",
            hint="use a larger target or --region, or more --stages",
        )


def boundary_layout(kind: TensorType, mesh: Mesh) -> Layout:
    """How values cross from stage to stage: the last dimension over the rows, copies along each row.

    Every row of one region then talks to the same row of the next: as many lanes as rows.
    """
    rows = tuple(a.name for a in mesh.axes if a.along == "y" and a.extent > 1)
    last = kind.shape[-1] if kind.shape else 1
    if not rows or not isinstance(last, int) or last < 2:
        return Layout.replicated(kind.rank)
    return Layout((*(UNCUT,) * (kind.rank - 1), Split(rows)))


def shared_values(graph: Graph) -> list[ValueName]:
    """Inputs, and values that several operands read: each is brought into one shared layout first."""
    weights = frozenset(graph.weights)
    reads: dict[ValueName, int] = {}
    for op in graph.ops:
        for value in op.operands:
            reads[value] = reads.get(value, 0) + 1
    return [v for v, n in reads.items() if v not in weights and (n > 1 or v in graph.inputs)]


def solution_of(
    graph: Graph,
    mesh: Mesh,
    picked: Mapping[OpId, Strategy],
    shared: Mapping[ValueName, Layout],
    carried: frozenset[ValueName],
    cycles: int,
) -> Solution:
    """The solution that these choices make."""
    weights = frozenset(graph.weights)
    held = {
        (v, need) for op in graph.ops for v, need in zip(op.inputs, picked[op.id].ins, strict=True) if v in weights
    }
    size = sum(
        tile_bytes(Tiled(graph.types[v], need), mesh, graph.past_max)
        for v, need in held
        if v is not None and need is not None
    )
    outputs: dict[ValueName, Layout] = {}
    for value in graph.outputs:
        producer = graph.producer[value]
        made = picked[producer.id].outs[producer.outputs.index(value)]
        outputs[value] = boundary_layout(graph.types[value], mesh) if value in carried else made
    return Solution(mesh, picked, shared, outputs, cycles, size)


class _Problem:
    """The tables of one search: variables are first the ops, then the shared values."""

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
        self.found = {op.id: self.priced(op) for op in graph.ops}
        self.moved: dict[TensorType, dict[tuple[Layout, Layout], int]] = {}

    def priced(self, op: Op) -> list[tuple[Strategy, int]]:
        """An op's strategies with their own cycles, cheapest first; more PEs first among equals."""
        found = strategies(self.graph, op, self.loops[op.id], self.facts, self.mesh)
        wanted = self.options.forced.get(op.id)
        if wanted is not None:
            names = sorted({s.name for s in found})
            found = [s for s in found if s.name == wanted]
            if not found:
                raise CompileError(
                    f"no strategy {wanted!r}; there are: {', '.join(names)}", where=f"op {op.id} ({op.kind})"
                )
        return sorted(((s, self.own_cycles(op, s)) for s in found), key=lambda pair: (pair[1], -pair[0].pes))

    def solve(self, byte_price: int) -> Solution:
        """The cheapest choices; domains are halved while the tables are too wide."""
        tries, early_tries = self.options.tries, self.options.early_tries
        while True:
            try:
                return self.minimum(tries, early_tries, byte_price)
            except TooWide:
                tries, early_tries = max(2, tries * 2 // 3), max(2, early_tries * 2 // 3)

    def minimum(self, tries: int, early_tries: int, byte_price: int) -> Solution:
        graph = self.graph
        domains: list[list[Strategy]] = []
        factors: list[Factor] = []
        for i, op in enumerate(graph.ops):
            is_early = all(v in self.early for v in op.outputs)
            pairs = self.shortlist(op, early_tries if is_early else tries, byte_price)
            domains.append([s for s, _ in pairs])
            share = EARLY_SHARE if is_early else 1
            own = [c // share + self.output_cycles(op, s) + self.price_bytes(op, s, byte_price) for s, c in pairs]
            factors.append(Factor((i,), np.array(own, np.int64)))
        number = {op.id: i for i, op in enumerate(graph.ops)}
        shared: dict[ValueName, tuple[int, list[Layout]]] = {}
        for value in shared_values(graph):
            layouts = self.layouts_wanted(value, domains, number)
            shared[value] = (len(domains) + len(shared), layouts)
        sizes = [len(d) for d in domains] + [len(layouts) for _, layouts in shared.values()]
        for value, (variable, layouts) in shared.items():
            producer = graph.producer.get(value)
            if producer is not None:
                which = producer.outputs.index(value)
                made = [s.outs[which] for s in domains[number[producer.id]]]
                factors.append(Factor((number[producer.id], variable), self.table(value, made, layouts)))
        for op in graph.ops:
            for slot, name in enumerate(op.inputs):
                if name is None or name in self.weights:
                    continue
                needs = [_need(s, slot) for s in domains[number[op.id]]]
                if name in shared:
                    variable, made = shared[name]
                else:
                    producer = graph.producer[name]
                    variable = number[producer.id]
                    made = [s.outs[producer.outputs.index(name)] for s in domains[variable]]
                factors.append(Factor((variable, number[op.id]), self.table(name, made, needs)))
        cycles, chosen = minimise(sizes, factors)
        picked = {op.id: domains[i][chosen[i]] for i, op in enumerate(graph.ops)}
        if cycles >= IMPOSSIBLE:
            raise CompileError(
                "no combination of layouts leads through this block",
                where=f"op {graph.ops[-1].id}",
                hint="use fewer new tokens, more --stages or another --region",
            )
        layouts_shared = {v: layouts[chosen[variable]] for v, (variable, layouts) in shared.items()}
        return solution_of(graph, self.mesh, picked, layouts_shared, self.carried, cycles)

    def layouts_wanted(
        self, value: ValueName, domains: Sequence[Sequence[Strategy]], number: Mapping[OpId, int]
    ) -> list[Layout]:
        """The layouts a shared value may have: what its readers want and its producer makes; one only if it is
        carried in.
        """
        if value in self.carried and value in self.graph.inputs:
            return [boundary_layout(self.graph.types[value], self.mesh)]
        wanted: dict[Layout, None] = {}
        producer = self.graph.producer.get(value)
        if producer is not None:
            which = producer.outputs.index(value)
            wanted.update(dict.fromkeys(s.outs[which] for s in domains[number[producer.id]]))
        for op in self.graph.users[value]:
            for slot, name in enumerate(op.inputs):
                if name == value:
                    wanted.update(dict.fromkeys(_need(s, slot) for s in domains[number[op.id]]))
        return list(wanted)

    def table(self, value: ValueName, made: Sequence[Layout], needs: Sequence[Layout]) -> Table:
        """Relayout cycles, made x needed."""
        kind = self.graph.types[value]
        known = self.moved.setdefault(kind, {})
        rows = {have: i for i, have in enumerate(dict.fromkeys(made))}
        columns = {need: j for j, need in enumerate(dict.fromkeys(needs))}
        small = np.full((len(rows), len(columns)), IMPOSSIBLE, np.int64)
        for have, i in rows.items():
            for need, j in columns.items():
                cycles = known.get((have, need))
                if cycles is None:
                    moves = plan(kind, have, need, self.mesh)
                    cycles = IMPOSSIBLE
                    if moves is not None:
                        cycles = price.moves_cycles(kind, have, moves, self.mesh, self.target)
                    known[have, need] = cycles
                small[i, j] = cycles
        return small[np.ix_([rows[h] for h in made], [columns[n] for n in needs])]

    def shortlist(self, op: Op, tries: int, byte_price: int) -> list[tuple[Strategy, int]]:
        pairs = self.found[op.id]
        if byte_price:
            pairs = sorted(pairs, key=lambda pair: pair[1] + self.price_bytes(op, pair[0], byte_price))
        return pairs[:tries]

    def price_bytes(self, op: Op, strategy: Strategy, byte_price: int) -> int:
        if not byte_price:
            return 0
        size = sum(
            tile_bytes(Tiled(self.graph.types[v], need), self.mesh, self.graph.past_max)
            for v, need in zip(op.inputs, strategy.ins, strict=True)
            if v is not None and need is not None and v in self.weights
        )
        return size * byte_price // 64

    def output_cycles(self, op: Op, strategy: Strategy) -> int:
        """What it takes to bring carried results into the boundary layout."""
        total = 0
        for value, layout in zip(op.outputs, strategy.outs, strict=True):
            if value in self.carried and value in self.graph.outputs:
                wanted = boundary_layout(self.graph.types[value], self.mesh)
                total += int(self.table(value, [layout], [wanted])[0, 0])
        return total

    def own_cycles(self, op: Op, strategy: Strategy) -> int:
        """Local work and reductions of one op, in cycles."""
        kind = next((t for t in self.graph.in_types(op) if t is not None), self.graph.out_types(op)[0])
        total = price.local_cycles(strategy.work, kind.dtype, self.target)
        if not strategy.owed:
            return total
        loops = self.loops[op.id]
        if loops.partials:
            kinds = [TensorType(p.dtype, p.shape) for p in loops.partials]
            layouts: Sequence[Layout] = strategy.partials
            total += self.target.pe.task_cycles
        else:
            kinds, layouts = list(self.graph.out_types(op)), strategy.outs
        words = sum(price.words_of(t, layout, self.mesh) for t, layout in zip(kinds, layouts, strict=True))
        for line in lines_of(self.mesh, [axis for axis, _ in strategy.owed]):
            total += price.all_reduce(self.mesh.parts(line), words, self.target, is_whole(self.mesh, line)).cycles
        return total


def _need(strategy: Strategy, slot: int) -> Layout:
    need = strategy.ins[slot]
    assert need is not None
    return need

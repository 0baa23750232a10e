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
from difflib import get_close_matches

import numpy as np

from wafercc.errors import CompileError, DoesNotFit
from wafercc.ir.graph import Graph, Op, OpId, TensorType, ValueName
from wafercc.ir.layout import Layout, Mesh, Tiled, tile_bytes
from wafercc.ir.loops import Loops
from wafercc.targets import Target

from ..schedule import SRAM_PER_PE
from . import price
from .eliminate import IMPOSSIBLE, Factor, Table, TooWide, marginals, minimise
from .relayout import plan
from .solution import Reason, Solution, boundary_layout, solution_of
from .strategy import (
    WHOLE_ELEMENTS,
    Strategy,
    dim_facts,
    is_legal,
    is_whole,
    lines_of,
    name_of,
    named,
    op_loops,
    strategies,
)

EARLY_SHARE = 4  # ops that run while the block waits for its input count a quarter
MOST_NAMED = 3  # forced ops that a message names
CROWDED_PRICE = 64  # cycles for 64 bytes of activations beyond those that are free of charge
BYTE_PRICES = (0, 1, 8, 64)  # cycles per 64 bytes of weights, tried in turn until the bound holds


class NoSuchStrategy(CompileError):
    """A forced strategy does not exist on this mesh; ``known`` are the op's strategies that do."""

    def __init__(self, op: Op, wanted: str, known: Sequence[str]) -> None:
        self.op, self.wanted, self.known = op, wanted, tuple(sorted(set(known)))
        near = get_close_matches(wanted, self.known, n=len(self.known), cutoff=0.0)
        super().__init__(
            f"no strategy {wanted!r}; there are, nearest first: {', '.join(near)}", where=f"op {op.id} ({op.kind})"
        )

    def joined(self, other: CompileError | None) -> CompileError:
        """The same about several meshes: all strategies known on any of them. What does not fit is told first."""
        if isinstance(other, NoSuchStrategy) and other.op == self.op:
            return NoSuchStrategy(self.op, self.wanted, (*other.known, *self.known))
        return other or self


@dataclass(frozen=True)
class Search:
    """Options of the search: how many strategies an op may try, fewer for ops off the critical path; forced ones by op.

    ``shared`` layouts are forced by value. ``kept`` values (weights, caches) lie as another entry has them, in one of
    these layouts, wherever an op has a strategy that reads or makes them so. ``kept_bytes`` of SRAM are not for
    weights: caches and activations need them. Operands and results of one op that take more than ``value_bytes`` cost
    `CROWDED_PRICE` for each further 64. ``reasons``: of how many next best strategies of each op to work out what they
    would cost. Values of more than ``whole_elements`` lie whole on one PE only where an op leaves no choice.
    """

    tries: int = 16
    early_tries: int = 6
    forced: Mapping[OpId, str] = field(default_factory=dict)
    shared: Mapping[ValueName, Layout] = field(default_factory=dict)
    kept: Mapping[ValueName, tuple[Layout, ...]] = field(default_factory=dict)
    kept_bytes: int = 0
    value_bytes: int | None = None
    reasons: int = 0
    whole_elements: int = WHOLE_ELEMENTS

    def __call__(
        self, graph: Graph, mesh: Mesh, target: Target, early: frozenset[ValueName], carried: frozenset[ValueName]
    ) -> Solution:
        """Solve one template. ``carried`` values cross stages and keep to the boundary layout; ``early`` ones are
        cheap.

        Raises:
            DoesNotFit: the weights exceed the SRAM of the mesh however they are cut.
            NoSuchStrategy: a forced strategy does not exist on this mesh.
        """
        problem = _Problem(self, graph, mesh, target, early, carried)
        bound, least = target.pe.usable_bytes - self.kept_bytes, 0
        for byte_price in BYTE_PRICES:
            solution = problem.solve(byte_price)
            if solution.weight_bytes <= bound:
                return solution
            least = solution.weight_bytes
        raise DoesNotFit(
            f"the weights of {len(graph.ops)} ops need {least} bytes per PE on {mesh.columns}x{mesh.rows} PEs"
            f"{self.words(graph)}; {bound} are usable",
            resource=SRAM_PER_PE,
            demand=least,
            bound=bound,
            where=f"block with op {graph.ops[-1].id}",
            hint=f"{'leave out --strategy, or ' if self.words(graph) else ''}use a larger target or --region, or more "
            "--stages",
        )

    def words(self, graph: Graph) -> str:
        """What is forced in a template, for messages; empty if nothing is."""
        found = [f"{op.id} forced to {self.forced[op.id]}" for op in graph.ops if op.id in self.forced]
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        return f" with {', '.join(found[:MOST_NAMED])}{more}" if found else ""


def shared_values(graph: Graph) -> list[ValueName]:
    """Inputs, and values that several operands read: each is brought into one shared layout first."""
    weights = frozenset(graph.weights)
    reads: dict[ValueName, int] = {}
    for op in graph.ops:
        for value in op.operands:
            reads[value] = reads.get(value, 0) + 1
    return [v for v, n in reads.items() if v not in weights and (n > 1 or v in graph.inputs)]


def own_cycles(graph: Graph, op: Op, loops: Loops, strategy: Strategy, mesh: Mesh, target: Target) -> int:
    """Local work and reductions of one op, in cycles."""
    kind = next((t for t in graph.in_types(op) if t is not None), graph.out_types(op)[0])
    total = price.local_cycles(strategy.work, kind.dtype, target)
    if not strategy.owed:
        return total
    if loops.partials:
        kinds = [TensorType(p.dtype, p.shape) for p in loops.partials]
        layouts: Sequence[Layout] = strategy.partials
        total += target.pe.task_cycles
    else:
        kinds, layouts = list(graph.out_types(op)), strategy.outs
    words = sum(price.words_of(t, layout, mesh) for t, layout in zip(kinds, layouts, strict=True))
    for line in lines_of(mesh, [axis for axis, _ in strategy.owed]):
        total += price.all_reduce(mesh.parts(line), words, target, is_whole(mesh, line)).cycles
    return total


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
        self.moves: dict[TensorType, dict[tuple[Layout, Layout], int]] = {}
        self.moved: dict[tuple[TensorType, tuple[Layout, ...], tuple[Layout, ...]], Table] = {}

    def priced(self, op: Op) -> list[tuple[Strategy, int]]:
        """An op's strategies with their own cycles, cheapest first; more PEs first among equals."""
        wanted = self.options.forced.get(op.id)
        whole = self.options.whole_elements if wanted is None else None
        found: Sequence[Strategy] = ()
        if any(v in self.options.kept for v in (*op.operands, *op.outputs)):
            every = strategies(self.graph, op, self.loops[op.id], self.facts, self.mesh, None)
            found = self.keeping(op, every)
        if not found:
            found = strategies(self.graph, op, self.loops[op.id], self.facts, self.mesh, whole)
        if wanted is not None:
            names = [name_of(s, self.mesh) for s in found]
            found = named(found, wanted, self.mesh)
            if not found:
                raise NoSuchStrategy(op, wanted, names)
        own = ((s, own_cycles(self.graph, op, self.loops[op.id], s, self.mesh, self.target)) for s in found)
        return sorted(own, key=lambda pair: (pair[1], -pair[0].pes))

    def crowding(self, op: Op, strategy: Strategy) -> int:
        """What an op pays for the room that its operands and results take at once, weights apart."""
        free = self.options.value_bytes
        if free is None:
            return 0
        read = {
            (self.graph.types[v], need)
            for v, need in zip(op.inputs, strategy.ins, strict=True)
            if v is not None and need is not None and v not in self.weights
        }
        made = list(zip(self.graph.out_types(op), strategy.outs, strict=True))
        partials = zip(self.loops[op.id].partials, strategy.partials, strict=False)
        owed = [(TensorType(p.dtype, p.shape), lies) for p, lies in partials]
        held = sum(tile_bytes(Tiled(*each), self.mesh, self.graph.past_max) for each in (*read, *made, *owed))
        return max(0, held - free) * CROWDED_PRICE // 64

    def keeping(self, op: Op, found: Sequence[Strategy]) -> Sequence[Strategy]:
        """The strategies that leave kept values as they lie."""
        kept = self.options.kept
        slots = [(i, kept[v]) for i, v in enumerate(op.inputs) if v is not None and v in kept]
        made = [(i, kept[v]) for i, v in enumerate(op.outputs) if v in kept]
        alike = [s for s in found if all(s.ins[i] in lies for i, lies in slots)]
        return [s for s in alike if all(s.outs[i] in lies for i, lies in made)]

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
            own = [c // share + self.output_cycles(op, s) + self.room(op, s, byte_price) for s, c in pairs]
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
            forced = self.options.words(graph)
            raise CompileError(
                f"no combination of layouts leads through this block{forced}",
                where=f"op {graph.ops[-1].id}",
                hint="use another --strategy" if forced else "use fewer new tokens, more --stages or another --region",
            )
        paid = cycles - sum(self.room(op, picked[op.id], byte_price) for op in graph.ops)
        layouts_shared = {v: layouts[chosen[variable]] for v, (variable, layouts) in shared.items()}
        reasons = self.reasons(domains, chosen, marginals(sizes, factors), paid) if self.options.reasons else {}
        whole = self.options.whole_elements
        return solution_of(graph, self.mesh, picked, layouts_shared, self.carried, paid, byte_price, reasons, whole)

    def reasons(
        self, domains: Sequence[Sequence[Strategy]], chosen: Sequence[int], totals: Sequence[Table], cycles: int
    ) -> dict[OpId, Reason]:
        """Per op what the next best strategies would make of the block."""
        found: dict[OpId, Reason] = {}
        for i, op in enumerate(self.graph.ops):
            more = totals[i] - totals[i][chosen[i]]
            order = np.argsort(more, kind="stable").tolist()
            ranked = [j for j in order if j != chosen[i] and more[j] < IMPOSSIBLE // 2]
            others = [(name_of(domains[i][j], self.mesh), cycles + int(more[j])) for j in ranked]
            own = next(c for s, c in self.found[op.id] if s is domains[i][chosen[i]])
            known, forced = len(self.found[op.id]), op.id in self.options.forced
            found[op.id] = Reason(own, tuple(others[: self.options.reasons]), len(domains[i]), known, forced)
        return found

    def layouts_wanted(
        self, value: ValueName, domains: Sequence[Sequence[Strategy]], number: Mapping[OpId, int]
    ) -> list[Layout]:
        """The layouts a shared value may have: what its readers want and its producer makes; one only if it is
        carried in, or forced.
        """
        if value in self.carried and value in self.graph.inputs:
            return [boundary_layout(self.graph.types[value], self.mesh)]
        if value in self.options.shared:
            return [self.checked(value, self.options.shared[value])]
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

    def checked(self, value: ValueName, layout: Layout) -> Layout:
        """A forced layout, if the value can have it.

        Raises:
            CompileError: it has another rank, an axis that the mesh has not, or parts a dimension that grows.
        """
        kind = self.graph.types[value]
        axes = {a.name for a in self.mesh.axes}
        if len(layout.splits) != kind.rank or not set(layout.cut_axes) <= axes or not is_legal(layout, kind):
            raise CompileError(f"{kind} cannot lie as {layout} on the mesh {self.mesh}", where=f"value {value}")
        return layout

    def table(self, value: ValueName, made: Sequence[Layout], needs: Sequence[Layout]) -> Table:
        """Relayout cycles, made x needed."""
        rows = {have: i for i, have in enumerate(dict.fromkeys(made))}
        columns = {need: j for j, need in enumerate(dict.fromkeys(needs))}
        key = self.graph.types[value], tuple(rows), tuple(columns)
        if key not in self.moved:
            self.moved[key] = np.array([[self.move(key[0], have, need) for need in columns] for have in rows], np.int64)
        return self.moved[key][np.ix_([rows[h] for h in made], [columns[n] for n in needs])]

    def move(self, kind: TensorType, have: Layout, need: Layout) -> int:
        """The cycles of one relayout."""
        known = self.moves.setdefault(kind, {})
        cycles = known.get((have, need))
        if cycles is None:
            found = plan(kind, have, need, self.mesh)
            cycles = IMPOSSIBLE
            if found is not None:
                cycles = price.moves_cycles(kind, have, found, self.mesh, self.target)
            known[have, need] = cycles
        return cycles

    def shortlist(self, op: Op, tries: int, byte_price: int) -> list[tuple[Strategy, int]]:
        pairs = self.found[op.id]
        if byte_price or self.options.value_bytes is not None:
            pairs = sorted(pairs, key=lambda pair: pair[1] + self.room(op, pair[0], byte_price))
        return pairs[:tries]

    def room(self, op: Op, strategy: Strategy, byte_price: int) -> int:
        """What an op pays for SRAM: its weights by the byte, its activations where they crowd it."""
        return self.price_bytes(op, strategy, byte_price) + self.crowding(op, strategy)

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


def _need(strategy: Strategy, slot: int) -> Layout:
    need = strategy.ins[slot]
    assert need is not None
    return need

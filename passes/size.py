"""Size: how many rows and columns of PEs each block gets.

All blocks share the number of rows, so that streams between stages run row to row; columns are each block's own. Square
meshes are tried from small to large until more PEs stop paying, then columns are varied around the best. The result
is a list of plans, best first, each smaller than the one before, for placement to fall back on where defects leave
too little room.

Reads Partition and Target; writes plans of solved blocks. Cost: a few dozen layout searches over few strategies, then
one full search per block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from wafercc.errors import CompileError, DoesNotFit
from wafercc.ir.block import BlockName
from wafercc.ir.graph import ValueName
from wafercc.ir.layout import Mesh
from wafercc.ir.lines import Excerpt
from wafercc.ir.partition import Partition
from wafercc.ir.text import print_graph
from wafercc.targets import Target

from .cache import Remember, anew
from .layout import NoSuchStrategy, Search, Solution, SolvedBlock, emit, parse_blocks, print_blocks
from .partition import cheap_values
from .schedule import plan_sram
from .size_plan import SizePlan
from .steer import FREE, MeshShape, Steering

LADDER = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SHRINK = (1.0, 0.97, 0.94, 0.91, 0.88, 0.84, 0.8, 0.75, 0.7, 0.65, 0.58, 0.5)
NEAR = 0.003  # estimates this close are equal: then the mesh with fewer PEs is taken
LEAST_FACTORED = 8  # shorter directions are not factored
QUICK = Search(tries=10, early_tries=3)


@dataclass(frozen=True)
class Size:
    """Options of the pass: what is decided beforehand, and the full search. ``remember`` may know what a search has
    found before.
    """

    steering: Steering = FREE
    search: Search = Search(tries=20, early_tries=4, reasons=4)
    remember: Remember = anew

    def __call__(self, partition: Partition, target: Target, live_pes: int) -> Iterator[SizePlan]:
        """Plans, best first.

        Raises:
            DoesNotFit: the weights need more SRAM than the machine has, or a forced mesh does not hold them.
            NoSuchStrategy: a forced strategy exists on none of the meshes tried.
        """
        if self.steering.shapes.keys() == partition.templates.keys():
            yield SizePlan(self.steering.shapes)
            return
        yield from _Sizer(partition, target, live_pes, self.steering, self.remember).plans()

    def solve(self, partition: Partition, plan: SizePlan, target: Target) -> dict[BlockName, SolvedBlock]:
        """Every block searched in full; once more with room kept for caches and activations where weights leave
        none.
        """
        solved: dict[BlockName, SolvedBlock] = {}
        for name, template in partition.templates.items():
            whole, carried = self.steering.meshes.get(name), carried_values(partition, name)
            meshes = factorings(plan.shapes[name]) if whole is None else [whole]
            steered = steer_search(self.search, self.steering, name)

            def search(
                name: BlockName = name, meshes: Sequence[Mesh] = meshes, steered: Search = steered
            ) -> SolvedBlock:
                return solve_block(steered, partition, name, meshes, target)

            def read(text: Excerpt, name: BlockName = name, carried: frozenset[ValueName] = carried) -> SolvedBlock:
                template = {name: partition.templates[name]}
                return parse_blocks(text, template, {name: carried}, target, self.steering.whole_elements)[name]

            inputs = (name, print_graph(template), sorted(carried), meshes, steered)
            solved[name] = self.remember(inputs, search, _one_block, read)
        return solved


def steer_search(search: Search, steering: Steering, name: BlockName) -> Search:
    """The search of one block, with what is forced there."""
    return replace(
        search,
        forced=steering.strategies.get(name, {}),
        shared=steering.shared.get(name, {}),
        whole_elements=steering.whole_elements,
    )


def _one_block(solved: SolvedBlock) -> str:
    return print_blocks({solved.block.name: solved})


def solve_block(
    search: Search, partition: Partition, name: BlockName, meshes: Sequence[Mesh], target: Target
) -> SolvedBlock:
    """One block whose SRAM plan holds: searched again, with room for caches and activations, where weights leave none.

    Raises:
        DoesNotFit: it needs more than a PE has; the message names the three parts.
    """
    graph, bound = partition.templates[name], target.pe.usable_bytes
    solved = emit(name, graph, search_block(search, partition, name, meshes, target), target)
    need = plan_sram(solved.block, graph.past_max, bound)
    if need.total_bytes <= bound:
        return solved
    refusal = DoesNotFit(
        f"{len(graph.ops)} ops{search.words(graph)} need {need.total_bytes} bytes per PE on "
        f"{solved.block.mesh.columns}x{solved.block.mesh.rows} PEs (weights {need.weights_bytes}, caches "
        f"{need.state_bytes}, activations {need.peak_activation_bytes}); {bound} are usable",
        resource="SRAM bytes per PE",
        demand=need.total_bytes,
        bound=bound,
        where=f"block with op {graph.ops[-1].id}",
        hint="use a larger target or --region, more --stages, a shorter --context or fewer new tokens",
    )
    tighter = replace(search, kept_bytes=need.total_bytes - need.weights_bytes)
    if tighter.kept_bytes >= bound:
        raise refusal
    try:
        solved = emit(name, graph, search_block(tighter, partition, name, meshes, target), target)
    except DoesNotFit:
        raise refusal from None
    if plan_sram(solved.block, graph.past_max, bound).total_bytes > bound:
        raise refusal
    return solved


def carried_values(partition: Partition, name: BlockName) -> frozenset[ValueName]:
    """Interface values of a template that some stage exchanges with another stage."""
    template, outside = partition.templates[name], set(partition.graph.inputs)
    read = {s.bindings[n] for s in partition.stages for n in partition.templates[s.block].inputs}
    sent = read - outside
    return frozenset(
        value
        for stage in partition.stages
        if stage.block == name
        for value in (*template.inputs, *template.outputs)
        if stage.bindings[value] in sent
    )


def search_block(
    search: Search, partition: Partition, name: BlockName, meshes: Sequence[Mesh], target: Target
) -> Solution:
    """The best layout of one block over some factorings of its mesh; the first of equals.

    Raises:
        DoesNotFit: it needs more SRAM than there is on each of them.
        NoSuchStrategy: a forced strategy exists on none of them; all that exist are named.
    """
    graph = partition.templates[name]
    early, carried = cheap_values(graph), carried_values(partition, name)
    found: Solution | None = None
    refusal: CompileError | None = None
    for mesh in meshes:
        try:
            solution = search(graph, mesh, target, early, carried)
        except DoesNotFit as problem:
            refusal = refusal if isinstance(refusal, DoesNotFit) else problem
            continue
        except NoSuchStrategy as problem:
            refusal = problem.joined(refusal)
            continue
        if found is None or solution.cycles < found.cycles:
            found = solution
    if found is None:
        assert refusal is not None
        raise refusal
    return found


def factorings(shape: MeshShape) -> list[Mesh]:
    """Meshes of this shape (rows, columns): columns in two, none, rows in two; only lengths that divide evenly.

    One half for the heads or the batch and the other for the cache lets attention cut both over one direction.
    """
    rows, columns = shape
    meshes = [Mesh.of([rows], [columns])]
    if columns % 2 == 0 and columns >= LEAST_FACTORED:
        meshes.insert(0, Mesh.of([rows], [2, columns // 2]))
    if rows % 2 == 0 and rows >= LEAST_FACTORED:
        meshes.append(Mesh.of([2, rows // 2], [columns]))
    return meshes


def _even(length: int) -> int:
    """The length, one less if that lets a long direction be factored in two."""
    return length - length % 2 if length >= LEAST_FACTORED else max(1, length)


@dataclass
class _Sizer:
    partition: Partition
    target: Target
    live_pes: int
    steering: Steering
    remember: Remember

    def __post_init__(self) -> None:
        self.known: dict[tuple[BlockName, MeshShape], int | None] = {}
        self.refused: DoesNotFit | None = None
        self.unknown: CompileError | None = None
        self.rows = next((rows for rows, _ in self.steering.shapes.values()), None)
        self.refused_rank = (0, 0)
        self.inputs = {
            name: (print_graph(template), sorted(carried_values(self.partition, name)))
            for name, template in self.partition.templates.items()
        }

    @cached_property
    def counts(self) -> dict[BlockName, int]:
        stages = self.partition.stages
        return {b: sum(s.block == b for s in stages) for b in self.partition.templates}

    def cycles(self, block: BlockName, shape: MeshShape) -> int | None:
        """Estimated cycles of a block on a mesh; None if it does not fit there."""
        key = (block, shape)
        if key not in self.known:
            try:
                self.known[key] = self.quick(block, shape) + sum(shape)
            except NoSuchStrategy as unknown:
                self.unknown = unknown.joined(self.unknown)
                self.known[key] = None
            except DoesNotFit as refusal:
                # Told about is the block that needs most on the largest mesh tried.
                rank = (shape[0] * shape[1], refusal.demand)
                if rank > self.refused_rank:
                    self.refused, self.refused_rank = refusal, rank
                self.known[key] = None
        return self.known[key]

    def quick(self, block: BlockName, shape: MeshShape) -> int:
        """The estimate of a quick search.

        Raises:
            DoesNotFit: the block needs more than a PE of this mesh has.
            NoSuchStrategy: a forced strategy does not exist on this mesh.
        """
        search = replace(steer_search(QUICK, self.steering, block), shared={})
        factored = any("*" in name for name in search.forced.values())
        meshes = factorings(shape) if factored else [Mesh.of([shape[0]], [shape[1]])]
        return self.remember(
            (*self.inputs[block], meshes, search),
            lambda: solve_block(search, self.partition, block, meshes, self.target).estimate_cycles,
            str,
            _number,
        )

    def fits(self, shapes: Mapping[BlockName, MeshShape]) -> bool:
        area = sum(self.counts[b] * p * q for b, (p, q) in shapes.items())
        height, width = self.target.height, self.target.width
        return area <= self.live_pes and all(p <= height and q <= width for p, q in shapes.values())

    def total(self, shapes: Mapping[BlockName, MeshShape]) -> int | None:
        parts = [self.cycles(b, s) for b, s in shapes.items()]
        if not self.fits(shapes) or any(p is None for p in parts):
            return None
        return sum(self.counts[b] * p for (b, _), p in zip(shapes.items(), parts, strict=True) if p is not None)

    def plans(self) -> Iterator[SizePlan]:
        best = self.best_square()
        best = self.vary_columns(best)
        seen: set[tuple[MeshShape, ...]] = set()
        for factor in SHRINK:
            shapes = {b: self.shrunk(b, shape, factor) for b, shape in best.items()}
            key = tuple(shapes.values())
            if key not in seen:
                seen.add(key)
                yield SizePlan(shapes)

    def shrunk(self, block: BlockName, shape: MeshShape, factor: float) -> MeshShape:
        """A smaller mesh; what is forced stays."""
        rows, columns = shape
        fixed = block in self.steering.shapes
        return rows if self.rows else _even(int(rows * factor)), columns if fixed else _even(int(columns * factor))

    def best_square(self) -> dict[BlockName, MeshShape]:
        """The best square mesh for all: powers of two and the largest, from a sixteenth of the room upwards until it
        gets worse, downwards if that was best; then between neighbours.
        """
        limit = min(math.isqrt(self.live_pes // len(self.partition.stages)), self.target.height, self.target.width)
        limit = _even(min(limit, self.steering.most_rows or limit)) if limit else 0
        sides = sorted({s for s in LADDER if 4 <= s <= limit} | ({limit} if limit else set()))
        if self.rows is not None:
            limit, sides = self.rows, [self.rows]
        middle = next((i for i, s in enumerate(sides) if s >= limit // 16), 0)
        totals = self.until_worse(sides[middle:])
        if not totals or min(totals, key=lambda s: totals[s]) == sides[middle]:
            totals |= self.until_worse(sides[:middle][::-1])
        if not totals:
            raise self.does_not_fit(limit)
        best = min(totals, key=lambda s: (totals[s], s))
        for side in (_even(best * 3 // 4), _even(best * 3 // 2)):
            total = self.total(self.square(side)) if 0 < side <= limit else None
            if total is not None:
                totals[side] = total
        return self.square(min(totals, key=lambda s: (totals[s], s)))

    def until_worse(self, sides: Sequence[int]) -> dict[int, int]:
        """Side → cycles of all blocks on squares of that side, in order, until clearly worse than the best."""
        totals: dict[int, int] = {}
        for side in sides:
            total = self.total(self.square(side))
            if total is not None:
                totals[side] = total
                if total > 1.2 * min(totals.values()):
                    break
        return totals

    def square(self, side: int) -> dict[BlockName, MeshShape]:
        """A square for every block, as far as nothing else is forced and its pins are wide enough."""
        most = self.steering.most_columns
        squares = {b: (side, min(side, most.get(b, side))) for b in self.partition.templates}
        return {**squares, **self.steering.shapes}

    def vary_columns(self, shapes: dict[BlockName, MeshShape]) -> dict[BlockName, MeshShape]:
        """Give each block the columns that suit it, most work first; the fewest PEs among near-equals."""
        free = [b for b in shapes if b not in self.steering.shapes]
        blocks = sorted(free, key=lambda b: -(self.cycles(b, shapes[b]) or 0) * self.counts[b])
        for block in blocks:
            rows, columns = shapes[block]
            most = self.steering.most_columns.get(block, self.target.width)
            widths = {min(most, _even(columns * n // 4)) for n in (1, 2, 3, 4, 6, 8)}
            totals = {w: self.total({**shapes, block: (rows, w)}) for w in widths}
            known = {w: total for w, total in totals.items() if total is not None}
            least = min(known.values())
            best = min(w for w, total in known.items() if total <= least * (1 + NEAR))
            shapes = {**shapes, block: (rows, best)}
        return shapes

    def does_not_fit(self, limit: int) -> CompileError:
        if self.refused is not None:
            return DoesNotFit(
                f"{self.refused.message}; {self.live_pes} live PEs shared by {len(self.partition.stages)} stages "
                f"give each at most {limit}x{limit}",
                resource=self.refused.resource,
                demand=self.refused.demand,
                bound=self.refused.bound,
                where=self.refused.where,
                hint="use a larger target, fewer --stages, fewer tokens, or a smaller model"
                + (", or a larger --pin" if self.steering.pins else "")
                + (", or leave out --strategy" if self.steering.strategies else ""),
            )
        if self.unknown is not None:
            return self.unknown
        return DoesNotFit(
            f"{len(self.partition.stages)} stages need a PE each; {self.live_pes} are alive",
            resource="PEs",
            demand=len(self.partition.stages),
            bound=self.live_pes,
            where=f"target {self.target.name}",
            hint="use fewer --stages or a larger target",
        )


def _number(text: Excerpt) -> int:
    return int(text.text)

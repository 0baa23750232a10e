"""Solve: the full layout search of every block on the mesh that its size plan gives it.

Where a program has several entries, the tiles of weights and caches serve all of them, so layouts are handed on: the
caches from the entry that takes in most tokens, which has least room, to the first one; then weights and caches from
the first to the others, wherever an op has a strategy that reads them so.

Reads Partition, size plan and Target; writes blocks. Cost: a full search per block and factoring of its mesh; for each
further entry a quick one, and a full one over few strategies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from wafercc.errors import CompileError, DoesNotFit
from wafercc.ir.block import BlockName
from wafercc.ir.graph import Graph, ValueName
from wafercc.ir.layout import Layout, Mesh
from wafercc.ir.lines import Excerpt
from wafercc.ir.partition import Partition, Stage
from wafercc.ir.text import print_graph
from wafercc.ir.weights import Weights
from wafercc.targets import Target

from .cache import Remember, anew
from .layout import NoSuchStrategy, Search, Solution, SolvedBlock, emit, parse_blocks, print_blocks
from .partition import cheap_values
from .schedule import over_sram, plan_sram
from .size_plan import SizePlan
from .steer import FREE, MeshShape, Steering

LEAST_FACTORED = 8  # shorter directions are not factored
LARGE_ELEMENTS = 4096  # a smaller weight may be held twice, if that is what it takes
CROWDED_SHARES = (None, 4, 12)  # of SRAM that one op may fill with activations, tried in turn where they do not fit
FULL = Search(tries=20, early_tries=4, reasons=4)
QUICK = Search(tries=10, early_tries=3)

Layouts = Mapping[ValueName, tuple[Layout, ...]]


@dataclass(frozen=True)
class Follower:
    """A further entry, cut into the stages of the first. ``share``: what its cycles count for beside those of the first
    entry: they come less often, as it takes in more tokens.
    """

    name: str
    partition: Partition
    weights: Weights
    share: float

    def blocks_of(self, first: Partition, block: BlockName) -> tuple[BlockName, ...]:
        """The blocks that run in the regions of a block of the first entry."""
        pairs = zip(first.stages, self.partition.stages, strict=True)
        return tuple(dict.fromkeys(own.block for stage, own in pairs if stage.block == block))


@dataclass(frozen=True)
class Solve:
    """Options of the pass: the search, what is decided beforehand, and which entries follow. ``remember`` may know what
    a search has found before.
    """

    steering: Steering = FREE
    search: Search = FULL
    remember: Remember = anew
    followers: tuple[Follower, ...] = ()

    def __call__(self, partition: Partition, plan: SizePlan, target: Target) -> dict[BlockName, SolvedBlock]:
        """Every block of the first entry.

        Raises:
            DoesNotFit: a block needs more SRAM than a PE has.
            CompileError: what is forced on a block is impossible.
        """
        solved: dict[BlockName, SolvedBlock] = {}
        for name, template in partition.templates.items():
            whole = self.steering.meshes.get(name)
            meshes = factorings(plan.shapes[name]) if whole is None else [whole]
            steered = steer_search(self.search, self.steering, name)
            if self.followers and template.states:
                solved[name] = self.with_caches(steered, partition, name, meshes, target)
            else:
                solved[name] = self.first([steered], partition, name, meshes, target)
        return solved

    def with_caches(
        self, search: Search, partition: Partition, name: BlockName, meshes: Sequence[Mesh], target: Target
    ) -> SolvedBlock:
        """A block of the first entry whose caches lie as suits the entry that takes in most tokens, on the best of
        these meshes; as suits itself where that leads nowhere."""
        last = min(self.followers, key=lambda each: each.share)
        where = next(i for i, stage in enumerate(partition.stages) if stage.block == name)
        stage, theirs = partition.stages[where], last.partition.stages[where]
        best: SolvedBlock | None = None
        refusal: CompileError | None = None
        for mesh in meshes:
            try:
                quick = replace(QUICK, whole_elements=self.steering.whole_elements)
                free = self.first([quick], last.partition, theirs.block, [mesh], target)
                lies = layouts_of(free, last.partition.templates[theirs.block], theirs, weights=False)
                steered = keeping(search, lies, partition.templates[name], stage)
                found = self.first([steered, search], partition, name, [mesh], target)
            except CompileError as problem:
                refusal = refusal or problem
                continue
            if best is None or found.estimate_cycles < best.estimate_cycles:
                best = found
        if best is None:
            assert refusal is not None
            raise refusal
        return best

    def follow(
        self, follower: Follower, first: Partition, solved: Mapping[BlockName, SolvedBlock], target: Target
    ) -> dict[BlockName, SolvedBlock]:
        """Every block of a further entry, on the meshes of the first one, with weights and caches as they lie there.

        Where that leaves an op no way, small weights lie as it likes, and then all.

        Raises:
            DoesNotFit: a block needs more SRAM than a PE has.
            CompileError: no combination of layouts leads through a block.
        """
        partition = follower.partition
        base = replace(self.search, whole_elements=self.steering.whole_elements)
        found: dict[BlockName, SolvedBlock] = {}
        for name, template in partition.templates.items():
            where = next(i for i, stage in enumerate(partition.stages) if stage.block == name)
            stage, theirs = partition.stages[where], first.stages[where]
            block, graph = solved[theirs.block], first.templates[theirs.block]
            caches = layouts_of(block, graph, theirs, weights=False)
            lies = layouts_of(block, graph, theirs, weights=True)
            large = {v: at for v, at in lies.items() if first.graph.types[v].elements >= LARGE_ELEMENTS}
            searches = [keeping(base, {**each, **caches}, template, stage) for each in (lies, large, caches)]
            found[name] = self.first(searches, partition, name, [block.block.mesh], target)
        return found

    def first(
        self,
        searches: Sequence[Search],
        partition: Partition,
        name: BlockName,
        meshes: Sequence[Mesh],
        target: Target,
    ) -> SolvedBlock:
        """One block by the first of these searches that finds a way.

        Raises:
            CompileError: none does; that of the first.
        """
        carried, template = carried_values(partition, name), partition.templates[name]
        refusal: CompileError | None = None
        for search in searches:
            inputs = (name, print_graph(template), sorted(carried), meshes, search)
            try:
                return self.remember(
                    inputs,
                    partial(solve_block, search, partition, name, meshes, target),
                    _one_block,
                    partial(self.read, template, name, carried, target),
                )
            except CompileError as problem:
                refusal = refusal or problem
        assert refusal is not None
        raise refusal

    def read(
        self, template: Graph, name: BlockName, carried: frozenset[ValueName], target: Target, text: Excerpt
    ) -> SolvedBlock:
        """A block that was searched before."""
        return parse_blocks(text, {name: template}, {name: carried}, target, self.steering.whole_elements)[name]


def layouts_of(solved: SolvedBlock, template: Graph, stage: Stage, *, weights: bool) -> Layouts:
    """Value of the graph → the layouts that a stage has it in: its caches and their next content, or its weights."""
    found: dict[ValueName, tuple[Layout, ...]] = {}
    values = solved.block.values
    if weights:
        for local, weight in solved.weights.items():
            value = stage.bindings[weight]
            found[value] = (*found.get(value, ()), values[local].layout)
        return found
    for pair in template.states.items():
        for name in pair:
            local = next(own for own, value in solved.interface.items() if value == name)
            found[stage.bindings[name]] = (values[local].layout,)
    return found


def keeping(search: Search, lies: Layouts, template: Graph, stage: Stage) -> Search:
    """A search in which values of the graph lie as they do in another entry; what is forced anyway stays."""
    names = (*template.weights, *template.states, *template.states.values())
    kept = {v: lies[stage.bindings[v]] for v in names if stage.bindings[v] in lies}
    shared = {v: kept[v][0] for v in template.states if v in kept}
    return replace(search, kept=kept, shared={**shared, **search.shared})


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
    refusal = over_sram(
        need,
        f"{len(graph.ops)} ops{search.words(graph)} need {need.total_bytes} bytes per PE on "
        f"{solved.block.mesh.columns}x{solved.block.mesh.rows} PEs",
        where=f"block with op {graph.ops[-1].id}",
        hint="use a larger target or --region, more --stages, a shorter --context or fewer new tokens",
    )
    for share in CROWDED_SHARES:
        kept_bytes = need.total_bytes - need.weights_bytes
        if kept_bytes >= bound:
            kept_bytes = bound * 3 // 4
            if share is None:
                continue
        tighter = replace(search, kept_bytes=kept_bytes, value_bytes=bound // share if share else None)
        try:
            solved = emit(name, graph, search_block(tighter, partition, name, meshes, target), target)
        except DoesNotFit:
            continue
        need = plan_sram(solved.block, graph.past_max, bound)
        if need.total_bytes <= bound:
            return solved
    raise refusal


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

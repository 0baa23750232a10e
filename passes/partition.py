"""Partition: cut the graph into stages, one region each, and find the stages that are equal.

Cheap producers (masks, rotary tables, positions: small values computed from integer inputs and literals only) are set
aside and cloned into every stage that reads them. In the order of the remaining ops a *narrow cut* is a place that
one value crosses: the residual stream of a decoder. Segments between narrow cuts are compared by structure; the
repeating run is the layer. By default a stage is a layer, plus one for what stands before and one for what stands
after. `stages` merges neighbours, balanced by work, or splits segments at the narrowest places.

Reads Graph; writes Partition. Cost: linear in ops, except the choice of balanced cuts, O(segments^2 * stages).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from wafercc.errors import CompileError, TextError
from wafercc.ir.block import BlockName, RegionId
from wafercc.ir.dims import shape_upper
from wafercc.ir.graph import Graph, Op, TensorType, ValueName
from wafercc.ir.lines import Excerpt, Line, read_lines
from wafercc.ir.optable import spec_of
from wafercc.ir.partition import Partition, Stage

CHEAP_ELEMENTS = 4_194_304  # a causal mask of 2,048 tokens
# Kinds that read a table of weights or grow a cache are never cheap; with matmul and attention they make a stage
# worth having.
RESIDENT_KINDS = frozenset({"embedding", "kv_append"})
HEAVY_KINDS = RESIDENT_KINDS | {"matmul", "attention"}

Segment = tuple[Op, ...]


@dataclass(frozen=True)
class MakePartition:
    """Options of the pass: how many stages (None: one per layer, one before, one after)."""

    stages: int | None = None

    def __call__(self, graph: Graph) -> Partition:
        cheap = cheap_values(graph)
        backbone = _backbone(graph, cheap)
        if self.stages is None:
            groups = _layers(graph, cheap, _segments(graph, backbone))
        else:
            groups = _balanced(graph, backbone, self.stages)
        return _stamp(graph, cheap, groups)


def parse_partition(text: Excerpt, graph: Graph) -> Partition:
    """The partition of a graph whose text is given: the inverse of ``str(Partition)``.

    Raises:
        TextError: a line is not of a partition; it ends at no op of the graph, or at one that no stage can end at.
    """
    cheap = cheap_values(graph)
    backbone = _backbone(graph, cheap)
    place = {op.id: i for i, op in enumerate(backbone)}
    groups: list[Segment] = []
    done = 0
    for line in read_lines(text, Line):
        line.expect("stage")
        region, wanted = line.label("a region"), f"r{len(groups)}"
        line.expect("through")
        last = line.op_name()
        line.end()
        if region != wanted:
            raise line.error(f"stage {len(groups) + 1} is region {wanted}, not {region}")
        if last not in graph.op:
            raise line.error(f"the graph has no op {last}")
        if last not in place:
            raise line.error(f"op {last} is cloned into every stage that reads it, so no stage ends at it")
        end = place[last] + 1
        if end <= done:
            raise line.error(f"op {last} comes before the end of the stage before, op {backbone[done - 1].id}")
        groups.append(backbone[done:end])
        done = end
    if done < len(backbone):
        raise TextError(f"no stage holds op {backbone[done].id} and what follows it", where=text.end)
    return _stamp(graph, cheap, groups)


def _backbone(graph: Graph, cheap: frozenset[ValueName]) -> Segment:
    """The ops that are not cheap, in order.

    Raises:
        CompileError: there are none.
    """
    backbone = tuple(op for op in graph.ops if not set(op.outputs) <= cheap)
    if not backbone:
        raise CompileError("the graph computes nothing", where=graph.name)
    return backbone


def cheap_values(graph: Graph) -> frozenset[ValueName]:
    """Small values that follow from integer inputs and literals alone."""
    free = {v for v in graph.inputs if not graph.types[v].dtype.is_float}
    free |= {w for w in graph.weights if graph.types[w].elements <= 1024}
    cheap: set[ValueName] = set()
    for op in graph.ops:
        small = all(graph.types[v].elements <= CHEAP_ELEMENTS for v in op.outputs)
        if small and op.kind not in RESIDENT_KINDS and all(v in free or v in cheap for v in op.operands):
            cheap.update(op.outputs)
    if all(set(op.outputs) <= cheap for op in graph.ops):
        return frozenset()  # a graph of integers alone: they are its work
    return frozenset(cheap)


def _crossings(graph: Graph, ops: Sequence[Op], weigh: Callable[[TensorType], int]) -> list[int]:
    """For each place after ops[i]: what the values written so far and still read later weigh together."""
    written = {v: i for i, op in enumerate(ops) for v in op.outputs}
    last = {v: i for i, op in enumerate(ops) for v in op.operands if v in written}
    change = [0] * len(ops)
    for value, first in written.items():
        if last.get(value, first) > first:
            change[first] += weigh(graph.types[value])
            change[last[value]] -= weigh(graph.types[value])
    return list(accumulate(change))


def _one(kind: TensorType) -> int:
    return 1


def _size(kind: TensorType) -> int:
    return kind.dtype.sram_bytes(kind.elements)


def _segments(graph: Graph, backbone: Segment) -> list[Segment]:
    """The runs of ops between narrow cuts: places that exactly one value crosses."""
    segments: list[Segment] = []
    start = 0
    for i, count in enumerate(_crossings(graph, backbone, _one)[:-1]):
        if count == 1 and any(op.kind in HEAVY_KINDS for op in backbone[start : i + 1]):
            segments.append(backbone[start : i + 1])
            start = i + 1
    segments.append(backbone[start:])
    return segments


def _layers(graph: Graph, cheap: frozenset[ValueName], segments: list[Segment]) -> list[Segment]:
    """Group segments into: what stands before the repeating run, each layer of it, what stands after."""
    keys = [_template_key(_stage_graph(graph, cheap, s)) for s in segments]
    start, period, count = _longest_repeat(keys)
    if count < 2:
        return segments
    end = start + period * count
    groups = [segments[:start]] if start else []
    groups += [segments[i : i + period] for i in range(start, end, period)]
    groups += [segments[end:]] if end < len(segments) else []
    return [tuple(op for segment in group for op in segment) for group in groups]


def _longest_repeat(keys: Sequence[object]) -> tuple[int, int, int]:
    """(start, period, count) of the run of equal consecutive periods that covers most keys; shortest period first."""
    best = (0, 1, 1)
    n = len(keys)
    for period in range(1, n // 2 + 1):
        start = 0
        while start + 2 * period <= n:
            same = start
            while same + period < n and keys[same] == keys[same + period]:
                same += 1
            count = (same - start) // period + 1
            if count > 1 and period * count > best[1] * best[2] * (best[2] > 1):
                best = (start, period, count)
            start = max(same, start) + 1
    return best


def _balanced(graph: Graph, backbone: Segment, stages: int) -> list[Segment]:
    """Exactly ``stages`` groups: narrow places preferred, work balanced, crossing bytes as tie-break."""
    if not 1 <= stages <= len(backbone):
        raise CompileError(
            f"{stages} stages asked for; the graph has {len(backbone)} ops to share among them",
            where=graph.name,
            hint="use fewer --stages",
        )
    crossing = _crossings(graph, backbone, _size)
    narrow = [i + 1 for i, n in enumerate(_crossings(graph, backbone, _one)[:-1]) if n == 1]
    places = narrow if len(narrow) >= stages - 1 else list(range(1, len(backbone)))
    bounds = [0, *places, len(backbone)]
    work = [_op_work(graph, op) for op in backbone]
    sums = [0]
    for amount in work:
        sums.append(sums[-1] + amount)
    # cost[j]: least (largest stage work, bytes crossing) of cutting the ops before bounds[j] into k stages
    cost: list[tuple[int, int] | None] = [(0, 0)] + [None] * (len(bounds) - 1)
    back: list[list[int]] = []
    for _ in range(stages):
        step: list[tuple[int, int] | None] = [None] * len(bounds)
        chosen = [0] * len(bounds)
        for j in range(1, len(bounds)):
            edge = crossing[bounds[j] - 1] if bounds[j] < len(backbone) else 0
            for i in range(j):
                before = cost[i]
                if before is None:
                    continue
                candidate = (max(before[0], sums[bounds[j]] - sums[bounds[i]]), before[1] + edge)
                if step[j] is None or candidate < step[j]:  # type: ignore[operator]
                    step[j], chosen[j] = candidate, i
        cost = step
        back.append(chosen)
    cuts, j = [len(bounds) - 1], len(bounds) - 1
    for chosen in reversed(back):
        j = chosen[j]
        cuts.append(j)
    cuts.reverse()
    return [backbone[bounds[a] : bounds[b]] for a, b in pairwise(cuts)]


def _op_work(graph: Graph, op: Op) -> int:
    ins = [None if t is None else shape_upper(t.shape) for t in graph.in_types(op)]
    work = spec_of(op).work(op, ins, [shape_upper(t.shape) for t in graph.out_types(op)])
    return int(work.macs) + int(work.simple) + 8 * int(work.special) + 1


def _stage_graph(graph: Graph, cheap: frozenset[ValueName], ops: Segment) -> Graph:
    """The ops as a graph of their own: cheap producers cloned in, interface derived from use."""
    wanted = {v for op in ops for v in op.operands}
    clones: list[Op] = []
    for op in reversed(graph.ops):
        if any(v in cheap and v in wanted for v in op.outputs):
            clones.append(op)
            wanted.update(op.operands)
    # Cheap producers of graph outputs belong to whichever stage holds that output; none does unless listed in ops.
    all_ops = (*reversed(clones), *ops)
    written = {v for op in all_ops for v in op.outputs}
    inside = {op.id for op in ops}
    weights = tuple(w for w in graph.weights if w in wanted)
    read = list(dict.fromkeys(v for op in all_ops for v in op.operands))
    inputs = tuple(v for v in read if v not in written and v not in set(weights))
    outputs = tuple(
        v
        for op in ops
        for v in op.outputs
        if v in graph.outputs or any(user.id not in inside for user in graph.users.get(v, ()))
    )
    states = {p: q for p, q in graph.states.items() if p in inputs and q in written}
    mentioned = {*inputs, *outputs, *weights, *read, *written}
    types = {v: t for v, t in graph.types.items() if v in mentioned}
    return Graph(graph.name, types, inputs, outputs, weights, all_ops, states, graph.past_max)


def _template_key(graph: Graph) -> tuple[object, ...]:
    """Equal for two stage graphs exactly if one is the other with its values renamed."""
    number: dict[ValueName, int] = {}

    def name(value: ValueName | None) -> int | None:
        return None if value is None else number.setdefault(value, len(number))

    ops = tuple(
        (op.kind, tuple(map(name, op.inputs)), tuple(map(name, op.outputs)), tuple(sorted(op.attrs.items(),
        key=_first))) for op in graph.ops
    )
    types: tuple[TensorType, ...] = tuple(graph.types[v] for v in number)
    roles = tuple((v in graph.inputs, v in graph.outputs, v in graph.weights) for v in number)
    states = tuple((number[p], number[q]) for p, q in graph.states.items())
    return ops, types, roles, states


def _first(item: tuple[str, object]) -> str:
    return item[0]


def _order_of_names(graph: Graph) -> list[ValueName]:
    seen: dict[ValueName, None] = {}
    for op in graph.ops:
        for value in (*op.operands, *op.outputs):
            seen.setdefault(value)
    return list(seen)


def _stamp(graph: Graph, cheap: frozenset[ValueName], groups: Sequence[Segment]) -> Partition:
    """Give every group its stage; equal groups share the first one's graph as template."""
    ends = [group[-1].id for group in groups]
    last = groups[-1]
    loose = tuple(op for op in graph.ops if any(v in graph.outputs and v in cheap for v in op.outputs))
    groups = [*groups[:-1], (*last, *loose)]
    templates: dict[BlockName, Graph] = {}
    known: dict[tuple[object, ...], BlockName] = {}
    stages: list[Stage] = []
    owned = {v for op in loose for v in op.outputs}
    for i, group in enumerate(groups):
        own = _stage_graph(graph, cheap - owned if group is groups[-1] else cheap, group)
        key = _template_key(own)
        block = known.setdefault(key, BlockName(f"b{len(known)}"))
        template = templates.setdefault(block, own)
        bindings = dict(zip(_order_of_names(template), _order_of_names(own), strict=True))
        interface = {*template.inputs, *template.outputs, *template.weights}
        bound = {a: b for a, b in bindings.items() if a in interface}
        stages.append(Stage(RegionId(f"r{i}"), block, bound, ends[i]))
    return Partition(graph, templates, tuple(stages))

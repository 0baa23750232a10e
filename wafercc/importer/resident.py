"""Resident: caches that a graph extends in another form than the one in which they come and go.

Exporters transpose a cache before they extend it, merge its batch and heads, or pack keys and values into one tensor;
all ways give back a tensor that is the input with something new behind it. Said so, with `kv_append` on the input
itself, the cache can stay in place on the wafer; whoever reads the extended form gets it from the output. Where a graph
does more than move elements, it stays as it is: the values are the same either way. Cost: linear in ops for each cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..ir.dims import Affine, Dim, Undecided
from ..ir.graph import Attr, Graph, Op, OpId, TensorType, ValueName
from ..ir.optable import spec_of
from .atoms import Atoms, Groups, flat, renewed, through
from .content import Shape

MOVES = ("transpose", "reshape")


def keep_in_place(graph: Graph) -> Graph:
    """The graph with every cache it extends extended in place; the same object if that is so already."""
    for past, output in graph.states.items():
        last = graph.producer[output]
        if last.kind != "kv_append" or last.inputs[0] != past:
            graph = _in_place(graph, past, output) or graph
    return graph


@dataclass(frozen=True)
class _Part:
    """One concat that extends a cache, or a slice of it: the slice (None: the whole), the moves before the concat and
    those behind it up to the output (or to what is packed)."""

    cut: Op | None
    before: tuple[Op, ...]
    concat: Op
    behind: tuple[Op, ...]


def _in_place(graph: Graph, past: ValueName, output: ValueName) -> Graph | None:
    before, after = graph.types[past].shape, graph.types[output].shape
    grown = [axis for axis, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
    if len(before) != len(after) or len(grown) != 1 or 0 in before or before[grown[0]] == 1:
        return None
    parts = _parts(graph, past, output)
    if not parts:
        return None
    try:
        return _Rewriter(graph, past, output, grown[0]).done(parts)
    except Undecided:
        return None


def _parts(graph: Graph, past: ValueName, output: ValueName) -> list[_Part]:
    """The concats that make an output of a cache: one, or one for each slice that the output packs."""
    behind, top = _upwards(graph, output)
    if top is None or top.kind != "concat":
        return []
    part = _extension(graph, past, top, behind)
    if part is not None:
        return [part] if part.cut is None else []
    if behind:
        return []
    packed: list[_Part] = []
    for value in top.operands:
        moves, inner = _upwards(graph, value)
        found = None if inner is None else _extension(graph, past, inner, moves)
        if found is None or found.cut is None:
            return []
        packed.append(found)
    return packed


def _extension(graph: Graph, past: ValueName, op: Op, behind: tuple[Op, ...]) -> _Part | None:
    """The part that a concat is, if what it extends is the cache or a slice of it."""
    if op.kind != "concat" or len(op.inputs) != 2:
        return None
    first, _ = op.operands
    before, top = _upwards(graph, first)
    root = before[0].inputs[0] if before else first
    if root == past:
        return _Part(None, before, op, behind)
    if top is not None and top.kind == "slice" and top.inputs[0] == past and top.attrs["step"] == 1:
        return _Part(top, before, op, behind)
    return None


def _upwards(graph: Graph, value: ValueName) -> tuple[tuple[Op, ...], Op | None]:
    """The moves that end in a value, first one first, and the op above them."""
    moves: list[Op] = []
    op = graph.producer.get(value)
    while op is not None and op.kind in MOVES:
        moves.append(op)
        op = graph.producer.get(op.operands[0])
    return tuple(reversed(moves)), op


@dataclass
class _Rewriter:
    """The new graph while one cache is being taken care of."""

    graph: Graph
    past: ValueName
    output: ValueName
    axis: int
    made: list[Op] = field(default_factory=list)
    types: dict[ValueName, TensorType] = field(default_factory=dict)

    def done(self, parts: Sequence[_Part]) -> Graph | None:
        """All parts extended at once; ``None`` if some part does more than move elements."""
        packed = self._packing(parts)
        if packed is None:
            return None
        self.types = dict(self.graph.types)
        plans = [self._plan(part) for part in parts]
        if any(plan is None for plan in plans):
            return None
        news = [self._brought(plan, part) for plan, part in zip(plans, parts, strict=True) if plan is not None]
        new = news[0] if len(news) == 1 else self._emit("concat", news, {"axis": packed})
        first = parts[0].concat
        attrs: dict[str, Attr] = {"axis": self.axis}
        self.made.append(
            Op(OpId(f"{first.id}.append"), "kv_append", (self.past, new), (self.output,), attrs, first.source)
        )
        replaced: dict[OpId, None] = {self.graph.producer[self.output].id: None}
        for plan, part in zip(plans, parts, strict=True):
            assert plan is not None
            whole = self.output
            if part.cut is not None:
                whole = self._emit("slice", [self.output], part.cut.attrs)
            if part.concat.outputs[0] != self.output:
                self._given(plan, part, whole)
            replaced[part.concat.id] = None
        kept = [op for op in self.graph.ops if op.id not in replaced]
        ops = _ordered((*kept, *self.made))
        if ops is None:
            return None
        return self.graph.with_ops(_needed(ops, self.graph.outputs), self.types)

    def _packing(self, parts: Sequence[_Part]) -> int | None:
        """The axis along which parts are packed (0 for a single one), if they cover the cache in order."""
        if len(parts) == 1:
            return 0 if parts[0].cut is None else None
        axis = self.graph.producer[self.output].attrs["axis"]
        ahead: Dim = 0
        for part in parts:
            if part.cut is None or part.cut.attrs["axis"] != axis or part.cut.attrs["start"] != ahead:
                return None
            count = part.cut.attrs["count"]
            assert isinstance(count, int | Affine)
            ahead = ahead + count
        whole = self.graph.types[self.past].shape
        return axis if isinstance(axis, int) and axis != self.axis and ahead == whole[axis] else None

    def _plan(self, part: _Part) -> _Plan | None:
        """How the form in which a part is extended stands to the cache."""
        root = self.past if part.cut is None else part.cut.outputs[0]
        shape = self.graph.types[root].shape
        atoms, groups = Atoms.of(shape)
        there = through(atoms, groups, part.before, [self._shape(op) for op in part.before])
        if there is None or there[_axis(part.concat)] != (self.axis,):
            return None
        seen = list(atoms.order)
        total = self._shape(part.concat)[_axis(part.concat)]
        atoms.extents[self.axis] = total
        back = through(atoms, there, part.behind, [self._shape(op) for op in part.behind])
        if back is None or flat(back) != atoms.order or atoms.extents[self.axis] != total:
            return None
        wanted = (*shape[: self.axis], total, *shape[self.axis + 1 :])
        last = part.behind[-1] if part.behind else part.concat
        if self._shape(last) != wanted:
            return None
        return _Plan(atoms, renewed(there, seen, atoms), wanted)

    def _brought(self, plan: _Plan, part: _Part) -> ValueName:
        """What is new, in the form of the cache."""
        new = part.concat.operands[1]
        extents = dict(plan.atoms.extents)
        extents[self.axis] = self.graph.types[new].shape[_axis(part.concat)]
        there, order = flat(plan.groups), plan.atoms.order
        apart = self._emit("reshape", [new], {"shape": tuple(extents[a] for a in there)})
        turned = self._emit("transpose", [apart], {"perm": tuple(there.index(a) for a in order)})
        shape = (*plan.shape[: self.axis], extents[self.axis], *plan.shape[self.axis + 1 :])
        return self._emit("reshape", [turned], {"shape": shape})

    def _given(self, plan: _Plan, part: _Part, whole: ValueName) -> None:
        """The form in which a part was extended, made of the extended cache."""
        there, order = flat(plan.groups), plan.atoms.order
        apart = self._emit("reshape", [whole], {"shape": tuple(plan.atoms.extents[a] for a in order)})
        turned = self._emit("transpose", [apart], {"perm": tuple(order.index(a) for a in there)})
        attrs: dict[str, Attr] = {"shape": self._shape(part.concat)}
        self.made.append(replace(part.concat, kind="reshape", inputs=(turned,), attrs=attrs))

    def _emit(self, kind: str, inputs: Sequence[ValueName], attrs: Mapping[str, Attr]) -> ValueName:
        """One more op, unless it would change nothing."""
        x = self.types[inputs[0]]
        if attrs.get("shape") == x.shape or attrs.get("perm") == tuple(range(x.rank)):
            return inputs[0]
        name = ValueName(f"{self.output}.{kind}")
        while name in self.types:
            name = ValueName(f"{name}+")
        op = Op(OpId(name), kind, tuple(inputs), (name,), dict(attrs))
        (self.types[name],) = spec_of(op).infer(op, [self.types[v] for v in inputs])
        self.made.append(op)
        return name

    def _shape(self, op: Op) -> Shape:
        return self.graph.types[op.outputs[0]].shape


@dataclass(frozen=True)
class _Plan:
    """``groups``: the form that is extended, in atoms of the cache (or slice); ``shape``: the latter's, extended."""

    atoms: Atoms
    groups: Groups
    shape: Shape


def _axis(op: Op) -> int:
    axis = op.attrs["axis"]
    assert isinstance(axis, int)
    return axis


def _ordered(ops: Sequence[Op]) -> tuple[Op, ...] | None:
    """The ops in an order in which all is written before it is read, otherwise as given; ``None`` if there is none."""
    writer = {out: position for position, op in enumerate(ops) for out in op.outputs}
    placed: list[Op] = []
    state = [0] * len(ops)  # 1: what it reads is being placed, 2: placed
    for start in range(len(ops)):
        stack = [start]
        while stack:
            position = stack[-1]
            if state[position] == 2:
                stack.pop()
                continue
            ahead = [writer[v] for v in ops[position].operands if v in writer and state[writer[v]] != 2]
            if not ahead:
                state[position] = 2
                placed.append(ops[stack.pop()])
            elif state[position] == 1 and any(state[p] == 1 for p in ahead):
                return None
            else:
                state[position] = 1
                stack += ahead
    return tuple(placed)


def _needed(ops: Sequence[Op], outputs: Sequence[ValueName]) -> tuple[Op, ...]:
    """The ops that some output needs."""
    needed = set(outputs)

    def walk() -> Iterator[Op]:
        for op in reversed(ops):
            if needed.intersection(op.outputs):
                needed.update(op.operands)
                yield op

    return tuple(reversed(list(walk())))

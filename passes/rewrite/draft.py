"""Draft: a graph while one rewrite walks over it, front to back, once.

A rewrite is a *rule*, asked for every op in order: it looks upward through what the new graph already holds and
either keeps the op (``None``) or names the value that takes the place of its result, an old one or one it has just
emitted. Later ops see the replacement. What nobody reads any more stays behind for dead_code. One walk costs time
linear in ops.

The interface keeps its names: a graph output is only replaced by a value that can take over its name.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import replace

from ...errors import ImportFailed
from ...ir.dims import Dim
from ...ir.graph import Attr, Graph, Op, OpId, TensorType, ValueName
from ...ir.optable import Array, spec_of
from ...ir.weights import Weights, WeightSource

Rule = Callable[["Draft", Op], ValueName | None]


class Draft:
    """The new graph so far: types, producers, new weights. Rules read it; ``emit`` and ``derive`` add to it."""

    def __init__(self, graph: Graph, weights: Weights) -> None:
        self.graph, self.weights = graph, weights
        self.types: dict[ValueName, TensorType] = dict(graph.types)
        self.producer: dict[ValueName, Op] = {}
        self.is_weight: set[ValueName] = set(graph.weights)
        self._ops: list[Op] = []
        self._ids: set[OpId] = {op.id for op in graph.ops}
        self._outputs = frozenset(graph.outputs)
        self._renamed: dict[ValueName, ValueName] = {}
        self._takes_name: dict[ValueName, ValueName] = {}
        self._derived: dict[ValueName, WeightSource] = {}
        self._root: Op | None = None

    # --- what rules ask

    def shape(self, value: ValueName) -> tuple[Dim, ...]:
        return self.types[value].shape

    def made_by(self, value: ValueName | None, *kinds: str) -> Op | None:
        """The op that writes a value, if it is of one of these kinds."""
        op = None if value is None else self.producer.get(value)
        return op if op is not None and op.kind in kinds else None

    def infer(self, kind: str, inputs: tuple[ValueName | None, ...], attrs: dict[str, Attr]) -> TensorType | None:
        """The type an op would have, or ``None`` where the op table refuses it."""
        op = Op(OpId("?"), kind, inputs, (), attrs)
        try:
            (found,) = spec_of(op).infer(op, [None if v is None else self.types[v] for v in inputs])
        except ImportFailed:
            return None
        return found

    # --- what rules do

    def emit(self, kind: str, *inputs: ValueName | None, **attrs: Attr) -> ValueName:
        """Append an op and name its result. The last one emitted for a replaced op takes over that op's names."""
        assert self._root is not None
        found = self.infer(kind, inputs, attrs)
        assert found is not None, f"{kind}{attrs} cannot take {[v and str(self.types[v]) for v in inputs]}"
        name = self._fresh(f"{self._root.outputs[0]}.{kind}")
        op_id = _unused(f"{self._root.id}.{kind}", self._ids)
        self._append(Op(OpId(op_id), kind, inputs, (name,), attrs, self._root.source))
        self.types[name] = found
        return name

    def derive(self, weight: ValueName, found: TensorType, step: Callable[[Array], Array], label: str) -> ValueName:
        """A new weight that is an old one after one more step; nothing is read before it is loaded."""
        source = self._derived.get(weight) or self.weights.sources.get(weight) or WeightSource(None, str(weight))
        name = self._fresh(f"{weight}.{label}")
        self.types[name] = found
        self.is_weight.add(name)
        self._derived[name] = source.derive(step, label)
        return name

    # --- the walk

    def visit(self, op: Op, rule: Rule) -> None:
        """Ask the rule about one op and keep or replace it."""
        if any(v in self._renamed for v in op.operands):
            op = replace(op, inputs=tuple(None if v is None else self._renamed.get(v, v) for v in op.inputs))
        start, self._root = len(self._ops), op
        found = rule(self, op)
        if found is None:
            self._withdraw(start)
            self._append(op)
            return
        out = op.outputs[0]
        assert self.types[found] == self.types[out], f"{op.kind} {out}: {self.types[out]} became {self.types[found]}"
        if len(self._ops) > start and self._ops[-1].outputs == (found,):
            last = self._ops.pop()
            del self.producer[found], self.types[found]
            self._ids.discard(last.id)
            self._append(replace(last, id=op.id, outputs=op.outputs))
        elif self._may_stand_for(found, out):
            self._renamed[out] = found
        else:
            self._withdraw(start)
            self._append(op)

    def finish(self) -> tuple[Graph, Weights]:
        """The new graph and weights; the old objects if nothing changed."""
        ops = tuple(self._named(op) for op in self._ops) if self._takes_name else tuple(self._ops)
        if ops == self.graph.ops:
            return self.graph, self.weights
        known = replace(self.graph, weights=(*self.graph.weights, *self._derived))
        graph = known.with_ops(ops, self.types)
        used = {name: source for name, source in self._derived.items() if name in graph.types}
        weights = Weights({**self.weights.sources, **used}) if used else self.weights
        return graph, weights

    def _append(self, op: Op) -> None:
        self._ops.append(op)
        self._ids.add(op.id)
        for out in op.outputs:
            self.producer[out] = op

    def _withdraw(self, start: int) -> None:
        """Forget what a rule emitted before it gave up."""
        for op in self._ops[start:]:
            self._ids.discard(op.id)
            for out in op.outputs:
                del self.producer[out], self.types[out]
        del self._ops[start:]

    def _may_stand_for(self, found: ValueName, out: ValueName) -> bool:
        """Whether readers of ``out`` may read ``found`` instead; a graph output hands its name over."""
        if out not in self._outputs:
            return True
        if found not in self.producer or found in self._outputs or found in self._takes_name:
            return False
        self._takes_name[found] = out
        return True

    def _named(self, op: Op) -> Op:
        names = self._takes_name
        if not any(v in names for v in (*op.operands, *op.outputs)):
            return op
        inputs = tuple(None if v is None else names.get(v, v) for v in op.inputs)
        return replace(op, inputs=inputs, outputs=tuple(names.get(v, v) for v in op.outputs))

    def _fresh(self, base: str) -> ValueName:
        return ValueName(_unused(base, self.types))


def rewrite(graph: Graph, weights: Weights, rule: Rule) -> tuple[Graph, Weights]:
    """One walk of a rule over a graph."""
    draft = Draft(graph, weights)
    for op in graph.ops:
        draft.visit(op, rule)
    return draft.finish()


def _unused(base: str, taken: Container[str]) -> str:
    name, number = base, 2
    while name in taken:
        name, number = f"{base}.{number}", number + 1
    return name

"""Emit: write a solution down as a Block, the steps that PEs will run.

Each choice becomes the relayouts of its operands, one compute step, and, where a reduction is owed, an all-reduce per
direction and a finishing step. Reads a template Graph and its Solution; writes Block. Cost: linear in steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wafercc.errors import CompileError
from wafercc.ir.block import (
    AllGather,
    AllReduce,
    Block,
    BlockName,
    Compute,
    Guard,
    LocalName,
    Narrow,
    Phase,
    Step,
    StepId,
)
from wafercc.ir.graph import Graph, Op, TensorType, ValueName
from wafercc.ir.layout import AxisName, Layout, Tiled, held_by_part
from wafercc.ir.loops import Combine
from wafercc.ir.optable import spec_of
from wafercc.targets import Target

from . import price
from .relayout import Move, plan
from .solution import Solution
from .strategy import Strategy, is_whole, lines_of, name_of


@dataclass(frozen=True)
class SolvedBlock:
    """A block, what its parameters and interface are called in the template it was made from, and the choices that
    made it.
    """

    block: Block
    weights: dict[LocalName, ValueName]
    interface: dict[LocalName, ValueName]
    solution: Solution

    @property
    def estimate_cycles(self) -> int:
        return self.solution.cycles

    @property
    def decided(self) -> dict[str, Any]:
        """What was decided and why, as plain JSON: the mesh, each op's strategy with the next best, shared layouts;
        empty if the search worked out no reasons."""
        return _decided(self.solution)


def emit(name: BlockName, graph: Graph, solution: Solution, target: Target) -> SolvedBlock:
    """The block of a solved template.

    Raises:
        CompileError: a value cannot be brought into a layout that is wanted (never of a solution that was searched).
    """
    writer = _Writer(graph, solution, target)
    for value in graph.inputs:
        writer.define(value, solution.shared.get(value, Layout.replicated(graph.types[value].rank)))
    for op in graph.ops:
        writer.op(op, solution.strategies[op.id])
    outputs = [writer.fetch(value, solution.outputs[value]) for value in graph.outputs]
    block = Block(
        name=name,
        mesh=solution.mesh,
        values=writer.values,
        params=tuple(writer.params),
        inputs=tuple(LocalName(v) for v in graph.inputs),
        outputs=tuple(outputs),
        steps=tuple(writer.steps),
        states={LocalName(p): outputs[graph.outputs.index(q)] for p, q in graph.states.items() if q in graph.outputs},
    )
    interface = {LocalName(v): v for v in graph.inputs} | dict(zip(outputs, graph.outputs, strict=True))
    return SolvedBlock(block, writer.params, interface, solution)


def _decided(solution: Solution) -> dict[str, Any]:
    ops = {
        op: {
            "strategy": name_of(solution.strategies[op], solution.mesh),
            "own_cycles": reason.own_cycles,
            "others": [list(other) for other in reason.others],
            "tried": reason.tried,
            "known": reason.known,
            "forced": reason.forced,
        }
        for op, reason in solution.reasons.items()
    }
    if not ops:
        return {}
    return {
        "mesh": {d: [a.extent for a in solution.mesh.axes if a.along == d] for d in ("x", "y")},
        "cycles": solution.cycles,
        "byte_price": solution.byte_price,
        "shared": {value: str(layout) for value, layout in solution.shared.items()},
        "ops": ops,
    }


@dataclass
class _Writer:
    graph: Graph
    solution: Solution
    target: Target
    values: dict[LocalName, Tiled] = field(default_factory=dict)
    params: dict[LocalName, ValueName] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    at: dict[tuple[ValueName, Layout], LocalName] = field(default_factory=dict)

    def define(self, value: ValueName, layout: Layout, kind: TensorType | None = None, suffix: str = "") -> LocalName:
        """A fresh local value: the template's name, numbered where it exists in several layouts."""
        name, n = LocalName(value + suffix), 1
        while name in self.values:
            n += 1
            name = LocalName(f"{value}{suffix}@{n}")
        self.values[name] = Tiled(kind or self.graph.types[value], layout)
        if not suffix:
            self.at.setdefault((value, layout), name)
        return name

    def step_id(self, base: str) -> StepId:
        return StepId(f"{len(self.steps)}.{base}")

    def fetch(self, value: ValueName, need: Layout) -> LocalName:
        """The local name of a value in the layout wanted, after the cheapest moves from a layout at hand."""
        if value in self.graph.weights:
            known = self.at.get((value, need))
            if known is None:
                known = self.define(value, need)
                self.params[known] = value
            return known
        if (value, need) in self.at:
            return self.at[value, need]
        shared = self.solution.shared.get(value)
        if shared is not None and need != shared and (value, shared) not in self.at:
            self.fetch(value, shared)
        have, moves = self.cheapest(value, need)
        current = self.at[value, have]
        for move in moves:
            known = self.at.get((value, move.layout))
            if known is not None:
                current = known
                continue
            result = self.define(value, move.layout)
            if move.gather:
                root = self.solution.mesh.parts(move.gather) // 2
                self.steps.append(AllGather(self.step_id(f"gather {value}"), current, result, move.gather, root))
            else:
                self.steps.append(Narrow(self.step_id(f"narrow {value}"), current, result))
            current = result
        self.at.setdefault((value, need), current)
        return current

    def cheapest(self, value: ValueName, need: Layout) -> tuple[Layout, tuple[Move, ...]]:
        kind, mesh = self.graph.types[value], self.solution.mesh
        best: tuple[int, Layout, tuple[Move, ...]] | None = None
        for name, have in self.at:
            moves = plan(kind, have, need, mesh) if name == value else None
            if moves is not None:
                cycles = price.moves_cycles(kind, have, moves, mesh, self.target)
                if best is None or cycles < best[0]:
                    best = (cycles, have, moves)
        if best is None:
            raise CompileError(
                f"value {value} cannot be brought into the layout {need}",
                hint="cut the ops that read it in another way",
            )
        return best[1], best[2]

    def op(self, op: Op, strategy: Strategy) -> None:
        ins: list[LocalName | None] = []
        for value, need in zip(op.inputs, strategy.ins, strict=True):
            ins.append(None if value is None or need is None else self.fetch(value, need))
        if not strategy.owed:
            outs = tuple(self.define(v, layout) for v, layout in zip(op.outputs, strategy.outs, strict=True))
            self.steps.append(Compute(self.step_id(op.id), op, Phase.WHOLE, tuple(ins), outs, self.guard(op, ins)))
            return
        loops = spec_of(op).loops(op, self.graph.in_types(op), self.graph.out_types(op))
        if loops.partials:
            kinds = [TensorType(p.dtype, p.shape) for p in loops.partials]
            layouts, owner = strategy.partials, op.outputs[0]
            suffixes = [f".partial{i}" for i in range(len(kinds))]
            owners = [owner] * len(kinds)
        else:
            kinds = list(self.graph.out_types(op))
            layouts, owners = strategy.outs, list(op.outputs)
            suffixes = [".partial"] * len(kinds)
        combine = strategy.owed[0][1]
        owed = [axis for axis, _ in strategy.owed]
        current = [
            self.define(v, _partial(layout, owed, combine), kind, s)
            for v, layout, kind, s in zip(owners, layouts, kinds, suffixes, strict=True)
        ]
        guard = self.guard(op, ins)
        self.steps.append(Compute(self.step_id(op.id), op, Phase.LOCAL, tuple(ins), tuple(current), guard))
        lines = lines_of(self.solution.mesh, owed)
        for i, line in enumerate(lines):
            owed = [a for a in owed if a not in line]
            last = i == len(lines) - 1 and not loops.partials
            after = [
                self.define(v, layout if not owed else _partial(layout, owed, combine), kind, "" if last else s)
                for v, layout, kind, s in zip(owners, layouts, kinds, suffixes, strict=True)
            ]
            self.reduce(op, current, after, line, combine)
            current = after
        if loops.partials:
            outs = tuple(self.define(v, layout) for v, layout in zip(op.outputs, strategy.outs, strict=True))
            self.steps.append(Compute(self.step_id(op.id), op, Phase.FINISH, (*current, *ins), outs))

    def guard(self, op: Op, ins: list[LocalName | None]) -> Guard | None:
        """Each choice wakes the part of the mesh that holds what is chosen."""
        chosen = spec_of(op).chosen
        if chosen is None:
            return None
        choices, owners = ins[chosen.choices], ins[chosen.owners]
        assert choices is not None and owners is not None
        return Guard(choices, held_by_part(self.values[owners], self.solution.mesh))

    def reduce(
        self, op: Op, ins: list[LocalName], outs: list[LocalName], line: tuple[AxisName, ...], combine: Combine
    ) -> None:
        mesh = self.solution.mesh
        parts = mesh.parts(line)
        words = sum(price.words_of(self.values[v].type, self.values[v].layout, mesh) for v in ins)
        chosen = price.all_reduce(parts, words, self.target, is_whole(mesh, line))
        self.steps.append(
            AllReduce(
                self.step_id(f"{op.id} reduce {'*'.join(line)}"),
                tuple(ins),
                tuple(outs),
                line,
                combine,
                chosen.algorithm,
                parts // 2,
                chosen.group,
            )
        )


def _partial(layout: Layout, axes: list[AxisName], combine: Combine) -> Layout:
    return Layout(layout.splits, tuple((axis, combine) for axis in axes), layout.held)

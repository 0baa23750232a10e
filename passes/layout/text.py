"""Text: the choices that made a program's blocks, as lines that read back into the same blocks.

A block's mesh with its axes and the estimate it was chosen by; for every op the loops it cuts (``whole`` if none), each
as loop:axes/granule, with ~ where cyclic; for every value that is shared, its layout.

    block b0 mesh y0=32 x0=2 x1=16 estimate 5120
    op @layers.0/q m:y0 n:x0*x1/16
    why "rows=m columns=n/16" own 120 tried 20 of 45 next "rows=k columns=n" 5300
    share %x (-,y0)

Everything else of a block follows from these choices. The estimate is the search's and is kept as it stands; so is why
an op is cut as it is, as long as it is cut so. An op that somebody has cut in another way, or whose reason is gone,
counts as forced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from wafercc.errors import CompileError, TextError
from wafercc.ir.block import BlockName
from wafercc.ir.graph import Graph, Op, OpId, ValueName
from wafercc.ir.layout import Axis, AxisName, Layout, Mesh, Split, parse_layout, parse_split
from wafercc.ir.lines import Excerpt, Line, name_text, read_lines, word_text
from wafercc.ir.loops import Loops
from wafercc.targets import Target

from .emit import SolvedBlock, emit
from .search import own_cycles, shared_values
from .solution import Reason, boundary_layout, solution_of
from .strategy import WHOLE_ELEMENTS, Cut, Strategy, dim_facts, name_of, op_loops, strategies, strategy_of

SHOWN = 6  # strategies that a message lists
_AXIS = re.compile(r"([yx])(\d+)")
_CUT = re.compile(r"(\w+):(\w+(?:\*\w+)*(?:/[1-9]\d*)?~?)")


def print_blocks(blocks: Mapping[BlockName, SolvedBlock]) -> str:
    """The text of solved blocks."""
    return "".join(f"{line}\n" for name, solved in blocks.items() for line in _block(name, solved))


def _block(name: BlockName, solved: SolvedBlock) -> Iterator[str]:
    solution = solved.solution
    priced = f" byte_price {solution.byte_price}" if solution.byte_price else ""
    yield f"block {word_text(name)} mesh {solution.mesh} estimate {solution.cycles}{priced}"
    for op, strategy in solution.strategies.items():
        cuts = [f"{loop}:{Split(cut.axes, cut.granule, cut.cyclic)}" for loop, cut in strategy.cuts.items()]
        yield f"op @{name_text(op)} {' '.join(cuts) or 'whole'}"
        if op in solution.reasons:
            yield _reason(name_of(strategy, solution.mesh), solution.reasons[op])
    for value, layout in solution.shared.items():
        yield f"share %{name_text(value)} {layout}"


def _reason(name: str, reason: Reason) -> str:
    words = [f'why "{name}" own {reason.own_cycles} tried {reason.tried} of {reason.known}']
    words += ["forced"] if reason.forced else []
    words += ["next", *(f'"{other}" {cycles}' for other, cycles in reason.others)] if reason.others else []
    return " ".join(words)


def parse_blocks(
    text: Excerpt,
    templates: Mapping[BlockName, Graph],
    carried: Mapping[BlockName, frozenset[ValueName]],
    target: Target,
    whole: int = WHOLE_ELEMENTS,
) -> dict[BlockName, SolvedBlock]:
    """The blocks of a text: the inverse of `print_blocks`. ``carried``: values that each block exchanges with others;
    ``whole``: as the search had it.

    Raises:
        TextError: a line is not of this form, or names what does not exist; an op cannot be cut as it says.
        CompileError: a layout leads nowhere.
    """
    readers: dict[BlockName, _Reader] = {}
    reader: _Reader | None = None
    for line in read_lines(text, Line):
        if line.accept("block"):
            name = BlockName(line.label("a block"))
            if name not in templates:
                raise line.error(f"the partition has no block {name}", f"it has {', '.join(templates)}")
            if name in readers:
                raise line.error(f"block {name} is laid out already")
            reader = readers[name] = _Reader(name, templates[name], carried[name], target, line)
        elif reader is None:
            line.fail("block")
        else:
            reader.read(line)
    if missing := [name for name in templates if name not in readers]:
        raise TextError(f"block {missing[0]} is missing", where=text.end)
    return {name: readers[name].solved(whole) for name in templates}


class _Reader:
    """One block, line by line."""

    def __init__(
        self, name: BlockName, graph: Graph, carried: frozenset[ValueName], target: Target, line: Line
    ) -> None:
        self.name, self.graph, self.carried, self.target, self.line = name, graph, carried, target, line
        line.expect("mesh")
        axes: list[Axis] = []
        while not line.accept("estimate"):
            axes.append(_axis(line))
        if [a.along for a in axes] != sorted((a.along for a in axes), reverse=True):
            raise line.error("the axes of rows (y) stand before those of columns (x)")
        if len({a.name for a in axes}) < len(axes):
            raise line.error("two axes have one name")
        self.mesh, self.cycles = Mesh(tuple(axes)), line.number("a number of cycles")
        self.byte_price = line.number("a number of cycles") if line.accept("byte_price") else 0
        line.end()
        self.loops: dict[str, Loops] = {op.id: op_loops(graph, op) for op in graph.ops}
        self.strategies: dict[OpId, Strategy] = {}
        self.shareable = shared_values(graph)
        self.shared: dict[ValueName, Layout] = {}
        self.latest: OpId | None = None  # the op to which a reason that follows belongs
        self.reasons: dict[OpId, tuple[str, Reason]] = {}

    def read(self, line: Line) -> None:
        if line.accept("op"):
            op = self.graph.op.get(line.op_name())
            if op is None:
                raise line.error(f"block {self.name} has no such op")
            if op.id in self.strategies:
                raise line.error(f"op {op.id} is cut already")
            self.strategies[op.id] = self._strategy(op, line)
            self.latest = op.id
        elif self.latest is not None and line.accept("why"):
            self.reasons[self.latest] = self._reason(line)
            self.latest = None
        elif line.accept("share"):
            value = line.value()
            if value not in self.shareable:
                raise line.error(f"block {self.name} shares no value {value}")
            self.shared[value] = self._layout(value, line)
        else:
            line.fail("block, op, why behind an op, or share")

    def _strategy(self, op: Op, line: Line) -> Strategy:
        loops = self.loops[op.id]
        words = line.rest().split()
        if not words:
            raise line.error(f"op {op.id} cuts no loop", "write whole for that")
        cuts: dict[str, Cut] = {}
        for word in words if words != ["whole"] else []:
            found = _CUT.fullmatch(word)
            if found is None:
                raise line.error(f"{word!r} is not loop:axes/granule, as in n:x0*x1/16")
            loop, split = found[1], parse_split(found[2])
            if loop not in {each.name for each in loops.loops}:
                known = ", ".join(each.name for each in loops.loops)
                raise line.error(f"op {op.id} ({op.kind}) has no loop {loop}", f"it has {known}")
            self._check_axes(split.axes, [a for cut in cuts.values() for a in cut.axes], line)
            cuts[loop] = Cut(split.axes, split.granule, split.cyclic)
        strategy = strategy_of(self.graph, op, loops, cuts, self.mesh)
        if strategy is None:
            legal = strategies(self.graph, op, loops, dim_facts(self.graph, self.loops), self.mesh)
            widest = sorted(legal, key=lambda each: -each.pes)[:SHOWN]
            names = ", ".join(dict.fromkeys(name_of(each, self.mesh) for each in widest))
            raise line.error(f"op {op.id} ({op.kind}) cannot be cut so", f"its strategies are {names} and the like")
        return strategy

    def _reason(self, line: Line) -> tuple[str, Reason]:
        """The name of the strategy that was found, and why."""
        name = line.label("a strategy, in quotes")
        line.expect("own")
        own = line.number("a number of cycles")
        line.expect("tried")
        tried = line.number("a number of strategies")
        line.expect("of")
        known, forced = line.number("a number of strategies"), line.accept("forced")
        others: list[tuple[str, int]] = []
        if line.accept("next"):
            while line.peek()[0] != "end":
                other = line.label("a strategy, in quotes")
                others.append((other, line.number("a number of cycles")))
        line.end()
        return name, Reason(own, tuple(others), tried, known, forced)

    def _why(self, op: Op) -> Reason:
        """Why an op is cut as it is: as it was found, or because the text says so."""
        strategy = self.strategies[op.id]
        name, reason = self.reasons.get(op.id, ("", None))
        if reason is not None and name == name_of(strategy, self.mesh):
            return reason
        own = own_cycles(self.graph, op, self.loops[op.id], strategy, self.mesh, self.target)
        return Reason(own, (), 1, 1, forced=True)

    def _check_axes(self, axes: tuple[AxisName, ...], taken: list[AxisName], line: Line) -> None:
        for i, axis in enumerate(axes):
            if axis not in self.mesh.extent:
                raise line.error(f"the mesh has no axis {axis}", f"it has {self.mesh}")
            if axis in taken or axis in axes[:i]:
                raise line.error(f"axis {axis} is used twice")

    def _layout(self, value: ValueName, line: Line) -> Layout:
        words = line.rest()
        try:
            layout = parse_layout(words)
        except (ValueError, AssertionError, IndexError):
            raise line.error(f"{words!r} is not a layout, as in (-,y0/16,x0~)") from None
        kind = self.graph.types[value]
        if len(layout.splits) != kind.rank:
            raise line.error(f"{len(layout.splits)} dimensions; {value} is {kind}")
        if layout.partial or layout.held or any(split.granule < 1 for split in layout.splits):
            raise line.error(f"{layout}: a shared value is whole on the PEs that hold it")
        self._check_axes(layout.cut_axes, [], line)
        if value in self.carried and value in self.graph.inputs and layout != boundary_layout(kind, self.mesh):
            boundary = boundary_layout(kind, self.mesh)
            raise line.error(f"{value} comes from another stage, so its layout is {boundary}, not {layout}")
        return layout

    def solved(self, whole: int) -> SolvedBlock:
        """The block of all choices."""
        if missing := [op.id for op in self.graph.ops if op.id not in self.strategies]:
            raise self.line.error(f"block {self.name} does not say how op {missing[0]} is cut")
        if absent := [value for value in self.shareable if value not in self.shared]:
            raise self.line.error(f"block {self.name} does not say in which layout {absent[0]} is shared")
        shared = {value: self.shared[value] for value in self.shareable}
        picked = {op.id: self.strategies[op.id] for op in self.graph.ops}
        reasons = {op.id: self._why(op) for op in self.graph.ops}
        solution = solution_of(
            self.graph, self.mesh, picked, shared, self.carried, self.cycles, self.byte_price, reasons, whole
        )
        try:
            return emit(self.name, self.graph, solution, self.target)
        except CompileError as problem:
            raise CompileError(problem.message, where=f"block {self.name}", hint=problem.hint) from None


def _axis(line: Line) -> Axis:
    """``x1=16``."""
    name = line.take("word", "an axis of the mesh, as in x0=16, or estimate")
    found = _AXIS.fullmatch(name)
    if found is None:
        raise line.error(f"{name!r} is not an axis: they are called y0, y1, x0 and so on")
    line.expect("=")
    extent = line.number("a number of PEs")
    if extent < 1:
        raise line.error(f"axis {name} has no PE")
    along: Literal["y", "x"] = "y" if found[1] == "y" else "x"
    return Axis(AxisName(name), extent, along)

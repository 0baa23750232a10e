"""Block: what one region does for one layer, on a logical mesh; solved once, stamped for every equal layer.

A block is a straight list of steps over tiled values. A step is either local (each PE works on its own tiles) or one
collective along a mesh direction; streams between regions stand outside, in the Program. An instance binds a block's
weights and interface to one layer and one region.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NewType

from .graph import Op, ValueName
from .layout import AxisName, Mesh, Tiled
from .loops import Combine

BlockName = NewType("BlockName", str)
InstanceId = NewType("InstanceId", str)
RegionId = NewType("RegionId", str)
StepId = NewType("StepId", str)
LocalName = NewType("LocalName", str)  # a value inside a block


class Phase(StrEnum):
    """Which part of an op a compute step does.

    WHOLE: operands to results, no reduction owed. LOCAL: operands to partials (or to partial results, where the op has
    no `Loops.partials`). FINISH: combined partials, then the operands, to results.
    """

    WHOLE = "whole"
    LOCAL = "local"
    FINISH = "finish"


class ReduceAlgorithm(StrEnum):
    """How a line of PEs reduces: see facts and `targets/cost.py` for the formulas."""

    CHAIN = "chain"  # neighbour to neighbour towards the root, pipelined wavelet by wavelet
    TREE = "tree"  # pairs at distance 1, 2, 4, ...
    TWO_PHASE = "two_phase"  # chains inside groups of `group` PEs, then a chain over the group roots


@dataclass(frozen=True, slots=True)
class Guard:
    """Work decided at run time: the value ``choices`` names, per row, what is chosen (an expert), and a choice wakes
    the PEs of one part of the mesh; all others pass the step by.

    ``wakes``: for each part (of the axes that cut what is chosen from, in their order) the choices that wake it.
    """

    choices: LocalName
    wakes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Compute:
    """A local kernel on every PE that holds work: one op (or one phase of it) on that PE's tiles.

    ``guard``: if there is one, a PE holds work only where a choice wakes it.
    """

    id: StepId
    op: Op
    phase: Phase
    ins: tuple[LocalName | None, ...]
    outs: tuple[LocalName, ...]
    guard: Guard | None = None


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Combine partial tiles along ``axes`` (all of one direction, contiguous); every PE of the line gets the result.

    ``ins``/``outs``: one array, or the pair/triple of a softmax. The line's PE ``root`` (an index in the line)
    receives; the result is multicast back. Order of combination is the fabric's: from the ends towards the root.
    """

    id: StepId
    ins: tuple[LocalName, ...]
    outs: tuple[LocalName, ...]
    axes: tuple[AxisName, ...]
    combine: Combine
    algorithm: ReduceAlgorithm
    root: int
    group: int = 0


@dataclass(frozen=True, slots=True)
class AllGather:
    """Replicate along ``axes`` what was cut over them: collected at the line's ``root`` in turn, multicast back.

    ``buffered``: from the step's begin every PE takes the words of the multicast into the result, also before its own
    turn has come. Without, a PE listens only once it has sent its part, and the root hands on word by word.
    """

    id: StepId
    source: LocalName
    result: LocalName
    axes: tuple[AxisName, ...]
    root: int
    buffered: bool = True


@dataclass(frozen=True, slots=True)
class Narrow:
    """Keep only this PE's slice of a tile it holds in full (a replicated axis becomes a cut one); no traffic."""

    id: StepId
    source: LocalName
    result: LocalName


Step = Compute | AllReduce | AllGather | Narrow


def step_ins(step: Step) -> tuple[LocalName, ...]:
    """The values a step reads."""
    match step:
        case Compute():
            return tuple(dict.fromkeys(v for v in step.ins if v is not None))
        case AllReduce():
            return step.ins
        case AllGather() | Narrow():
            return (step.source,)


def step_outs(step: Step) -> tuple[LocalName, ...]:
    """The values a step writes."""
    match step:
        case Compute() | AllReduce():
            return step.outs
        case AllGather() | Narrow():
            return (step.result,)


@dataclass(frozen=True)
class Block:
    """The logical part of a layer: values with layouts, steps, and what of it stays resident.

    ``params`` are weights and literals held in SRAM for the life of the program. ``states`` maps a resident cache
    value to the value that is its next content: both share one buffer. ``inputs`` arrive by stream in the layout given;
    ``outputs`` leave by stream from the layout given.
    """

    name: BlockName
    mesh: Mesh
    values: Mapping[LocalName, Tiled]
    params: tuple[LocalName, ...]
    inputs: tuple[LocalName, ...]
    outputs: tuple[LocalName, ...]
    steps: tuple[Step, ...]
    states: Mapping[LocalName, LocalName] = field(default_factory=dict)

    @cached_property
    def last_use(self) -> Mapping[LocalName, int]:
        """Index of the last step that reads a value; outputs live to the end (``len(steps)``)."""
        last = {name: i for i, step in enumerate(self.steps) for name in step_ins(step)}
        return last | {name: len(self.steps) for name in self.outputs}


@dataclass(frozen=True)
class Instance:
    """One layer in one region: which block, where, and what its parameters and interface are bound to.

    ``weights``: block parameter → key of the program's weight tiles. ``bindings``: block input or output → the graph
    value.
    """

    id: InstanceId
    block: BlockName
    region: RegionId
    weights: Mapping[LocalName, str]
    bindings: Mapping[LocalName, ValueName]

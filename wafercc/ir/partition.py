"""Partition: which ops run in which region, and which regions run the same thing.

A stage is one region's share of the graph. Stages of equal structure (the layers of a decoder) share one *template*
graph; a stage then only says what the template's weights and interface are bound to.

Text, a line a stage: its region and the op at which it ends. Everything else follows from that and the graph.

    stage r0 through @layers.0/mlp/down  # block b0, 31 ops
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .block import BlockName, RegionId
from .graph import Graph, OpId, ValueName
from .lines import name_text, word_text


@dataclass(frozen=True)
class Stage:
    """One region's share: its template, and template value → graph value for its inputs, outputs and weights.

    ``last``: the op of the graph at which its share ends.
    """

    region: RegionId
    block: BlockName
    bindings: Mapping[ValueName, ValueName]
    last: OpId


@dataclass(frozen=True)
class Partition:
    """A graph cut into stages, in the order the data passes them."""

    graph: Graph
    templates: Mapping[BlockName, Graph]
    stages: tuple[Stage, ...]

    @cached_property
    def source(self) -> Mapping[ValueName, tuple[Stage, ValueName]]:
        """Graph value → the stage that produces it and its name in the template."""
        found: dict[ValueName, tuple[Stage, ValueName]] = {}
        for stage in self.stages:
            for name in self.templates[stage.block].outputs:
                found[stage.bindings[name]] = (stage, name)
        return found

    def __str__(self) -> str:
        return "".join(
            f"stage {word_text(stage.region)} through @{name_text(stage.last)}"
            f"  # block {stage.block}, {len(self.templates[stage.block].ops)} ops\n"
            for stage in self.stages
        )

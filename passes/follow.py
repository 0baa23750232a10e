"""Follow: how the further entries of a program follow the first.

The first entry is the one that takes in fewest tokens (`decode`); it is decided as if it were alone, except that
the regions must hold the others too. The others have its stages, regions and meshes; their weights and caches lie as
there, as far as any op can read them so, since the same tiles serve all entries. Only then are their other layouts
searched (`solve.py`) and their streams routed: an entry begins with its own configuration of the routers. On every PE
the weights of all entries, the largest caches and the largest peak of activations must fit.

Reads entries and the partition of the first; writes the partitions of the others. Cost: linear in ops.
"""

from __future__ import annotations

from collections.abc import Sequence

from wafercc.errors import CompileError
from wafercc.ir.graph import Graph
from wafercc.ir.layout import tile_bytes
from wafercc.ir.partition import Partition
from wafercc.ir.program import SramPlan
from wafercc.targets import Target

from .assemble import Mapped
from .base import run_rewrites
from .entries import Entry
from .options import Options
from .partition import partition_like
from .rewrite import all_rewrites
from .schedule import over_sram
from .solve import Follower


def follow(entries: Sequence[Entry], first: Partition, options: Options) -> tuple[Follower, ...]:
    """The further entries, rewritten and cut into the stages of the first.

    Raises:
        CompileError: one has no such stages, or its caches differ.
    """
    found = []
    for entry in entries[1:]:
        rewritten = run_rewrites(entry.imported.graph, entry.imported.weights, all_rewrites(options.disabled_passes))
        _check_states(entry.name, rewritten.graph, first.graph)
        partition = partition_like(rewritten.graph, first, entry.name)
        share = max(1, entries[0].tokens) / max(1, entry.tokens)
        found.append(Follower(entry.name, partition, rewritten.weights, share))
    return tuple(found)


def _check_states(name: str, graph: Graph, first: Graph) -> None:
    for past in first.states:
        ours, theirs = graph.types.get(past), first.types[past]
        if past not in graph.states or ours is None or ours.at(0) != theirs.at(0) or ours.dtype != theirs.dtype:
            raise CompileError(
                f"it is {ours} here and {theirs} in another entry, so they cannot share it",
                where=f"cache {past}, entry {name}",
                hint="give all entries the same batch",
            )


def check_together(entries: Sequence[Mapped], past_max: Sequence[int], target: Target) -> None:
    """Hold that every region has room for the weights of all entries beside the largest caches and activations.

    ``past_max``: the most tokens that the caches of each hold before a run.

    Raises:
        DoesNotFit: one has not.
    """
    bound = target.pe.usable_bytes
    plans = [mapped.schedule.sram for mapped in entries]
    for region in plans[0]:
        held = {
            key: tile_bytes(mapped.tiles[key].tiled, mapped.tiles[key].mesh, most)
            for mapped, most in zip(entries, past_max, strict=True)
            for instance in mapped.instances
            if instance.region == region
            for key in instance.weights.values()
        }
        weights = sum(held.values())
        caches = max(plan[region].state_bytes for plan in plans)
        values = max(plan[region].peak_activation_bytes for plan in plans)
        plan = SramPlan(weights, caches, values, bound)
        if plan.total_bytes > bound:
            raise over_sram(
                plan,
                f"the entries together need {plan.total_bytes} bytes per PE",
                where=f"region {region}",
                hint="use a larger --region, more --stages, a shorter --context or an --entry of fewer new tokens",
            )

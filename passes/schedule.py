"""Schedule: in which order PEs and links serve, and what lies in SRAM when.

Caches are loaded first and read back last, outside the timed part. Then all inputs from the host are served, stage by
stage, so that no stage waits for an input behind another's results; then each stage's incoming streams, the stage, and
what it sends to the host. SRAM is the resident part plus, step by step, the values still to be read.

Reads blocks, instances and stream demands; writes the order and the SRAM plan. Cost: linear in steps and streams.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wafercc.errors import DoesNotFit
from wafercc.ir.block import Block, BlockName, Instance, LocalName, RegionId, step_outs
from wafercc.ir.layout import tile_bytes
from wafercc.ir.program import Execute, SramPlan, Task, Transfer
from wafercc.ir.routing import StreamDemand

SRAM_PER_PE = "SRAM bytes per PE"
"""The resource that refusals name where a PE's memory is too small."""


def order_tasks(instances: Sequence[Instance], demands: Sequence[StreamDemand]) -> tuple[Task, ...]:
    """The service order of all tasks."""
    loads = [d for d in demands if d.state and d.source is None]
    reads = [d for d in demands if d.state and d.destination is None]
    timed = [d for d in demands if not d.state]
    tasks: list[Task] = [Transfer(d.id) for d in loads]
    tasks += [Transfer(d.id) for d in timed if d.source is None]
    for instance in instances:
        tasks += [
            Transfer(d.id)
            for d in timed
            if d.source is not None and d.destination is not None and d.destination[0] == instance.id
        ]
        tasks.append(Execute(instance.id))
        sent = [d for d in timed if d.source is not None and d.source[0] == instance.id]
        tasks += [Transfer(d.id) for d in sent if d.destination is None]
    return (*tasks, *(Transfer(d.id) for d in reads))


def plan_sram(block: Block, past_max: int, bound_bytes: int) -> SramPlan:
    """The SRAM of one block on the fullest PE, at the context capacity."""

    def size(name: LocalName) -> int:
        return tile_bytes(block.values[name], block.mesh, past_max)

    weights = sum(size(p) for p in block.params)
    state = sum(max(size(p), size(q)) for p, q in block.states.items())
    resident = {*block.params, *block.states, *block.states.values()}
    live = {v for v in block.inputs if v not in resident}
    now = peak = sum(size(v) for v in live)
    for i, step in enumerate(block.steps):
        born = [v for v in step_outs(step) if v not in resident]
        live.update(born)
        now += sum(size(v) for v in born)
        peak = max(peak, now)
        for value in [v for v in live if block.last_use.get(v, -1) <= i]:
            live.remove(value)
            now -= size(value)
    return SramPlan(weights, state, peak, bound_bytes)


def plan_regions(
    blocks: Mapping[BlockName, Block], instances: Sequence[Instance], past_max: int, bound_bytes: int
) -> dict[RegionId, SramPlan]:
    """The SRAM plan of every region.

    Raises:
        DoesNotFit: a region needs more than the bound; the message names its three parts.
    """
    by_block = {name: plan_sram(block, past_max, bound_bytes) for name, block in blocks.items()}
    plans: dict[RegionId, SramPlan] = {}
    for instance in instances:
        plan = by_block[instance.block]
        before = plans.get(instance.region, SramPlan(0, 0, 0, bound_bytes))
        plans[instance.region] = SramPlan(
            before.weights_bytes + plan.weights_bytes,
            before.state_bytes + plan.state_bytes,
            max(before.peak_activation_bytes, plan.peak_activation_bytes),
            bound_bytes,
        )
    for region, plan in plans.items():
        if plan.total_bytes > bound_bytes:
            raise over_sram(
                plan,
                f"needs {plan.total_bytes} bytes per PE",
                where=f"region {region}",
                hint="use a larger --region, more --stages, a shorter --context or fewer new tokens",
            )
    return plans


def over_sram(plan: SramPlan, said: str, *, where: str, hint: str) -> DoesNotFit:
    """The refusal of a plan beyond its bound: what is said of its need, then the three parts and the bound."""
    return DoesNotFit(
        f"{said} (weights {plan.weights_bytes}, caches {plan.state_bytes}, activations "
        f"{plan.peak_activation_bytes}); {plan.bound_bytes} are usable",
        resource=SRAM_PER_PE,
        demand=plan.total_bytes,
        bound=plan.bound_bytes,
        where=where,
        hint=hint,
    )

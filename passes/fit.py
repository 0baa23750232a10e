"""Fit: the answers to what cannot fit, before work is spent on it or after it has failed.

"Does not fit" is a normal, typed answer of this compiler: which resource binds, what is asked of it, what there is.
"""

from __future__ import annotations

from wafercc.errors import DoesNotFit
from wafercc.ir.graph import Graph
from wafercc.ir.partition import Partition

from .machine import Machine
from .options import Options


def check_forced_region(options: Options, partition: Partition, machine: Machine) -> None:
    """Hold that the mesh forced on every region could fit the wafer.

    Raises:
        DoesNotFit: it has too many rows or columns, or all of them together too many PEs.
    """
    if options.region is None:
        return
    (rows, columns), target, stages = options.region, machine.target, len(partition.stages)
    where, live = "option region (--region)", machine.defects.alive(0).cores
    if rows > target.height or columns > target.width:
        raise DoesNotFit(
            f"{columns} columns x {rows} rows do not fit {target.name}'s {target.width} x {target.height}",
            resource="columns" if columns > target.width else "rows",
            demand=columns if columns > target.width else rows,
            bound=target.width if columns > target.width else target.height,
            where=where,
            hint="give a smaller --region or a larger --target",
        )
    if stages * rows * columns > live:
        raise DoesNotFit(
            f"{stages} regions of {columns}x{rows} need {stages * rows * columns} PEs; {live} are alive",
            resource="PEs",
            demand=stages * rows * columns,
            bound=live,
            where=where,
            hint="give a smaller --region, fewer --stages or a larger --target",
        )


def check_values(graph: Graph, machine: Machine) -> None:
    """Hold that each value the graph computes could lie somewhere on the wafer, before layouts of it are searched.

    Raises:
        DoesNotFit: one is larger than the memory of all live PEs.
    """
    live = machine.defects.alive(0).cores
    bound = live * machine.target.pe.usable_bytes
    for op in graph.ops:
        for value, kind in zip(op.outputs, graph.out_types(op), strict=True):
            demand = kind.dtype.sram_bytes(kind.elements)
            if demand > bound:
                raise DoesNotFit(
                    f"its result {value} is {kind}, {demand} bytes; {live} live PEs hold {bound}",
                    resource="SRAM bytes",
                    demand=demand,
                    bound=bound,
                    where=f"op {op.id} ({op.kind})",
                    hint="give fewer tokens or a shorter context, or use a larger target",
                )


def needs_wafers(graph: Graph, refusal: DoesNotFit, machine: Machine) -> DoesNotFit:
    """The answer to ``wafers="auto"`` where one is too small: about how many, by the bytes of weights and caches."""
    live = machine.defects.alive(0).cores
    resident = [graph.types[v] for v in (*graph.weights, *graph.states)]
    demand = sum(kind.dtype.sram_bytes(kind.elements) for kind in resident)
    bound = live * machine.target.pe.usable_bytes
    return DoesNotFit(
        f"does not fit one wafer, needs about {max(2, -(-demand // bound))}: weights and caches hold {demand} bytes, "
        f"{live} live PEs hold {bound}; {refusal.message}",
        resource="wafers",
        demand=max(2, -(-demand // bound)),
        bound=1,
        where=f"target {machine.target.name}",
        hint="programs of several wafers are not supported yet: use a larger target or a smaller model",
    )

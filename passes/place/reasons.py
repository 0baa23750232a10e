"""Reasons: why each region lies where it lies, worked out after the fact from the placement alone.

For each region, with all others where they are: what its flows cost here, what they would cost at the best legal spot
that lies elsewhere (apart from its present rectangle), and, where that is cheaper than here, at the spot it would have
without its pin or on a wafer without defects.

Reads PlaceRequest, Placement, Target and DefectMap; writes plain JSON. Cost: two or three searches of one spot for each
region.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir.block import RegionId
from ...ir.embedding import Refusal
from ...ir.placement import HOST, Placement, PlaceRequest
from ...silicon import DefectMap
from ...targets import Target
from .moves import best_spot
from .problem import Problem, Spot, problem_of
from .sites import Sites

MOST_PARTNERS = 8
ITSELF = -1  # stands for a region's own present rectangle where it is to be kept free


def placement_reasons(
    request: PlaceRequest, placement: Placement, target: Target, defects: DefectMap
) -> dict[str, dict[str, Any]]:
    """Region → rectangle, partners, cost in cycles, share of the objective, next best spot, and what held it."""
    found: dict[str, dict[str, Any]] = {}
    for wafer in sorted({rect.wafer for rect in placement.rects.values()}):
        problem = problem_of(request, wafer, target, defects.alive(wafer))
        sites = Sites(problem.alive, placement.reach, placement.detour_hops)
        healthy = DefectMap.none(target).alive(wafer)
        flawless = Sites(healthy, placement.reach, placement.detour_hops)
        perfect = None if healthy.cores == problem.alive.cores else flawless
        spots = [_spot(problem, sites, i, placement) for i in range(problem.count)]
        total = max(1, problem.doubled_cost(spots))
        for i, region in enumerate(problem.ids):
            found[region] = _reason(problem, sites, perfect, spots, i, total) | {
                "partners": _partners(request, problem, spots, i)
            }
    return {region.id: found[region.id] for region in request.regions}


def _spot(problem: Problem, sites: Sites, i: int, placement: Placement) -> Spot:
    """A placed region as the search sees it."""
    rect, shape = placement.rects[problem.ids[i]], placement.shapes[problem.ids[i]]
    spot = sites.exactly(rect, shape, problem.shapes[i].index(shape))
    assert not isinstance(spot, Refusal), f"{problem.ids[i]} does not embed in {rect}"
    return spot


def _reason(
    problem: Problem, sites: Sites, perfect: Sites | None, spots: list[Spot], i: int, total: int
) -> dict[str, Any]:
    here, pinned = spots[i], i in problem.pins
    others = {j: s for j, s in enumerate(spots) if j != i}
    cost = _cost(problem, i, here, others)
    reason: dict[str, Any] = {
        "rect": _plain(here),
        "cycles": cost / 2,
        "detour": here.detour,
        "share": round(cost / total, 4),
        "dead": here.w * here.h - sites.live(here.rect(0)),
        "pinned": pinned,
        "next": _told(problem, i, best_spot(problem, sites, i, {**others, ITSELF: here}), others),
    }
    if pinned:
        free = _told(problem, i, best_spot(problem, sites, i, others), others)
        reason["without_pin"] = free if free is not None and free["cycles"] < cost / 2 else None
    elif perfect is not None:
        healed = _told(problem, i, best_spot(problem, perfect, i, others), others)
        reason["without_defects"] = healed if healed is not None and healed["cycles"] < cost / 2 else None
    return reason


def _cost(problem: Problem, i: int, spot: Spot, others: Mapping[int, Spot]) -> int:
    """Doubled cycles of one region's flows and of its own, at a spot."""
    x, y = spot.centre
    hops = sum(abs(x - others[j].centre[0]) + abs(y - others[j].centre[1]) for j in problem.partners[i])
    if problem.to_edge[i]:
        hops += int(problem.to_edge[i]) * _to_edge(problem, spot)
    return problem.hop_cycles * hops + 2 * problem.own_cycles(i, spot)


def _to_edge(problem: Problem, spot: Spot) -> int:
    """Doubled hops from a spot's centre to the nearest port."""
    x, y = spot.centre
    return int(problem.edge_distance(np.array([x]), np.array([y]))[0])


def _told(problem: Problem, i: int, spot: Spot | None, others: Mapping[int, Spot]) -> dict[str, Any] | None:
    return None if spot is None else {"rect": _plain(spot), "cycles": _cost(problem, i, spot, others) / 2}


def _plain(spot: Spot) -> list[int]:
    return [spot.x, spot.y, spot.w, spot.h]


def _partners(
    request: PlaceRequest, problem: Problem, spots: list[Spot], i: int
) -> list[list[Any]]:
    """[region or host, words, hops between the centres], the nearest first; of many only the nearest."""
    region, index = problem.ids[i], {region: j for j, region in enumerate(problem.ids)}
    words: dict[str, int] = {}
    for flow in request.flows:
        if region in (flow.source, flow.destination):
            other = flow.destination if flow.source == region else flow.source
            words[other] = words.get(other, 0) + flow.words
    rows: list[list[Any]] = []
    for end, count in words.items():
        if end == HOST:
            hops = _to_edge(problem, spots[i]) / 2
        elif end in index:
            (x, y), (u, v) = spots[i].centre, spots[index[RegionId(end)]].centre
            hops = (abs(x - u) + abs(y - v)) / 2
        else:
            continue
        rows.append([end, count, hops])
    return sorted(rows, key=lambda row: (row[2], row[0]))[:MOST_PARTNERS]

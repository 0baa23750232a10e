"""Limits: what holds a program back, in plain sentences, each with the lever that would help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CROWDED = 0.9  # of a resource: worth a sentence


def limits(facts: Mapping[str, Any]) -> list[str]:
    """Sentences about cycles, memory, colours and PEs, from the numbers of `summary.as_dict`."""
    found = [*_cycles(facts), _memory(facts), _colours(facts), _pes(facts), _spread(facts), _placement(facts)]
    return [sentence for sentence in found if sentence]


def _cycles(facts: Mapping[str, Any]) -> list[str]:
    timing = facts["timing"]
    if not timing or timing["cycles"] is None:
        return []
    kinds = timing["by_kind"].items()
    local = sum(row["busy_cycles"] for _, row in kinds)
    wires = sum(row["collective_cycles"] for _, row in kinds)
    total = local + wires
    if not total:
        return []
    top, row = next(iter(kinds))
    share = (row["busy_cycles"] + row["collective_cycles"]) / total
    first = f"{top} takes {share:.0%} of the cycles of all steps"
    if local >= wires:
        lever = "the work on PEs decides: fewer --stages (each op then has more PEs) would shorten it"
    else:
        lever = "collectives decide: smaller regions (--region) or more new tokens a run would pay for them better"
    return [f"{first}; {local / total:.0%} is work on PEs, {wires / total:.0%} collectives, so {lever}."]


def _memory(facts: Mapping[str, Any]) -> str:
    if not facts["regions"]:
        return ""
    fullest = max(facts["regions"], key=lambda r: r["sram_bytes"]["total"] / r["sram_bytes"]["bound"])
    sram = fullest["sram_bytes"]
    parts = {part: sram[part] for part in ("weights", "caches", "activations")}
    most = max(parts, key=lambda part: parts[part])
    share = sram["total"] / sram["bound"]
    where = f"{fullest['id']} ({fullest['title']})"
    words = f"The fullest PEs are in {where}: {share:.0%} of {sram['bound']:,} bytes, mostly {most}"
    lever = "; little is left: a larger --region or a shorter --context frees some" if share > CROWDED else ""
    return f"{words}{lever}."


def _colours(facts: Mapping[str, Any]) -> str:
    colours = facts["colours"]
    most, usable = colours["most_on_one_router"], colours["usable"]
    if most < CROWDED * usable:
        return ""
    return f"{most} of {usable} colours are used on the busiest router; --max-lanes would free some."


def _pes(facts: Mapping[str, Any]) -> str:
    pes = facts["pes"]
    if pes["share_of_live"] >= 0.5:
        return ""
    return (
        f"{1 - pes['share_of_live']:.0%} of the live PEs hold nothing: the sizes chosen are those of least estimated "
        "cycles; --region forces others."
    )


def _spread(facts: Mapping[str, Any]) -> str:
    spread = facts["spread"]
    if not spread["ops"]:
        return ""
    least = min(spread["ops"], key=lambda op: op["pes"])
    return (
        f"{spread['share_on_wide_ops']:.1%} of {spread['macs']:,} multiply-accumulates (matmul, attention) run on ops "
        f"spread over {spread['wide_pes']} PEs or more; the least spread op uses {least['pes']:,}."
    )


def _placement(facts: Mapping[str, Any]) -> str:
    place = facts["decisions"].get("placement")
    if not isinstance(place, Mapping) or "gap" not in place:
        return ""
    baseline = place.get("baseline")
    simple = "no simple placement is legal" if baseline is None else f"the simple placement has {baseline:,.0f}"
    return (
        f"Placement: {place['objective']:,.0f} estimated hop cycles between regions and to ports; {simple}, "
        f"no legal one is below {place['bound']:,.0f}."
    )

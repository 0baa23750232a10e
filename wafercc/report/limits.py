"""Limits: what holds a program back, in plain sentences, each with the lever that would help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .naming import short

CROWDED = 0.9  # of a resource: worth a sentence
WORTH_SAYING = 0.02  # of the critical path
MOSTLY_USED = 0.75  # of the live PEs: sizes were chosen by the room there is


def limits(facts: Mapping[str, Any]) -> list[str]:
    """Sentences about cycles, memory, colours and PEs, from the numbers of `summary.as_dict`."""
    found = _bottlenecks(facts) or _cycles(facts)
    found += [_memory(facts), _colours(facts), _pes(facts), _spread(facts), _placement(facts)]
    return [sentence for sentence in found if sentence]


def _bottlenecks(facts: Mapping[str, Any]) -> list[str]:
    """What takes most of the critical path, each with the option that would shorten it."""
    found = (facts["timing"] or {}).get("bottlenecks", [])
    return [
        f"{group['share']:.1%} of the critical path is {_what(group)}, most in {short(group['largest'])}: "
        f"{_lever(group, facts)}."
        for group in found
        if group["share"] >= WORTH_SAYING
    ]


def _what(group: Mapping[str, Any]) -> str:
    if group["what"] == "work":
        return f"work of {group['of']} ops on PEs"
    spent = {"hops": "distance", "words": "length of messages", "wait": "links held by earlier messages"}
    where = {
        "collective": "collectives inside regions",
        "stream": "streams between regions",
        "host": "streams from and to the host",
    }
    return f"{spent[group['of']]}, in {where[group['what']]}"


def _lever(group: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The option that would help, given those that the program was compiled with."""
    options = facts["options"]
    region, lanes = options.get("region"), options.get("max_lanes")
    size = "" if region is None else f" (now {region[1]}x{region[0]})"
    fewer = "fewer new tokens (--new-tokens, --shape)"
    forced = "leave out --strategy; " if options.get("strategies") else ""
    match group["what"], group["of"]:
        case "work", _ if region is not None:
            return f"{forced}a larger --region{size} gives each op more PEs"
        case "work", _ if facts["pes"]["share_of_live"] >= MOSTLY_USED:
            return f"{forced}a larger --target, or fewer --stages, gives each op more PEs"
        case "work", _:
            return f"{forced}{fewer} are less work; by estimate more PEs would cost more than they save"
        case "collective", "hops":
            return f"{forced}a smaller --region{size} has shorter rows and columns, for more work on each PE"
        case "collective", _:
            return f"{forced}{fewer} are shorter messages"
        case "stream", "hops" if options.get("pins"):
            return "--pin the regions nearer to each other, or leave some free"
        case "stream", "hops":
            return "fewer --stages are fewer ways between regions"
        case "stream", "words" if lanes is not None:
            return f"a higher --max-lanes (now {lanes}) carries them side by side"
        case "stream", "words":
            return f"fewer --stages move less between regions; {fewer} are shorter messages"
        case "host", "hops":
            return "--pin the first and the last region nearer to the wafer's west or east edge, where the ports are"
        case "host", "words":
            return f"ports take one word at a time: {fewer} are shorter messages"
        case _:
            return "--pin regions out of each other's way, or lower --max-lanes"


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

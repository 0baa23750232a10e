"""Tables: a placed program for people, in the terminal. Every number is one of `summary.as_dict`."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.table import Table

from ..ir.program import PlacedProgram
from .limits import limits
from .naming import short
from .path import PARTS, folded
from .summary import Runnable, as_dict

TOP_OPS = 12
MOST_ROWS = 24
LEAST_NAME, MOST_NAME = 18, 72  # characters of a name beside numbers that take so many columns:
PATH_NUMBERS, STRATEGY_COLUMNS = 62, 66


def render(program: Runnable | PlacedProgram, console: Console, critical_path: bool = False) -> None:
    """Print what a program consists of, where its cycles go, and what limits it; or only its critical path."""
    facts = as_dict(program, critical_path)
    if critical_path:
        print_path(facts, console)
        return
    print_head(facts, console)
    kinds, ops = by_kind(facts), by_op(facts)
    cuts = strategies(facts, console.width)
    for table in (regions(facts), blocks(facts), streams(facts), kinds, ops, cuts, gathers(facts)):
        if table is not None and table.row_count:
            console.print()
            console.print(table)
    console.print()
    for sentence in limits(facts):
        console.print(fill(f"- {sentence}", console.width, subsequent_indent="  ", break_on_hyphens=False))


def print_head(facts: Mapping[str, Any], console: Console) -> None:
    """The program in a few lines: model, machine, defects, size, cycles, assumptions."""
    target, defects, pes, timing = (facts[key] for key in ("target", "defects", "pes", "timing"))
    weights = facts["weights"]
    lines = {
        "model": facts["model"],
        "target": f"{target['name']}, {target['width']} × {target['height']} PEs, {target['clock_ghz']} GHz",
        "defects": dead_line(defects),
        "PEs": f"{pes['used']:,} used of {pes['live']:,} alive ({pes['share_of_live']:.0%})",
        "weights": f"{weights['tensors']} tensors, {size(weights['bytes'])}; "
        f"{size(weights['bytes_on_pes'])} on the PEs with replicas and padding"
        + ("" if weights["have_values"] else "; weightless: their numbers were left out"),
        "colours": f"{colours_line(facts)}; {facts['colours']['router_rows']:,} router settings",
    }
    if timing:
        lines["cycles"] = cycles_line(facts)
    if len(facts["entries"]) > 1:
        lines["entries"] = f"{', '.join(facts['entries'])}; shown is {facts['entry']} (--entry)"
    width = max(map(len, lines))
    for name, text in lines.items():
        console.print(f"{name:<{width}}  {text}")
    for assumption in facts["assumptions"]:
        console.print(f"{'assumed':<{width}}  {assumption}")


def dead_line(defects: Mapping[str, Any]) -> str:
    """What is dead: ``9 dead cores, 0 dead routers, 1 dead link (logical view)``."""
    counts = [(defects[f"dead_{kind}s"], kind) for kind in ("core", "router", "link")]
    words = ", ".join(f"{n:,} dead {kind}{'s' if n != 1 else ''}" for n, kind in counts)
    return f"{words} ({defects['view']} view)"


def colours_line(facts: Mapping[str, Any]) -> str:
    """How crowded the busiest router is."""
    colours = facts["colours"]
    return f"at most {colours['most_on_one_router']} of {colours['usable']} on one router"


def cycles_line(facts: Mapping[str, Any]) -> str:
    """Cycles and what they count, or why there are none."""
    timing = facts["timing"]
    if timing["cycles"] is None:
        return f"none: {timing['error']}"
    past = f", with {timing['n_past']} tokens in the cache" if facts["past_max"] else ""
    time = timing["seconds"] * 1e6
    return f"{timing['cycles']:,} simulated{past}: {time:,.1f} µs at {timing['clock_ghz']} GHz"


def regions(facts: Mapping[str, Any]) -> Table:
    """One row a region: what it holds, where, how full, how busy."""
    table = _table(
        "region", "holds", "block", "place", "rows × columns", "PEs", "SRAM per PE", "cycles", title="Regions"
    )
    used = (facts["timing"] or {}).get("regions", {})
    for row in facts["regions"]:
        rect, sram = row["rect"], row["sram_bytes"]
        table.add_row(
            row["id"],
            row["title"],
            " ".join(row["blocks"]),
            f"x {rect['x']}..{rect['x'] + rect['w'] - 1}, y {rect['y']}..{rect['y'] + rect['h'] - 1}",
            f"{row['rows']} × {row['columns']}",
            f"{row['pes']:,}",
            f"{size(sram['total'])} of {size(sram['bound'])}",
            f"{used[row['id']]['step_cycles']:,}" if row["id"] in used else "",
        )
    return table


def blocks(facts: Mapping[str, Any]) -> Table:
    """One row a block: solved once, used by so many instances."""
    table = _table("block", "instances", "mesh", "steps", "ops", title="Blocks")
    for row in facts["blocks"]:
        steps = ", ".join(f"{n} {kind.replace('_', '-')}" for kind, n in row["steps"].items() if n)
        ops = ", ".join(f"{n} {kind}" for kind, n in row["ops"].items())
        table.add_row(row["name"], str(row["instances"]), f"{row['rows']} × {row['columns']}", steps, ops)
    return table


def streams(facts: Mapping[str, Any]) -> Table:
    """One row a stream; those of the caches, which are outside the timed part, only counted."""
    moving = [row for row in facts["streams"] if not row["state"]]
    caches = len(facts["streams"]) - len(moving)
    note = f", and {caches} that load or read caches outside the timed part" if caches else ""
    table = _table("value", "from", "to", "words", "lanes", "colours", "hops", title=f"Streams: {len(moving)}{note}")
    for row in moving[:MOST_ROWS]:
        numbers = (f"{row['words']:,}", str(row["lanes"]), str(len(row["colours"])), str(row["hops"]))
        table.add_row(short(row["value"]), row["source"], row["destination"], *numbers)
    _rest(table, len(moving) - MOST_ROWS)
    return table


def by_kind(facts: Mapping[str, Any], most: int = MOST_ROWS) -> Table | None:
    """Cycles by kind of step, the largest first."""
    timing = facts["timing"]
    if not timing or timing["cycles"] is None:
        return None
    title = "Cycles by kind (each step at its slowest PE; regions and steps overlap, so shares are of their sum)"
    table = _table("kind", "steps", "on PEs", "in collectives", "share", title=title)
    rows = [(kind, row) for kind, row in timing["by_kind"].items() if row["busy_cycles"] + row["collective_cycles"]]
    total = sum(row["busy_cycles"] + row["collective_cycles"] for _, row in rows)
    for kind, row in rows[:most]:
        share = (row["busy_cycles"] + row["collective_cycles"]) / total
        table.add_row(
            kind, str(row["steps"]), f"{row['busy_cycles']:,}", f"{row['collective_cycles']:,}", f"{share:.1%}"
        )
    _rest(table, len(rows) - most)
    return table


def by_op(facts: Mapping[str, Any]) -> Table | None:
    """The ops and collectives with most cycles, over all instances of their block."""
    timing = facts["timing"]
    if not timing or timing["cycles"] is None:
        return None
    rows = [row for row in timing["by_op"] if row["busy_cycles"] + row["collective_cycles"]]
    shown = rows[:TOP_OPS]
    table = _table(
        "op", "kind", "on PEs", "in collectives", "waiting", title=f"Cycles by op: top {len(shown)} of {len(rows)}"
    )
    for row in shown:
        numbers = (f"{row[key]:,}" for key in ("busy_cycles", "collective_cycles", "wait_cycles"))
        table.add_row(short(row["op"]), row["kind"], *numbers)
    return table


def gathers(facts: Mapping[str, Any]) -> Table:
    """Every all-gather: what each PE holds of a value afterwards."""
    found = facts["gathers"]
    title = f"Gathers: {found['count']} in all instances, at most {found['most_elements_per_pe']:,} elements to one PE"
    table = _table("value", "block", "along", "elements per PE", "bytes per PE", "instances", title=title)
    rows = sorted(found["each"], key=lambda g: -g["bytes_per_pe"])
    for row in rows[:MOST_ROWS]:
        numbers = (f"{row['elements_per_pe']:,}", f"{row['bytes_per_pe']:,}", str(row["times"]))
        table.add_row(short(row["value"]), row["block"], " ".join(row["axes"]), *numbers)
    _rest(table, len(rows) - MOST_ROWS)
    return table


def print_path(facts: Mapping[str, Any], console: Console) -> None:
    """The critical path, one row a segment; their cycles sum to the program's."""
    timing = facts["timing"]
    if not timing or timing["cycles"] is None:
        console.print(f"no critical path: {timing['error'] if timing else 'the program was not timed'}")
        return
    rows = timing["critical_path"]
    table = _table("cycles", "share", *PARTS, "where", "PE", "ONNX node, or value", title="Critical path")
    for row in folded(rows):
        numbers = [f"{row[f'{part}_cycles']:,}" if row[f"{part}_cycles"] else "" for part in PARTS]
        room = _room(console.width - PATH_NUMBERS)
        table.add_row(f"{row['cycles']:,}", f"{row['share']:.1%}", *numbers, *_place_and_name(row, room))
    total = {part: sum(row[f"{part}_cycles"] for row in rows) for part in PARTS}
    shares = ", ".join(f"{part} {total[part] / timing['cycles']:.1%}" for part in PARTS if timing["cycles"])
    console.print(table)
    console.print(f"sum of {len(rows)} segments: {sum(row['cycles'] for row in rows):,} cycles; {cycles_line(facts)}")
    console.print(f"spent on: {shares}")
    console.print("work: kernels on PEs; hops: first words on ramps and links; words: those behind; wait: links held")


def _room(columns: int) -> int:
    """Characters for a name, whose end tells most, where so many columns are left."""
    return min(MOST_NAME, max(LEAST_NAME, columns))


def _place_and_name(row: Mapping[str, Any], room: int) -> tuple[str, str, str]:
    """Where a piece of the critical path was, its PE, and what it was."""
    if row["again"]:
        first, last = row["again"][0], row["again"][-1]
        where = first if first == last else f"{first} .. {last}"
        return where, "", "the same again"
    if row["ends"]:
        source, destination = row["ends"]
        name = row["name"].removesuffix(f" to {destination}")
        return f"{source} → {destination}", "", short(name, room)
    xy = "{},{}".format(*row["xy"]) if row["xy"] else ""
    return row["region"], xy, short(row["node"] or row["name"], room)


def strategies(facts: Mapping[str, Any], columns: int) -> Table:
    """How the heavy ops are cut, and what their block would take at the next best."""
    rows = facts["strategies"]
    title = "Strategies of heavy ops, and what the next best would add to their block (more: --why OP)"
    table = _table("op", "block", "strategy", "next best", "block then", title=title)
    for row in rows[:MOST_ROWS]:
        name, more = "none", ""
        if row["others"]:
            name, cycles = row["others"][0]
            more = f"+{(cycles - row['block_cycles']) / max(1, row['block_cycles']):.1%}"
        name = "forced" if row["forced"] else name
        table.add_row(short(row["op"], _room(columns - STRATEGY_COLUMNS)), row["block"], row["strategy"], name, more)
    _rest(table, len(rows) - MOST_ROWS)
    return table


def size(count: float) -> str:
    """A number of bytes as people read it: ``17.3 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def _table(*columns: str, title: str) -> Table:
    """A table without lines, numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    right = {"words", "lanes", "colours", "hops", "PEs", "cycles", "instances", "steps", "on PEs", "in collectives"}
    right |= {*PARTS, "block then", "share", "elements per PE", "bytes per PE", "rows × columns", "waiting"}
    right.add("SRAM per PE")
    for column in columns:
        numeric = column in right and not (column == "steps" and title == "Blocks")
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    return table


def _rest(table: Table, count: int) -> None:
    if count > 0:
        table.add_row(f"and {count} more: --json", *[""] * (len(table.columns) - 1))

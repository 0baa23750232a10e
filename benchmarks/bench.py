"""The benchmarks: ``make bench``, or ``python -m benchmarks.bench [--quick]``.

Prints how long the commands take, how good the default sizes are, how far formulas, runtime and published figures are
apart, how good placement is on full wafers, and which bars hold. Exit 0 even where a bar is missed: this measures, it
does not judge. With ``--quick`` only one small graph, on mesh:64x64, few sizes and small wafers' worth of regions: some
seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import collectives, commands, placement, regions
from .bars import Bar
from .tables import console, show, show_bars

TARGETS = ("mesh:64x64", "wse3")
HELP_SECONDS, COMPILE_SECONDS, RUN_SECONDS, SIZE_RATIO = 0.4, 10.0, 5.0, 1.05


def main(words: Sequence[str] | None = None) -> int:
    """Run all benchmarks and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small graph, one machine, few sizes")
    quick: bool = parser.parse_args(words).quick
    out = console()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    out.print(f"{machine}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graphs = list(commands.graphs(folder, quick))
        targets = TARGETS[:1] if quick else TARGETS
        timings = [commands.timing(graph, target, folder) for target in targets for graph in graphs]
        show(out, "Commands (whole processes)", SPEED_HEAD, map(speed_row, timings))
        chosen = [regions.sizes(graph, regions.FORCED[2:3] if quick else regions.FORCED) for graph in graphs]
        show(out, f"Sizes of regions: cycles on {regions.TARGET}", size_head(chosen[0]), map(size_row, chosen))
    show(out, "Collectives on one line of PEs: cycles", LINE_HEAD, map(line_row, collectives.rows(quick)))
    placed = list(placement.rows(placement.QUICK if quick else placement.Subset()))
    show(out, placement.TITLE, placement.HEAD, map(placement.row, placed))
    helped = commands.help_seconds(3 if quick else 9)
    bars = [
        Bar("wafercc --help", helped, HELP_SECONDS),
        Bar("wafercc compile, slowest", max(t.compile.seconds for t in timings), COMPILE_SECONDS),
        Bar("wafercc run, slowest", max(t.run.seconds for t in timings), RUN_SECONDS),
        Bar("default over best forced size, worst", max(s.ratio for s in chosen), SIZE_RATIO, "{:.3f}"),
        *placement.bars([case for cases in placed for case in cases]),
    ]
    show_bars(out, bars)
    return 0


SPEED_HEAD = ("graph", "target", ">compile s", ">of CPU", ">run s", ">of CPU", ">cycles")


def speed_row(timing: commands.Timing) -> tuple[str, ...]:
    taken = (timing.compile, timing.run)
    seconds = (f"{number:.2f}" for each in taken for number in (each.seconds, each.cpu_seconds))
    return timing.graph, timing.target, *seconds, f"{timing.cycles:,}"


def size_head(sizes: regions.Sizes) -> tuple[str, ...]:
    return "graph", ">default", *(f">{side}x{side}" for side in sizes.forced), ">default/best", ""


def size_row(sizes: regions.Sizes) -> tuple[str, ...]:
    forced = ("does not fit" if cycles is None else f"{cycles:,}" for cycles in sizes.forced.values())
    mark = Bar("", sizes.ratio, SIZE_RATIO).mark
    return sizes.graph, f"{sizes.default:,}", *forced, f"{sizes.ratio:.3f}", mark


LINE_HEAD = ("collective", ">PEs", ">words each", ">formula", ">runtime", ">formula/runtime", ">published")


def line_row(row: collectives.Row) -> tuple[str, ...]:
    published = "" if row.published is None else f"{row.published:,}"
    numbers = (f"{n:,}" for n in (row.pes, row.words, row.formula, row.runtime))
    return row.what, *numbers, f"{row.difference:+.1%}", published


if __name__ == "__main__":
    sys.exit(main())

"""``wafercc show``: what a placed program consists of."""

from __future__ import annotations

from pathlib import Path

import click

from .talk import result, result_json, tables, working


@click.command("show", short_help="Print what a placed program consists of.")
@click.argument("program", type=click.Path(path_type=Path))
@click.option("--critical-path", is_flag=True, help="List only the chain of events that makes up the cycles.")
@click.option(
    "--why",
    metavar="NAME",
    help="Tell only why a region (r3) lies where it lies, or why an op (an id, an ONNX node, a kind, a pattern) is cut "
    "as it is, and what the next best would cost.",
)
@click.option("--entry", metavar="NAME", help="Which entry of the program. [default: its first]")
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def command(program: Path, critical_path: bool, why: str | None, entry: str | None, as_json: bool) -> None:
    """Print blocks, instances, regions, PEs, SRAM, colours and cycles of PROGRAM (a .wafer file), and what limits it.

    The cycles are those of a timing-only run with a full cache.
    """
    import wafercc
    from wafercc.report import summary
    from wafercc.report import tables as pages
    from wafercc.report import why as reasons

    with working(f"reading {program.name}"):
        loaded = wafercc.load(program)
        loaded = loaded.entry(entry) if entry else loaded
    if why is not None:
        answer = reasons.why(loaded.placed, why)
        if as_json:
            result_json(answer)
        else:
            result("\n".join(reasons.why_lines(answer)))
    elif as_json:
        result_json(summary.as_dict(loaded, critical_path))
    else:
        pages.render(loaded, tables(), critical_path)

"""``wafercc viz``: draw where everything lies."""

from __future__ import annotations

from pathlib import Path

import click

from .output import check_writable
from .talk import result, working


@click.command("viz", short_help="Draw the floorplan of a placed program.")
@click.argument("program", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write the picture. [default: the program's name with .svg, beside it]",
)
@click.option("--entry", metavar="NAME", help="Which entry of the program. [default: its first]")
def command(program: Path, output: Path | None, entry: str | None) -> None:
    """Draw the floorplan of PROGRAM (a .wafer file) as SVG: regions, dead cores, and the streams between regions."""
    import wafercc
    from wafercc.report import floorplan

    path = output or program.with_suffix(".svg")
    if program.exists():
        check_writable(path, program)
    with working(f"drawing {program.name}"):
        loaded = wafercc.load(program)
        floorplan.write_svg(loaded.entry(entry) if entry else loaded, path)
    result(str(path))

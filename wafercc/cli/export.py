"""``wafercc export``: a placed program for other people's tools."""

from __future__ import annotations

from pathlib import Path

import click

from .output import check_writable
from .talk import result, result_json, working


@click.command("export", short_help="Write a placed program as JSON and arrays for other tools.")
@click.argument("program", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to write program.json and arrays.npz. [default: the program's name with .export, beside it]",
)
@click.option("--entry", metavar="NAME", help="Which entry of the program. [default: its first]")
@click.option("--weights", is_flag=True, help="Write the tiles of the weights too.")
@click.option("--json", "as_json", is_flag=True, help="Print the folder and the size of each file as JSON.")
def command(program: Path, output: Path | None, entry: str | None, weights: bool, as_json: bool) -> None:
    """Write PROGRAM (a .wafer file) as JSON and arrays, with everything spelled out, and print where they are.

    docs/export.md describes the form, so that a checker, a simulator or a plot can be written without wafercc. An
    earlier export in the folder is replaced; a folder that holds anything else is refused.
    """
    import wafercc
    from wafercc.export import check_folder

    folder = output or program.with_suffix(".export")
    check_writable(folder, program if program.exists() else None)
    check_folder(folder)
    with working(f"exporting {program.name}"):
        loaded = wafercc.load(program)
        sizes = (loaded.entry(entry) if entry else loaded).export(folder, weights=weights)
    if as_json:
        result_json({"folder": str(folder), "bytes": sizes})
    else:
        result(str(folder))

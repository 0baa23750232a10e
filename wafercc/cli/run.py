"""``wafercc run``: execute a placed program on given inputs."""

from __future__ import annotations

from pathlib import Path

import click

from ..npz import read_npz, write_npz
from .output import check_writable
from .talk import result, result_json, say, working


@click.command("run", short_help="Execute a placed program and count cycles.")
@click.argument("program", type=click.Path(path_type=Path))
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE", help="An npz file, one array an input.")
@click.option("--outputs", type=click.Path(path_type=Path), metavar="FILE", help="Write all outputs to this npz file.")
@click.option("--entry", metavar="NAME", help="Which entry of the program to run. [default: the one these inputs fit]")
@click.option("--timing-only", is_flag=True, help="Count cycles without computing values.")
@click.option("--json", "as_json", is_flag=True, help="Print cycles and outputs as JSON.")
def command(
    program: Path, inputs: Path | None, outputs: Path | None, entry: str | None, timing_only: bool, as_json: bool
) -> None:
    """Execute PROGRAM (a .wafer file) on the numpy runtime and print its cycles."""
    import wafercc

    if timing_only and outputs:
        raise click.UsageError("--timing-only computes no values, so there is nothing to write to --outputs.")
    if outputs:
        check_writable(outputs, program, inputs)
    arrays = read_npz(inputs) if inputs else {}
    with working(f"running {program.name}"):
        done = wafercc.load(program).run(arrays, entry=entry, timing_only=timing_only)
        if outputs:
            write_npz(outputs, done.outputs)
    if as_json:
        shapes = {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in done.outputs.items()}
        result_json({"cycles": int(done.cycles), "outputs": shapes})
        return
    result(f"cycles {int(done.cycles)}")
    for name, array in done.outputs.items():
        result(f"output {name} {array.dtype}[{','.join(map(str, array.shape))}]")
    if outputs:
        say(f"wrote {outputs}")

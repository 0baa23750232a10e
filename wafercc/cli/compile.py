"""``wafercc compile``: from an ONNX file to a placed program. Its options are the fields of `Options`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..passes.options import Flag, Options
from .output import check_folder, check_writable
from .talk import result, result_json, say, working

if TYPE_CHECKING:
    from ..passes.journal import Course
    from ..program import Program

FLAGGED = tuple(each for each in fields(Options) if "flag" in each.metadata)


def _parse(flag: Flag, value: Any) -> Any:
    """What one flag was given, each word read by the flag's own parser."""
    if value is None or flag.choices:
        return value
    if isinstance(value, bool):
        return value or None
    words = value if flag.collect else (value,)
    try:
        parsed = [flag.parse(word) for word in words]
    except ValueError:
        raise click.BadParameter(f"{' '.join(words)} is not of the form {flag.metavar or 'TEXT'}.") from None
    return parsed if flag.collect else parsed[0]


def option_of(name: str, flag: Flag, default: object) -> click.Option:
    """The command-line form of one field; what is not given on the command line is left to the field's default."""
    words = [flag.help]
    if isinstance(default, bool):
        return click.Option([flag.name, name], help=flag.help, is_flag=True, callback=lambda c, p, v: _parse(flag, v))
    if flag.collect:
        words.append("May be repeated.")
    if isinstance(default, str | int) and not isinstance(default, bool):
        words.append(f"[default: {default}]")
    return click.Option(
        [flag.name, name],
        help=" ".join(words),
        metavar=None if flag.choices else flag.metavar or None,
        type=click.Choice(flag.choices) if flag.choices else str,
        multiple=flag.collect is not None,
        callback=lambda ctx, param, value: _parse(flag, value),
        default=None,
    )


STAGES = "import, rewrite, partition, size, place, embed, layout, route or schedule"


@click.command(
    "compile",
    short_help="Compile an ONNX decoder to a placed program.",
    params=[
        click.Argument(["model"], type=click.Path(path_type=Path), required=False),
        click.Option(
            ["-o", "--output"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Where to write the program, or the stage file. [default: the model's name with .wafer, or with "
            ".STAGE.txt, beside it]",
        ),
        click.Option(["--until"], metavar="STAGE", help=f"Write a stage file after {STAGES}, in place of a program."),
        click.Option(
            ["--from", "resumed"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Go on from a stage file, edited or not; options need not be given again.",
        ),
        click.Option(
            ["--print-before"],
            multiple=True,
            metavar="PASS",
            help="Print to stderr what a stage or rewrite is given. May be repeated.",
        ),
        click.Option(
            ["--print-after"],
            multiple=True,
            metavar="PASS",
            help="Print to stderr what a stage or rewrite makes. May be repeated.",
        ),
        click.Option(
            ["--cache-dir"],
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help="Where searches are remembered for later compiles. [default: wafercc in the user's cache folder]",
        ),
        click.Option(["--no-cache"], is_flag=True, help="Remember nothing, and use nothing that is remembered."),
        *(option_of(each.name, each.metadata["flag"], each.default) for each in FLAGGED),
        click.Option(
            ["--write-constraints"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Write the decisions taken, to be kept to with --constraints.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Describe the program as JSON."),
    ],
)
def command(
    model: Path | None,
    output: Path | None,
    resumed: Path | None,
    until: str | None,
    write_constraints: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Compile MODEL (an ONNX decoder) to a placed program, NAME.wafer, and print where it is.

    No option is needed: what is not said is assumed, and every assumption is named with the option that changes it.
    With --until STAGE the decisions so far are written as a text instead; edit it if you like, and go on with --from.
    """
    source = resumed or model
    if source is None:
        raise click.UsageError("Missing argument 'MODEL'.")
    import wafercc

    if until and write_constraints:
        raise click.UsageError("--write-constraints writes the decisions of a program; --until makes none.")
    stem = Path(source.stem).stem if resumed else source.stem
    path = output or source.with_name(f"{stem}.{until}.txt" if until else f"{stem}.wafer")
    if source.exists():
        check_writable(path, model, resumed)
        if write_constraints is not None:
            _check_constraints(write_constraints, path, model, resumed, given["constraints"])
    course, options = _course(given), _decided(given)
    with working(f"compiling {source.name}"):
        if until:
            wafercc.compile_until(until, model, path, resumed=resumed, course=course, **options)
            _tell_stage(path, until, as_json)
            return
        if resumed:
            program = wafercc.resume(resumed, model=model, course=course, **options)
        else:
            program = wafercc.compile(source, course=course, **options)
        program.save(path)
        if write_constraints is not None:
            write_constraints.write_text(program.constraints(), encoding="utf-8")
    _tell(path, program, as_json)


def _course(given: dict[str, Any]) -> Course:
    """What is remembered and printed, from the options that say so."""
    from ..passes.cache import Cache
    from ..passes.journal import Course

    folder, none = given["cache_dir"], given["no_cache"]
    if folder and none:
        raise click.UsageError("--cache-dir and --no-cache contradict each other.")
    if folder:
        check_folder(folder)
    return Course(
        cache=None if none else Cache(folder or Cache.default_folder()),
        before=frozenset(given["print_before"]),
        after=frozenset(given["print_after"]),
        say=say,
    )


def _tell(path: Path, program: Program, as_json: bool) -> None:
    """Print what was written, and what was assumed for it."""
    for assumption in program.assumptions:
        say(f"assumed: {assumption}")
    if as_json:
        from ..report import summary

        result_json({"artifact": str(path), **summary.as_dict(program)})
    else:
        result(str(path))


def _tell_stage(path: Path, stage: str, as_json: bool) -> None:
    """Print what was written."""
    if as_json:
        result_json({"stage_file": str(path), "stage": stage})
    else:
        result(str(path))


def _check_constraints(
    target: Path, program: Path, model: Path | None, resumed: Path | None, read: str | None
) -> None:
    """Hold that the decisions can be written, and over nothing that is read or written besides."""
    if target.resolve() == program.resolve():
        raise click.UsageError(f"{target} is where the program goes; give another name.")
    check_writable(target, model, resumed, None if read is None else Path(read))


def _decided(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, repeated ones gathered."""
    decided: dict[str, Any] = {}
    for each in FLAGGED:
        value, collect = given[each.name], each.metadata["flag"].collect
        if value is None or value == []:
            continue
        decided[each.name] = collect(value) if collect else value
    return decided

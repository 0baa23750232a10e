"""``wafercc compile``: from an ONNX file to a placed program. Its options are the fields of `Options`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from ..passes.options import Flag, Options
from .output import check_writable
from .talk import result, result_json, say, working

FLAGGED = tuple(each for each in fields(Options) if "flag" in each.metadata)


def _parse(flag: Flag, value: Any) -> Any:
    """What one flag was given, each word read by the flag's own parser."""
    if value is None or flag.choices:
        return value
    words = value if flag.collect else (value,)
    try:
        parsed = [flag.parse(word) for word in words]
    except ValueError:
        raise click.BadParameter(f"{' '.join(words)} is not of the form {flag.metavar or 'TEXT'}.") from None
    return parsed if flag.collect else parsed[0]


def option_of(name: str, flag: Flag, default: object) -> click.Option:
    """The command-line form of one field; what is not given on the command line is left to the field's default."""
    words = [flag.help]
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


@click.command(
    "compile",
    short_help="Compile an ONNX decoder to a placed program.",
    params=[
        click.Argument(["model"], type=click.Path(path_type=Path)),
        click.Option(
            ["-o", "--output"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="Where to write the program. [default: the model's name with .wafer, beside it]",
        ),
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
    model: Path, output: Path | None, write_constraints: Path | None, as_json: bool, **given: Any
) -> None:
    """Compile MODEL (an ONNX decoder) to a placed program, NAME.wafer, and print where it is.

    No option is needed: what is not said is assumed, and every assumption is named with the option that changes it.
    """
    import wafercc

    path = output or model.with_suffix(".wafer")
    if model.exists():
        check_writable(path, model)
        if write_constraints is not None:
            _check_constraints(write_constraints, path, model, given["constraints"])
    with working(f"compiling {model.name}"):
        program = wafercc.compile(model, **_decided(given))
        program.save(path)
        if write_constraints is not None:
            write_constraints.write_text(program.constraints(), encoding="utf-8")
    for assumption in program.assumptions:
        say(f"assumed: {assumption}")
    if as_json:
        from ..report import summary

        result_json({"artifact": str(path), **summary.as_dict(program)})
    else:
        result(str(path))


def _check_constraints(target: Path, program: Path, model: Path, read: str | None) -> None:
    """Hold that the decisions can be written, and over nothing that is read or written besides."""
    if target.resolve() == program.resolve():
        raise click.UsageError(f"{target} is where the program goes; give another name.")
    check_writable(target, model, None if read is None else Path(read))


def _decided(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, repeated ones gathered."""
    decided: dict[str, Any] = {}
    for each in FLAGGED:
        value, collect = given[each.name], each.metadata["flag"].collect
        if value is None or value == []:
            continue
        decided[each.name] = collect(value) if collect else value
    return decided

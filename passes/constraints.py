"""Constraints: a TOML file of decisions, read before a compile or written after one.

    stages = 2                          # as --stages, --region, --max-lanes, --no-pass
    no_pass = ["fuse_rope"]
    reach = 0                           # the largest jog of an embedding: 0 straight, 2 the most
    detour_hops = 0                     # the most hops by which a way around a dead router or link may be longer
    [pin]
    r1 = "16,0,16,16"                   # as --pin
    [strategy]
    "b1:*mlp*" = "rows=k columns=n"     # as --strategy
    [mesh]
    b1 = { rows = 16, columns = [2, 8] }  # of a block, or of a region's block; a list gives the factors
    [layout]
    "b1:hidden" = "(-,-,y0)"            # of a value that several ops share

Words are those of the command line, and options given there count more. What a compile has decided is all in the
program, so it can be written from a file as well: then every block has its mesh, strategies and layouts, and every
region its pin, and a compile that keeps to it searches nothing and gives the same program.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from os import fspath
from pathlib import Path
from typing import Any

from wafercc.errors import CompileError
from wafercc.ir.block import BlockName
from wafercc.ir.op_names import block_ops, nearest
from wafercc.ir.program import PlacedProgram

from .options import Options, flag_of

# Key of the file → field of Options, for what also has a flag.
FLAGS = {
    "stages": "stages",
    "region": "region",
    "whole": "whole_elements",
    "max_lanes": "max_lanes",
    "no_pass": "disabled_passes",
    "pin": "pins",
    "strategy": "strategies",
}
FIELDS = FLAGS | {"mesh": "meshes", "layout": "layouts", "reach": "reach", "detour_hops": "detour_hops"}
MOST_REACH = 8


def with_constraints(options: Options) -> Options:
    """The options with the decisions of their constraints file, as far as they do not say otherwise themselves.

    Raises:
        CompileError: the file is missing, is not TOML, or has a key or a value that means nothing; named with its line.
    """
    if options.constraints is None:
        return options
    read = read_constraints(Path(options.constraints))
    default = Options()
    merged: dict[str, Any] = {}
    for name, value in read.items():
        given = getattr(options, name)
        if isinstance(value, dict):
            merged[name] = {k: v for k, v in value.items() if k not in given} | dict(given)
        elif isinstance(value, tuple) and name == "disabled_passes":
            merged[name] = tuple(dict.fromkeys((*value, *given)))
        elif given == getattr(default, name):
            merged[name] = value
    if options.region is not None:
        merged |= {"meshes": {}, "layouts": {}}
    return replace(options, constraints=None, **merged)


def read_constraints(path: Path) -> dict[str, Any]:
    """The decisions of a file as fields of `Options`."""
    try:
        text = path.read_text(encoding="utf-8")
        page = tomllib.loads(text)
    except FileNotFoundError:
        raise CompileError("no such file", where=fspath(path), hint="--write-constraints writes one") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise CompileError(f"cannot be read: {problem}", where=fspath(path)) from None
    except tomllib.TOMLDecodeError as problem:
        raise CompileError(f"not TOML: {problem}", where=fspath(path)) from None
    found: dict[str, Any] = {}
    for key, value in page.items():
        if key not in FIELDS:
            raise _problem(path, text, (key,), f"unknown key; there are, nearest first: {nearest(key, FIELDS)}")
        if key in FLAGS:
            found[FIELDS[key]] = _flagged(path, text, key, value)
        else:
            found[FIELDS[key]] = _own(path, text, key, value)
    return found


def _flagged(path: Path, text: str, key: str, value: Any) -> Any:
    """A value that is written as on the command line."""
    flag = flag_of(FLAGS[key])
    if flag.collect is None:
        return _parsed(path, text, (key,), value, flag.parse)
    if flag.collect is tuple:
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise _problem(path, text, (key,), f'{value!r} is not a list of names, as in ["fuse_rope"]')
        return tuple(value)
    _check_table(path, text, key, value)
    return {name: _parsed(path, text, (key, name), word, _half(flag.parse)) for name, word in value.items()}


def _half(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """The parser of what stands behind ``NAME=``."""
    return lambda word: parse(f"x={word}")[1]


def _parsed(path: Path, text: str, keys: tuple[str, ...], value: Any, parse: Callable[[str], Any]) -> Any:
    form = flag_of(FLAGS[keys[0]]).metavar.rpartition("=" if len(keys) > 1 else " ")[2]
    try:
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise ValueError
        return parse(str(value))
    except ValueError:
        raise _problem(path, text, keys, f"{value!r} is not of the form {form}") from None


def _own(path: Path, text: str, key: str, value: Any) -> Any:
    """A value of a key that has no flag."""
    wrong = problem_of(key, value)
    if wrong is not None:
        raise _problem(path, text, *wrong)
    return value


def problem_of(key: str, value: Any) -> tuple[tuple[str, ...], str] | None:
    """What is wrong with a decision, and where inside it; None if nothing is."""
    if key in ("reach", "detour_hops"):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_REACH:
            return (key,), f"{value!r} is not a number from 0 to {MOST_REACH}"
        return None
    if not isinstance(value, dict):
        return (key,), f"{value!r} is not a table [{key}]"
    for name, each in value.items():
        if key == "layout" and not isinstance(each, str):
            return (key, name), f"{each!r} is not a layout, as in '(-,y0/16,x0~)'"
        if key == "strategy" and not isinstance(each, str):
            return (key, name), f"{each!r} is not a strategy, as in 'rows=k columns=n'"
        if key == "mesh" and not (
            isinstance(each, dict) and each.keys() == {"rows", "columns"} and all(map(_is_size, each.values()))
        ):
            return (key, name), f"{each!r} is not of the form {{ rows = 16, columns = [2, 8] }}"
    return None


def _is_size(value: Any) -> bool:
    sizes = value if isinstance(value, list) else [value]
    return 1 <= len(sizes) <= 2 and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes)


def _check_table(path: Path, text: str, key: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _problem(path, text, (key,), f"{value!r} is not a table [{key}]")


def _problem(path: Path, text: str, keys: tuple[str, ...], message: str) -> CompileError:
    line = _line(text, keys)
    return CompileError(message, where=f"{fspath(path)}, {f'line {line}, ' if line else ''}{'.'.join(keys)}")


def _line(text: str, keys: tuple[str, ...]) -> int | None:
    """The line on which a key stands, as far as the file is written one key a line."""
    name = re.escape(keys[-1])
    written = re.compile(rf"""\s*(?:\[\s*)?(?:[\w-]+\s*\.\s*)*(?:{name}|"{name}"|'{name}')\s*[=\].]""")
    table = re.compile(rf"\s*\[\s*{re.escape(keys[0])}\s*\]")
    inside = len(keys) == 1
    for number, line in enumerate(text.splitlines(), 1):
        if inside and written.match(line):
            return number
        inside = inside or bool(table.match(line))
    return None


def constraints_text(program: PlacedProgram) -> str:
    """The decisions of a program as the text of a constraints file.

    Raises:
        CompileError: the program does not say how its blocks were decided (another version wrote it).
    """
    decided = program.decisions.get("blocks", {})
    if not all(decided.get(name, {}).get("ops") for name in program.blocks):
        raise CompileError("the program does not hold its decisions", where=program.model, hint="compile it again")
    return "\n".join(_lines(program)) + "\n"


def _lines(program: PlacedProgram) -> Iterator[str]:
    options, decisions = program.options, program.decisions
    version = program.versions.get("wafercc", "")
    yield f"# What wafercc {version} decided for {program.model} on {program.target['name']}. With --constraints and"
    yield "# this file, the same model, machine, defects and shapes give the same program; nothing is searched."
    for key in ("stages", "max_lanes"):
        if options.get(key) is not None:
            yield f"{key} = {options[key]}"
    if options.get("disabled_passes"):
        yield f"no_pass = {_toml(list(options['disabled_passes']))}"
    yield f"reach = {decisions['placement']['reach']}"
    yield f"detour_hops = {decisions['placement']['detour_hops']}"
    yield "\n[pin]"
    for region in program.regions:
        r = region.rect
        wafer = f"@{r.wafer}" if r.wafer else ""
        yield f'{_toml(region.id)} = "{r.x},{r.y},{r.w},{r.h}{wafer}"'
    blocks: Mapping[str, Any] = dict(sorted(decisions["blocks"].items()))
    yield "\n[mesh]"
    for name, block in blocks.items():
        yield f"{_toml(name)} = {{ rows = {block['mesh']['y']}, columns = {block['mesh']['x']} }}"
    yield "\n[strategy]"
    for name, block in blocks.items():
        for op in block_ops(program.blocks[BlockName(name)]):
            yield f"{_toml(f'{name}:{op.id}')} = {_toml(block['ops'][op.id]['strategy'])}"
    yield "\n[layout]"
    for name, block in blocks.items():
        for value, layout in sorted(block["shared"].items()):
            yield f"{_toml(f'{name}:{value}')} = {_toml(layout)}"


def _toml(value: str | list[str]) -> str:
    """A TOML string or list of strings, which JSON's notation is as well; plain names stand as they are where keys."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Stage files: a compile stopped after a stage, as one text that can be read, edited and resumed.

    wafercc stage file 1
    stage place
    model model.onnx
    sha256 5f0c...
    machine 91ab...
    option --target mesh:64x64
    like input_ids int64 1x16

    [rewrite]
    ...
    [place]
    objective 38.5 baseline 41.0 bound 36.0 solver "..."
    ...

Paths are relative to the file. ``sha256`` is the model file's, ``machine`` that of the target and the defect map, so
that neither can change unnoticed; ``like`` stands for the arrays of ``--inputs-like``, ``defects`` for a map that came
from no file, ``constraint`` for decisions in the words of a constraints file, as JSON. A section holds the product of
one stage, and whatever it decides counts. Blank lines mean nothing, nor do lines that begin with ``#``.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from wafercc.errors import CompileError, TextError
from wafercc.ir.lines import Excerpt
from wafercc.silicon import DefectMap

from .constraints import FIELDS, problem_of, with_constraints
from .machine import Machine
from .options import Flag, Options, flag_of, rect_text, shape_word
from .stages import MACHINE, STAGE_NAMES, used_options

HEAD = "wafercc stage file 1"
# Field of Options → the word for it: decisions that no single word of the command line holds.
CONSTRAINTS = {FIELDS[word]: word for word in ("strategy", "mesh", "layout", "reach", "detour_hops")}
_WORDS = ("stage", "model", "sha256", "machine", "option", "constraint", "like", "defects")
_SECTION = re.compile(r"\[(\w+)\]\s*(?:#.*)?")


@dataclass(frozen=True)
class StageFile:
    """What a stage file says. ``options``: those that differ from their defaults, ready for `Options`."""

    path: Path
    stage: str
    model: Path
    sha256: str
    machine: str
    options: Mapping[str, Any]
    sections: Mapping[str, Excerpt]

    def options_with(self, given: Mapping[str, Any]) -> Options:
        """The options of a resumed compile: the file's, and those given now.

        Raises:
            TextError: those of the file are not legal.
            CompileError: one given now contradicts what the stages of the file have used; or see `Options`.
        """
        try:
            before = Options(**self.options)
        except CompileError as problem:
            raise TextError(problem.message, where=f"{self.path}, {problem.where}", hint=problem.hint) from None
        now = Options(**{**self.options, **_with_decisions(given)})
        written, wanted = before.record(), now.record()
        for name in sorted(used_options(self.stage)):
            if written.get(name) != wanted.get(name):
                raise CompileError(
                    f"it is {_brief(wanted.get(name))} here and {_brief(written.get(name))} in {self.path}, whose "
                    "stages have used it",
                    where=f"option {name} ({_source(name)})",
                    hint=f"leave it out, or stop before {self.stage}",
                )
        return now

    def find_model(self) -> Path:
        """The model: where the file says, or beside the file.

        Raises:
            CompileError: it is in neither place.
        """
        for path in (self.model, self.path.parent / self.model.name):
            if path.exists():
                return path
        raise CompileError(
            f"its model {self.model} does not exist, nor does {self.model.name} beside it",
            where=str(self.path),
            hint="give the model as an argument, too",
        )

    def check_model(self, sha256: str, model: Path) -> None:
        """Hold that the model is the one that the file was made from.

        Raises:
            CompileError: it is another.
        """
        if sha256 != self.sha256:
            raise CompileError(
                f"{model} has the sha256 {sha256[:12]}; the file was made from one of {self.sha256[:12]}",
                where=str(self.path),
                hint="give the model it was made from, or compile anew",
            )

    def check_machine(self, machine: Machine) -> None:
        """Hold that the machine is still the one that the stages of the file have used.

        Raises:
            CompileError: it is another.
        """
        if set(MACHINE) & used_options(self.stage) and machine_hash(machine) != self.machine:
            raise CompileError(
                f"the machine ({machine.target.name}, {machine.defects}) is not the one the file was made for",
                where=str(self.path),
                hint="its target page or defect map has changed: compile anew",
            )


def _with_decisions(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options with what their constraints file says, if they name one."""
    if given.get("constraints") is None:
        return dict(given)
    merged, default = with_constraints(Options(**given)), Options()
    found = {name: getattr(merged, name) for name in FIELDS.values()}
    return {**given, "constraints": None, **{n: v for n, v in found.items() if v != getattr(default, n)}}


def _source(name: str) -> str:
    """Where a field of `Options` comes from, for messages."""
    flagged = next(each for each in fields(Options) if each.name == name).metadata
    return flag_of(name).name if flagged else f"{CONSTRAINTS[name]} of a constraints file"


def _brief(value: object) -> str:
    return "its default" if value is None else json.dumps(value)


def machine_hash(machine: Machine) -> str:
    """What stands for a target and its defect map."""
    return f"{machine.target.hash()[:32]}{machine.defects.hash()[:32]}"


def print_stage_file(
    path: Path, stage: str, model: Path, sha256: str, options: Options, machine: Machine, sections: Mapping[str, str]
) -> str:
    """The text of a stage file that is to lie at ``path``."""
    lines = [HEAD, f"stage {stage}", f"model {_relative(model, path)}", f"sha256 {sha256}"]
    lines += [f"machine {machine_hash(machine)}", *_option_lines(options, path)]
    for name, text in sections.items():
        lines += ["", f"[{name}]", text.rstrip("\n")]
    return "\n".join(lines) + "\n"


def _relative(path: Path, file: Path) -> str:
    """A path as seen from the folder of a file."""
    return Path(os.path.relpath(path.resolve(), file.resolve().parent)).as_posix()


def _option_lines(options: Options, path: Path) -> Iterator[str]:
    """The options that differ from their defaults, as on the command line."""
    default = Options()
    for each in fields(Options):
        value = getattr(options, each.name)
        if each.name in CONSTRAINTS:
            if value not in ({}, None):
                yield f"constraint {CONSTRAINTS[each.name]} {json.dumps(value)}"
            continue
        flag = flag_of(each.name)
        if each.name == "inputs_like":
            for name, array in (value or {}).items():
                yield f"like {json.dumps(name)} {array.dtype} {_word(np.shape(array)) or 'scalar'}"
        elif isinstance(value, DefectMap):
            yield f"defects {json.dumps(value.to_dict(), separators=(',', ':'))}"
        elif each.name == "pins":
            yield from (f"option {flag.name} {name}={rect_text(rect)}" for name, rect in value.items())
        elif each.name == "entries":
            for name, said in value.items():
                yield f"option {flag.name} {name}:{','.join(f'{key}={count}' for key, count in said.items())}"
        elif isinstance(value, Mapping):
            yield from (f"option {flag.name} {name}={_word(item)}" for name, item in value.items())
        elif flag.collect is not None:
            yield from (f"option {flag.name} {_word(item)}" for item in value)
        elif value != getattr(default, each.name):
            named = each.name == "defects" or (each.name == "target" and str(value).endswith(".toml"))
            word = _relative(Path(value), path) if named else _word(value[::-1] if each.name == "region" else value)
            yield f"option {flag.name}" + ("" if value is True else f" {word}")


def _word(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def read_stage_file(path: Path) -> StageFile:
    """A stage file from disk.

    Raises:
        TextError: it cannot be read, or a line of its head is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TextError("no such file", where=str(path)) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise TextError(f"cannot be read: {problem}", where=str(path)) from None
    whole = Excerpt(text, file=str(path))
    lines = text.split("\n")
    if lines[0].strip() != HEAD:
        raise TextError(f"not a stage file: its first line must be {HEAD!r}", where=whole.where(0))
    starts = [i for i, line in enumerate(lines) if _SECTION.fullmatch(line)]
    head = _Head(path)
    for number, line in enumerate(lines[1 : starts[0] if starts else None], 1):
        if line.strip() and not line.startswith("#"):
            head.read(line.strip(), whole.where(number))
    sections: dict[str, Excerpt] = {}
    for start, end in pairwise([*starts, len(lines)]):
        found = _SECTION.fullmatch(lines[start])
        name = found[1] if found else ""
        if name not in STAGE_NAMES:
            raise TextError(f"unknown stage {name!r}", where=whole.where(start), hint=_known())
        if name in sections:
            raise TextError(f"stage {name} stands here for the second time", where=whole.where(start))
        sections[name] = Excerpt("\n".join(lines[start + 1 : end]), start + 2, str(path))
    return head.stage_file(sections, whole)


def _known() -> str:
    return f"there are: {', '.join(STAGE_NAMES)}"


class _Head:
    """The lines before the first section."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.words: dict[str, str] = {}
        self.options: dict[str, Any] = {}
        names = [each.name for each in fields(Options) if each.name not in CONSTRAINTS]
        self.flags: dict[str, tuple[str, Flag]] = {flag_of(name).name: (name, flag_of(name)) for name in names}

    def read(self, line: str, where: str) -> None:
        word, _, rest = line.partition(" ")
        try:
            if word in ("stage", "model", "sha256", "machine"):
                self.words[word] = rest.strip()
            elif word == "option":
                self._option(rest.strip())
            elif word == "constraint":
                self._constraint(rest.strip())
            elif word == "like":
                self._like(rest.strip())
            elif word == "defects":
                self.options["defects"] = DefectMap.from_dict(json.loads(rest), where=where)
            else:
                raise ValueError(f"expected {', '.join(_WORDS)} or a [stage]")
        except (ValueError, TypeError, KeyError) as problem:
            raise TextError(str(problem), where=where) from None
        if self.words.get("stage", STAGE_NAMES[0]) not in STAGE_NAMES:
            raise TextError(f"unknown stage {self.words['stage']!r}", where=where, hint=_known())

    def _option(self, text: str) -> None:
        name, _, word = text.partition(" ")
        if name not in self.flags or name in ("--inputs-like", "--constraints"):
            raise ValueError(f"there is no option {name!r}")
        field, flag = self.flags[name]
        try:
            value = flag.parse(word)
        except ValueError:
            raise ValueError(f"{name}: {word!r} is not of the form {flag.metavar or 'TEXT'}") from None
        if field in ("target", "defects") and (field == "defects" or word.endswith(".toml")):
            value = os.path.relpath(self.path.parent / word)
        if flag.collect is not None:
            before = self.options.get(field, ())
            value = flag.collect([*(before.items() if isinstance(before, dict) else before), value])
        self.options[field] = value

    def _constraint(self, text: str) -> None:
        key, _, rest = text.partition(" ")
        if key not in CONSTRAINTS.values():
            raise ValueError(f"there is no constraint {key!r}; there are: {', '.join(CONSTRAINTS.values())}")
        value = json.loads(rest)
        wrong = problem_of(key, value)
        if wrong is not None:
            raise ValueError(f"{'.'.join(wrong[0])}: {wrong[1]}")
        self.options[FIELDS[key]] = value

    def _like(self, text: str) -> None:
        try:
            name, dtype, shape = json.JSONDecoder().raw_decode(text)[0], *text.split()[-2:]
            extents = () if shape == "scalar" else shape_word(shape)
            array = np.broadcast_to(np.zeros((), dtype), extents)
        except (ValueError, TypeError):
            raise ValueError(f"expected a name in quotes, an element type and a shape, found {text}") from None
        self.options.setdefault("inputs_like", {})[str(name)] = array

    def stage_file(self, sections: Mapping[str, Excerpt], whole: Excerpt) -> StageFile:
        """The file, if its head is complete and its stage has a section."""
        for word in ("stage", "model", "sha256", "machine"):
            if not self.words.get(word):
                raise TextError(f"its head does not say {word}", where=whole.where(0))
        stage = self.words["stage"]
        needed = set(STAGE_NAMES[STAGE_NAMES.index("rewrite") : STAGE_NAMES.index(stage) + 1]) - {"size"} | {stage}
        if missing := [name for name in STAGE_NAMES if name in needed and name not in sections]:
            raise TextError(f"the section [{missing[0]}] is missing", where=whole.end)
        if late := [name for name in sections if STAGE_NAMES.index(name) > STAGE_NAMES.index(stage)]:
            raise TextError(f"the section [{late[0]}] comes after the stage {stage}", where=whole.where(1))
        model = self.path.parent / self.words["model"]
        return StageFile(
            self.path, stage, model, self.words["sha256"], self.words["machine"], self.options, dict(sections)
        )

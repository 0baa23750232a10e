"""Pages: machine descriptions as TOML, where every number carries its source and how sure it is.

A number is written ``{ value = 49152, mark = "sourced", source = "..." }``, with ``low`` and ``high`` where sources
disagree, or plainly where a user edits a page (then its mark is "given"). ``base = "wse3"`` takes every number not
written from another page.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import TargetError
from .machine import Target
from .schema import KEYS, NUMBERS, TEXTS, flatten, parse_number, unknown

MARKS = ("sourced", "derived", "assumed", "given")
_BUILT_IN = ("wse2", "wse3", "wse3-raw", "mesh")


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry of a page: key, value, how sure it is, where it comes from, and the range where sources disagree."""

    key: str
    value: object
    mark: str = "given"
    source: str = ""
    low: float | None = None
    high: float | None = None


def names() -> tuple[str, ...]:
    """The machines known by name; ``mesh:WxH`` stands for any grid of wse3's PEs."""
    return ("wse2", "wse3", "wse3-raw", "mesh:WxH")


def load(name_or_path: str | Path, overrides: Mapping[str, object] | None = None) -> Target:
    """A machine by name (``wse3``, ``mesh:64x64``) or from a TOML page, with single numbers overridden.

    Raises:
        TargetError: no such target or file, bad TOML, an unknown key, a number out of range.
    """
    entries = {fact.key: fact.value for fact in facts(name_or_path)}
    for key, value in (overrides or {}).items():
        if key not in KEYS:
            raise unknown(key)
        if isinstance(value, str):
            value = parse_number(key, value) if key in NUMBERS else value.split(",") if key == "io.edges" else value
        entries[key] = value
    try:
        return Target.from_dict({"schema": 1, **entries})
    except TargetError as problem:
        if problem.where not in KEYS:
            raise
        raise TargetError(problem.message, where=f"target {name_or_path}, {problem.where}", hint=problem.hint) from None


def facts(name_or_path: str | Path) -> tuple[Fact, ...]:
    """Every entry of a machine's page, with its source, in the order of the page's keys.

    Raises:
        TargetError: no such target or file, or a page that is not well formed.
    """
    text = str(name_or_path)
    mesh = re.fullmatch(r"mesh:(\d+)x(\d+)", text)
    if mesh:
        grid = {"width": int(mesh[1]), "height": int(mesh[2])}
        found = _resolve(_built_in("mesh"), text)
        found |= {key: Fact(key, value, "given", "the target's name") for key, value in grid.items()}
        found["name"] = Fact("name", text)
    elif text in _BUILT_IN and text != "mesh":
        found = _resolve(_built_in(text), text)
    elif text.endswith(".toml"):
        found = _resolve(_read(Path(name_or_path)), text)
    else:
        raise TargetError(
            f"unknown target {text!r}", where="target", hint=f"known: {', '.join(names())}, or a path ending in .toml"
        )
    return tuple(found[key] for key in KEYS if key in found)


def page_text(name_or_path: str | Path) -> str:
    """An editable page that `load` reads back: every number with its mark and source as a comment.

    Raises:
        TargetError: as `facts`.
    """
    top: list[str] = []
    sections: dict[str, list[str]] = {}
    for fact in facts(name_or_path):
        section, _, name = fact.key.rpartition(".")
        disputed = "" if fact.low is None else f", {fact.low:g} .. {fact.high:g}"
        note = f"  # {fact.mark}{disputed}: {fact.source}" if fact.source else ""
        line = f"{name} = {_toml(fact.value)}{note}"
        (sections.setdefault(section, []) if section else top).append(line)
    blocks = ["\n".join(top), *(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())]
    return "\n\n".join(blocks) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _built_in(name: str) -> str:
    return resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TargetError("no such file", where=str(path), hint=f"known targets: {', '.join(names())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"cannot be read as text: {error}", where=str(path)) from None


def _resolve(text: str, where: str) -> dict[str, Fact]:
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TargetError(f"not valid TOML: {error}", where=where) from None
    base = data.pop("base", None)
    found: dict[str, Fact] = {}
    if base is not None:
        if base not in _BUILT_IN:
            raise TargetError(f"unknown base {base!r}", where=where, hint=f"known: {', '.join(_BUILT_IN)}")
        found = _resolve(_built_in(base), str(base))
    for key, entry in flatten(data).items():
        if key not in KEYS:
            raise _elsewhere(unknown(key), where)
        found[key] = _fact(key, entry, where)
    return found


def _elsewhere(error: TargetError, where: str) -> TargetError:
    """The same error, said of another place."""
    return TargetError(error.message, where=where, hint=error.hint)


def _fact(key: str, entry: object, where: str) -> Fact:
    if not isinstance(entry, Mapping):
        return Fact(key, entry)
    extra = set(entry) - {"value", "mark", "source", "low", "high"}
    if extra or key in TEXTS:
        raise TargetError(f"unexpected {', '.join(sorted(map(str, extra))) or 'table'}", where=f"{where}, {key}")
    fact = replace(Fact(key, entry["value"]), **{k: v for k, v in entry.items() if k != "value"})
    if fact.mark not in MARKS:
        raise TargetError(f"mark {fact.mark!r} is none of {', '.join(MARKS)}", where=f"{where}, {key}")
    return fact

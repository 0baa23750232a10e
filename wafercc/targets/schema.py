"""The fields of a machine description, with the range each number must lie in: the only place that lists them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import TargetError
from ..ir.dtypes import DType

VIEWS = ("logical", "physical")
EDGES = ("west", "east")


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric field: whole or not, and its legal range."""

    whole: bool
    low: float
    high: float


_RATE = Number(False, 1e-3, 1024)
RATE_TABLES = ("macs_per_cycle", "simple_per_cycle")
NUMBERS: dict[str, Number] = {
    "wafers": Number(True, 1, 1024),
    "width": Number(True, 1, 4096),
    "height": Number(True, 1, 4096),
    "clock_ghz": Number(False, 1e-3, 10),
    "pe.sram_bytes": Number(True, 1024, 1 << 30),
    "pe.reserved_bytes": Number(True, 0, 1 << 30),
    "pe.special_cycles": Number(False, 0.125, 10_000),
    "pe.task_cycles": Number(True, 0, 100_000),
    "router.hop_cycles": Number(True, 1, 1000),
    "router.ramp_cycles": Number(True, 0, 1000),
    "router.wavelet_bits": Number(True, 32, 32),
    "router.words_per_cycle": Number(False, 1e-3, 1024),
    "router.colours": Number(True, 1, 24),
    "router.switch_positions": Number(True, 1, 4),
    "router.switch_cycles": Number(True, 0, 1000),
    "io.port_spacing_rows": Number(True, 1, 4096),
    "io.port_words_per_cycle": Number(False, 1e-3, 1024),
    "io.wafer_words_per_cycle": Number(False, 1e-3, 1e6),
    **{f"pe.{table}.{dtype.value}": _RATE for table in RATE_TABLES for dtype in DType},
}
TEXTS = ("name", "view", "io.edges")
KEYS = (*TEXTS, *NUMBERS)
_SUFFIX = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_number(key: str, text: str) -> float | int:
    """A number as users type it: ``48k`` and ``48KiB`` are 49152, ``0.9`` is itself.

    Raises:
        TargetError: it is none.
    """
    found = re.fullmatch(r"([0-9_]*\.?[0-9]+(?:e[+-]?\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise TargetError(f"{text!r} is not a number", where=key, hint="write for example 49152, 48k or 0.875")
    value = float(found[1].replace("_", "")) * _SUFFIX[found[2]]
    return int(value) if value.is_integer() else value


def number(key: str, value: object) -> float | int:
    """The value of a numeric field, checked.

    Raises:
        TargetError: not a finite number, not whole where it must be, or out of range.
    """
    rule = NUMBERS[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TargetError(f"{value!r} is not a number", where=key)
    if rule.whole and value != int(value):
        raise TargetError(f"{value} is not a whole number", where=key)
    if not rule.low <= value <= rule.high:
        raise TargetError(f"{value} is out of range; it must lie in {rule.low:.12g} .. {rule.high:.12g}", where=key)
    return int(value) if rule.whole else float(value)


def unknown(key: str) -> TargetError:
    """The error for a key that no machine description has, with the nearest that exist."""
    import difflib

    near = difflib.get_close_matches(key, KEYS, n=3, cutoff=0.4)
    return TargetError(
        f"no machine description has the key {key!r}",
        where="target",
        hint=f"did you mean {', '.join(near)}?" if near else "",
    )


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; a table with a ``value`` is one number with its source."""
    flat: dict[str, Any] = {}
    for name, entry in data.items():
        key = prefix + str(name)
        if isinstance(entry, Mapping) and "value" not in entry:
            flat |= flatten(entry, key + ".")
        else:
            flat[key] = entry
    return flat


def check(data: Mapping[str, Any]) -> dict[str, Any]:
    """A complete machine description, checked, in nested form.

    Raises:
        TargetError: a key is missing, unknown or out of range.
    """
    flat = flatten(data)
    for key in flat:
        if key not in KEYS:
            raise unknown(key)
    nested: dict[str, Any] = {}
    for key in KEYS:
        if key not in flat:
            raise TargetError(f"the machine description lacks {key}", where="target")
        _put(nested, key, flat[key] if key in TEXTS else number(key, flat[key]))
    if not isinstance(nested["name"], str) or not nested["name"]:
        raise TargetError(f"the name must be a text, not {nested['name']!r}", where="name")
    if nested["view"] not in VIEWS:
        raise TargetError(f"the view is {nested['view']!r}; it must be logical or physical", where="view")
    edges = nested["io"]["edges"]
    if (
        not isinstance(edges, list | tuple)
        or not edges
        or any(e not in EDGES for e in edges)
        or len(set(edges)) < len(edges)
    ):
        raise TargetError(f"the edges are {edges!r}; they must be some of west, east", where="io.edges")
    return nested


def _put(nested: dict[str, Any], key: str, value: object) -> None:
    *sections, last = key.split(".")
    for section in sections:
        nested = nested.setdefault(section, {})
    nested[last] = value

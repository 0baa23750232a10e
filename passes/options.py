"""Options: everything a user may decide about a compile, with its default. One field an option.

The command line, its help and `wafercc.compile` all derive from these fields: a field with a `Flag` is an option of
``wafercc compile``; the few without are decisions that a constraints file holds. To add an option, add a field here,
and its name to the stage that reads it (`stages.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from os import PathLike, fspath
from os.path import basename
from typing import TYPE_CHECKING, Any

from ..errors import CompileError
from ..npz import read_npz

if TYPE_CHECKING:
    from ..silicon import DefectMap

OBJECTIVES = ("latency", "throughput")
DTYPES = ("fp32", "fp16", "bf16")
MAIN = "main"  # the entry of a program that has one
# Dead routers and dead links are rarer than dead cores, which are far larger: one for each so many dead cores.
CORES_PER_ROUTER_OR_LINK = 5


@dataclass(frozen=True, slots=True)
class Flag:
    """How an option is written on the command line.

    ``parse`` reads one word and raises ValueError where it cannot. With ``collect`` the flag may be repeated, and what
    was parsed is gathered by it (a ``dict`` of pairs, a ``tuple``).
    """

    name: str
    help: str
    metavar: str = ""
    parse: Callable[[str], Any] = str
    collect: Callable[[Iterable[Any]], Any] | None = None
    choices: tuple[str, ...] = ()


def shape_word(text: str) -> tuple[int, ...]:
    """``1x16`` as (1, 16); an extent may be 0 (an empty cache)."""
    extents = tuple(int(word) for word in text.split("x"))
    if min(extents) < 0:
        raise ValueError(f"{text!r} has a negative extent")
    return extents


def size_word(text: str) -> tuple[int, int]:
    """``WxH``, columns first as in ``mesh:64x32``, as (rows, columns)."""
    width, height = shape_word(text)
    return height, width


def pair(value: Callable[[str], Any]) -> Callable[[str], tuple[str, Any]]:
    """A parser of ``NAME=VALUE``."""

    def parse(text: str) -> tuple[str, Any]:
        name, equals, rest = text.rpartition("=")
        if not equals or not name:
            raise ValueError(f"{text!r} is not NAME=VALUE")
        return name, value(rest)

    return parse


def name_first(text: str) -> tuple[str, str]:
    """``OP=NAME``, cut at the first sign, since the name of a strategy holds more of them."""
    name, _, rest = text.partition("=")
    if not name or not rest:
        raise ValueError(f"{text!r} is not OP=NAME")
    return name, rest


def rect_word(text: str) -> tuple[int, ...]:
    """``x,y,w,h``, or ``x,y,w,h@wafer``, as a tuple of four or five numbers."""
    corner, _, wafer = text.partition("@")
    numbers = tuple(int(word) for word in corner.split(","))
    if len(numbers) != 4:
        raise ValueError(f"{text!r} is not x,y,w,h")
    return (*numbers, int(wafer)) if wafer else numbers


def rect_text(rect: Sequence[int]) -> str:
    """The inverse of `rect_word`."""
    wafer = f"@{rect[4]}" if len(rect) > 4 else ""
    return f"{','.join(map(str, rect[:4]))}{wafer}"


def entry_word(text: str) -> tuple[str, dict[str, int]]:
    """``decode:new=1,batch=1`` as ("decode", {"new": 1, "batch": 1})."""
    name, _, rest = text.partition(":")
    return name, dict(pair(int)(word) for word in rest.split(",") if word)


def switch_word(text: str) -> bool:
    """What a flag without a value reads: nothing, as True."""
    if text:
        raise ValueError(f"{text!r} where no value is wanted")
    return True


def count_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


def _option(
    default: Any,
    name: str,
    help: str,
    metavar: str = "",
    parse: Callable[[str], Any] = str,
    collect: Callable[[Iterable[Any]], Any] | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    metadata = {"flag": Flag(name, help, metavar, parse, collect, choices)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user decided. Complete and checked once made; anything left alone has its default.

    Raises:
        CompileError: a value is out of range, two options contradict each other, or this version cannot do it yet.
    """

    target: str = _option(
        "wse3", "--target", "The machine: a name from 'wafercc targets', mesh:WxH, or a TOML page.", "NAME"
    )
    target_overrides: Mapping[str, str] = _option(
        {}, "--set", "Override one number of the machine, as in pe.sram_bytes=32k.", "KEY=VALUE", pair(str), dict
    )
    defects: DefectMap | str | PathLike[str] | None = _option(
        None, "--defects", "A defect map: what is dead on this wafer.", "FILE"
    )
    defect_rate: float = _option(
        0.0,
        "--defect-rate",
        "Draw a defect map: the share of dead cores; a fifth of it for routers and for links.",
        "RATE",
        float,
    )
    defect_seed: int = _option(0, "--defect-seed", "Which map --defect-rate draws.", "SEED", int)
    shapes: Mapping[str, Sequence[int]] = _option(
        {}, "--shape", "The shape of one input, as in input_ids=1x16.", "NAME=AxB", pair(shape_word), dict
    )
    dims: Mapping[str, int] = _option(
        {}, "--dim", "The size of one symbolic dimension of the model.", "NAME=N", pair(int), dict
    )
    inputs_like: Mapping[str, Any] | None = _option(
        None, "--inputs-like", "Take all input shapes from the arrays of an npz file.", "FILE", read_npz
    )
    context: int | None = _option(
        None, "--context", "Tokens the cache can hold: one program then serves every shorter past.", "TOKENS", int
    )
    new_tokens: int | None = _option(
        None, "--new-tokens", "Tokens a run takes in, where no shape says it.", "TOKENS", int
    )
    batch: int | None = _option(None, "--batch", "Sequences a run takes in, where no shape says it.", "N", int)
    weightless: bool = _option(
        False,
        "--weightless",
        "Leave out the numbers of all weights, so that files of external data need not exist. Such a program can be "
        "timed (wafercc run --timing-only) but computes no values.",
        parse=switch_word,
    )
    entries: Mapping[str, Mapping[str, int]] = _option(
        {},
        "--entry",
        "An entry of the program and the tokens that a run of it takes in, as in decode:new=1. All entries share "
        "weights and caches.",
        "NAME:new=N",
        entry_word,
        dict,
    )
    wafers: int | str = _option(1, "--wafers", "Wafers to use, or auto.", "N", count_or_auto)
    objective: str = _option("latency", "--objective", "What to minimise.", choices=OBJECTIVES)
    dtype: str | None = _option(
        None, "--dtype", "Element type to compute in, in place of the model's own.", choices=DTYPES
    )
    seed: int = _option(0, "--seed", "Seed of every search: the same seed gives the same bytes.", "SEED", int)
    stages: int | None = _option(
        None, "--stages", "Cut the model into so many stages (regions), in place of the best number.", "N", int
    )
    region: tuple[int, int] | None = _option(
        None, "--region", "Force every region's mesh: W columns by H rows, as in mesh:WxH.", "WxH", size_word
    )
    whole_elements: int = _option(
        1024, "--whole", "Cut every value of more elements than this, if its op can be cut.", "N", int
    )
    pins: Mapping[str, Sequence[int]] = _option(
        {},
        "--pin",
        "Put a region in exactly this rectangle of PEs: its corner, width and height.",
        "REGION=x,y,w,h",
        pair(rect_word),
        dict,
    )
    strategies: Mapping[str, str] = _option(
        {},
        "--strategy",
        "Force how ops are cut, as in '*lm_head*=rows=k columns=n'; OP is an id, an ONNX node, a kind or a pattern, in "
        "one block only with 'b1:' before it; 'wafercc show --why OP' names strategies. Equal layers are cut alike.",
        "OP=NAME",
        name_first,
        dict,
    )
    max_lanes: int | None = _option(None, "--max-lanes", "Most parallel lanes of one stream.", "N", int)
    disabled_passes: tuple[str, ...] = _option(
        (), "--no-pass", "Leave out one optional rewrite, such as a fusion.", "NAME", str, tuple
    )
    constraints: str | PathLike[str] | None = _option(
        None, "--constraints", "Keep to the decisions in this TOML file; other options override it.", "FILE"
    )
    # Decisions of a constraints file that have no flag: see `constraints.py`.
    meshes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)
    reach: int | None = None
    detour_hops: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, int) and value < least:
                raise CompileError(f"{value} is too small; the least is {least}", where=_where(name))
        if not 0 <= self.defect_rate < 1:
            raise CompileError(f"{self.defect_rate} is not a share from 0 to below 1", where=_where("defect_rate"))
        if self.defects is not None and self.defect_rate:
            raise CompileError(
                "a defect map and a rate to draw one are both given", where=_where("defects"), hint="keep one of them"
            )
        if self.region is not None and min(self.region) < 1:
            raise CompileError(f"a region of {self.region[1]}x{self.region[0]} has no PE", where=_where("region"))
        for region, rect in self.pins.items():
            if len(rect) not in (4, 5) or min(rect) < 0 or min(rect[2:4]) < 1:
                raise CompileError(
                    f"{','.join(map(str, rect))} is no rectangle x,y,w,h of PEs",
                    where=f"{_where('pins')}, region {region}",
                )
        _check_word("objective", self.objective, OBJECTIVES)
        if self.dtype is not None:
            _check_word("dtype", self.dtype, DTYPES)
        if isinstance(self.wafers, str):
            _check_word("wafers", self.wafers, ("auto",))
        self._check_entries()

    def _check_entries(self) -> None:
        for name, said in self.entries.items():
            where = f"{_where('entries')}, entry {name!r}"
            if not re.fullmatch(r"[A-Za-z]\w*", name):
                raise CompileError("its name is not a word of letters and digits", where=where)
            if unknown := sorted(said.keys() - {"new", "batch"}):
                raise CompileError(f"{unknown[0]!r} is unknown; known: new, batch", where=where)
            if said.get("new", 0) < 1 or said.get("batch", 1) < 1:
                raise CompileError(
                    f"takes in {said.get('new', 'an unknown number of')} tokens", where=where, hint=f"say {name}:new=N"
                )
        if self.entries and self.inputs_like is not None:
            raise CompileError(
                "the shapes of all inputs are given as well, so there can be one entry only",
                where=_where("entries"),
                hint="leave out --inputs-like",
            )
        if self.entries and self.new_tokens is not None:
            raise CompileError(
                f"each entry says how many tokens it takes in, and --new-tokens {self.new_tokens} too",
                where=_where("entries"),
                hint="leave out --new-tokens",
            )

    def refuse_what_is_to_come(self) -> None:
        """Refuse options that are part of the interface but not of this version, rather than to ignore them.

        Raises:
            CompileError: one of them is given.
        """
        if isinstance(self.wafers, int) and self.wafers > 1:
            raise CompileError(
                f"a program on {self.wafers} wafers is not supported yet",
                where=_where("wafers"),
                hint="leave it out, or say auto to learn how many are needed",
            )
        if self.objective != "latency":
            raise CompileError(
                f"compiling for {self.objective} is not supported yet", where=_where("objective"), hint="leave it out"
            )
        if self.dtype is not None:
            raise CompileError(
                f"computing in {self.dtype} in place of the model's own types is not supported yet",
                where=_where("dtype"),
                hint=f"leave it out, or export the model in {self.dtype}",
            )

    @property
    def bound_shapes(self) -> dict[str, tuple[int, ...]]:
        """Input name → shape, as far as the user said: ``shapes``, and the shapes of ``inputs_like``.

        Raises:
            CompileError: the two contradict each other.
        """
        bound = _shapes_of(self.inputs_like or {})
        for name, shape in self.shapes.items():
            wanted = tuple(int(n) for n in shape)
            if bound.setdefault(name, wanted) != wanted:
                raise CompileError(
                    f"its shape is {_shape(wanted)} here and {_shape(bound[name])} in inputs_like",
                    where=f"input {name}",
                    hint="keep one",
                )
        return bound

    @property
    def defect_rates(self) -> dict[str, float]:
        """``defect_rate`` as the arguments of ``DefectMap.random``: cores, routers, links."""
        rarer = self.defect_rate / CORES_PER_ROUTER_OR_LINK
        return {"core_rate": self.defect_rate, "router_rate": rarer, "link_rate": rarer}

    def record(self) -> dict[str, Any]:
        """The options as plain JSON for the artifact: those that differ from their defaults, in order of name.

        Inputs count by shape; of a machine's page only the file name, since no path of this computer belongs there. The
        page and the defect map are not repeated here: the artifact carries both whole.
        """
        plain: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "inputs_like" and value is not None:
                value = _shapes_of(value)
            elif each.name == "target":
                value = basename(value)
            elif each.name == "defects" and value is not None:
                value = "given"
            if value != _default(each.name):
                plain[each.name] = _plain(value)
        return dict(sorted(plain.items()))


_LEAST = {
    "context": 0,
    "new_tokens": 1,
    "batch": 1,
    "wafers": 1,
    "stages": 1,
    "whole_elements": 1,
    "max_lanes": 1,
    "seed": 0,
    "defect_seed": 0,
}


def flag_of(name: str) -> Flag:
    """The flag of a field of `Options`, for messages and for the command line."""
    flag: Flag = next(each for each in fields(Options) if each.name == name).metadata["flag"]
    return flag


def _shapes_of(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    from numpy import shape

    return {name: tuple(int(n) for n in shape(array)) for name, array in arrays.items()}


def _default(name: str) -> Any:
    each = next(f for f in fields(Options) if f.name == name)
    return each.default if not callable(each.default_factory) else each.default_factory()


def _where(name: str) -> str:
    return f"option {name} ({flag_of(name).name})"


def _check_word(name: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise CompileError(f"{word!r} is unknown; known: {', '.join(known)}", where=_where(name))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in sorted(value.items())}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return fspath(value) if isinstance(value, PathLike) else value

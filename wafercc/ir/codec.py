"""Codec: the frozen dataclasses of the IR as JSON and back, driven by their field types.

One rule per shape of type, none per class, so that a field added to a class is stored without a change here:

- a dataclass is an object of its fields; one that stands in a union (`Step`, `Task`) is wrapped, its class name as key;
- a mapping is an object, a tuple a list, an enumeration its text;
- types, tiled types and dimensions are their IR text (``f32[2,n_past+1,96] (-,-,x0)``); a mesh is a list of its axes;
- an op attribute is its JSON self, except what JSON cannot tell apart: ``{"dim": "n_past+1"}``, ``{"dtype": "f32"}``,
  ``{"float": "-inf"}``.

Encoding trusts its input (a value with no rule is a bug of ours, `TypeError`); decoding trusts nothing and raises
`Malformed`.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import TypeVar

import numpy as np

from .block import AllGather, AllReduce, Compute, Narrow
from .dims import Affine, Dim, parse_dim
from .dtypes import DType
from .graph import Attr, Op, TensorType
from .layout import Axis, AxisName, Mesh, Tiled, parse_layout
from .program import EdgePort, Execute, Fan, Transfer

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
T = TypeVar("T")

# The classes that stand in unions and so carry their name; the types that are stored as their IR text.
_TAGGED = frozenset({Compute, AllReduce, AllGather, Narrow, Transfer, Execute, Fan, EdgePort})
_TEXTUAL: tuple[object, ...] = (TensorType, Tiled)


class Malformed(ValueError):
    """A JSON value is not what its place wants; the message starts with the place."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


def encode(value: object) -> Json:
    """The JSON form of an IR value."""
    match value:
        case Tiled() | TensorType() | Affine() | StrEnum():
            return str(value)
        case Mesh():
            return [[axis.name, axis.extent, axis.along] for axis in value.axes]
        case Op():
            return _encode_fields(value) | {"attrs": {name: encode_attr(a) for name, a in value.attrs.items()}}
        case None | bool() | int() | float() | str():
            return value
        case np.integer():
            return int(value)
        case tuple() | list():
            return [encode(item) for item in value]
        case Mapping():
            return {str(key): encode(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = _encode_fields(value)
        return {type(value).__name__: fields} if type(value) in _TAGGED else fields
    raise TypeError(f"no JSON form for {type(value).__name__}")


def encode_attr(value: Attr) -> Json:
    """The JSON form of one op attribute; tags what JSON cannot tell apart."""
    match value:
        case Affine():
            return {"dim": str(value)}
        case DType():
            return {"dtype": str(value)}
        case tuple():
            return [encode_attr(item) for item in value]
        case float() if not math.isfinite(value):
            return {"float": repr(float(value))}
        case bool() | int() | str():
            return value
        case float():
            return float(value)
    raise TypeError(f"no JSON form for an attribute of type {type(value).__name__}")


def _encode_fields(value: object) -> dict[str, Json]:
    assert dataclasses.is_dataclass(value)
    return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name != "attrs"}


@dataclasses.dataclass(frozen=True, slots=True)
class Decoder:
    """JSON to IR values. ``past_max`` bounds every dimension that depends on ``n_past``.

    ``ignore_unknown``: whether a field this version does not know is skipped (a newer minor schema) or refused.
    """

    past_max: int
    ignore_unknown: bool = False

    def read(self, json: Json, wanted: type[T], where: str) -> T:
        """An instance of the wanted class.

        Raises:
            Malformed: the JSON is not of that class.
        """
        value = self.value(json, wanted, where)
        assert isinstance(value, wanted)
        return value

    def value(self, json: Json, hint: object, where: str) -> object:
        """A value of the type that ``hint`` describes (a class, NewType, Literal, union, tuple or Mapping of such)."""
        if isinstance(hint, typing.NewType):
            return self.value(json, hint.__supertype__, where)
        if hint in _TEXTUAL:
            return self._text(json, hint, where)
        if hint is Mesh:
            return self._mesh(json, where)
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Literal:
            return _check(json, json in args, where, f"one of {', '.join(map(str, args))}")
        if origin in (typing.Union, types.UnionType):
            return self._union(json, args, where)
        if origin is tuple:
            return self._tuple(json, args, where)
        if origin is not None and issubclass(origin, Mapping):
            items = as_object(json, where)
            return {self.value(k, args[0], where): self.value(v, args[1], f"{where}.{k}") for k, v in items.items()}
        if isinstance(hint, type) and issubclass(hint, StrEnum):
            names = [str(member) for member in hint]
            return hint(str(_check(json, json in names, where, f"one of {', '.join(names)}")))
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return self._dataclass(json, hint, where)
        if isinstance(hint, type):
            return _check(json, type(json) is hint, where, hint.__name__)
        raise TypeError(f"no decoder for {hint}")

    def attr(self, json: Json, where: str) -> Attr:
        """One op attribute: the inverse of `encode_attr`."""
        match json:
            case bool() | int() | float() | str():
                return json
            case list():
                return tuple(self.attr(item, f"{where}[{i}]") for i, item in enumerate(json))
            case {"dim": str(text)}:
                return self.dim(text, where)
            case {"dtype": str(text)}:
                return self.read(text, DType, where)
            case {"float": ("inf" | "-inf" | "nan") as text}:
                return float(text)
        raise Malformed(where, f"not an attribute: {_brief(json)}")

    def dim(self, text: str, where: str) -> Dim:
        try:
            return parse_dim(text, self.past_max)
        except ValueError as error:
            raise Malformed(where, str(error)) from None

    def tensor_type(self, text: str, where: str) -> TensorType:
        """The inverse of ``str(TensorType)``."""
        name, bracket, inner = text.partition("[")
        if not bracket or not inner.endswith("]"):
            raise Malformed(where, f"not a type: {text!r}")
        dims = inner[:-1].split(",") if inner != "]" else []
        return TensorType(self.read(name, DType, where), tuple(self.dim(d, where) for d in dims))

    def _text(self, json: Json, hint: object, where: str) -> object:
        if not isinstance(json, str):
            raise Malformed(where, f"wanted text, got {_brief(json)}")
        if hint is TensorType:
            return self.tensor_type(json, where)
        type_text, _, layout_text = json.partition(" ")
        type_ = self.tensor_type(type_text, where)
        try:
            layout = parse_layout(layout_text)
        except (ValueError, AssertionError, IndexError) as error:
            raise Malformed(where, f"not a layout: {layout_text!r} ({error})") from None
        if len(layout.splits) != type_.rank:
            raise Malformed(where, f"a layout of rank {len(layout.splits)} on a type of rank {type_.rank}: {json}")
        return Tiled(type_, layout)

    def _mesh(self, json: Json, where: str) -> Mesh:
        axes: list[Axis] = []
        for item in as_list(json, where):
            match item:
                case [str(name), int(extent), ("y" | "x") as along] if extent > 0:
                    axes.append(Axis(AxisName(name), extent, along))
                case _:
                    raise Malformed(where, f"not a mesh axis: {_brief(item)}")
        try:
            return Mesh(tuple(axes))
        except AssertionError as error:
            raise Malformed(where, f"not a mesh: {error}") from None

    def _union(self, json: Json, args: tuple[object, ...], where: str) -> object:
        if type(None) in args:
            rest = tuple(a for a in args if a is not type(None))
            hint = rest[0] if len(rest) == 1 else typing.Union[rest]  # noqa: UP007
            return None if json is None else self.value(json, hint, where)
        by_name = {a.__name__: a for a in args if isinstance(a, type)}
        items = as_object(json, where)
        name = next(iter(items), "")
        if len(items) != 1 or name not in by_name:
            raise Malformed(where, f"wanted one of {', '.join(by_name)}, got {_brief(json)}")
        return self._dataclass(items[name], by_name[name], f"{where}.{name}")

    def _tuple(self, json: Json, args: tuple[object, ...], where: str) -> tuple[object, ...]:
        items = as_list(json, where)
        if len(args) == 2 and args[1] is Ellipsis:
            args = (args[0],) * len(items)
        if len(items) != len(args):
            raise Malformed(where, f"wanted {len(args)} items, got {len(items)}")
        return tuple(
            self.value(item, hint, f"{where}[{i}]") for i, (item, hint) in enumerate(zip(items, args, strict=True))
        )

    def _dataclass(self, json: Json, cls: type, where: str) -> object:
        items = as_object(json, where)
        hints = field_types(cls)
        unknown = items.keys() - hints.keys()
        if unknown and not self.ignore_unknown:
            raise Malformed(where, f"unknown field {min(unknown)}")
        if missing := [name for name in required_fields(cls) if name not in items]:
            raise Malformed(where, f"missing field {missing[0]}")
        known = {name: items[name] for name in hints if name in items}
        if cls is Op and "attrs" in known:
            attrs = as_object(known.pop("attrs"), f"{where}.attrs")
            decoded: dict[str, object] = {"attrs": {k: self.attr(v, f"{where}.attrs.{k}") for k, v in attrs.items()}}
        else:
            decoded = {}
        decoded |= {name: self.value(item, hints[name], f"{where}.{name}") for name, item in known.items()}
        try:
            return cls(**decoded)
        except AssertionError as error:
            raise Malformed(where, str(error)) from None


def as_object(json: Json, where: str) -> dict[str, Json]:
    """The JSON value, if it is an object."""
    if not isinstance(json, dict):
        raise Malformed(where, f"wanted an object, got {_brief(json)}")
    return json


def as_list(json: Json, where: str) -> list[Json]:
    """The JSON value, if it is a list."""
    if not isinstance(json, list):
        raise Malformed(where, f"wanted a list, got {_brief(json)}")
    return json


def _check(json: Json, holds: bool, where: str, wanted: str) -> Json:
    if not holds:
        raise Malformed(where, f"wanted {wanted}, got {_brief(json)}")
    return json


def _brief(json: Json) -> str:
    text = repr(json)
    return text if len(text) <= 60 else text[:57] + "..."


@cache
def field_types(cls: type) -> Mapping[str, object]:
    """The types of a class's fields, by name. An op's attributes have a recursive type and their own decoder."""
    names = [f.name for f in dataclasses.fields(cls)]
    module = vars(__import__(cls.__module__, fromlist=["_"]))
    annotations = {n: t for n, t in cls.__annotations__.items() if not (cls is Op and n == "attrs")}
    bare = types.SimpleNamespace(__annotations__=annotations)
    return dict.fromkeys(names) | typing.get_type_hints(bare, module)


@cache
def required_fields(cls: type) -> tuple[str, ...]:
    """The fields of a class that have no default."""
    missing = dataclasses.MISSING
    return tuple(f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing)

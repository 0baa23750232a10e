"""Graph: what a decoder computes, before anything is decided about where.

SSA form: every value is written once, by an op, an input, or as a weight; ops stand in an order in which every value is
written before it is read. Weights are named here and *typed*; their numbers live in a `Weights` store beside the graph,
so that importing, printing and comparing graphs never read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NewType

from .dims import Dim, shape_at, shape_upper
from .dtypes import DType

OpId = NewType("OpId", str)
ValueName = NewType("ValueName", str)

# What an attribute may hold. A tuple may mix ints and affine dimensions (the shape of a reshape).
Attr = int | float | bool | str | Dim | tuple["Attr", ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and shape; ``f32[2,n_past+1,96]`` in text."""

    dtype: DType
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(str(d) for d in self.shape)}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    def at(self, n_past: int) -> tuple[int, ...]:
        return shape_at(self.shape, n_past)

    @property
    def elements(self) -> int:
        """Elements at the context capacity."""
        product = 1
        for extent in shape_upper(self.shape):
            product *= extent
        return product


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: a kind of the op table, its operands and its attributes.

    An absent optional operand is ``None``. ``source`` is the ONNX node it came from; it is provenance, not meaning,
    and does not take part in equality.
    """

    id: OpId
    kind: str
    inputs: tuple[ValueName | None, ...]
    outputs: tuple[ValueName, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    source: str = field(default="", compare=False)

    @property
    def operands(self) -> tuple[ValueName, ...]:
        """The operands that are present."""
        return tuple(v for v in self.inputs if v is not None)

    def attr(self, name: str, default: Attr | None = None) -> Attr:
        value = self.attrs.get(name, default)
        assert value is not None, f"{self.kind} has no attribute {name}"
        return value


@dataclass(frozen=True)
class Graph:
    """A decoder: typed values, ops in executable order, inputs, outputs, weights and resident state.

    ``states`` maps an input that holds a cache (``past_key_values.0.key``) to the output that is its next content.
    ``past_max`` is the largest ``n_past`` (0 where no dimension depends on it). A weight named in ``types`` but
    written by no op and not an input is looked up in the `Weights` store.
    """

    name: str
    types: Mapping[ValueName, TensorType]
    inputs: tuple[ValueName, ...]
    outputs: tuple[ValueName, ...]
    weights: tuple[ValueName, ...]
    ops: tuple[Op, ...]
    states: Mapping[ValueName, ValueName] = field(default_factory=dict)
    past_max: int = 0

    @cached_property
    def producer(self) -> Mapping[ValueName, Op]:
        return {out: op for op in self.ops for out in op.outputs}

    @cached_property
    def users(self) -> Mapping[ValueName, tuple[Op, ...]]:
        found: dict[ValueName, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.operands):
                found.setdefault(value, []).append(op)
        return {value: tuple(ops) for value, ops in found.items()}

    @cached_property
    def op(self) -> Mapping[OpId, Op]:
        return {op.id: op for op in self.ops}

    def in_types(self, op: Op) -> tuple[TensorType | None, ...]:
        return tuple(None if v is None else self.types[v] for v in op.inputs)

    def out_types(self, op: Op) -> tuple[TensorType, ...]:
        return tuple(self.types[v] for v in op.outputs)

    def with_ops(self, ops: tuple[Op, ...], types: Mapping[ValueName, TensorType] | None = None) -> Graph:
        """The same interface over other ops; values that nothing mentions any more are dropped."""
        known = dict(self.types) | dict(types or {})
        named = set(self.inputs) | set(self.outputs)
        for op in ops:
            named.update(op.operands, op.outputs)
        weights = tuple(w for w in self.weights if w in named)
        return replace(self, ops=ops, types={v: known[v] for v in known if v in named}, weights=weights)

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def __str__(self) -> str:
        from .text import print_graph

        return print_graph(self)

"""A model as the importer sees it: plain nodes, typed inputs and unread tensors, free of protobuf and onnx-ir.

`read.py` makes these; everything after it works on them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImportFailed
from ..ir.dtypes import DType
from .model import Source

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor stored in the model: its type, and a way to read it (``None`` if its external file is absent)."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    load: Callable[[], Array] | None

    @property
    def elements(self) -> int:
        product = 1
        for extent in self.shape:
            product *= extent
        return product


@dataclass(frozen=True)
class Node:
    """One ONNX node. An absent optional input or output is ``None``; ``version`` is the opset of its domain."""

    name: str
    domain: str
    op_type: str
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    attrs: Mapping[str, Any]
    version: int

    @property
    def where(self) -> str:
        """The node's name and type, for messages."""
        return f"node {self.name} ({self.full_type})"

    @property
    def full_type(self) -> str:
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    def has(self, position: int) -> bool:
        """Whether an optional input is present."""
        return position < len(self.inputs) and self.inputs[position] is not None

    def wants(self, position: int) -> bool:
        """Whether an optional output is named."""
        return position < len(self.outputs) and self.outputs[position] is not None

    def int_attr(self, name: str, default: int) -> int:
        value = self.attrs.get(name, default)
        if not isinstance(value, int):
            raise self.fail(f"has {name} = {value!r}, not an integer")
        return value

    def float_attr(self, name: str, default: float) -> float:
        value = self.attrs.get(name, default)
        if not isinstance(value, int | float):
            raise self.fail(f"has {name} = {value!r}, not a number")
        return float(value)

    def str_attr(self, name: str, default: str) -> str:
        return str(self.attrs.get(name, default))

    def ints_attr(self, name: str) -> tuple[int, ...] | None:
        value = self.attrs.get(name)
        if value is not None and not (isinstance(value, tuple) and all(isinstance(v, int) for v in value)):
            raise self.fail(f"has {name} = {value!r}, not a list of integers")
        return value

    def fail(self, message: str, hint: str = "") -> ImportFailed:
        """The error of this node, to be raised by the caller."""
        return ImportFailed(message, where=self.where, hint=hint)


@dataclass(frozen=True)
class Branch:
    """The body of a branch or loop: nodes, the names of its results, tensors of its own, and what it is given."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A graph input: each dimension is a number, or a symbol (``None`` where the exporter gave neither)."""

    name: str
    dtype: DType
    dims: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Model:
    """A whole file: nodes in executable order, inputs that must be fed, outputs, and the tensors it stores.

    ``output_dims``: the dimensions that outputs are declared with, as in `InputSpec`. Only evidence: they may be wrong.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    source: Source
    output_dims: Mapping[str, tuple[int | str | None, ...]] = field(default_factory=dict)

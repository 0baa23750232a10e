"""Context: what lowering functions build on: values by ONNX name, ops emitted so far, weights used.

A lowering function takes values and emits ops; whether an op really runs is decided here (known operands fold, casts
to the same type and reshapes to the same shape vanish), so no lowering function thinks about folding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImportFailed, RunError
from ..ir.dims import Affine, Dim, Undecided
from ..ir.dtypes import DType, from_numpy
from ..ir.graph import Attr, Op, OpId, TensorType, ValueName
from ..ir.optable import spec_of
from ..ir.weights import WeightSource
from .content import Array, Ramp, Value, known_array, known_ramp, number, ramp_of
from .fold import ELEMENTWISE, FOLD_ELEMENTS, fold
from .nodes import Node, Tensor

if TYPE_CHECKING:
    from .quantized import Quantized

WeightStep = Callable[[Array], Array]

READ_ELEMENTS = 4096
"""Integer and bool tensors up to this size are read while importing: they may be shapes, axes, indices."""

SMALL_WEIGHT_ELEMENTS = 256
"""Float tensors up to this size may be read while importing, where all that meets them is known (rotary tables)."""

LITERAL_ELEMENTS = 16
"""Known integers that form a ramp are literals up to this size, and counted out when the program runs beyond it."""


class Context:
    """The state of one import. Mutable by nature: everything else in the importer is data or functions."""

    def __init__(self, states: Mapping[str, str]) -> None:
        self.states = states
        self.values: dict[str, Value] = {}
        self.ops: list[Op] = []
        self.types: dict[ValueName, TensorType] = {}
        self.sources: dict[ValueName, WeightSource] = {}
        self.joined: dict[str, list[Value]] = {}
        self.quantized: dict[ValueName, Quantized] = {}
        self.uses: Counter[str] = Counter()
        self.ragged: set[ValueName] = set()
        self.node: Node | None = None
        self._made: dict[object, Value] = {}
        self._tensors: dict[ValueName, Tensor] = {}
        self._count = 0
        self.turns = 0  # of all loops

    # --- values by ONNX name

    def inputs(self, node: Node) -> list[Value]:
        """The present inputs of a node."""
        return [self.values[name] for name in node.inputs if name is not None]

    def optional(self, node: Node, position: int) -> Value | None:
        name = node.inputs[position] if position < len(node.inputs) else None
        return None if name is None else self.values[name]

    def input(self, node: Node, position: int) -> Value:
        """A required input.

        Raises:
            ImportFailed: the node lacks it.
        """
        value = self.optional(node, position)
        if value is None:
            raise node.fail(f"lacks its input {position}")
        return value

    def add_tensor(self, tensor: Tensor) -> Value:
        """A stored tensor: known content if it is an exporter's small constant, otherwise an unread weight."""
        type_ = TensorType(tensor.dtype, tensor.shape)
        limit = 1 if tensor.dtype.is_float else READ_ELEMENTS
        if tensor.load is not None and tensor.elements <= limit and tensor.dtype not in (DType.I4, DType.U4):
            return Value(type_, array=_read(tensor))
        name = ValueName(tensor.name)
        if name not in self.sources:
            self.sources[name] = WeightSource(tensor.load, tensor.name)
            self._tensors[name] = tensor
        return Value(type_, name=name, weight=True)

    # --- content

    def array(self, value: Value) -> Array | None:
        """The content of a value if it is known as an array: small weights are read for this."""
        if value.array is not None:
            return value.array
        if value.weight and value.name in self._tensors and value.dtype.is_float:
            tensor = self._tensors[value.name]
            if tensor.load is not None and tensor.elements <= SMALL_WEIGHT_ELEMENTS:
                return _read(tensor)
        if value.ramp is not None:
            return _ramp_array(value.ramp, value.shape, value.dtype)
        return None

    def dims(self, value: Value, node: Node, what: str) -> tuple[Dim, ...]:
        """The content of an integer operand that must be known: a shape, axes, bounds.

        Raises:
            ImportFailed: it is computed from the model's data.
        """
        array = self.array(value)
        if array is None:
            if value.name in self._tensors and self._tensors[value.name].load is None:
                raise node.fail(
                    f"{what} is the tensor {value.name}, whose external data is absent",
                    hint="weights may be absent, shapes may not: save the model with its small tensors inside",
                )
            raise node.fail(
                f"{what} depends on the model's data, not on shapes alone",
                hint="wafercc needs all shapes when it compiles: bind the dimensions to numbers with --shape",
            )
        return tuple(d if isinstance(d, Affine) else int(d) for d in array.reshape(-1).tolist())

    def dim(self, value: Value, node: Node, what: str) -> Dim:
        """As `dims`, for one number."""
        found = self.dims(value, node, what)
        if len(found) != 1:
            raise node.fail(f"{what} is {len(found)} numbers, not one")
        return found[0]

    def ints(self, value: Value, node: Node, what: str) -> tuple[int, ...]:
        """As `dims`, for what must not depend on n_past either."""
        try:
            return tuple(number(d) for d in self.dims(value, node, what))
        except Undecided as problem:
            raise node.fail(f"{what} depends on n_past: {problem}", hint=PAST_HINT) from None

    # --- ops

    def emit(self, kind: str, operands: Sequence[Value | None], attrs: Mapping[str, Attr] | None = None) -> Value:
        """The first result of an op, which runs only if it must.

        Raises:
            ImportFailed: the operands have types the op cannot take.
        """
        op = self._op(kind, operands, attrs or {})
        types = [None if v is None else v.type for v in operands]
        (result,) = self._infer(op, types)
        given = [v for v in operands if v is not None]
        if same := _unchanged(op, given, result):
            return same
        if found := self._derived(op, operands, result) or self._folded(op, given, result):
            return found
        names = tuple(None if v is None else self.tensor(v) for v in operands)
        return self._append(replace(op, inputs=names), result)

    def _derived(self, op: Op, operands: Sequence[Value | None], result: TensorType) -> Value | None:
        """A weight meeting known numbers, element by element, is another weight: computed when it is read."""
        weights = [position for position, v in enumerate(operands) if v is not None and v.weight]
        if op.kind not in ELEMENTWISE or len(weights) != 1:
            return None
        weight = operands[weights[0]]
        others = [None if v is None else v.array for v in operands]
        if weight is None or weight.shape != result.shape:
            return None
        if any(a is None or a.dtype == object for position, a in enumerate(others) if position != weights[0]):
            return None

        def step(array: Array) -> Array:
            given = [array if position == weights[0] else other for position, other in enumerate(others)]
            return spec_of(op).evaluate(op, given, 0)[0]

        fixed = tuple(d for d in result.shape if isinstance(d, int))
        return self.weight(weight, f"{op.kind}_{self._count}", step, fixed, result.dtype)

    def _folded(self, op: Op, given: Sequence[Value], result: TensorType) -> Value | None:
        try:
            return fold(op, [self._content(v, given) for v in given], result)
        except RunError as problem:
            where = self.node.where if self.node else op.id
            raise ImportFailed(problem.message, where=where, hint=problem.hint) from None

    def tensor(self, value: Value) -> ValueName:
        """The IR value that holds a value at run time; known content becomes a constant, fill or range here."""
        if value.name is not None:
            self.types.setdefault(value.name, value.type)
            return value.name
        key = (value.type, value.ramp) if value.ramp is not None else (value.type, _key(value.array))
        if key not in self._made:
            self._made[key] = self._materialise(value)
        made = self._made[key].name
        assert made is not None
        return made

    def copy(self, value: Value) -> Value:
        """The value once more under a name of its own (a graph output that is also something else)."""
        op = self._op("reshape", [value], {"shape": value.shape})
        return self._append(replace(op, inputs=(self.tensor(value),)), value.type)

    def weight(self, value: Value, label: str, step: WeightStep, shape: tuple[int, ...], dtype: DType) -> Value:
        """A weight after one more step, still unread; the same step on the same weight is made once."""
        assert value.name is not None
        name = ValueName(f"{value.name}.{label}")
        if name not in self.sources:
            self.sources[name] = self.sources[value.name].derive(step, label)
        return Value(TensorType(dtype, shape), name=name, weight=True)

    def literal_weight(self, name: str, array: Array) -> Value:
        """Known numbers as a weight of this name."""
        key = ValueName(name)
        self.sources.setdefault(key, WeightSource(lambda: array, name))
        return Value(TensorType(from_numpy(array.dtype), array.shape), name=key, weight=True)

    def _op(self, kind: str, operands: Sequence[Value | None], attrs: Mapping[str, Attr]) -> Op:
        self._count += 1
        source = self.node.name if self.node else ""
        inputs = tuple(None if v is None else (v.name or ValueName("known")) for v in operands)
        return Op(OpId(f"{source}:{self._count}"), kind, inputs, (ValueName(f"%%{self._count}"),), dict(attrs), source)

    def _infer(self, op: Op, types: Sequence[TensorType | None]) -> tuple[TensorType, ...]:
        try:
            return spec_of(op).infer(op, types)
        except ImportFailed as problem:
            where = self.node.where if self.node else op.id
            raise ImportFailed(problem.message, where=where, hint=problem.hint) from None
        except Undecided as problem:
            where = self.node.where if self.node else op.id
            raise ImportFailed(str(problem), where=where, hint=PAST_HINT) from None

    def _append(self, op: Op, result: TensorType) -> Value:
        self.ops.append(op)
        self.types[op.outputs[0]] = result
        if op.kind == "nonzero" or (self.ragged.intersection(op.operands) and not op.kind.startswith("scatter")):
            self.ragged.update(op.outputs)
        return Value(result, name=op.outputs[0])

    def _content(self, value: Value, among: Iterable[Value]) -> Value:
        """A small weight counts as known where everything that meets it is."""
        if value.weight and all(v.known or v.weight for v in among) and any(v.known for v in among):
            array = self.array(value)
            return value if array is None else replace(value, array=array)
        return value

    def _materialise(self, value: Value) -> Value:
        if value.ramp is not None:
            return self._ramp(value.ramp, value.shape, value.dtype)
        array = value.array
        assert array is not None, "an unknown value has a name"
        if array.size > (1 if array.dtype == object else LITERAL_ELEMENTS) and (ramp := ramp_of(value)) is not None:
            return self._ramp(ramp, value.shape, value.dtype)
        if array.dtype == object:
            return self._dims_tensor(array, value.dtype)
        if array.size > 1 and (array == array.flat[0]).all():
            one = _plain(array.flat[0])
            return self._source("fill", {"value": one, "dtype": str(value.dtype), "shape": array.shape})
        return self._source("constant", {"value": _nested(array), "dtype": str(value.dtype), "shape": array.shape})

    def fill(self, number: Dim | float, shape: tuple[Dim, ...], dtype: DType) -> Value:
        """One number everywhere: known content if the shape is small, an op otherwise."""
        fixed = [d for d in shape if isinstance(d, int)]
        if len(fixed) == len(shape) and int(np.prod(fixed, dtype=np.int64)) <= FOLD_ELEMENTS:
            array = np.full(fixed, number, dtype=object if isinstance(number, Affine) else dtype.numpy)
            return known_array(array, dtype)
        return self._source("fill", {"value": number, "dtype": str(dtype), "shape": shape})

    def ramp(self, ramp: Ramp, shape: tuple[Dim, ...], dtype: DType) -> Value:
        """The ramp as a value: numbers where it is small, otherwise made when the program runs."""
        value = known_ramp(ramp, shape, dtype)
        array = self.array(value)
        return value if array is None else known_array(array, dtype)

    def _source(self, kind: str, attrs: Mapping[str, Attr]) -> Value:
        op = self._op(kind, (), attrs)
        (result,) = self._infer(op, ())
        return self._append(op, result)

    def _dims_tensor(self, array: Array, dtype: DType) -> Value:
        """Dimensions as run-time numbers: one fill each, joined."""
        if array.size == 1:
            return self._source("fill", {"value": array.flat[0], "dtype": str(dtype), "shape": array.shape})
        parts = [self._source("fill", {"value": d, "dtype": str(dtype), "shape": (1,)}) for d in array.flat]
        return self.emit("reshape", [self.emit("concat", parts, {"axis": 0})], {"shape": array.shape})

    def _ramp(self, ramp: Ramp, shape: tuple[Dim, ...], dtype: DType) -> Value:
        """A ramp as ranges along its dimensions, added up and broadcast."""
        total: Value | None = None
        for axis, step in enumerate(ramp.steps):
            if step == 0:
                continue
            start = ramp.start if total is None else 0
            column = tuple(shape[axis] if k == axis else 1 for k in range(len(shape)))
            attrs: dict[str, Attr] = {"step": 1, "count": shape[axis], "dtype": str(dtype)}
            if isinstance(step, Affine):
                steps = self.emit("mul", [self._source("range", {**attrs, "start": 0}), self.fill(step, (), dtype)])
                steps = self.emit("add", [steps, self.fill(start, (), dtype)])
            else:
                steps = self._source("range", {**attrs, "start": start, "step": step})
            part = self.emit("reshape", [steps], {"shape": column})
            total = part if total is None else self.emit("add", [total, part])
        if total is None:
            return self._source("fill", {"value": ramp.start, "dtype": str(dtype), "shape": shape})
        return self.emit("expand", [total], {"shape": shape})


PAST_HINT = "bind the past to a number with --shape, or export without branches on the cache length"


def _read(tensor: Tensor) -> Array:
    assert tensor.load is not None
    return tensor.load()


def _ramp_array(ramp: Ramp, shape: tuple[Dim, ...], dtype: DType) -> Array | None:
    """The numbers of a ramp, where it is small and does not depend on n_past."""
    fixed = [d for d in shape if isinstance(d, int)]
    if len(fixed) < len(shape) or int(np.prod(fixed, dtype=np.int64)) > FOLD_ELEMENTS:
        return None
    if any(isinstance(d, Affine) for d in (ramp.start, *ramp.steps)):
        return None
    grid = np.indices(fixed) if fixed else np.zeros((0,))
    total = np.full(fixed, ramp.start)
    for axis, step in enumerate(ramp.steps):
        total = total + step * grid[axis]
    return total.astype(dtype.numpy)


def _unchanged(op: Op, given: Sequence[Value], result: TensorType) -> Value | None:
    """The operand itself, where the op would only copy it."""
    if op.kind in ("reshape", "expand", "cast", "slice") and given[0].type == result:
        return given[0] if op.kind != "slice" or op.attrs["step"] == 1 else None
    if op.kind == "transpose" and op.attrs["perm"] == tuple(range(len(result.shape))):
        return given[0]
    if op.kind == "and":
        return next((b for a, b in (given, given[::-1]) if _all_true(a) and b.type == result), None)
    return given[0] if op.kind == "concat" and len(given) == 1 else None


def _all_true(value: Value) -> bool:
    return value.array is not None and value.dtype is DType.BOOL and bool(value.array.all())


def _key(array: Array | None) -> object:
    assert array is not None
    return tuple(array.reshape(-1).tolist()) if array.dtype == object else array.tobytes()


def _plain(item: np.generic | Dim) -> Dim | float:
    if isinstance(item, np.generic):
        python = item.item()
        return python if isinstance(python, bool | int | float) else float(python)
    return item


def _nested(array: Array) -> Attr:
    if array.ndim == 0:
        return _plain(array.flat[0])
    return tuple(_nested(np.asarray(row)) for row in array)

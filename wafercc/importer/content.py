"""Content: numbers that are known while importing, as arrays or as ramps.

Exporters compute shapes, positions and masks from `Shape` and `Range`. What is known of them is kept beside each
value: a small array (of dimensions where it depends on ``n_past``), or a `Ramp`, which is linear in the coordinates
and says so for any size: the arange of positions, its broadcasts, flat indices built from several of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir.dims import Affine, Dim, Undecided
from ..ir.dtypes import DType
from ..ir.graph import TensorType, ValueName

Array = NDArray[Any]
Shape = tuple[Dim, ...]


@dataclass(frozen=True)
class Ramp:
    """The integer tensor ``start + sum(step[k] * coordinate[k])``; steps of dimensions of extent 1 are 0."""

    start: Dim
    steps: tuple[Dim, ...]

    def normal(self, shape: Shape) -> Ramp:
        return Ramp(self.start, tuple(0 if d == 1 else s for s, d in zip(self.steps, shape, strict=True)))


@dataclass(frozen=True)
class Value:
    """An ONNX value while importing: its type, the IR value that holds it (if any), and what is known of its content.

    ``array`` holds numbers of the element type, or objects (`Dim`) where some depend on ``n_past``. ``weight``: the
    name is one of the weights store.
    """

    type: TensorType
    name: ValueName | None = None
    array: Array | None = None
    ramp: Ramp | None = None
    weight: bool = False

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def known(self) -> bool:
        return self.array is not None or self.ramp is not None


def known_array(array: Array, dtype: DType) -> Value:
    """A value of known content; objects that are all plain numbers become an ordinary array."""
    if array.dtype == object and not any(isinstance(d, Affine) for d in array.flat):
        array = array.astype(dtype.numpy)
    return Value(TensorType(dtype, array.shape), array=array)


def known_dims(dims: Shape) -> Value:
    """The 1-D i64 value that holds these dimensions."""
    array = np.empty(len(dims), dtype=object)
    array[:] = dims
    return known_array(array, DType.I64)


def known_dim(dim: Dim, dtype: DType = DType.I64) -> Value:
    """The scalar that holds this dimension."""
    array = np.empty((), dtype=object)
    array[()] = dim
    return known_array(array, dtype)


def known_ramp(ramp: Ramp, shape: Shape, dtype: DType) -> Value:
    return Value(TensorType(dtype, shape), ramp=ramp.normal(shape))


def ramp_of(value: Value) -> Ramp | None:
    """The value as a ramp, if its content is one."""
    if value.ramp is not None or value.array is None:
        return value.ramp
    array = value.array
    if array.size == 0 or array.dtype.kind not in "iuO":
        return None
    start: Dim = array.flat[0] if isinstance(array.flat[0], Affine) else int(array.flat[0])
    steps: list[Dim] = []
    expected = np.full((1,) * array.ndim, start, dtype=object)
    for axis, extent in enumerate(array.shape):
        second = tuple(int(k == axis) for k in range(array.ndim))
        steps.append(_plain(array[second]) - start if extent > 1 else 0)
        column = [1] * array.ndim
        column[axis] = extent
        along = np.empty(extent, dtype=object)
        along[:] = [steps[-1] * i for i in range(extent)]
        expected = expected + along.reshape(column)
    return Ramp(start, tuple(steps)) if bool(np.all(expected == array.astype(object))) else None


def _plain(dim: Any) -> Dim:
    return dim if isinstance(dim, Affine) else int(dim)


def equal(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are equal for every n_past.

    Raises:
        Undecided: they are equal for some n_past only.
    """
    difference = a - b
    if not isinstance(difference, Affine):
        return int(difference) == 0
    root, rest = divmod(-difference.offset, difference.scale)
    if rest or not 0 <= root <= difference.past_max:
        return False
    raise Undecided(f"whether {a} == {b} depends on n_past")


def least(a: Dim, b: Dim) -> Dim:
    """The smaller of two dimensions, if one is the smaller for every n_past; raises Undecided otherwise."""
    try:
        return a if a <= b else b
    except Undecided:
        return b if b <= a else a


def greatest(a: Dim, b: Dim) -> Dim:
    """The larger of two dimensions, if one is the larger for every n_past; raises Undecided otherwise."""
    return b if least(a, b) is a else a


def number(dim: Dim) -> int:
    """A dimension that must not depend on n_past; raises Undecided if it does."""
    if isinstance(dim, Affine):
        raise Undecided(f"{dim} depends on n_past")
    return int(dim)


def quotient(a: Dim, b: Dim) -> Dim:
    """a / b where that is a dimension; raises Undecided otherwise."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    if isinstance(a, int):
        raise Undecided(f"({a}) / ({b}) is not affine in n_past")
    return a // b


def product(dims: Shape) -> Dim:
    """The number of elements of a shape; raises Undecided where it is not affine in n_past."""
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result

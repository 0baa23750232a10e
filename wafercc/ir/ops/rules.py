"""What the rows of the op table share: reading attributes, checking operands, broadcasting, elementwise index maps.

Everything that can be wrong with an op (hand-edited text, an unusual exporter) is found by ``infer`` through these
functions and raises ImportFailed; ``evaluate``, ``work`` and ``loops`` may then rely on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import ImportFailed
from ..dims import Affine, Dim, Undecided
from ..dtypes import DType, from_numpy
from ..graph import Op, TensorType
from ..loops import WHOLE, Access, Index, Loop, Loops
from ..optable import Array, Extents, InTypes, Work, product

T = TypeVar("T")
Shape = tuple[Dim, ...]
# Numbers of any width, typed as float64 so that arithmetic on them type-checks.
Numbers = NDArray[np.float64]

FLOATS = frozenset(d for d in DType if d.is_float)
INTS = frozenset({DType.I64, DType.I32, DType.I16, DType.I8, DType.U64, DType.U32, DType.U16, DType.U8})
NUMERIC = FLOATS | INTS
BOOLS = frozenset({DType.BOOL})
ANY = frozenset(DType)


def bad(op: Op, message: str, hint: str = "") -> ImportFailed:
    """The error that says an op cannot be what its row demands."""
    return ImportFailed(f"{op.kind} {message}", where=f"op {op.id}", hint=hint)


# --- attributes


def int_attr(op: Op, name: str, default: int | None = None) -> int:
    value = op.attrs.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise bad(op, f"needs an integer attribute {name}, has {value!r}")
    return value


def number_attr(op: Op, name: str, default: float | None = None) -> float:
    value = op.attrs.get(name, default)
    if not isinstance(value, int | float):
        raise bad(op, f"needs a number as attribute {name}, has {value!r}")
    return float(value)


def bool_attr(op: Op, name: str, default: bool | None = None) -> bool:
    value = op.attrs.get(name, default)
    if value not in (0, 1):
        raise bad(op, f"needs true or false as attribute {name}, has {value!r}")
    return bool(value)


def dim_attr(op: Op, name: str) -> Dim:
    value = op.attrs.get(name)
    if not isinstance(value, int | Affine):
        raise bad(op, f"needs a dimension as attribute {name}, has {value!r}")
    return value


def shape_attr(op: Op, name: str = "shape") -> Shape:
    value = op.attrs.get(name)
    if not isinstance(value, tuple):
        raise bad(op, f"needs a tuple of dimensions as attribute {name}, has {value!r}")
    shape: list[Dim] = []
    for dim in value:
        if not isinstance(dim, int | Affine) or (isinstance(dim, int) and dim < 0):
            raise bad(op, f"needs resolved dimensions in attribute {name}, has {value!r}")
        shape.append(dim)
    return tuple(shape)


def dtype_attr(op: Op, name: str) -> DType:
    value = op.attrs.get(name)
    try:
        return DType(str(value))
    except ValueError:
        raise bad(op, f"needs an element type as attribute {name}, has {value!r}") from None


def axis_attr(op: Op, rank: int, name: str = "axis") -> int:
    axis = int_attr(op, name)
    if not 0 <= axis < rank:
        raise bad(op, f"has {name} {axis}, but its operand has dimensions 0 to {rank - 1}")
    return axis


def axes_attr(op: Op, rank: int, name: str = "axes") -> tuple[int, ...]:
    value = op.attrs.get(name)
    if not isinstance(value, tuple):
        raise bad(op, f"needs a tuple of axes as attribute {name}, has {value!r}")
    axes = tuple(sorted(a for a in value if isinstance(a, int) and 0 <= a < rank))
    if len(axes) != len(value) or len(set(axes)) != len(axes):
        raise bad(op, f"has {name} {value!r}, but its operand has dimensions 0 to {rank - 1}")
    return axes


# --- operands


def present(values: Sequence[T | None]) -> tuple[T, ...]:
    """Operands of a row that has no optional ones."""
    found = tuple(v for v in values if v is not None)
    assert len(found) == len(values), "an operand is absent"
    return found


def optional(values: Sequence[T | None], position: int) -> T | None:
    """An operand that may be absent, or left off at the end."""
    return values[position] if position < len(values) else None


def operands(op: Op, types: InTypes, least: int, most: int | None = None) -> tuple[TensorType, ...]:
    """The types of the first ``least`` operands, after checking that they are there and none is one too many."""
    most = least if most is None else most
    if not least <= len(types) <= most or any(t is None for t in types[:least]):
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise bad(op, f"takes {wanted} operands, has {sum(t is not None for t in types)}")
    return present(types[:least])


def demand(op: Op, what: str, given: TensorType, allowed: Collection[DType]) -> None:
    """Raise ImportFailed unless an operand's element type is allowed."""
    if given.dtype not in allowed:
        names = ", ".join(d for d in DType if d in allowed)
        raise bad(op, f"cannot take {given} as {what}; it takes {names}", "cast the operand first")


def same_dtype(op: Op, types: Sequence[TensorType]) -> DType:
    if len({t.dtype for t in types}) != 1:
        raise bad(op, f"has operands of different element types: {', '.join(map(str, types))}", "insert a cast")
    return types[0].dtype


def demand_rank(op: Op, what: str, given: TensorType, least: int, most: int | None = None) -> None:
    most = least if most is None else most
    if not least <= given.rank <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise bad(op, f"needs {what} with {wanted} dimensions, has {given}")


def broadcast(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The common shape of operands that broadcast as in numpy."""
    rank = max(len(s) for s in shapes)
    result: list[Dim] = []
    for axis in range(-rank, 0):
        common: Dim = 1
        for shape in shapes:
            dim = shape[axis] if -axis <= len(shape) else 1
            if dim == 1 or dim == common:
                continue
            if common != 1:
                raise bad(op, f"cannot broadcast {' with '.join(shape_text(s) for s in shapes)}")
            common = dim
        result.append(common)
    return tuple(result)


def shape_text(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def volume(shape: Shape) -> tuple[int, ...]:
    """The number of elements as a polynomial in n_past: its coefficients, constant first, no trailing zeros."""
    result = [1]
    for dim in shape:
        offset, scale = (dim.offset, dim.scale) if isinstance(dim, Affine) else (dim, 0)
        grown = [c * offset for c in result] + [0]
        for power, c in enumerate(result):
            grown[power + 1] += c * scale
        result = grown
    while len(result) > 1 and result[-1] == 0:
        result.pop()
    return tuple(result)


def decided(op: Op, holds: Callable[[], bool], message: str, hint: str = "") -> None:
    """Raise ImportFailed unless a comparison of dimensions holds for every n_past."""
    try:
        if holds():
            return
    except Undecided:
        pass
    raise bad(op, message, hint)


# --- numbers


def wide(x: Array) -> Numbers:
    """A copy-free view for computing: 16-bit floats become f32, everything else stays as it is."""
    narrow = from_numpy(x.dtype) in (DType.F16, DType.BF16)
    return (x.astype(np.float32) if narrow else x)  # type: ignore[return-value]


def numbers(x: Array) -> Numbers:
    """The same array, typed for arithmetic."""
    return x  # type: ignore[return-value]


def wide_dtype(dtype: DType) -> DType:
    """The element type that partial results and accumulators of a float type have."""
    return DType.F32 if dtype in (DType.F16, DType.BF16) else dtype


# --- loops and work


def follow(dim: Dim, name: str, extent: Dim, granule: int = 1) -> Index:
    """A dimension of a broadcast operand: it follows the loop, or is whole where it has one element for all."""
    return Index(name, granule) if dim == extent * granule else WHOLE


def aligned(shape: Shape, names: Sequence[str], extents: Sequence[Dim]) -> Access:
    """The index map of an operand whose dimensions are right-aligned with loops, broadcast where they are 1."""
    skip = len(names) - len(shape)
    return tuple(follow(d, names[skip + i], extents[skip + i]) for i, d in enumerate(shape))


def plain(names: Sequence[str]) -> Access:
    """An index map that follows one loop per dimension."""
    return tuple(Index(n) for n in names)


def elementwise_loops(op: Op, types: InTypes, outs: Sequence[TensorType]) -> Loops:
    """One parallel loop per result dimension; operands follow where they are not broadcast."""
    shape = outs[0].shape
    names = [f"d{i}" for i in range(len(shape))]
    loops = tuple(Loop(n, d) for n, d in zip(names, shape, strict=True))
    ins = tuple(None if t is None else aligned(t.shape, names, shape) for t in types)
    return Loops(loops, ins, (plain(names),))


def copies(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    """One element move per element of the results."""
    return Work(simple=sum((product(o) for o in outs), 0))


def no_work(op: Op, ins: Sequence[Extents | None], outs: Sequence[Extents]) -> Work:
    return Work()


def no_axis(values: Sequence[T], axes: Collection[int]) -> tuple[T, ...]:
    """What remains of one entry per dimension when some dimensions go."""
    return tuple(v for i, v in enumerate(values) if i not in axes)

"""ONNX ops on shapes: what they ask is known while importing, what they move is moved by reshape, slice, concat and
so on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ImportFailed
from ..ir.dims import Affine, Dim, Undecided
from ..ir.dtypes import DType, from_numpy
from .content import Array, Ramp, Value, greatest, known_array, known_dim, known_dims, least, number, product, quotient
from .context import PAST_HINT, Context
from .nodes import Node, Tensor
from .quantized import dequantize, quantized_weight, transposed_parts
from .registry import axes_input, axis_of, lowers


@lowers("Shape")
def shape(node: Node, cx: Context) -> Value:
    dims = cx.input(node, 0).shape
    start, end = node.attrs.get("start"), node.attrs.get("end")
    return known_dims(dims[start if start is None else int(start) : end if end is None else int(end)])


@lowers("Size")
def size(node: Node, cx: Context) -> Value:
    return known_dim(product(cx.input(node, 0).shape))


@lowers("Constant")
def constant(node: Node, cx: Context) -> Value:
    for name, value in node.attrs.items():
        match name:
            case "value":
                assert isinstance(value, Tensor)
                named = Tensor(node.outputs[0] or node.name, value.dtype, value.shape, value.load)
                return cx.add_tensor(named)
            case "value_float" | "value_floats":
                return known_array(np.asarray(value, dtype=np.float32), DType.F32)
            case "value_int" | "value_ints":
                return known_array(np.asarray(value, dtype=np.int64), DType.I64)
    raise node.fail(f"has a value in the form {', '.join(node.attrs) or 'none'}, which is not supported")


@lowers("ConstantOfShape")
def constant_of_shape(node: Node, cx: Context) -> Value:
    dims = cx.dims(cx.input(node, 0), node, "the shape")
    tensor = node.attrs.get("value")
    if tensor is None:
        return cx.fill(0.0, dims, DType.F32)
    array = tensor.load().reshape(())
    return cx.fill(array.item(), dims, from_numpy(array.dtype))


@lowers("Range")
def range_(node: Node, cx: Context) -> Value:
    first = cx.input(node, 0)
    if first.dtype.is_float:
        return _float_range(node, cx, first.dtype)
    start = cx.dim(first, node, "the start")
    limit = cx.dim(cx.input(node, 1), node, "the limit")
    step = number(cx.dim(cx.input(node, 2), node, "the step"))
    if step == 0:
        raise node.fail("has the step 0")
    try:
        count = _steps(limit - start, step)
    except Undecided as problem:
        raise node.fail(f"its length is not affine in n_past: {problem}", hint=PAST_HINT) from None
    return cx.ramp(Ramp(start, (step,)), (count,), first.dtype)


def _float_range(node: Node, cx: Context, dtype: DType) -> Value:
    ends = [cx.array(cx.input(node, position)) for position in range(3)]
    if any(end is None or end.dtype == object for end in ends):
        raise node.fail("has bounds that depend on the model's data", hint=PAST_HINT)
    start, limit, step = (float(end) for end in ends if end is not None)
    count = max(0, int(np.ceil((limit - start) / step)))
    return known_array((start + step * np.arange(count)).astype(dtype.numpy), dtype)


def _steps(distance: Dim, step: int) -> Dim:
    """How many steps fit before the distance is covered: ceil(distance / step), at least 0."""
    if step < 0:
        distance, step = -distance, -step
    if step > 1:
        distance = (distance + (step - 1)) // step if isinstance(distance, Affine) else -(-distance // step)
    return greatest(distance, 0)


@lowers("Reshape")
def reshape(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    if (given := node.ints_attr("shape")) is not None:
        wanted: tuple[Dim, ...] = given
    else:
        wanted = cx.dims(cx.input(node, 1), node, "the shape")
    try:
        return reshaped(cx, x, _resolved(node, x.shape, wanted))
    except Undecided as problem:
        raise node.fail(f"the shape is not affine in n_past: {problem}", hint=PAST_HINT) from None


def _resolved(node: Node, before: tuple[Dim, ...], wanted: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """A shape without 0 (the operand's dimension, unless allowzero) and -1 (whatever is left)."""
    if not node.int_attr("allowzero", 0):
        if any(d == 0 and i >= len(before) for i, d in enumerate(wanted)):
            raise node.fail(f"copies a dimension that its operand of rank {len(before)} lacks")
        wanted = tuple(before[i] if isinstance(d, int) and d == 0 else d for i, d in enumerate(wanted))
    if sum(isinstance(d, int) and d == -1 for d in wanted) > 1:
        raise node.fail("has two dimensions of -1")
    if not any(isinstance(d, int) and d == -1 for d in wanted):
        return wanted
    ours, theirs = list(before), []
    for dim in wanted:
        if isinstance(dim, int) and dim == -1:
            continue
        if dim in ours:
            ours.remove(dim)
        else:
            theirs.append(dim)
    total, taken = product(tuple(ours)), product(tuple(theirs))
    if taken == 0:
        rest: Dim = 0
    elif isinstance(total, int) and isinstance(taken, int) and total % taken:
        raise node.fail(f"cannot cut {total} elements into rows of {taken}")
    else:
        rest = quotient(total, taken)
    return tuple(rest if isinstance(d, int) and d == -1 else d for d in wanted)


def reshaped(cx: Context, x: Value, dims: tuple[Dim, ...]) -> Value:
    """x in another shape; a weight is reshaped when it is read."""
    fixed = tuple(d for d in dims if isinstance(d, int))
    if x.weight and dims != x.shape and len(fixed) == len(dims):
        label = "reshape_" + "x".join(map(str, fixed))
        return cx.weight(x, label, lambda array: array.reshape(fixed), fixed, x.dtype)
    return cx.emit("reshape", [x], {"shape": dims})


@lowers("Flatten")
def flatten(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    axis = node.int_attr("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    return reshaped(cx, x, (product(x.shape[:axis]), product(x.shape[axis:])))


@lowers("Squeeze")
def squeeze(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    axes = axes_input(node, cx, 1)
    gone = {i for i, d in enumerate(x.shape) if d == 1} if axes is None else {axis_of(node, a, x.rank) for a in axes}
    for axis in gone:
        if x.shape[axis] != 1:
            raise node.fail(f"removes the dimension {axis}, whose extent is {x.shape[axis]}, not 1")
    return reshaped(cx, x, tuple(d for i, d in enumerate(x.shape) if i not in gone))


@lowers("Unsqueeze")
def unsqueeze(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    axes = axes_input(node, cx, 1)
    if axes is None:
        raise node.fail("has no axes")
    rank = x.rank + len(axes)
    added = {axis_of(node, a, rank) for a in axes}
    if len(added) < len(axes):
        raise node.fail(f"adds one dimension twice: axes {axes}")
    rest = iter(x.shape)
    return reshaped(cx, x, tuple(1 if i in added else next(rest) for i in range(rank)))


@lowers("Transpose")
def transpose(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    perm = node.ints_attr("perm") or tuple(reversed(range(x.rank)))
    return transposed(cx, x, tuple(axis_of(node, a, x.rank) for a in perm))


def transposed(cx: Context, x: Value, perm: tuple[int, ...]) -> Value:
    """x with its dimensions reordered; a weight is transposed when it is read."""
    if x.weight and perm != tuple(range(x.rank)):
        fixed = tuple(number(x.shape[axis]) for axis in perm)
        label = "transpose_" + "".join(map(str, perm))
        return cx.weight(x, label, lambda array: np.transpose(array, perm), fixed, x.dtype)
    if (parts := quantized_weight(cx, x)) is not None:
        return dequantize(cx, transposed_parts(cx, parts, perm))
    return cx.emit("transpose", [x], {"perm": perm})


@lowers("Expand")
def expand(node: Node, cx: Context) -> Value:
    x = cx.input(node, 0)
    wanted = cx.dims(cx.input(node, 1), node, "the shape")
    rank = max(x.rank, len(wanted))
    ours = (1,) * (rank - x.rank) + x.shape
    theirs = (1,) * (rank - len(wanted)) + wanted
    dims = tuple(a if isinstance(b, int) and b == 1 else b for a, b in zip(ours, theirs, strict=True))
    return cx.emit("expand", [x], {"shape": dims})


@lowers("Tile")
def tile(node: Node, cx: Context) -> Value:
    """Each dimension is repeated through a new one before it: [d] -> [1, d] -> [n, d] -> [n * d]."""
    x = cx.input(node, 0)
    repeats = cx.dims(cx.input(node, 1), node, "the repeats")
    for axis, repeat in enumerate(repeats):
        if isinstance(repeat, int) and repeat == 1:
            continue
        head, dim, tail = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
        x = cx.emit("reshape", [x], {"shape": (*head, 1, dim, *tail)})
        x = cx.emit("expand", [x], {"shape": (*head, repeat, dim, *tail)})
        x = cx.emit("reshape", [x], {"shape": (*head, repeat * dim, *tail)})
    return x


@lowers("Slice")
def slice_(node: Node, cx: Context) -> Value:
    """Bounds are inputs since opset 10, attributes before; out-of-range bounds are clamped."""
    x = cx.input(node, 0)
    starts, ends, axes, steps = _bounds(node, cx)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(node, axis, x.rank)
        try:
            first, count = _taken(start, end, step, x.shape[axis])
        except Undecided as problem:
            raise node.fail(f"the slice of dimension {axis} depends on n_past: {problem}", hint=PAST_HINT) from None
        x = sliced(cx, x, axis, first, step, count)
    return x


def _bounds(node: Node, cx: Context) -> tuple[tuple[Dim, ...], tuple[Dim, ...], tuple[int, ...], tuple[int, ...]]:
    """Starts, ends, axes and steps of a Slice; axes default to the first ones, steps to 1."""
    if "starts" in node.attrs:
        starts: tuple[Dim, ...] = node.ints_attr("starts") or ()
        ends: tuple[Dim, ...] = node.ints_attr("ends") or ()
        return starts, ends, node.ints_attr("axes") or tuple(range(len(starts))), (1,) * len(starts)
    starts = cx.dims(cx.input(node, 1), node, "the starts")
    ends = cx.dims(cx.input(node, 2), node, "the ends")
    axes, steps = cx.optional(node, 3), cx.optional(node, 4)
    return (
        starts,
        ends,
        tuple(range(len(starts))) if axes is None else cx.ints(axes, node, "the axes"),
        (1,) * len(starts) if steps is None else cx.ints(steps, node, "the steps"),
    )


def _taken(start: Dim, end: Dim, step: int, extent: Dim) -> tuple[Dim, Dim]:
    """Where a slice starts and how many elements it takes, in ONNX's clamping rules."""
    low: Dim = 0 if step > 0 else -1
    high: Dim = extent if step > 0 else extent - 1
    first = greatest(least(_counted(start, extent), high), 0 if step > 0 else low)
    last = greatest(least(_counted(end, extent), high), low)
    return first, _steps(last - first, step)


def _counted(bound: Dim, extent: Dim) -> Dim:
    """A bound counted from the front; a negative one counts from the back."""
    return bound + extent if bound < 0 else bound


def sliced(cx: Context, x: Value, axis: int, start: Dim, step: int, count: Dim) -> Value:
    """Every step-th of count elements of one axis; a weight is cut when it is read."""
    if x.weight and isinstance(start, int) and isinstance(count, int) and (start, step, count) != (0, 1, x.shape[axis]):
        ends, extent = (start, start + step * max(0, count - 1)), number(x.shape[axis])
        if count and not 0 <= min(ends) <= max(ends) < extent:
            raise ImportFailed(
                f"elements {ends[0]} to {ends[1]} of dimension {axis} are wanted, which has {extent}",
                where=cx.node.where if cx.node else f"tensor {x.name}",
            )
        dims = tuple(count if i == axis else number(d) for i, d in enumerate(x.shape))
        label = f"slice_{axis}_{start}_{step}_{count}"

        def cut(array: Array) -> Array:
            return np.take(array, start + step * np.arange(count), axis=axis)

        return cx.weight(x, label, cut, dims, x.dtype)
    return cx.emit("slice", [x], {"axis": axis, "start": start, "step": step, "count": count})


@lowers("Split")
def split(node: Node, cx: Context) -> Sequence[Value]:
    """Sizes are an attribute or an input; without them the parts are equal, the last one possibly smaller."""
    x = cx.input(node, 0)
    axis = axis_of(node, node.int_attr("axis", 0), x.rank)
    given = cx.optional(node, 1)
    sizes: tuple[Dim, ...] | None = node.ints_attr("split")
    if given is not None:
        sizes = cx.dims(given, node, "the sizes")
    if sizes is None:
        extent, parts = x.shape[axis], node.int_attr("num_outputs", len(node.outputs))
        if isinstance(extent, Affine):
            raise node.fail(f"splits a dimension of {extent} into {parts} equal parts", hint=PAST_HINT)
        if parts != len(node.outputs):
            raise node.fail(f"has num_outputs = {parts}, but names {len(node.outputs)} outputs")
        part = -(-extent // parts)
        sizes = tuple(min(part, max(0, extent - part * i)) for i in range(parts))
    results: list[Value] = []
    start: Dim = 0
    for extent in sizes:
        results.append(sliced(cx, x, axis, start, 1, extent))
        start = start + extent
    return results


@lowers("Concat")
def concat(node: Node, cx: Context) -> Value:
    values = cx.inputs(node)
    if not values:
        raise node.fail("has no inputs")
    axis = axis_of(node, node.int_attr("axis", 1), values[0].rank)
    past = values[0].name
    if len(values) == 2 and past is not None and cx.states.get(past) == node.outputs[0]:
        return cx.emit("kv_append", values, {"axis": axis})
    filled = [v for v in values if v.shape[axis] != 0] or values[:1]
    return cx.emit("concat", filled, {"axis": axis})


@lowers("Pad")
def pad(node: Node, cx: Context) -> Value:
    """Constant padding as concatenation with a fill; negative padding as a slice."""
    x = cx.input(node, 0)
    if (mode := node.str_attr("mode", "constant")) != "constant":
        raise node.fail(f"pads in the mode {mode}, which is not supported")
    pads = node.ints_attr("pads")
    amounts: tuple[Dim, ...] = pads if pads is not None else cx.dims(cx.input(node, 1), node, "the amounts")
    axes = cx.optional(node, 3)
    chosen = range(x.rank) if axes is None else [axis_of(node, a, x.rank) for a in cx.ints(axes, node, "the axes")]
    given = cx.optional(node, 2)
    array = np.asarray(node.float_attr("value", 0.0)) if given is None else cx.array(given)
    if array is None or array.dtype == object:
        raise node.fail("pads with a number that is not known while importing")
    for position, axis in enumerate(chosen):
        for side, amount in (("before", amounts[position]), ("after", amounts[position + len(chosen)])):
            if amount < 0:
                first = -amount if side == "before" else 0
                x = sliced(cx, x, axis, first, 1, x.shape[axis] + amount)
            elif amount != 0:
                dims = (*x.shape[:axis], amount, *x.shape[axis + 1 :])
                extra = cx.fill(array.reshape(()).astype(x.dtype.numpy).item(), dims, x.dtype)
                x = cx.emit("concat", [extra, x] if side == "before" else [x, extra], {"axis": axis})
    return x

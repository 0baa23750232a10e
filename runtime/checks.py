"""What a program is given, checked at the door: names, shapes, element types, cache length, ids. Every error names
both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..ir.block import RegionId
from ..ir.dims import Affine, at
from ..ir.graph import TensorType, ValueName
from ..ir.program import PlacedProgram
from .clock import Delays

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Bound:
    """Inputs that fit the program, and how many tokens the cache holds."""

    arrays: Mapping[ValueName, Array]
    n_past: int


def check_inputs(
    program: PlacedProgram, inputs: Mapping[str, Array], values: bool, n_past: int | None = None
) -> Bound:
    """The inputs by value name and the cache length they imply.

    With ``values`` false (timing only) inputs may be absent: the cache is then taken as full, unless another
    input says how long it is. Where ``n_past`` is given, the caches are resident and no inputs.

    Raises:
        RunError: an input is missing, unknown, of the wrong shape or element type, or out of range.
    """
    wanted = [name for name in program.inputs if n_past is None or name not in program.states]
    names = ", ".join(wanted)
    for name in inputs:
        if n_past is not None and name in program.states:
            raise RunError(
                "the session holds this cache", where=f"input {name}", hint="leave it out, or run without a session"
            )
        if name not in wanted:
            raise RunError(f"the program has no such input; it takes {names}", where=f"input {name}")
    missing = [name for name in wanted if name not in inputs]
    if missing and values:
        raise RunError(
            f"missing; the program takes {names}",
            where=f"input {missing[0]}",
            hint="pass it to run, on the command line with --inputs FILE",
        )
    arrays = {ValueName(name): np.asarray(array) for name, array in inputs.items()}
    if n_past is None:
        n_past = _n_past(program, arrays)
    for name, array in arrays.items():
        _check(program, name, array, n_past)
    return Bound(arrays, n_past)


def fitting_entry(program: PlacedProgram, inputs: Mapping[str, Array]) -> PlacedProgram:
    """The entry that takes inputs of these shapes; the first one where there are no inputs, or only one entry.

    Raises:
        RunError: none does, or several do.
    """
    entries = program.entries
    if not program.others or not inputs:
        return program
    fitting: list[str] = []
    refusals: list[RunError] = []
    for name, entry in entries.items():
        try:
            check_inputs(entry, inputs, values=False)
            fitting.append(name)
        except RunError as problem:
            refusals.append(problem)
    if len(fitting) == 1:
        return entries[fitting[0]]
    if fitting:
        raise RunError(
            f"these inputs fit the entries {', '.join(fitting)}",
            where=program.model,
            hint="say which, as entry (--entry)",
        )
    told = "; ".join(f"{name}: {e.where}: {e.message}" for name, e in zip(entries, refusals, strict=True))
    raise RunError(f"no entry takes these inputs: {told}", where=program.model, hint=refusals[0].hint)


def check_weights(program: PlacedProgram) -> None:
    """Refuse to execute values that are not there.

    Raises:
        RunError: the program was compiled without the numbers of its weights.
    """
    without = [key for key, weight in program.weights.items() if weight.tiles is None]
    if without:
        raise RunError(
            f"{len(without)} of {len(program.weights)} weights have no numbers, so values cannot be executed",
            where=f"weight {program.weights[without[0]].origin}",
            hint="run with --timing-only, or compile with the model's weights and without --weightless",
        )


def check_delays(program: PlacedProgram, delays: Delays) -> Delays:
    """The delays, each of a PE and a step that exist, none of them negative."""
    for (region, p, q, step), cycles in delays.items():
        found = program.region.get(RegionId(region))
        if found is None or not (0 <= p < found.rows and 0 <= q < found.columns):
            size = f"{found.rows}x{found.columns} PEs" if found else "no such region"
            raise RunError(f"PE ({p}, {q}) of region {region} does not exist: {size}", where="delays")
        hosted = (program.blocks[i.block] for i in program.instances if i.region == region)
        if step is not None and not any(step == s.id for block in hosted for s in block.steps):
            raise RunError(f"region {region} has no step {step}", where="delays")
        if cycles < 0:
            raise RunError(f"a delay of {cycles} cycles is less than none", where="delays")
    return delays


def _n_past(program: PlacedProgram, arrays: Mapping[ValueName, Array]) -> int:
    """The cache length that the shapes of the inputs imply; the first input to say so decides."""
    for name, array in arrays.items():
        shape = program.inputs[name].shape
        if array.ndim != len(shape):
            raise _wrong_shape(name, program.inputs[name], array, program.past_max)
        for dim, extent in zip(shape, array.shape, strict=True):
            if isinstance(dim, Affine):
                n_past, rest = divmod(extent - dim.offset, dim.scale)
                if rest or not 0 <= n_past <= program.past_max:
                    raise RunError(
                        f"holds {extent} where the program takes {dim} with n_past from 0 to {program.past_max}",
                        where=f"input {name}",
                        hint="compile with a larger --context",
                    )
                return int(n_past)
    return program.past_max


def _check(program: PlacedProgram, name: ValueName, array: Array, n_past: int) -> None:
    wanted = program.inputs[name]
    if array.shape != wanted.at(n_past):
        raise _wrong_shape(name, wanted, array, program.past_max, n_past)
    if array.dtype != wanted.dtype.numpy:
        raise RunError(
            f"given as {array.dtype}, the program takes {wanted.dtype.numpy}",
            where=f"input {name}",
            hint=f"convert it with .astype({wanted.dtype.numpy})",
        )
    limit = program.id_limits.get(name)
    if limit is not None and array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= limit:
            raise RunError(
                f"holds {low if low < 0 else high}, but ids run from 0 to {limit - 1}",
                where=f"input {name}",
                hint="check that the tokenizer belongs to this model",
            )


def _wrong_shape(name: str, wanted: TensorType, array: Array, past_max: int, n_past: int | None = None) -> RunError:
    shape = list(wanted.shape) if n_past is None else [at(d, n_past) for d in wanted.shape]
    text = ",".join(map(str, shape))
    depends = any(isinstance(d, Affine) for d in wanted.shape)
    cause = f" (n_past {n_past}, as another input says)" if n_past is not None and depends and past_max else ""
    return RunError(
        f"has shape [{','.join(map(str, array.shape))}], the program takes [{text}]{cause}",
        where=f"input {name}",
        hint="caches, masks and positions must agree" if cause else "compile for this shape with --shape or --dim",
    )

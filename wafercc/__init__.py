"""wafercc maps LLM graphs onto a wafer-scale processor, around its defects, and executes the placed program.

    import wafercc

    program = wafercc.compile("model.onnx", target="mesh:64x64", shapes={"input_ids": (1, 16)})
    program.verify()
    result = program.run({"input_ids": ids})
    result.outputs["logits"], result.cycles

What is heavy (onnx, ortools, the runtime) is imported when it is first used, so that ``import wafercc`` and
``wafercc --help`` answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    ArtifactError,
    CompileError,
    DoesNotFit,
    ImportFailed,
    RunError,
    TargetError,
    TextError,
    VerifyError,
    WaferError,
)
from .version import __version__

if TYPE_CHECKING:
    from os import PathLike
    from pathlib import Path

    from .passes.journal import Course
    from .program import Program
    from .silicon import DefectMap

__all__ = [
    "ArtifactError",
    "CompileError",
    "DefectMap",
    "DoesNotFit",
    "ImportFailed",
    "Program",
    "RunError",
    "TargetError",
    "TextError",
    "VerifyError",
    "WaferError",
    "__version__",
    "compile",
    "compile_until",
    "load",
    "resume",
]

# Public names that live in modules too heavy to import before they are asked for.
_LAZY = {"Program": ".program", "DefectMap": ".silicon"}


def compile(
    model: str | PathLike[str],
    *,
    target: str = "wse3",
    inputs_like: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    entries: Mapping[str, Mapping[str, int]] | None = None,
    context: int | None = None,
    defects: DefectMap | str | PathLike[str] | None = None,
    wafers: int | str = 1,
    objective: str = "latency",
    dtype: str | None = None,
    seed: int = 0,
    cache: str | PathLike[str] | None = None,
    course: Course | None = None,
    **steering: Any,
) -> Program:
    """The placed program of an ONNX decoder on a machine; only the model must be given.

    Symbolic dimensions are bound by ``inputs_like`` (arrays, of which names and shapes count, and the values of flags
    that choose a branch of the model), ``shapes`` (by
    input) or ``dims`` (by the model's own dimension names); what stays unbound gets a default that
    ``program.assumptions`` names. ``entries`` are functions of the program by name, with the tokens that a run of each
    takes in: ``{"prefill": {"new": 64}, "decode": {"new": 1}}``; without, a decoder that takes any number of tokens
    after any past has these two, and any other model `main`. ``context`` binds the length of a cache to a capacity, so
    that one program serves every shorter one. ``steering`` takes the further fields of
    `wafercc.passes.options.Options`: ``stages``,
    ``region``, ``pins={"r1": (x, y, w, h)}``, ``strategies={"matmul": "rows=k columns=n"}``,
    ``constraints="decisions.toml"`` (as ``Program.constraints()`` gives it), ``max_lanes``, ``disabled_passes``.
    ``cache`` is a folder in which searches are remembered between compiles; the command uses one of the user's, this
    function none unless told. ``course`` says more: see `wafercc.passes.journal.Course`.

    Raises:
        ImportFailed: the file cannot be read as a decoder graph.
        CompileError: the options cannot map it onto this machine (`DoesNotFit`: a resource is too small).
        TargetError: the machine or its defect map is wrong, or the two do not belong together.
        TypeError: ``steering`` names an option that does not exist.
    """
    from .passes.options import Options
    from .passes.pipeline import compile_model
    from .program import Program

    options = Options(
        target=target,
        inputs_like=inputs_like,
        shapes=shapes or {},
        dims=dims or {},
        entries=entries or {},
        context=context,
        defects=defects,
        wafers=wafers,
        objective=objective,
        dtype=dtype,
        seed=seed,
        **steering,
    )
    return Program(compile_model(model, options, _course(cache, course)))


def compile_until(
    stage: str,
    model: str | PathLike[str] | None = None,
    output: str | PathLike[str] | None = None,
    *,
    resumed: str | PathLike[str] | None = None,
    cache: str | PathLike[str] | None = None,
    course: Course | None = None,
    **options: Any,
) -> Path:
    """Compile until a stage (one of `wafercc.passes.stages`) and write what is decided as a text, to be read, edited
    and given to `resume`; its path, by default that of the model with ``.STAGE.txt`` in place of its ending.

    ``options`` are those of `compile`; with ``resumed`` an earlier stage file is gone on from, as `resume` does. The
    text holds the decisions of a compile that succeeds, so later stages that could refuse them run, too.

    Raises: as `compile` and `resume`; TypeError: neither a model nor a stage file is given.
    """
    from dataclasses import replace
    from pathlib import Path

    from .passes.options import Options
    from .passes.pipeline import stop_model
    from .passes.stage_file import read_stage_file

    course = replace(_course(cache, course), until=stage, resumed=read_stage_file(Path(resumed)) if resumed else None)
    decided = course.resumed.options_with(options) if course.resumed else Options(**options)
    source = course.resumed.find_model() if model is None and course.resumed else model
    if source is None:
        raise TypeError("a model or a stage file is wanted")
    path = Path(output) if output else Path(source).with_suffix(f".{stage}.txt")
    path.write_text(stop_model(source, decided, course, path), encoding="utf-8")
    return path


def resume(
    stage_file: str | PathLike[str],
    *,
    model: str | PathLike[str] | None = None,
    cache: str | PathLike[str] | None = None,
    course: Course | None = None,
    **options: Any,
) -> Program:
    """The program of a stage file that `compile_until` wrote and someone may have edited, verified.

    What the file decides counts; the stages after it run as ever. ``model`` and ``options`` need only be given where
    they are to differ from the file's, which no option can that the stages of the file have used.

    Raises:
        TextError: a line of the file is wrong.
        CompileError: it decides what cannot be, or the rest cannot be done with it.
        VerifyError: the program breaks an invariant because of what it decides.
    """
    from dataclasses import replace
    from pathlib import Path

    from .passes.pipeline import compile_model
    from .passes.stage_file import read_stage_file
    from .program import Program

    resumed = read_stage_file(Path(stage_file))
    decided = resumed.options_with(options)
    course = replace(_course(cache, course), resumed=resumed)
    program = Program(compile_model(model or resumed.find_model(), decided, course))
    program.verify()
    return program


def _course(cache: str | PathLike[str] | None, course: Course | None) -> Course:
    """The course given, or one that remembers in a folder."""
    from pathlib import Path

    from .passes.cache import Cache
    from .passes.journal import Course

    if cache is None:
        return course or Course()
    return Course(cache=Cache(Path(cache)))


def load(path: str | PathLike[str]) -> Program:
    """The program in a ``.wafer`` file.

    Raises:
        ArtifactError: the file is missing, damaged, altered, or of a schema that this version cannot read.
    """
    from .program import Program

    return Program.load(path)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value

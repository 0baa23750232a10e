"""Suite: the node tests of the installed onnx, run one by one on the fabric."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from ..errors import WaferError
from .backend import WaferBackend, WaferRep
from .scope import out_of_scope
from .spread import Spread, spreads

PASSED, FAILED, OUT = "passed", "failed", "out of scope"


@dataclass(frozen=True)
class Case:
    """A test: a model, and pairs of inputs and outputs, to be met within tolerances."""

    name: str
    model: onnx.ModelProto
    data_sets: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """What became of one test.

    ``op``: what it is about, as `op_of` says. ``reason``: why it failed or is out of scope. ``bound``: inputs bound
    when it was compiled. ``elements`` and ``tiles``: of the result that lies on fewest PEs among those of six elements
    and more, or else of the smallest; 0 where nothing ran.
    """

    name: str
    op: str
    status: str
    reason: str = ""
    bound: tuple[str, ...] = ()
    elements: int = 0
    tiles: int = 0


@cache
def cases() -> Mapping[str, Case]:
    """Every node test of the installed onnx, by name."""
    with warnings.catch_warnings(action="ignore"):
        found = load_model_tests(kind="node")
    return {
        each.name: Case(each.name, each.model, each.data_sets, each.rtol, each.atol)
        for each in sorted(found, key=lambda each: each.name)
        if each.model is not None and each.data_sets is not None
    }


def op_of(name: str) -> str:
    """The op that a test is about: the type of its node. A test in expanded form, where the op is replaced by its
    definition, is about the op of the test it expands.
    """
    case = cases().get(name.partition("_expanded")[0], cases()[name])
    types = (f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in case.model.graph.node)
    return "+".join(dict.fromkeys(types))


def run(name: str) -> Outcome:
    """Compile and execute one test, and compare as the suite itself compares."""
    with warnings.catch_warnings(action="ignore"):
        return _run(cases()[name], op_of(name))


def _run(case: Case, op: str) -> Outcome:
    data = [value for inputs, outputs in case.data_sets for value in (*inputs, *outputs)]
    if why := out_of_scope(case.model, data):
        return Outcome(case.name, op, OUT, why)
    rep = WaferBackend.prepare(case.model)
    try:
        for inputs, outputs in case.data_sets:
            got = rep.run([_array(value) for value in inputs])
            Runner.assert_similar_outputs([_array(v) for v in outputs], got, rtol=case.rtol, atol=case.atol)
    except WaferError as problem:
        return Outcome(case.name, op, FAILED, _one_line(str(problem)))
    except AssertionError as problem:
        return Outcome(case.name, op, FAILED, _one_line(f"values differ: {problem}"), rep.bound)
    except Exception as problem:  # our bug; the other tests still run
        return Outcome(case.name, op, FAILED, _one_line(f"crashed: {type(problem).__name__}: {problem}"), rep.bound)
    return _passed(case, op, rep)


def _passed(case: Case, op: str, rep: WaferRep) -> Outcome:
    assert rep.program is not None
    found = sorted(spreads(rep.program.placed), key=lambda s: (s.enough, s.elements < 6, s.tiles, s.elements))
    least = found[0] if found else Spread("", 0, 0)
    if not least.enough:
        reason = f"the {least.elements} elements of {least.output} lie on one PE"
        return Outcome(case.name, op, FAILED, reason, rep.bound, least.elements, least.tiles)
    return Outcome(case.name, op, PASSED, "", rep.bound, least.elements, least.tiles)


def _array(value: Any) -> Any:
    """Tests hold arrays, numbers or protobuf tensors."""
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _one_line(text: str) -> str:
    return " ".join(text.split())

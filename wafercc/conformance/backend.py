"""Backend: ONNX models as `onnx.backend` runs them, compiled onto a mesh and executed on it.

Nothing is evaluated off the fabric: a run compiles the model for the shapes of its inputs and executes the placed
program on those inputs. Inputs that say how large something is (`shapelike.py`) are bound when the program is
compiled, as shapes are; all others reach the program through its edge ports.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.backend.base import Backend, BackendRep

from ..errors import ImportFailed
from ..program import Program
from .shapelike import shape_like

Array = NDArray[Any]


@dataclass(frozen=True)
class Machine:
    """What tests run on: a mesh so small that six elements can already be cut."""

    target: str = "mesh:2x3"
    region: tuple[int, int] = (3, 2)  # rows, columns
    whole_elements: int = 5


class WaferRep(BackendRep):
    """A model that is compiled when it is first run, for the shapes it is run with.

    ``program``: of the last run. ``bound``: the names of the inputs that were bound when it was compiled.
    """

    def __init__(self, model: onnx.ModelProto, machine: Machine) -> None:
        self.model, self.machine = model, machine
        self.bound: tuple[str, ...] = ()
        self.program: Program | None = None

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Array, ...]:
        """The outputs of the model for these inputs, in the order of its graph.

        Raises:
            WaferError: the model cannot be imported, compiled or run.
        """
        named = self._named(inputs)
        self.bound = tuple(name for name in shape_like(self.model) if name in named)
        program = compile_bound(self.model, named, self.bound, self.machine)
        self.program = program
        result = program.run({name: named[name] for name in named if name in program.placed.inputs})
        return tuple(result.outputs[value.name] for value in self.model.graph.output)

    def _named(self, inputs: Any) -> dict[str, Array]:
        """Inputs by name; sequences and missing optionals have no place on a PE."""
        names = [value.name for value in self.model.graph.input]
        given: Sequence[Any] = inputs if isinstance(inputs, list | tuple) else [inputs]
        if isinstance(inputs, Mapping):
            names, given = list(inputs), list(inputs.values())
        for name, value in zip(names, given, strict=False):
            if not isinstance(value, np.ndarray | np.generic):
                raise ImportFailed(f"is given as {type(value).__name__}, not a tensor", where=f"input {name}")
        return {name: np.asarray(value) for name, value in zip(names, given, strict=False)}


class WaferBackend(Backend):
    """`onnx.backend.base.Backend` on the fabric of a small mesh. Its only device is called CPU, as tests expect."""

    machine: ClassVar[Machine] = Machine()

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> WaferRep:
        return WaferRep(model, cls.machine)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Array, ...]:
        """One node on its own; element types of results are read off the program, so none need be given."""
        arrays = [np.asarray(value) for value in inputs]
        given = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in zip((n for n in node.input if n), arrays, strict=True)
        ]
        results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        opset = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        graph = helper.make_graph([node], "node", given, results)
        return cls.prepare(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


def compile_bound(
    model: onnx.ModelProto, inputs: Mapping[str, Array], bound: Sequence[str], machine: Machine
) -> Program:
    """The program of a model for inputs of these shapes, some of which are made initialisers of the model."""
    import wafercc

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    kept = [value for value in fixed.graph.input if value.name not in bound]
    del fixed.graph.input[:]
    fixed.graph.input.extend(kept)
    fixed.graph.initializer.extend(numpy_helper.from_array(inputs[name], name) for name in bound)
    like = {name: array for name, array in inputs.items() if name not in bound}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(fixed, path)
        return wafercc.compile(
            path, target=machine.target, region=machine.region, stages=1,
            whole_elements=machine.whole_elements, inputs_like=like,
        )  # fmt: skip

"""ONNX → Graph: the only place that knows ONNX.

`import_model` reads a file, gives every symbolic dimension a value (`Binding`), folds the exporter's
shape arithmetic and lowers what remains to the op table. Importing this package does not import onnx; calling it does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from .model import Assumption, Binding, Imported, Source

__all__ = ["Assumption", "Binding", "Imported", "Source", "import_model", "open_model"]


def import_model(path: str | Path, binding: Binding | None = None, *, allow_missing_weights: bool = False) -> Imported:
    """The graph of an ONNX file, with its dimensions bound and its weights still unread.

    ``allow_missing_weights`` accepts a file whose external data is absent: such weights have types but no numbers,
    which is enough to place and time a model.

    Raises:
        ImportFailed: the file is missing, damaged or not ONNX; an op, element type or dimension cannot be taken;
        external
            data is absent or lies outside the model's folder; or the inputs' shapes contradict each other.
    """
    return open_model(path, allow_missing_weights=allow_missing_weights)(binding or Binding())


def open_model(path: str | Path, *, allow_missing_weights: bool = False) -> Callable[[Binding], Imported]:
    """A model's file read once, to be imported under as many bindings as one likes.

    Raises: as `import_model`, both here and when a binding is given.
    """
    from .lower import lower_model
    from .read import read_model

    return partial(lower_model, read_model(Path(path), allow_missing_weights=allow_missing_weights))

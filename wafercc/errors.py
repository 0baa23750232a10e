"""The errors users see: what is wrong, where, and which lever would help.

One base class; a subclass names who must act. Bad input never raises anything else;
an ``AssertionError`` anywhere is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence


def _shortened(text: str, most: int) -> str:
    """The text, its middle left out if it is longer."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 3 :]}"


class WaferError(Exception):
    """Something the user can act on: one clear message, the place, and a hint.

    ``where`` names the op, tensor, region or file; ``hint`` names the lever that would change the outcome.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        self.message, self.where, self.hint = message, where, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class ImportFailed(WaferError):
    """The model file cannot be read as a decoder graph: its exporter or its owner must act.

    It quotes names of the model, which may be of any length: long words are shortened.
    """

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(_shortened(message, 3000), where=_shortened(where, 400), hint=_shortened(hint, 500))


class CompileError(WaferError):
    """The graph is fine, but these options cannot map it onto this machine."""


class TextError(WaferError):
    """A text (a graph, a stage file) is not of its form: whoever wrote or edited it must act. It names the line."""


class DoesNotFit(CompileError):
    """A resource is too small: a normal, typed answer of this compiler.

    ``resource`` names what binds (for example ``SRAM bytes per PE``), ``demand`` and ``bound`` are the two sides.
    """

    def __init__(
        self, message: str, *, resource: str, demand: int, bound: int, where: str = "", hint: str = ""
    ) -> None:
        self.resource, self.demand, self.bound = resource, demand, bound
        super().__init__(message, where=where, hint=hint)


class CannotRoute(CompileError):
    """A net finds no way: ``regions`` are those at the cut that it cannot cross, and may need more room around them."""

    def __init__(self, message: str, *, regions: Sequence[str], where: str = "", hint: str = "") -> None:
        self.regions = tuple(regions)
        super().__init__(message, where=where, hint=hint)


class TargetError(WaferError):
    """The machine description or the defect map is wrong, or the two do not belong together."""


class ArtifactError(WaferError):
    """A ``.wafer`` file is damaged, altered, or of a schema this version cannot read."""


class RunError(WaferError):
    """The program is fine, but it was given the wrong inputs."""


class VerifyError(WaferError):
    """The program breaks an invariant; ``violations`` lists every one, a line each."""

    def __init__(self, violations: Sequence[str], *, where: str = "") -> None:
        self.violations = tuple(violations)
        count = len(self.violations)
        super().__init__(
            f"{count} violation{'s' if count != 1 else ''}: " + "; ".join(self.violations), where=where
        )

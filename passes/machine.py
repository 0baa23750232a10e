"""Machine: the target and its defects, as the options name them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wafercc.errors import TargetError
from wafercc.silicon import DefectMap
from wafercc.targets import Target
from wafercc.targets import load as load_target

from .options import Options


@dataclass(frozen=True)
class Machine:
    """The target and its defects, as the options name them."""

    target: Target
    defects: DefectMap


def find_machine(options: Options) -> Machine:
    """Load the target; load or draw its defect map."""
    target = load_target(options.target, dict(options.target_overrides))
    match options.defects:
        case None:
            rates = options.defect_rates
            defects = DefectMap.random(target, **rates, seed=options.defect_seed, wafers=target.wafers)
        case DefectMap():
            defects = options.defects
        case path:
            defects = DefectMap.load(Path(path))
    _check_belongs(defects, target, options)
    if not defects.alive(0).cores:
        raise TargetError(
            f"none of the {target.width * target.height} cores is alive: {defects}",
            where=f"target {target.name}",
            hint="check the defect map or --defect-rate",
        )
    return Machine(target, defects)


def _check_belongs(defects: DefectMap, target: Target, options: Options) -> None:
    """Hold that the map describes the target; a map that was read is called by its file."""
    try:
        defects.check_for(target)
    except TargetError as problem:
        if options.defects is None or isinstance(options.defects, DefectMap):
            raise
        raise TargetError(problem.message, where=str(options.defects), hint=problem.hint) from None

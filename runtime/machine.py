"""The machine constants that timing uses, taken from a program's target, with overrides for what-if runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..ir.dtypes import DType
from ..targets.machine import Target

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Machine:
    """What one cycle of this machine can do."""

    target: Target

    @property
    def hop(self) -> int:
        return self.target.router.hop_cycles

    @property
    def ramp(self) -> int:
        """Cycles between a core and its router, each way."""
        return self.target.router.ramp_cycles

    @property
    def task(self) -> int:
        return self.target.pe.task_cycles

    def link(self, words: Ints | int) -> Ints:
        """Cycles in which so many words cross a link or a ramp."""
        return _ceil(words, self.target.router.words_per_cycle)

    def port(self, words: Ints | int) -> Ints:
        """Cycles in which so many words pass an edge port, which is never faster than a link."""
        return np.maximum(self.link(words), _ceil(words, self.target.io.port_words_per_cycle))

    def words(self, elements: Ints, dtype: DType) -> Ints:
        """Wavelets that carry so many elements, packed."""
        bits = self.target.router.wavelet_bits
        return -(-elements * dtype.bits // bits)

    def macs(self, count: Ints | int, dtype: DType) -> Ints:
        return _ceil(count, self.target.pe.macs_per_cycle[dtype.value])

    def simple(self, count: Ints | int, dtype: DType) -> Ints:
        return _ceil(count, self.target.pe.simple_per_cycle[dtype.value])

    def special(self, count: Ints | int) -> Ints:
        return _ceil(count, 1 / self.target.pe.special_cycles)


def _ceil(count: Ints | int, rate: float) -> Ints:
    """The cycles of ``count`` things at ``rate`` per cycle, exactly where the quotient is whole."""
    return np.ceil(np.round(np.asarray(count, np.float64) / rate, 6)).astype(np.int64)


def machine_of(target: Mapping[str, Any], constants: Mapping[str, float]) -> Machine:
    """The machine of a program, with some constants replaced: ``{"router.hop_cycles": 2}``.

    Raises:
        RunError: a constant that the machine description does not have, or that is not one number.
        TargetError: a value that no machine can have.
    """
    data: dict[str, Any] = copy.deepcopy(dict(target))
    for key, value in constants.items():
        *path, leaf = key.split(".")
        node: Any = data
        for part in path:
            node = node.get(part, {}) if isinstance(node, dict) else {}
        if not isinstance(node, dict) or not isinstance(node.get(leaf), int | float):
            raise RunError(
                f"the machine description has no constant {key}",
                where="constants",
                hint="write it as `wafercc targets show` does: router.hop_cycles, pe.macs_per_cycle.f32, ...",
            )
        node[leaf] = value
    return Machine(Target.from_dict(data))

"""SRAM measured while running: bytes of the arrays that each PE of a region holds, and the most it ever held."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Memory:
    """One region's memory per PE. A name is held once, however often it is put."""

    weights_bytes: int = 0
    state_bytes: int = 0
    live: dict[tuple[str, str], int] = field(default_factory=dict)
    peak_bytes: int = 0

    def put(self, instance: str, name: str, size: int) -> None:
        self.live[instance, name] = size
        self.peak_bytes = max(self.peak_bytes, self.total)

    def drop(self, instance: str, name: str) -> None:
        self.live.pop((instance, name), None)

    @property
    def total(self) -> int:
        return self.weights_bytes + self.state_bytes + sum(self.live.values())

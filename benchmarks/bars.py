"""Bars: what a measurement is held against, and how a table says whether it holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """One measured number and the most it may be. ``form`` prints both."""

    what: str
    worst: float
    most: float
    form: str = "{:.2f} s"

    @property
    def holds(self) -> bool:
        return self.worst <= self.most

    @property
    def mark(self) -> str:
        return "ok" if self.holds else "MISS"

    def row(self) -> tuple[str, str, str, str]:
        """What, measured, bar, mark."""
        return self.what, self.form.format(self.worst), f"<= {self.form.format(self.most)}", self.mark

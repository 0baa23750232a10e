"""Machine descriptions: one TOML page each, loaded into a frozen `Target`, and the closed cycle formulas of `cost`."""

from .machine import IO, PE, Router, Target
from .pages import Fact, facts, load, names, page_text

__all__ = ["IO", "PE", "Fact", "Router", "Target", "facts", "load", "names", "page_text"]

"""Layout: how every op of a block becomes many cores: strategies, relayouts, prices, search, and the block."""

from .emit import SolvedBlock, emit
from .search import NoSuchStrategy, Search
from .solution import Solution
from .strategy import WHOLE_ELEMENTS
from .text import parse_blocks, print_blocks

__all__ = [
    "WHOLE_ELEMENTS",
    "NoSuchStrategy",
    "Search",
    "Solution",
    "SolvedBlock",
    "emit",
    "parse_blocks",
    "print_blocks",
]

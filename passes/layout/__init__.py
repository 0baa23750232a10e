"""Layout: how every op of a block becomes many cores: strategies, relayouts, prices, search, and the block."""

from .emit import SolvedBlock, emit
from .search import Search, Solution
from .text import parse_blocks, print_blocks

__all__ = ["Search", "Solution", "SolvedBlock", "emit", "parse_blocks", "print_blocks"]

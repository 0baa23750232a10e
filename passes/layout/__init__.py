"""Layout: how every op of a block becomes many cores. Strategies, relayouts, prices, search, and the block written down."""

from .emit import SolvedBlock, emit
from .search import Search, Solution

__all__ = ["Search", "Solution", "SolvedBlock", "emit"]

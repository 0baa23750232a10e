"""Synthetic area problems: chains and fan-out graphs on a full wafer with dead cores.

They have the form of what large models ask of placement, at any size and utilisation, with costs such that compute
and the sides of rectangles cost about the same. Needed cores add up to a share of the wafer's live cores;
work = 2 side_cost needed^1.5.

``chain``: equal regions, each feeding the next with weight 2.
``moe``: a chain with blocks of experts in it. A router feeds each expert of its block, each expert the block's combine,
with weight 0.5; a skip of weight 1 goes from the router's predecessor to the combine. Router and combine have relative
size 0.1, an expert 0.5, the last region (the head) 2, all others 1, times log-normal noise of sigma 0.15. Blocks are
spread evenly over the chain. Five regions have no block: the skip goes from the first to the fourth.

Dead cores are half single ones, half in discs of radius 1 to 4; the last map has three dead rows besides.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wafercc.passes.place.area import AreaProblem

Graph = Literal["chain", "moe"]
Ints = NDArray[np.int64]
WIDTH, HEIGHT = 762, 1172
SIDE_COST = 2.0
TRUNK, EXPERT, SKIP = 2.0, 0.5, 1.0  # cycles per hop of a stream
DEAD_CORES = (50, 200, 500, 1000, 2000)  # of each map
DEAD_ROWS = (0, 0, 0, 0, 3)
BLOCKS = {5: (0, 0), 20: (1, 12), 40: (3, 8), 100: (2, 32)}  # regions → blocks, experts in each


def problem(graph: Graph, regions: int, utilisation: float, defects: int) -> AreaProblem:
    """One of the problems: regions that need ``utilisation`` of the cores that live on map number ``defects``."""
    live = ~dead_cores(defects)
    sizes, streams = _chain(regions) if graph == "chain" else _experts(regions)
    needed = np.floor(utilisation * live.sum() * sizes / sizes.sum()).astype(np.int64)
    work = 2 * SIDE_COST * needed.astype(np.float64) ** 1.5
    ends = np.array([(a, b) for a, b, _ in streams], np.int64)
    weights = np.array([weight for _, _, weight in streams])
    return AreaProblem(live, needed, work, ends, weights, SIDE_COST)


def dead_cores(number: int) -> NDArray[np.bool_]:
    """Defect map ``number``, ``[height, width]``."""
    draw = np.random.default_rng((number, 0))
    dead = np.zeros((HEIGHT, WIDTH), bool)
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    single, in_discs = DEAD_CORES[number], DEAD_CORES[number] // 2
    while DEAD_CORES[number] - single < in_discs:
        radius, at_x, at_y = (int(draw.integers(*limits)) for limits in ((1, 5), (WIDTH,), (HEIGHT,)))
        part = (slice(max(0, at_y - radius), at_y + radius + 1), slice(max(0, at_x - radius), at_x + radius + 1))
        disc = (rows[part[0]] - at_y) ** 2 + (columns[:, part[1]] - at_x) ** 2 <= radius**2
        single -= int((disc & ~dead[part]).sum())
        dead[part] |= disc
    while single > 0:
        y, x = int(draw.integers(HEIGHT)), int(draw.integers(WIDTH))
        single -= int(not dead[y, x])
        dead[y, x] = True
    dead[draw.choice(HEIGHT, DEAD_ROWS[number], replace=False)] = True
    return dead


def _chain(regions: int) -> tuple[NDArray[np.float64], list[tuple[int, int, float]]]:
    """Relative sizes and streams (source, destination, weight)."""
    return np.ones(regions), [(i, i + 1, TRUNK) for i in range(regions - 1)]


def _experts(regions: int) -> tuple[NDArray[np.float64], list[tuple[int, int, float]]]:
    """Relative sizes and streams of the fan-out graph."""
    blocks, experts = BLOCKS[regions]
    plain = regions - blocks * (experts + 2)
    before = [(k + 1) * plain // (blocks + 1) for k in range(blocks)]  # plain regions before each block
    sizes: list[float] = []
    streams: list[tuple[int, int, float]] = []
    last = -1
    for number in range(plain + 1):
        for _ in range(before.count(number)):
            router, combine = len(sizes), len(sizes) + experts + 1
            streams += [(last, router, TRUNK), (last, combine, SKIP)]
            for expert in range(router + 1, combine):
                streams += [(router, expert, EXPERT), (expert, combine, EXPERT)]
            sizes += [0.1, *[0.5] * experts, 0.1]
            last = combine
        if number < plain:
            if last >= 0:
                streams.append((last, len(sizes), TRUNK))
            last = len(sizes)
            sizes.append(2.0 if number == plain - 1 else 1.0)
    if not blocks:
        streams.append((0, 3, SKIP))
    assert len(sizes) == regions, "the blocks leave room for the chain"
    noise = np.random.default_rng((regions, 1)).normal(0.0, 0.15, regions)
    return np.array(sizes) * np.exp(noise), streams

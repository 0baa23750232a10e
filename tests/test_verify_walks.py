"""Two derivations agree: the verifier's walk over combs and lines, and the router's, on regions that jog at random."""

from __future__ import annotations

import numpy as np
import pytest

from wafercc.ir.block import RegionId
from wafercc.ir.embedding import RegionEmbedding
from wafercc.ir.program import EAST, NORTH, WEST, CollectiveNet, Fan, Rect, Region
from wafercc.passes.embed import embed
from wafercc.passes.route.comb import comb_of as laid
from wafercc.passes.route.lines import lines_of
from wafercc.silicon import DefectMap
from wafercc.verify.collectives import net_rows
from wafercc.verify.combs import comb_of
from wafercc.verify.fabric import field, trace

ROOM = 40


def jogging(seed: int, rows: int, columns: int) -> Region:
    """A region whose rows take random columns, each at most two from the one above, with gaps between rows."""
    rng = np.random.default_rng(seed)
    xs = np.empty((rows, columns), np.int64)
    xs[0] = np.arange(columns) * 2 + 4
    for i in range(1, rows):
        for j in range(columns):
            least = 0 if j == 0 else int(xs[i, j - 1]) + 1
            low, high = max(least, int(xs[i - 1, j]) - 2), int(xs[i - 1, j]) + 2
            xs[i, j] = rng.integers(min(low, high), high + 1)
    ys = np.cumsum(rng.integers(1, 3, rows))[:, None].repeat(columns, 1)
    return Region(RegionId("r"), Rect(0, 0, 0, ROOM, ROOM), xs.astype(np.int32), ys.astype(np.int32))


def detoured(seed: int) -> Region | None:
    """A region among dead routers and links, jogged or straight, with its detours; None if it has none."""
    rng = np.random.default_rng(seed)
    defects = DefectMap.random("mesh:20x20", 0.03, 0.015, 0.015, seed=seed)
    rows, columns = (int(n) for n in rng.integers(5, 12, 2))
    rect = Rect(0, 3, 2, columns + int(rng.integers(0, 3)), rows + int(rng.integers(0, 3)))
    found = embed(rect, rows, columns, defects.alive(), reach=int(rng.integers(0, 3)))
    return found.region(RegionId("r")) if isinstance(found, RegionEmbedding) and found.detours else None


DETOURED = [region for seed in range(60) if (region := detoured(seed)) is not None]


def test_there_are_detours_along_both_directions_to_walk() -> None:
    assert len(DETOURED) > 10
    assert {d.along for region in DETOURED for d in region.detours} == {"x", "y"}
    assert any((np.diff(region.xs, axis=0) != 0).any() for region in DETOURED)


@pytest.mark.parametrize("seed", range(40))
def test_a_comb_is_the_same_tree_for_the_router_and_the_verifier(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    rows, columns = (int(n) for n in rng.integers(1, 7, 2))
    regions_agree(jogging(seed, rows, columns), rng)


@pytest.mark.parametrize("region", DETOURED, ids=range(len(DETOURED)))
def test_a_comb_over_detours_is_the_same_tree_too(region: Region) -> None:
    rng = np.random.default_rng(region.rows)
    for _ in range(4):
        regions_agree(region, rng)


def regions_agree(region: Region, rng: np.random.Generator) -> None:
    """A random comb of either direction is one tree for both."""
    rows, columns = region.rows, region.columns
    for along, teeth, trunks in (("y", rows, columns), ("x", columns, rows)):
        lo = int(rng.integers(0, teeth))
        hi = int(rng.integers(lo + 1, teeth + 1))
        fan = Fan(region.id, along, lo, hi, int(rng.integers(0, trunks)), int(rng.integers(lo, hi)))  # type: ignore[arg-type]
        theirs, mine = laid(region, fan), comb_of(region, fan)
        assert sorted(
            zip(*(a.tolist() for a in (theirs.x, theirs.y, theirs.toward, theirs.away, theirs.pe)), strict=True)
        ) == sorted(zip(*(a.tolist() for a in (mine.x, mine.y, mine.toward, mine.away, mine.pe)), strict=True)), fan


@pytest.mark.parametrize("region", [*(jogging(seed, 5, 4) for seed in range(20)), *DETOURED])
def test_a_trace_passes_the_routers_of_the_neighbour_paths(region: Region) -> None:
    for along in ("x", "y"):
        lines, walk = lines_of(region, along), trace(region, along)  # type: ignore[arg-type]
        passed = {
            *zip(
                lines.hop_line.tolist(),
                lines.hop_x.tolist(),
                lines.hop_y.tolist(),
                lines.hop_back.tolist(),
                lines.hop_front.tolist(),
                strict=True,
            )
        }
        between = ~walk.is_pe
        mine = {*zip(*(a[between].tolist() for a in (walk.line, walk.x, walk.y, walk.behind, walk.ahead)), strict=True)}
        assert mine == passed


# --- collectives on one line, against messages written down


ONE_ROW = Region(
    RegionId("r"), Rect(0, 0, 0, 12, 1), np.array([[1, 2, 4, 5, 6]], np.int32), np.full((1, 5), 3, np.int32)
)


def said(net: CollectiveNet) -> set[str]:
    """The rows of a net on `ONE_ROW` as words: ``x colour ins>outs``."""
    names = {EAST: "e", WEST: "w", NORTH: "n", 16: "r", 4: "s"}
    rows = net_rows(net, trace(ONE_ROW, "x"), 0).rows
    words = ["".join(v for k, v in names.items() if mask & k) for mask in range(32)]
    columns = [field(rows, name).tolist() for name in ("x", "colour", "ins", "outs")]
    return {f"{x} {colour} {words[i]}>{words[o]}" for x, colour, i, o in zip(*columns, strict=True)}


def net(kind: str, group: int, root: int, colours: tuple[int, ...], **extra: int) -> CollectiveNet:
    return CollectiveNet(RegionId("r"), "x", group, root, kind, colours, **extra)  # type: ignore[arg-type]


def test_a_chain_alternates_colours_and_passes_dead_cores() -> None:
    assert said(net("chain", 5, 1, (0, 1))) == {
        "1 1 r>e", "2 1 w>r", "6 0 r>w", "5 0 e>r", "5 1 r>w", "4 1 e>r", "4 0 r>w", "3 0 e>w", "2 0 e>r"
    }  # fmt: skip


def test_a_tree_level_pairs_at_its_distance() -> None:
    assert said(net("tree", 5, 0, (0, 1))) == {"2 1 r>w", "1 1 e>r", "5 1 r>w", "4 1 e>r"}
    assert said(net("tree", 5, 0, (0, 1), level=1)) == {"4 1 r>w", "3 1 e>w", "2 1 e>w", "1 1 e>r"}
    assert said(net("tree", 5, 4, (0, 1), level=2)) == {
        "1 0 r>e", "2 0 w>e", "3 0 w>e", "4 0 w>e", "5 0 w>e", "6 0 w>r"
    }  # fmt: skip


def test_leaders_skip_the_rest_of_their_groups() -> None:
    assert said(net("leaders", 5, 2, (0, 1), stride=2)) == {
        "1 1 r>e", "2 1 w>e", "3 1 w>e", "4 1 w>r", "6 0 r>w", "5 0 e>w", "4 0 e>r"
    }  # fmt: skip


def test_a_broadcast_reaches_every_pe_of_its_group() -> None:
    assert said(net("broadcast", 5, 1, (7,))) == {
        "2 7 r>ew", "1 7 e>r", "3 7 w>e", "4 7 w>er", "5 7 w>er", "6 7 w>r"
    }  # fmt: skip
    assert said(net("broadcast", 1, 0, (7,))) == set()


def test_a_collect_serves_its_ramp_and_the_farther_neighbour() -> None:
    assert said(net("collect", 5, 0, (0, 1))) == {
        "6 1 r>w", "5 1 r>w", "5 1 e>w", "4 1 r>w", "4 1 e>w", "3 1 e>w", "2 1 r>w", "2 1 e>w", "1 1 e>r"
    }  # fmt: skip


def test_groups_keep_to_themselves_and_a_last_one_without_a_root_is_silent() -> None:
    assert said(net("chain", 2, 1, (0, 1))) == {"1 1 r>e", "2 1 w>r", "4 1 r>e", "5 1 w>r"}

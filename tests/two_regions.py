"""A placed program made by hand, small enough to check on paper: a matmul in region a, a negation in region b.

    x -> [port (0,0)] -> a: h = x @ w (k over 3 columns, chain to the middle, spread back) -> b: y = -h -> [port (7,0)]

The machine is 8 x 3 with one dead core at (3, 2). Region a is 2 x 3 PEs at (1, 0), region b 2 x 2 at (5, 0).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wafercc.ir.block import AllReduce, Block, Compute, Instance, Phase, ReduceAlgorithm
from wafercc.ir.dtypes import DType
from wafercc.ir.graph import Op, TensorType
from wafercc.ir.layout import Mesh, Tiled, parse_layout
from wafercc.ir.loops import Combine
from wafercc.ir.program import (
    CollectiveNet,
    EdgePort,
    Execute,
    Fan,
    Lane,
    PlacedProgram,
    Rect,
    Region,
    RouterTable,
    SramPlan,
    Stream,
    Transfer,
    WeightTiles,
)
from wafercc.passes.certify import certify

PORT = {"n": 1, "e": 2, "s": 4, "w": 8, "r": 16}
NETS = ("chain", "spread", "x", "h row 0", "h row 1", "y")

# net, colour: then (x, y) in-ports > out-ports of every router; switch positions count up where a router comes again.
ROUTERS = """
0 1: 1,0 r>e  2,0 w>r  1,1 r>e  2,1 w>r
0 0: 3,0 r>w  2,0 e>r  3,1 r>w  2,1 e>r
1 2: 2,0 r>we 1,0 e>r  3,0 w>r  2,1 r>we 1,1 e>r  3,1 w>r
2 5: 0,0 w>e  1,0 w>res  2,0 w>re  3,0 w>r  1,1 n>re  2,1 w>re  3,1 w>r
3 6: 1,0 r>e  2,0 r>e  2,0 w>e  3,0 r>e  3,0 w>e  4,0 w>e  5,0 w>re  6,0 w>r
4 6: 1,1 r>e  2,1 r>e  2,1 w>e  3,1 r>e  3,1 w>e  4,1 w>e  5,1 w>re  6,1 w>r
5 7: 5,1 r>e  6,1 r>n  6,1 w>n  5,0 r>e  6,0 r>e  6,0 w>e  6,0 s>e  7,0 w>e
"""

X, H = TensorType(DType.F32, (2, 6)), TensorType(DType.F32, (2, 2))
MESH_A, MESH_B = Mesh.of([2], [3]), Mesh.of([2], [2])


def tiled(type_: TensorType, layout: str) -> Tiled:
    return Tiled(type_, parse_layout(layout))


def routers() -> RouterTable:
    """The table of the text above, in order."""
    rows: list[tuple[int, ...]] = []
    for line in ROUTERS.split("\n"):
        if not line:
            continue
        head, body = line.split(":")
        net, colour = map(int, head.split())
        words = body.split()
        for at, way in zip(words[::2], words[1::2], strict=True):
            x, y = map(int, at.split(","))
            ins, outs = (sum(PORT[p] for p in ports) for ports in way.split(">"))
            position = sum(row[:4] == (0, y, x, colour) for row in rows)
            rows.append((0, y, x, colour, position, ins, outs, net))
    wafer, y, x, *rest = np.array(sorted(rows), np.int32).T
    return RouterTable(wafer, x, y, *rest, nets=NETS)


def region(name: str, x: int, rows: int, columns: int) -> Region:
    ys, xs = np.mgrid[0:rows, x : x + columns].astype(np.int32)
    return Region(name, Rect(0, x, 0, columns, rows), xs, ys)


def path(*routers: tuple[int, int]) -> np.ndarray:
    return np.array(routers, np.int32)


def block_a() -> Block:
    w = TensorType(DType.F32, (6, 2))
    values = {
        "x": tiled(X, "(y0,x0)"),
        "w": tiled(w, "(x0,-)"),
        "part": tiled(H, "(y0,-) sum:x0"),
        "h": tiled(H, "(y0,-)"),
    }
    steps = (
        Compute("mm", Op("m.mm", "matmul", ("x", "w"), ("h",)), Phase.LOCAL, ("x", "w"), ("part",)),
        AllReduce("sum", ("part",), ("h",), ("x0",), Combine.SUM, ReduceAlgorithm.CHAIN, 1),
    )
    return Block("a", MESH_A, values, ("w",), ("x",), ("h",), steps)


def block_b() -> Block:
    values = {"h": tiled(H, "(y0,x0)"), "y": tiled(H, "(y0,x0)")}
    steps = (Compute("neg", Op("m.neg", "neg", ("h",), ("y",)), Phase.WHOLE, ("h",), ("y",)),)
    return Block("b", MESH_B, values, (), ("h",), ("y",), steps)


def streams() -> tuple[Stream, ...]:
    west, east = EdgePort(0, 0, 0, 8), EdgePort(0, 7, 0, 2)
    lanes = tuple(
        Lane(
            Fan("a", "y", row, row + 1, 2, row),
            Fan("b", "y", row, row + 1, 0, row),
            path((3, row), (4, row), (5, row)),
            6,
            0,
            row,
            row + 1,
        )
        for row in (0, 1)
    )
    return (
        Stream("sx", "x", X, None, ("ia", "x"), (Lane(west, Fan("a", "y", 0, 2, 0, 0), path((0, 0), (1, 0)), 5),)),
        Stream("sh", "h", H, ("ia", "h"), ("ib", "h"), lanes),
        Stream("sy", "y", H, ("ib", "y"), None, (Lane(Fan("b", "y", 0, 2, 1, 0), east, path((6, 0), (7, 0)), 7),)),
    )


def target() -> dict[str, object]:
    pe = {"sram_bytes": 1024, "reserved_bytes": 128}
    grid = {"wafers": 1, "width": 8, "height": 3, "view": "logical"}
    return {**grid, "pe": pe, "router": {"colours": 21, "switch_positions": 4}, "io": {"edges": ["west", "east"]}}


def defects() -> dict[str, object]:
    grid = {"wafers": 1, "width": 8, "height": 3, "view": "logical"}
    return {**grid, "dead_cores": [[0, 3, 2]], "dead_routers": [], "dead_links": []}


def two_regions() -> PlacedProgram:
    """The program; `wafercc.verify` finds nothing wrong with it."""
    weight = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    program = PlacedProgram(
        model="two",
        target=target(),
        defects=defects(),
        options={},
        versions={},
        inputs={"x": X},
        outputs={"y": H},
        states={},
        past_max=0,
        id_limits={},
        regions=(region("a", 1, 2, 3), region("b", 5, 2, 2)),
        blocks={"a": block_a(), "b": block_b()},
        instances=(
            Instance("ia", "a", "a", {"w": "w"}, {"x": "x", "h": "h"}),
            Instance("ib", "b", "b", {}, {"h": "h", "y": "y"}),
        ),
        streams=streams(),
        collectives=(
            CollectiveNet("a", "x", 3, 1, "chain", (0, 1)),
            CollectiveNet("a", "x", 3, 1, "broadcast", (2,)),
        ),
        routers=routers(),
        order=(Transfer("sx"), Execute("ia"), Transfer("sh"), Execute("ib"), Transfer("sy")),
        sram={"a": SramPlan(16, 0, 16, 896), "b": SramPlan(0, 0, 8, 896)},
        weights={"w": WeightTiles(tiled(TensorType(DType.F32, (6, 2)), "(x0,-)"), MESH_A, weight, "w.onnx")},
    )
    return replace(program, certificate=certify(program))

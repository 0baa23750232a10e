"""An example of a checker of exports: `python checker.py FOLDER` prints what is wrong and exits 1, or prints "ok".
Written from docs/export.md with json and numpy alone, without wafercc. Each rule is a generator of messages."""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

STEP, RAMP = {1: (0, -1), 2: (1, 0), 4: (0, 1), 8: (-1, 0)}, 16  # ports north, east, south, west: where they lead
BACK = {1: 4, 2: 8, 4: 1, 8: 2}  # the port at the other end of a link

class Export(dict):
    """Every array by its name; as attributes the parts of the document, and the tables of hops and router rows."""
    def __init__(self, folder):
        self.__dict__ = document = json.loads((Path(folder) / "program.json").read_text(encoding="utf-8"))
        with np.load(Path(folder) / document["arrays"]["file"]) as file:
            super().__init__({name: file[name].astype(np.int64) for name in file.files if "weights/" not in name})
        for name in ("hops", "routers"):
            table = {column: self[array] for column, array in document[name].items() if column != "labels"}
            table["at"] = ((table["wafer"] * 4096 + table["y"]) * 4096 + table["x"]) * 128 + table["colour"]
            document[name] = {**table, "way": table["ins"] * 32 + table["outs"]}
    def inside(self, wafer, x, y):
        wafers, height, width = self["alive"].shape
        return (wafer >= 0) & (wafer < wafers) & (x >= 0) & (x < width) & (y >= 0) & (y < height)

def spot(at):
    return f"PE ({at // 128 % 4096}, {at // 2**19 % 4096}), colour {at % 128}"

def check_regions(e):
    """Rectangles lie on the wafer and apart, each logical PE on a live core of its own."""
    owner, names = np.zeros(e["alive"].shape, int), list(e.regions)
    for i, (name, r) in enumerate(e.regions.items()):
        x, y, right, low = e[r["pe_x"]], e[r["pe_y"]], r["x"] + r["width"], r["y"] + r["height"]
        if not e.inside(r["wafer"], r["x"], r["y"]) or not e.inside(r["wafer"], right - 1, low - 1):
            yield f"region {name}: its rectangle leaves the wafer"
            continue
        if (area := owner[r["wafer"], r["y"] : low, r["x"] : right]).any():
            yield f"region {name}: overlaps region {names[area.max() - 1]}"
        area[...] = i + 1
        if x.min() < r["x"] or x.max() >= right or y.min() < r["y"] or y.max() >= low:
            yield f"region {name}: a PE lies outside its rectangle"
        elif (dead := e["alive"][r["wafer"], y, x] & RAMP == 0).any():
            yield f"region {name}: PE ({x[dead][0]}, {y[dead][0]}) is dead, yet holds tiles"
        if len(np.unique(y * 4096 + x)) < x.size:
            yield f"region {name}: two of its PEs are one core"

def check_weights(e):
    """Every copy of a weight holds every element once, its tiles are stored, and every parameter is bound to one."""
    for key, w in e.weights.items():
        tensor, tile, stored = w["tensor"], e[w["tile"]], w["stored"]
        for cut, size in zip(tensor["cuts"], tensor["type"]["shape"], strict=True):
            if not np.array_equal(np.sort(e[cut["elements"]][e[cut["elements"]] >= 0]), np.arange(size["max"])):
                yield f"weight {key}: its tiles do not hold every element once"
        if len(np.unique(e[tensor["copy"]] * tile.size + tile)) < tile.size:
            yield f"weight {key}: two PEs hold one tile of one copy"
        slots = tensor["tile_shape"] if tensor["type"]["bits"] > 7 else [tensor["tile_bytes"]]
        if stored and stored["shape"] != (shape := [int(tile.max()) + 1, *slots]):
            yield f"weight {key}: tiles {stored['shape']} are stored, its PEs hold {shape}"
    for name, i, param in ((n, x, p) for n, x in e.instances.items() for p in e.blocks[x["block"]]["params"]):
        if e.weights.get(i["weights"].get(param), {}).get("tensor") != e.blocks[i["block"]]["values"][param]:
            yield f"instance {name}: parameter {param} is not bound to a weight of its layout"

def check_hops(e):
    """Words pass live routers and links, and behind each link they meet the next hop of their net."""
    h, inside = e.hops, e.inside(e.hops["wafer"], e.hops["x"], e.hops["y"])
    def named(which, problem):
        for net in np.unique(h["net"][which]):
            x, y, colour = (h[column][which][h["net"][which] == net][0] for column in ("x", "y", "colour"))
            yield f"net {e.nets[net]['name']}: {problem} at PE ({x}, {y}), colour {colour}"
    yield from named((h["colour"] < 0) | (h["colour"] >= e.target["router"]["colours"]), "its colour is out of range")
    yield from named(~inside, "it leaves the wafer")
    if not inside.all():
        return
    alive, columns = e["alive"][h["wafer"], h["y"], h["x"]], ("net", "line", "colour", "order", "x", "y")
    yield from named(alive == 0, "it passes a dead router")
    size = [int(h[column].max(initial=0)) + 4 for column in columns]
    for side, (dx, dy) in STEP.items():  # a port over the edge of the wafer is the host's, and no link
        ahead = ({}, {"order": 1, "x": dx, "y": dy})
        here, there = (np.ravel_multi_index([h[c] + 1 + more.get(c, 0) for c in columns], size) for more in ahead)
        sends = np.flatnonzero((h["outs"] & side > 0) & e.inside(h["wafer"], h["x"] + dx, h["y"] + dy))
        takes = np.flatnonzero((h["ins"] & BACK[side] > 0) & e.inside(h["wafer"], h["x"] - dx, h["y"] - dy))
        yield from named(sends[alive[sends] & side == 0], "it crosses a dead link")
        yield from named(sends[~np.isin(there[sends], here[takes])], "its words meet no hop behind a link")
        yield from named(takes[~np.isin(here[takes], there[sends])], "no hop sends the words it takes")

def check_clashes(e):
    """Nets that meet at a router on one colour configure it alike, or are of one region, or streams served in turn."""
    many, spans, task = len(e.nets) + 1, defaultdict(list), {tuple(t): i for i, t in enumerate(e.schedule)}
    for name, s in e.streams.items():  # from when on a net may carry words (at the earliest), and until when
        last = task.get(("transfer", name), 0)
        first = last if s["state"] or not s["source"] else task.get(("execute", s["source"][0]), 0)
        for lane in s["lanes"]:
            spans[lane["net"]].append((first, last))
    used = {(n["region"], n["pattern"]) for n in e.nets if n["hops"][0] < n["hops"][1]}
    for i, step in ((x, step) for x in e.instances.values() for step in e.blocks[x["block"]]["steps"]):
        if any((i["region"], traffic["pattern"]) not in used for traffic in step.get("traffic", ())):
            yield f"region {i['region']}: step {step['id']} of block {i['block']} lacks a net"
    meeting = e.hops["at"] * many + e.hops["net"]
    only = np.unique((meeting * 4096 + e.hops["line"]) * 32 + e.hops["outs"]) // (4096 * 32)
    for meets in only[1:][np.diff(only) == 0][:3]:
        yield f"net {e.nets[meets % many]['name']}: meets itself at {spot(meets // many)}"
    group, way = np.divmod(np.unique(meeting * 1024 + e.hops["way"]), 1024)
    start = np.flatnonzero(np.diff(group, prepend=-1))
    code = np.random.default_rng(0).integers(1 << 50, size=1024)  # a sum of these tells sets of ways apart
    ways = np.add.reduceat(code[way], start) if len(start) else start
    at, net = np.divmod(group[start], many)
    for apart in range(1, many):
        clash = (at[apart:] == at[:-apart]) & (ways[apart:] != ways[:-apart])
        for a, b in np.unique([net[:-apart][clash], net[apart:][clash]], axis=1).T:
            mixed = all(max(spans[n], default=(0, 0))[1] >= min(spans[m])[0] for n, m in ((a, b), (b, a)) if spans[m])
            if e.nets[a]["region"] != e.nets[b]["region"] or (e.nets[a]["region"] is None and mixed):
                where = spot(at[apart:][clash & (net[:-apart] == a) & (net[apart:] == b)][0])
                yield f"nets {e.nets[a]['name']} and {e.nets[b]['name']}: configure a router differently at {where}"

def check_routers(e):
    """The router table is in order, within bounds, and the union of all hops."""
    r, index = e.routers, np.arange(len(e.routers["at"]))
    if (np.diff(r["at"]) < 0).any() or (index - np.searchsorted(r["at"], r["at"]) != r["position"]).any():
        yield "router table: rows out of order, or positions not counted from 0"
    for column, bound in (("colour", "colours"), ("position", "switch_positions")):
        for i in np.flatnonzero((r[column] < 0) | (r[column] >= e.target["router"][bound]))[:1]:
            yield f"router table: {column} {r[column][i]} of {e.target['router'][bound]} at {spot(r['at'][i])}"
    rows, asked = (table["at"] * 1024 + table["way"] for table in (r, e.hops))
    yield from (f"router table: not what nets ask for at {spot(k // 1024)}" for k in np.setxor1d(rows, asked)[:3])

def check_streams(e):
    """A stream has one value at both ends; its lanes share out its elements, from all who hold to all who need them."""
    for name, s in e.streams.items():
        lanes, held, dims = s["lanes"], [], {lane["dim"] for lane in s["lanes"]}
        sizes = [dict(enumerate(s["type"]["shape"])).get(dim, {"max": 1})["max"] for dim in dims]
        spans = np.array(sorted((lane["lo"], lane["hi"]) for lane in lanes)).reshape(-1, 2)
        if lanes and [0, *spans[:, 1]] != [*spans[:, 0], *sizes]:
            yield f"stream {name}: its lanes do not carry every element once"
        for end, mask, signature in (("source", "ins", e.inputs), ("destination", "outs", e.outputs)):
            if s[end] is None:
                if signature.get(s["value"]) != s["type"]:
                    yield f"stream {name}: its {end} is the host, but the model has no such value"
                continue
            instance, value = e.instances[s[end][0]], s[end][1]
            region, tensor = e.regions[instance["region"]], e.blocks[instance["block"]]["values"][value]
            held.append((region, tensor["cuts"]))
            found = tensor["type"], tensor["partial"], instance["bindings"].get(value, s["value"])
            if found != (s["type"], [], s["value"]):
                yield f"stream {name}: {value} at its {end} is not the whole of this value"
            for lane in lanes:
                comb, needs = lane[end]["comb"] or {"region": None, "row": 0, "column": 0}, e[tensor["holds"]] > 0
                for d, cut in enumerate(tensor["cuts"]):
                    lo, hi = (lane["lo"], lane["hi"]) if d == lane["dim"] else (0, np.inf)
                    needs &= ((e[cut["elements"]] >= lo) & (e[cut["elements"]] < hi)).any(axis=1)[e[cut["part"]]]
                if end == "source":  # one copy sends: the gate's
                    needs &= e[tensor["copy"]] == e[tensor["copy"]][comb["row"], comb["column"]]
                own = {column: e.hops[column][slice(*e.nets[lane["net"]]["hops"])] for column in (mask, "x", "y")}
                ramps = (own["y"] * 4096 + own["x"])[own[mask] & RAMP > 0]
                missed = needs & ~np.isin(e[region["pe_y"]] * 4096 + e[region["pe_x"]], ramps)
                if comb["region"] != instance["region"] or missed.any():
                    yield f"stream {name}: a lane misses PEs of region {instance['region']} at its {end}"
        if not lanes and s["bytes"] and (len(held) < 2 or held[0] != held[1]):
            yield f"stream {name}: has no lanes, and its ends do not hold it in one place"

def check_schedule(e):
    """Each task is served once and each output leaves once; nothing is read before it is written, or written twice."""
    served = Counter(map(tuple, e.schedule))
    served.update(("output", s["value"]) for s in e.streams.values() if s["destination"] is None)
    for kind, names in (("transfer", e.streams), ("execute", e.instances), ("output", e.outputs)):
        yield from (f"{kind} {name}: {served[kind, name]} times" for name in names if served[kind, name] != 1)
    blocks = {name: e.blocks[i["block"]] for name, i in e.instances.items()}
    there = {(i, v) for i, b in blocks.items() for v in {*b["params"], *b["states"]} - {*b["inputs"]}}
    for kind, name in e.schedule:
        if kind == "transfer":  # a step of no instance: its reads and writes name theirs
            acts = [{"reads": [e.streams[name]["source"]], "writes": [e.streams[name]["destination"]]}]
        else:
            acts = [{k: [(name, v) for v in step[k]] for k in ("reads", "writes")} for step in blocks[name]["steps"]]
        for act in acts:
            reads, writes = ([tuple(v) for v in act[key] if v] for key in ("reads", "writes"))
            yield from (f"{kind} {name}: reads {v} before it is written" for v in reads if v not in there)
            yield from (f"{kind} {name}: writes {v} again" for v in writes if v in there)
            there.update(writes)

def check_memory(e):
    """What each region holds at every point of the schedule fits its PEs, and its plan."""
    usable = e.target["pe"]["sram_bytes"] - e.target["pe"]["reserved_bytes"]
    for name, r in e.regions.items():
        task, step, weights, caches, *values = e[r["memory"]].T
        held = {"weights_bytes": weights, "caches_bytes": caches, "values_bytes": sum(values)}
        plan = r["plan"] or dict.fromkeys(held, 0)
        for what, bytes_, bound in (*((k, held[k], plan[k]) for k in held), ("bytes", sum(held.values()), usable)):
            for i in np.flatnonzero((bytes_ > bound) & (bytes_ == bytes_.max(initial=0)))[:1]:
                yield f"region {name}: {what} {bytes_[i]} of {bound} at task {task[i]}, step {step[i]}"
        if not sum(plan[k] for k in held) <= plan.get("bound_bytes", usable) <= usable:
            yield f"region {name}: its plan {plan} exceeds the {usable} bytes that are usable"

def check(folder):
    export, rules = Export(folder), [rule for name, rule in list(globals().items()) if name.startswith("check_")]
    return [message for rule in rules for message in rule(export)]

if __name__ == "__main__":
    print("\n".join(found := check(sys.argv[1])) or "ok")
    sys.exit(bool(found))

"""Functions: how large a model becomes when its local functions are inlined, judged before they are.

A few kilobytes of functions that call each other twice each come to 2^n nodes, and the inliner looks for a free name
from the start at each call, so both are bounded here. Cost: linear in the nodes of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import onnx

from ..errors import ImportFailed

MOST_NODES = 200_000
"""Nodes of a model, its functions inlined: the largest decoder known has 12,500."""

MOST_NAMES_TRIED = 20_000_000
"""Names that the inliner would look up: the calls of each function, squared, times its nodes."""

Key = tuple[str, str]


def check_functions(proto: onnx.ModelProto, where: str) -> None:
    """Hold that a model with its functions inlined stays of a size that a model has.

    Raises:
        ImportFailed: functions call each other in a ring, or come to too many nodes.
    """
    calls = {_key(f): Counter(_key_of(n) for n in _all_nodes(f.node)) for f in proto.functions}
    main = Counter(_key_of(n) for n in _all_nodes(proto.graph.node))
    order = _callees_first(calls, where)
    nodes: dict[Key, int] = {}
    for key in order:
        nodes[key] = _total(calls[key], nodes)
    total = _total(main, nodes)
    if total > MOST_NODES:
        raise ImportFailed(
            f"has {_about(total)} nodes, its local functions inlined; the most supported is {MOST_NODES}", where=where
        )
    times = Counter(dict.fromkeys(order, 0))
    times.update({key: count for key, count in main.items() if key in calls})
    for key in reversed(order):
        for callee, count in calls[key].items():
            if callee in calls:
                times[callee] += times[key] * count
    tried = sum(times[key] ** 2 * sum(calls[key].values()) for key in order)
    if tried > MOST_NAMES_TRIED:
        key, count = times.most_common(1)[0]
        raise ImportFailed(
            f"calls its local functions too often: {'::'.join(key)} {count} times",
            where=where,
            hint="inline them with onnx.inliner before",
        )


def _total(inside: Mapping[Key, int], nodes: Mapping[Key, int]) -> int:
    return sum(count * nodes.get(key, 1) for key, count in inside.items())


def _callees_first(calls: Mapping[Key, Mapping[Key, int]], where: str) -> list[Key]:
    """The functions, each after those it calls."""
    order: list[Key] = []
    done: set[Key] = set()
    for start in calls:
        path: dict[Key, Iterator[Key]] = {} if start in done else {start: iter(calls[start])}
        while path:
            key, ahead = next(reversed(path.items()))
            callee = next((c for c in ahead if c in calls and c not in done), None)
            if callee is None:
                path.popitem()
                done.add(key)
                order.append(key)
            elif callee in path:
                names = [*list(path)[list(path).index(callee) :], callee]
                ring = " -> ".join("::".join(name) for name in names[:6]) + (" -> ..." if len(names) > 6 else "")
                raise ImportFailed(f"its local functions call each other in a ring: {ring}", where=where)
            else:
                path[callee] = iter(calls[callee])
    return order


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their branches; no deeper than protobuf parses."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)


def _key(function: onnx.FunctionProto) -> Key:
    return function.domain, function.name


def _key_of(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type


def _about(number: int) -> str:
    return str(number) if number < 10**12 else f"about 10^{len(str(number)) - 1}"

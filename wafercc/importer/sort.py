"""Sort: nodes in an order in which every value is written before it is read.

Some tools write nodes in any order. The sort is stable (Kahn's algorithm over file positions), so a file that is
already sorted keeps its order. Cost: O((nodes + reads) log nodes).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ..errors import ImportFailed
from .nodes import Branch, Node


def sorted_nodes(nodes: Sequence[Node], known: frozenset[str]) -> tuple[Node, ...]:
    """The nodes in executable order; ``known`` are the values that exist before any node runs.

    Raises:
        ImportFailed: a node reads a value that nothing writes, two nodes write one value, or the nodes form a cycle.
    """
    writer = _writers(nodes, known)
    reads = [{writer[name] for name in node_reads(node) if name in writer} for node in nodes]
    for node in nodes:
        for name in node_reads(node):
            if name not in writer and name not in known:
                raise node.fail(f"reads the value {name!r}, which nothing writes")
    users: list[list[int]] = [[] for _ in nodes]
    for position, sources in enumerate(reads):
        for source in sources:
            users[source].append(position)
    waiting = [len(sources) for sources in reads]
    ready = [position for position, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for user in users[position]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        raise _cycle(nodes, reads, waiting)
    return tuple(nodes[position] for position in order)


def _writers(nodes: Sequence[Node], known: frozenset[str]) -> dict[str, int]:
    writer: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in node.outputs:
            if name is None:
                continue
            if name in writer or name in known:
                raise node.fail(f"writes the value {name!r} a second time")
            writer[name] = position
    return writer


def node_reads(node: Node) -> list[str]:
    """What a node reads, including what its branches capture from outside."""
    names = [name for name in node.inputs if name is not None]
    for value in node.attrs.values():
        if isinstance(value, Branch):
            inside = {name for n in value.nodes for name in n.outputs if name is not None}
            inside |= {*value.tensors, *value.inputs}
            captured = [name for n in value.nodes for name in node_reads(n)] + list(value.outputs)
            names += [name for name in captured if name not in inside]
    return names


def _cycle(nodes: Sequence[Node], reads: Sequence[set[int]], waiting: Sequence[int]) -> ImportFailed:
    """The error for a cycle, naming the nodes on one: from any stuck node, follow stuck sources until one repeats."""
    position = next(p for p, count in enumerate(waiting) if count)
    path: list[int] = []
    while position not in path:
        path.append(position)
        position = min(source for source in reads[position] if waiting[source])
    loop = path[path.index(position) :]
    names = " <- ".join(nodes[p].name for p in [*loop[:5], loop[0]])
    return ImportFailed(f"the graph has a cycle of {len(loop)} nodes: {names}", where=nodes[position].where)

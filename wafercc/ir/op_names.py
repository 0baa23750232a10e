"""Op names: how people call ops, and which op of the whole graph an op of a block stands for.

People name an op by its id, by the ONNX node it came from, by its kind (``matmul``), or by a pattern of one of these
(``*mlp*down*``). ``b1:matmul`` looks only in block b1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from .block import Block, BlockName, Compute, Instance
from .graph import Graph, Op, OpId, ValueName

SHOWN = 8  # names that a message lists
_COPY = re.compile(r"@\d+$")  # how a block tells the layouts of one value apart


def find_ops(name: str, ops: Iterable[Op]) -> list[Op]:
    """The ops that a name means: one id, else those of a node, else all of a kind, else all that match the pattern."""
    every = list(ops)
    for chosen in (
        [op for op in every if op.id == name],
        [op for op in every if op.source == name],
        [op for op in every if op.kind == name],
        [op for op in every if any(fnmatchcase(word, name) for word in (op.id, op.source, op.kind))],
    ):
        if chosen:
            return chosen
    return []


def split_block(name: str, blocks: Iterable[BlockName]) -> tuple[BlockName | None, str]:
    """``b1:matmul`` as (b1, matmul) where there is a block b1; else no block, and the whole name."""
    block, colon, rest = name.partition(":")
    return (BlockName(block), rest) if colon and block in set(blocks) else (None, name)


def nearest(name: str, words: Iterable[str]) -> str:
    """Words for a message, those most like ``name`` first."""
    known = sorted(set(words))
    near = get_close_matches(name, known, n=SHOWN, cutoff=0.0)
    more = len(known) - len(near)
    return ", ".join(near) + (f" and {more} more" if more else "")


def few(words: Iterable[str]) -> str:
    """Words for a message in their own order, the middle ones left out where they are many."""
    known = list(words)
    if len(known) <= 2 * SHOWN:
        return ", ".join(known)
    return f"{', '.join(known[:SHOWN])}, ... {known[-1]} ({len(known)} in all)"


def nearest_ops(name: str, ops: Iterable[Op]) -> str:
    """Kinds and ids for a message, those most like ``name`` first."""
    every = list(ops)
    return nearest(name, (word for op in every for word in (op.id, op.kind)))


def own_ops(template: Iterable[Op], graph: Graph, outputs: Mapping[ValueName, ValueName]) -> dict[OpId, Op]:
    """Template op → the op of the graph that one stage runs for it.

    ``outputs``: what the template's outputs are called in the graph. From there both are followed back op by op, since
    equal stages have equal operands in equal places; ops that lead to no output are not found. Cost: linear in ops.
    """
    makers = {out: op for op in template for out in op.outputs}
    found: dict[OpId, Op] = {}
    todo: list[tuple[ValueName, ValueName]] = list(outputs.items())
    while todo:
        inside, outside = todo.pop()
        ours, own = makers.get(inside), graph.producer.get(outside)
        if ours is None or own is None or ours.id in found:
            continue
        found[ours.id] = own
        todo += zip(ours.operands, own.operands, strict=False)
    return found


def block_ops(block: Block) -> Sequence[Op]:
    """The ops of a block, each once, in the order of its steps."""
    return list({step.op.id: step.op for step in block.steps if isinstance(step, Compute)}.values())


def instance_ops(block: Block, instance: Instance, graph: Graph) -> dict[OpId, Op]:
    """Op of a block → the op of the graph that one of its instances runs for it."""
    outputs = {ValueName(_COPY.sub("", local)): instance.bindings[local] for local in block.outputs}
    outputs |= {ValueName(str(local)): instance.bindings[local] for local in block.outputs}
    return own_ops(block_ops(block), graph, outputs)

"""What to call things: the layer that each region holds, and both ends of a stream, as the user's model names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from ..ir.block import Block, Compute, Instance, InstanceId, LocalName, RegionId
from ..ir.program import EdgePort, Lane, PlacedProgram, Stream

HOST = "host"
# How exporters number layers in names of weights and values: model.layers.3.mlp, transformer.h.3.attn, present.3.key.
_LAYER = re.compile(r"(?:^|[._/])(?:layers?|h|blocks?|past_key_values|present)[._/](\d+)(?=[._/]|$)")


def region_titles(program: PlacedProgram) -> dict[RegionId, str]:
    """For each region what it holds: ``embedding``, ``layer 3``, ``layers 4–7``, ``head``, else ``stage n``.

    Layers are read from the names of weights and values; where those have no numbers, equal blocks are counted.
    """
    times = Counter(i.block for i in program.instances)
    seen: Counter[str] = Counter()
    words: dict[RegionId, list[str]] = {}
    for instance in program.instances:
        layers = _layers(instance, program)
        if not layers and times[instance.block] > 1:
            layers = [seen[instance.block]]
        seen[instance.block] += 1
        words.setdefault(instance.region, []).extend(_words(instance, program, layers))
    return {r.id: ", ".join(dict.fromkeys(words.get(r.id, ["empty"]))) for r in program.regions}


def _layers(instance: Instance, program: PlacedProgram) -> list[int]:
    names = [program.weights[key].origin for key in instance.weights.values() if key in program.weights]
    names += [*instance.weights.values(), *(v for v in instance.bindings.values() if v in _states(program))]
    return sorted({int(found[1]) for name in names for found in [_LAYER.search(name)] if found})


def _states(program: PlacedProgram) -> set[str]:
    return {*program.states, *program.states.values()}


def _words(instance: Instance, program: PlacedProgram, layers: list[int]) -> list[str]:
    block = program.blocks[instance.block]
    kinds = op_kinds(block)
    words = ["embedding"] if "embedding" in kinds else []
    if layers:
        run = len(layers) > 1 and layers[-1] - layers[0] == len(layers) - 1
        numbers = f"{layers[0]}–{layers[-1]}" if run else ", ".join(map(str, layers))
        words.append(f"layer{'s' if len(layers) > 1 else ''} {numbers}")
    kept = _states(program)
    if any(v in program.outputs and v not in kept for v in (instance.bindings.get(o) for o in block.outputs)):
        words.append("head")
    return words or [f"stage {[i.id for i in program.instances].index(instance.id)}"]


def op_kinds(block: Block) -> Counter[str]:
    """How many ops of each kind a block has, most first; an op in two phases counts once."""
    ops = {step.op.id: step.op.kind for step in block.steps if isinstance(step, Compute)}
    return Counter(dict(Counter(ops.values()).most_common()))


def stream_ends(stream: Stream, regions: Mapping[InstanceId, RegionId]) -> tuple[str, str]:
    """Where a stream comes from and goes to: region ids, or ``host``."""

    def end(at: tuple[InstanceId, LocalName] | None) -> str:
        return HOST if at is None else regions[at[0]]

    return end(stream.source), end(stream.destination)


def port_of(lane: Lane) -> EdgePort | None:
    """The edge port of a lane that starts or ends at the host."""
    return next((end for end in (lane.source, lane.destination) if isinstance(end, EdgePort)), None)


def short(name: str, longest: int = 48) -> str:
    """A long name by its end, which tells more than its beginning."""
    return name if len(name) <= longest else "…" + name[1 - longest :]

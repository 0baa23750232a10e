"""Cases: a number → a folder with a model in it, and what to do with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import onnx
from onnx import TensorProto, helper

from wafercc.models.tiny_llama import TinyLlama

from .bombs import BOMBS, F32, model, node
from .graphs import random_model
from .wire import mutated

DATA = Path(__file__).parents[2] / "tests" / "data"
KEPT_BYTES = 256


@dataclass(frozen=True)
class Case:
    """A model file, what it was made of, and the options with which it is imported or compiled."""

    path: Path
    made_of: str
    weightless: bool
    compiled: bool
    options: Mapping[str, Any]


def make_case(number: int, folder: Path) -> Case:
    """The case of a number, its files in an empty folder."""
    random = Random(number)
    path = folder / "model.onnx"
    kind = random.choices(("mutation", "graph", "bomb", "trap"), (50, 30, 14, 6))[0]
    match kind:
        case "mutation":
            name = random.choice(sorted(seeds()))
            path.write_bytes(mutated(seeds()[name], random))
        case "graph":
            name, content = "graph", random_model(random).SerializeToString()
            path.write_bytes(mutated(content, random) if random.random() < 0.2 else content)
        case "bomb":
            bomb = random.choice(BOMBS)
            name = bomb.__name__
            made = bomb(random)
            path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
        case _:
            name = _trap(path, random)
    options = random.choice(({}, {}, {"context": 16}, {"context": 1, "new_tokens": 2}, {"batch": 2, "new_tokens": 3}))
    return Case(path, f"{kind} {name}", random.random() < 0.5, random.random() < 0.12, options)


@cache
def seeds() -> Mapping[str, bytes]:
    """What is mutated: small decoders, and those of the tests without the numbers of their weights."""
    small = TinyLlama(layers=1, hidden=16, heads=2, kv_heads=1, intermediate=32, vocabulary=32)
    found = {"tiny": small.onnx().SerializeToString(), "traps": _with_external("w.bin", {}).SerializeToString()}
    for path in sorted(DATA.glob("*.onnx")):
        proto = onnx.load(path)
        for tensor in proto.graph.initializer:
            if len(tensor.raw_data) > KEPT_BYTES:
                _put_outside(tensor, {"location": "weights.bin"})
        del proto.graph.value_info[:]
        found[path.stem] = proto.SerializeToString()
    return found


def _put_outside(tensor: TensorProto, where: Mapping[str, object]) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))


def _with_external(location: str, more: Mapping[str, object], dims: tuple[int, ...] = (4, 4)) -> onnx.ModelProto:
    tensor = helper.make_tensor("w", F32, dims, bytes(64), raw=True) if dims == (4, 4) else TensorProto(name="w")
    tensor.data_type = F32
    tensor.dims[:] = dims
    _put_outside(tensor, {"location": location, **more})
    return model([node("MatMul", ["x", "w"])], tensors=[tensor])


def _trap(path: Path, random: Random) -> str:
    """External data that is not what it says, or a file that is no model at all."""
    folder, data = path.parent, path.parent / "w.bin"
    location, more, dims = "w.bin", {}, (4, 4)
    trap = random.choice(
        ("good", "absolute", "above", "link", "hard link", "pipe", "device", "folder", "loop", "lie", "sparse", "cut")
    )
    match trap:
        case "good":
            data.write_bytes(bytes(64))
        case "absolute":
            location = random.choice(("/etc/hostname", "/dev/zero", str(data), "//x", "C:\\w.bin", "~root/x"))
        case "above":
            location = random.choice(("../w.bin", "a/../../w", "..", ".", "a/..", "./../x", "..\\w", "w.bin/../../x"))
        case "link":
            data.symlink_to(random.choice(("/dev/zero", "/etc/hostname", "/proc/self/mem", folder.parent, "nowhere")))
        case "hard link":
            (folder / "other").write_bytes(bytes(64))
            os.link(folder / "other", data)
        case "pipe":
            os.mkfifo(data)
        case "device":
            data.symlink_to("/dev/tty")
        case "folder":
            data.mkdir()
        case "loop":
            data.symlink_to(data)
        case "lie" | "sparse":
            data.touch()
            os.truncate(data, random.choice((64, 1 << 20, 1 << 36)))
            choices = (0, 4, 64, 63, -1, 1 << 33, (1 << 63) - 1, 1 << 70, "x", "")
            more = {key: random.choice(choices) for key in random.sample(("offset", "length", "checksum"), 2)}
            dims = random.choice(((4, 4), (4, 1 << 28), (4, 1 << 40), (4, 0), (1 << 62, 4), (-4, 4)))
    content = _with_external(location, more, dims).SerializeToString()
    match trap:
        case "cut" if random.random() < 0.5:
            content = content[: random.randrange(len(content))]
        case "cut":
            content = random.randbytes(random.randrange(300))
    path.write_bytes(content)
    return trap

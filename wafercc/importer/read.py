"""Read: an ONNX file → `Model`, with functions inlined and nodes sorted.

onnx-ir parses and keeps tensors mapped or packed; nothing large is read here. ``onnx.checker`` is not asked: it
rejects graphs that every engine runs (nodes out of order, contributed ops in the default domain).
"""

from __future__ import annotations

import hashlib
import logging
import math
import mmap
import stat
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from ..errors import ImportFailed
from ..ir.dtypes import DType
from .external import Extent, ExternalFiles, decoded, mapped
from .functions import check_functions
from .model import Source
from .nodes import Array, Branch, InputSpec, Model, Node, Tensor
from .sort import node_reads, sorted_nodes
from .wire import damage

DTYPES = {
    ir.DataType.FLOAT: DType.F32,
    ir.DataType.FLOAT16: DType.F16,
    ir.DataType.BFLOAT16: DType.BF16,
    ir.DataType.DOUBLE: DType.F64,
    ir.DataType.INT64: DType.I64,
    ir.DataType.INT32: DType.I32,
    ir.DataType.INT16: DType.I16,
    ir.DataType.INT8: DType.I8,
    ir.DataType.INT4: DType.I4,
    ir.DataType.UINT64: DType.U64,
    ir.DataType.UINT32: DType.U32,
    ir.DataType.UINT16: DType.U16,
    ir.DataType.UINT8: DType.U8,
    ir.DataType.UINT4: DType.U4,
    ir.DataType.INT2: DType.I2,
    ir.DataType.UINT2: DType.U2,
    ir.DataType.FLOAT8E4M3FN: DType.F8E4M3FN,
    ir.DataType.FLOAT8E4M3FNUZ: DType.F8E4M3FNUZ,
    ir.DataType.FLOAT8E5M2: DType.F8E5M2,
    ir.DataType.FLOAT8E5M2FNUZ: DType.F8E5M2FNUZ,
    ir.DataType.FLOAT8E8M0: DType.F8E8M0,
    ir.DataType.FLOAT4E2M1: DType.F4E2M1,
    ir.DataType.BOOL: DType.BOOL,
}
DEFAULT_DOMAINS = ("", "ai.onnx")

MOST_BYTES = (1 << 31) - 1
"""What protobuf can parse."""

MOST_ELEMENTS = 1 << 50
"""Elements of one tensor, more than any machine holds: larger ones are a lie, and would overflow what counts them."""


def read_model(path: Path, *, allow_missing_weights: bool = False) -> Model:
    """The model in a file.

    Raises:
        ImportFailed: the file is missing, truncated or not ONNX; external data is absent or outside the folder; an
        element
            type is not supported; or the nodes cannot be ordered.
    """
    with _content(path) as content:
        proto = _parsed(content, path)
        sha256 = hashlib.sha256(content).hexdigest()
    reader = _Reader(path.parent, _opsets(proto, path), allow_missing_weights)
    source = Source(
        file=path.name,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        opsets=reader.opsets,
        sha256=sha256,
        nodes=len(proto.graph.node),
    )
    check_functions(proto, str(path))
    return reader.model(_structure(proto, path), source)


@contextmanager
def _content(path: Path) -> Iterator[memoryview]:
    """The bytes of a model file, mapped for as long as they are looked at."""
    if path.is_dir():
        raise ImportFailed("is a folder, not a file", where=str(path), hint="give the .onnx file inside it")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ImportFailed("is a pipe or a device, not a file", where=str(path), hint="give a .onnx file")
        if not found.st_size:
            raise ImportFailed("the file is empty", where=str(path))
        if found.st_size > MOST_BYTES:
            raise ImportFailed(
                f"has {found.st_size} bytes; a model file has at most {MOST_BYTES}",
                where=str(path),
                hint="save the model with its weights as external data",
            )
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            view = memoryview(content)
            try:
                yield view
            finally:
                view.release()
    except FileNotFoundError:
        raise ImportFailed("no such file", where=str(path)) from None
    except OSError as problem:
        raise ImportFailed(f"cannot be read: {problem.strerror}", where=str(path)) from None


def _parsed(content: memoryview, path: Path) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception:  # protobuf's DecodeError: its module carries no types
        raise ImportFailed(damage(content), where=str(path), hint="export or copy the model again") from None
    if not proto.HasField("graph") or not proto.ir_version or not (proto.graph.node or proto.graph.input):
        raise ImportFailed(damage(content), where=str(path), hint="give a .onnx file")
    return proto


def _opsets(proto: onnx.ModelProto, path: Path) -> dict[str, int]:
    opsets = {"" if o.domain in DEFAULT_DOMAINS else o.domain: int(o.version) for o in proto.opset_import}
    if "" not in opsets and any(n.domain in DEFAULT_DOMAINS for n in proto.graph.node):
        raise ImportFailed("the model names no opset of the default domain", where=str(path), hint="export it again")
    return opsets


def _structure(proto: onnx.ModelProto, path: Path) -> ir.Model:
    """The parsed model with its local functions inlined; declared types of inner values are inferred anew anyway."""
    del proto.graph.value_info[:]
    talk = logging.getLogger("onnx_ir.serde")
    level = talk.level
    talk.setLevel(logging.ERROR)  # what it warns of is refused here, in one message
    try:
        with warnings.catch_warnings(action="ignore"):
            model = ir.from_proto(proto)
            if model.functions:
                model = InlinePass()(model).model
    except Exception as problem:  # onnx-ir raises many kinds; whichever it is, this file is not a model it can read
        reason = _reason(problem)
        raise ImportFailed(f"not a readable model: {reason}", where=str(path)) from None
    finally:
        talk.setLevel(level)
    return model


def _reason(problem: BaseException) -> str:
    """The first line of what went wrong first; onnx-ir raises further errors while it words one."""
    seen = {id(problem)}
    while (earlier := problem.__cause__ or problem.__context__) is not None and id(earlier) not in seen:
        problem = earlier
        seen.add(id(problem))
    return (str(problem).splitlines() or [""])[0][:200] or type(problem).__name__


class _Reader:
    """Turns onnx-ir objects into plain ones; carries what they need: the folder, the opsets, the reading rule."""

    def __init__(self, folder: Path, opsets: dict[str, int], allow_missing: bool) -> None:
        self.opsets = opsets
        self.files = ExternalFiles(folder, allow_missing)

    def model(self, model: ir.Model, source: Source) -> Model:
        graph = model.graph
        tensors = self.tensors(graph)
        inputs = tuple(self.input(value) for value in graph.inputs if value.name not in tensors)
        known = frozenset(tensors) | {spec.name for spec in inputs}
        nodes = sorted_nodes(self.nodes(graph), known)
        outputs = tuple(_word(value.name) for value in graph.outputs)
        if not outputs:
            raise ImportFailed("the graph has no outputs", where=source.file)
        written = known.union(*(set(node.outputs) for node in nodes)) if nodes else known
        for name in outputs:
            if name not in written:
                raise ImportFailed("nothing writes this graph output", where=f"output {name}")
        declared = {_word(v.name): tuple(_dim(d) for d in v.shape) for v in graph.outputs if v.shape is not None}
        return Model(_word(graph.name) or "main", _trimmed(nodes, outputs), inputs, outputs, tensors, source, declared)

    def input(self, value: ir.Value) -> InputSpec:
        name = _word(value.name)
        if not isinstance(value.type, ir.TensorType):
            raise ImportFailed(f"has the type {value.type}, not a tensor", where=f"input {name}")
        if value.shape is None:
            raise ImportFailed("has no declared rank", where=f"input {name}", hint="export it with its shape")
        return InputSpec(name, dtype_of(value.type.dtype, f"input {name}"), tuple(_dim(d) for d in value.shape))

    def tensors(self, graph: ir.Graph) -> dict[str, Tensor]:
        found = {}
        for name, value in graph.initializers.items():
            if value.const_value is None:
                raise ImportFailed("is an initializer without content", where=f"tensor {name}")
            found[name] = self.tensor(_word(name), value.const_value)
        return found

    def tensor(self, name: str, tensor: ir.TensorProtocol) -> Tensor:
        dtype = dtype_of(tensor.dtype, f"tensor {name}")
        shape = tuple(int(d) for d in tensor.shape.numpy())
        if min(shape, default=0) < 0 or math.prod(shape) > MOST_ELEMENTS:
            raise ImportFailed(
                f"has the shape {list(shape)}; extents are 0 or more, elements {MOST_ELEMENTS} or less",
                where=f"tensor {name}",
                hint="the model is damaged: export it again",
            )
        if isinstance(tensor, ir.ExternalTensor):
            needed = -(-math.prod(shape) * dtype.bits // 8)
            extent = self.files.extent(name, str(tensor.location), tensor.offset or 0, tensor.length, needed)
            if extent is None:
                return Tensor(name, dtype, shape, None)
            return Tensor(name, dtype, shape, lambda: _mapped(name, extent, dtype, shape))
        return Tensor(name, dtype, shape, lambda: _loaded(name, tensor, shape))

    def nodes(self, graph: ir.Graph) -> list[Node]:
        return [self.node(node, position) for position, node in enumerate(graph)]

    def node(self, node: ir.Node, position: int) -> Node:
        domain, op_type = _word(node.domain), _word(node.op_type)
        domain = "" if domain in DEFAULT_DOMAINS else domain
        name = _word(node.name) or f"{op_type}_{position}"
        attrs = {_word(attr.name): self.attribute(name, attr) for attr in node.attributes.values()}
        version = node.version if node.version is not None else self.opsets.get(domain, 1)
        inputs, outputs = _names(node.inputs), _names(node.outputs)
        return Node(name, domain, op_type, inputs, outputs, attrs, version)

    def attribute(self, node: str, attr: ir.Attr) -> Any:
        match attr.type:
            case ir.AttributeType.TENSOR:
                return self.tensor(f"{attr.name} of node {node}", attr.value)
            case ir.AttributeType.GRAPH:
                graph: ir.Graph = attr.value
                outputs = tuple(_word(value.name) for value in graph.outputs)
                inputs = tuple(_word(value.name) for value in graph.inputs)
                return Branch(tuple(self.nodes(graph)), outputs, self.tensors(graph), inputs)
            case ir.AttributeType.INTS | ir.AttributeType.FLOATS | ir.AttributeType.STRINGS:
                return tuple(attr.value)
        return attr.value


def dtype_of(dtype: ir.DataType | None, where: str) -> DType:
    """The element type of an ONNX one.

    Raises:
        ImportFailed: no PE holds such elements.
    """
    if dtype not in DTYPES:
        name = dtype.name.lower() if dtype is not None else "none"
        names = ", ".join(d.name.lower() for d in DTYPES)
        raise ImportFailed(f"the element type {name} is not supported", where=where, hint=f"supported: {names}")
    return DTYPES[dtype]


def _trimmed(nodes: tuple[Node, ...], outputs: tuple[str, ...]) -> tuple[Node, ...]:
    """The nodes without the names of outputs that nobody reads: those need not be supported."""
    wanted = set(outputs).union(*(node_reads(node) for node in nodes))
    return tuple(
        replace(node, outputs=tuple(name if not i or name in wanted else None for i, name in enumerate(node.outputs)))
        if len(node.outputs) > 1
        else node
        for node in nodes
    )


def _loaded(name: str, tensor: ir.TensorProtocol, shape: tuple[int, ...]) -> Array:
    """The numbers of a tensor.

    Raises:
        ImportFailed: the bytes stored for it are not what its type and shape need.
    """
    try:
        return tensor.numpy().reshape(shape)
    except (ValueError, TypeError, AssertionError) as problem:
        raise _unread(name, problem) from None


def _mapped(name: str, extent: Extent, dtype: DType, shape: tuple[int, ...]) -> Array:
    """The numbers of a tensor in another file, as a view of it.

    Raises:
        ImportFailed: the file cannot be read any more.
    """
    try:
        return decoded(mapped(extent), dtype, shape)
    except (ValueError, OSError) as problem:
        raise _unread(name, problem) from None


def _unread(name: str, problem: Exception) -> ImportFailed:
    return ImportFailed(f"cannot be read: {problem}", where=f"tensor {name}", hint="export the model again")


def _names(values: Iterable[ir.Value | None]) -> tuple[str | None, ...]:
    return tuple(_word(value.name) if value is not None and value.name else None for value in values)


def _word(name: str | bytes | None) -> str:
    """A name of the model; protobuf gives bytes where they are not UTF-8."""
    if isinstance(name, bytes):
        raise ImportFailed(
            f"the name {name!r} is not valid text", where="model", hint="the file is damaged: copy it again"
        )
    return name or ""


def _dim(dim: int | ir.SymbolicDim) -> int | str | None:
    """A number, a symbol, or nothing; some exporters write a number as if it were a symbol."""
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    symbol = dim.value
    if isinstance(symbol, str):
        text = symbol.strip()
        return int(text) if text.isdigit() else (text or None)
    return None

"""What is wrong with a file that does not parse: cut short, or never a model at all.

A model is a protobuf message; its outermost fields say how long they are, so a truncated file can be told from
foreign data.
"""

from __future__ import annotations

# Field numbers of ModelProto and the wire type each has (0 varint, 2 length-delimited).
FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}


def damage(content: bytes | memoryview) -> str:
    """One sentence on why these bytes are not a model."""
    position, seen = 0, 0
    while position < len(content):
        tag, after = _varint(content, position)
        if tag is None or FIELDS.get(tag >> 3) != tag & 7:
            return "not an ONNX file" if seen < 2 else f"damaged at byte {position}: no field of a model starts there"
        value, after = _varint(content, after)
        if value is None:
            break
        end = after + (value if tag & 7 == 2 else 0)
        if end > len(content) and (seen or value < 1 << 31):
            return f"truncated: a field needs {end} bytes, the file has {len(content)}"
        position, seen = end, seen + 1
    return "not an ONNX file: it holds no graph" if position == len(content) else "truncated"


def _varint(content: bytes | memoryview, position: int) -> tuple[int | None, int]:
    """The number at a position and where it ends; ``None`` if it does not end in time."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            return None, position
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    return None, position

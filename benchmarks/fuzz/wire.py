"""Wire: mutations of a protobuf message that know its encoding but not its schema.

A message is a list of fields; a mutation walks down into one of them and changes it, and all lengths on the way back
are written anew, so most results parse and reach what lies behind the parser. A few are cut or flipped as plain bytes.
"""

from __future__ import annotations

from random import Random

Field = tuple[int, int, int | bytes]  # number, wire type, content

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 10, 16, 17, 20, 23, 64, 255, 256, 4096, 65_535, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32),
    *(1 << 40, 1 << 53, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2, (1 << 64) - 1000),
)
WORDS = (
    *(b"", b"\0", b"\xff\xfe", b"x", b"y", b"If", b"Loop", b"Concat", b"Reshape", b"MatMul", b"com.microsoft", b"axis"),
    *(b"Identity", b"-1", b"99999999999999999999", b"a" * 5000, b"../x", b"/etc/passwd", b"\xc3\xa9", b"batch + batch"),
)


def mutated(content: bytes, random: Random) -> bytes:
    """The message after one to six mutations."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        content = _bytes_changed(content, random) if random.random() < 0.08 else _changed(content, random, 0)
    return content


def _changed(content: bytes, random: Random, depth: int) -> bytes:
    fields = parsed(content)
    if not fields:
        return _bytes_changed(content, random)
    number = random.choice(sorted({field[0] for field in fields}))
    position = random.choice([i for i, field in enumerate(fields) if field[0] == number])
    number, kind, value = fields[position]
    if isinstance(value, bytes) and depth < 12 and random.random() < 0.85 and parsed(value):
        fields[position] = (number, kind, _changed(value, random, depth + 1))
        return encoded(fields)
    match random.randrange(8):
        case 0:
            del fields[position]
        case 1:
            fields[position:position] = [fields[position]] * random.choice((1, 1, 2, 50))
        case 2:
            other = random.randrange(len(fields))
            fields[position], fields[other] = fields[other], fields[position]
        case 3:
            donor = random.choice(fields)
            fields[position] = (number, donor[1], donor[2])
        case 4:
            fields[position] = (random.randrange(1, 30), kind, value)
        case _:
            fields[position] = (number, kind, _value(value, kind, random))
    return encoded(fields)


def _value(value: int | bytes, kind: int, random: Random) -> int | bytes:
    if isinstance(value, int):
        bits = {VARINT: 64, FIXED64: 64, FIXED32: 32}[kind]
        flipped = value ^ (1 << random.randrange(bits))
        return random.choice((random.choice(NUMBERS), value + 1, value - 1, flipped, -value)) % (1 << bits)
    if random.random() < 0.4:
        return random.choice(WORDS)
    return _bytes_changed(value, random)


def _bytes_changed(content: bytes, random: Random) -> bytes:
    if not content:
        return random.choice(WORDS)
    start = random.randrange(len(content))
    stop = min(len(content), start + random.choice((1, 1, 2, 8, 64)))
    match random.randrange(4):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + content[stop:]
        case 2:
            return content[:start] + random.randbytes(stop - start) + content[stop:]
        case _:
            return content[:start] + content[start:stop] * 2 + content[stop:]


def parsed(content: bytes) -> list[Field] | None:
    """The fields of a message; ``None`` if the bytes are none."""
    fields: list[Field] = []
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        number, kind = tag >> 3, tag & 7
        if position < 0 or not 1 <= number <= 2000:
            return None
        if kind == VARINT:
            value, position = _varint(content, position)
            if position < 0:
                return None
            fields.append((number, kind, value))
            continue
        if kind == BYTES:
            size, position = _varint(content, position)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            return None
        if position < 0 or position + size > len(content):
            return None
        raw = content[position : position + size]
        fields.append((number, kind, raw if kind == BYTES else int.from_bytes(raw, "little")))
        position += size
    return fields


def encoded(fields: list[Field]) -> bytes:
    """The bytes of a message of these fields."""
    parts = []
    for number, kind, value in fields:
        parts.append(_as_varint(number << 3 | kind))
        if isinstance(value, bytes):
            parts.append(_as_varint(len(value)) if kind == BYTES else b"")
            parts.append(value)
        elif kind == BYTES:
            raw = _as_varint(value)
            parts.append(_as_varint(len(raw)) + raw)
        else:
            fixed = value.to_bytes(8, "little")[: 4 if kind == FIXED32 else 8]
            parts.append(_as_varint(value) if kind == VARINT else fixed)
    return b"".join(parts)


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number and the position after it, which is -1 if it does not end."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            break
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % (1 << 64), position
    return 0, -1


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

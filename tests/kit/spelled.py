"""Bytes spelled out for a reader: hex in pieces, each with what it says.

Avro is spelled field by field by a small encoder written from the specification, and must equal what the
codec writes.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from schemas.codec import CODEC, HEADER_SIZE, compiled_in

ROW_BYTES = 32

Pieces = list[tuple[bytes, str]]


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language and its text."""

    language: str
    text: str


def spell(schema: Any, value: Any, name: str = "") -> Iterator[tuple[bytes, str]]:
    """Avro's binary encoding in pieces, each with what it says; arrays and maps as one block."""
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, list):
        branches = [each if isinstance(each, str) else each["type"] for each in kind]
        index = branches.index("null") if value is None else 1 - branches.index("null")
        yield _varint(index), f"{name}: branch {index}, {branches[index]}"
        if value is not None:
            yield from spell(kind[index], value, name)
    elif kind == "record":
        for field in schema["fields"]:
            inner = field["type"]
            yield from spell(
                {"type": inner} if isinstance(inner, list) else inner,
                value[field["name"]],
                f"{name}.{field['name']}" if name else field["name"],
            )
    elif kind in ("int", "long"):
        yield _varint(value), f"{name}: {value}"
    elif kind == "double":
        yield struct.pack("<d", value), f"{name}: {value}"
    elif kind in ("string", "bytes"):
        data = value.encode() if kind == "string" else value
        yield _varint(len(data)), f"{name}: {len(data)} bytes"
        if data:
            yield data, f'"{value}"' if kind == "string" else f"{name}"
    elif kind == "enum":
        index = schema["symbols"].index(value)
        yield _varint(index), f"{name}: symbol {index}, {value}"
    elif kind == "fixed":
        yield value, f"{name}: {schema['size']} bytes"
    else:
        yield from _spell_items(kind, schema, value, name)


def _spell_items(kind: str, schema: Any, value: Any, name: str) -> Iterator[tuple[bytes, str]]:
    if value:
        yield _varint(len(value)), f"{name}: block of {len(value)}"
    for number, item in enumerate(value):
        if kind == "array":
            yield from spell(schema["items"], item, f"{name}[{number}]")
        else:
            yield from spell("string", item, f"{name} key")
            yield from spell(schema["values"], value[item], f"{name}[{item}]")
    yield b"\0", f"{name}: no more blocks"


def avro_block(name: str, value: Any, written: bytes) -> Block:
    pieces: Pieces = [
        (CODEC.header(name)[:2], "single-object encoding"),
        (CODEC.header(name)[2:HEADER_SIZE], f"fingerprint of {name}, version 1, little-endian"),
        *spell(compiled_in()[name, 1], value),
    ]
    expect_bytes(pieces, written)
    return hex_block(pieces)


def _varint(number: int) -> bytes:
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def u32(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big")


def expect_bytes(pieces: Pieces, written: bytes) -> None:
    spelled = b"".join(data for data, _comment in pieces)
    if spelled != written:
        raise AssertionError(f"spelled {spelled.hex()}, the product writes {written.hex()}")


def text_block(lines: Iterable[str]) -> Block:
    return Block("text", "".join(f"{line}\n" for line in lines))


def hex_block(pieces: Pieces) -> Block:
    lines = []
    for data, comment in pieces:
        rows = [data[start : start + ROW_BYTES].hex() for start in range(0, len(data), ROW_BYTES)]
        width = 2 * ROW_BYTES if len(rows) > 1 or len(data) > ROW_BYTES // 2 else ROW_BYTES
        lines += [f"{rows[0]:<{width}}  # {comment}", *rows[1:]]
    return Block("hex", "".join(f"{line}\n" for line in lines))

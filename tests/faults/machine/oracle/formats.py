"""Bytes, read as docs/formats.md describes them, by nothing but hash functions, Avro and Ed25519.

Sections 2 (Avro), 1 (places), 8 (digests and leaves) and 9 (signed notes and checkpoints).
"""

import base64
import binascii
import hashlib
import io
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastavro
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastavro.schema import fingerprint, to_parsing_canonical_form

SCHEMAS = Path(__file__).parents[4] / "schemas" / "avro"
EPOCH_TOPIC = "log.checkpoints"
SINGLE_OBJECT = b"\xc3\x01"
HEADER_BYTES = 10

Headers = tuple[tuple[str, bytes | None], ...]
Partition = tuple[str, int]
Place = tuple[str, int, int]
"""Topic, partition, offset."""


class UntrueError(Exception):
    """Bytes are not what they should be, or not signed by whom they should be."""


@dataclass(frozen=True, slots=True)
class Record:
    """A committed record as any consumer sees it."""

    topic: str
    partition: int
    offset: int
    append_ms: int
    key: bytes | None
    headers: Headers
    value: bytes | None

    @property
    def place(self) -> Place:
        """Where it stands."""
        return (self.topic, self.partition, self.offset)

    def header(self, name: str) -> bytes:
        """The value of the one header of this name; raises UntrueError."""
        found = [value for each, value in self.headers if each == name]
        if len(found) != 1 or found[0] is None:
            raise UntrueError(f"{spell(self.place)} has {len(found)} headers {name}")
        return found[0]


def spell(place: Place) -> str:
    """topic/partition/offset."""
    return f"{place[0]}/{place[1]}/{place[2]}"


def place_of(text: str) -> Place:
    """Read topic/partition/offset; raises UntrueError."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise UntrueError(f"{text!a} is not topic/partition/offset")
    return (topic, int(partition), int(offset))


# ---- Avro ----------------------------------------------------------------------------------------------


def _load() -> tuple[dict[bytes, tuple[str, Any]], dict[str, bytes]]:
    by_header, newest = {}, {}
    for path in sorted(SCHEMAS.glob("*.avsc")):
        name, schema = path.name.split(".")[0], json.loads(path.read_text())
        # fastavro prints the eight bytes as they stand in the value.
        mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
        by_header[SINGLE_OBJECT + mark] = (name, fastavro.parse_schema(schema))
        newest[name] = SINGLE_OBJECT + mark
    return by_header, newest


_BY_HEADER, HEADER_OF = _load()


def decode(value: bytes | None) -> tuple[str, dict[str, Any]]:
    """Read one single-object record: its name and fields; raises UntrueError."""
    known = _BY_HEADER.get((value or b"")[:HEADER_BYTES])
    if known is None or value is None:
        raise UntrueError("the value has no known schema")
    stream = io.BytesIO(value[HEADER_BYTES:])
    try:
        record = fastavro.schemaless_reader(stream, known[1], None)
    except Exception as error:  # what a decoder raises for foreign bytes is not ours to list
        raise UntrueError(f"no {known[0]}: {error}") from error
    if stream.read(1) or not isinstance(record, dict):
        raise UntrueError(f"bytes behind a {known[0]}")
    return known[0], record


def decode_as(name: str, value: bytes | None) -> dict[str, Any]:
    """Read a record of this name; raises UntrueError."""
    found, record = decode(value)
    if found != name:
        raise UntrueError(f"a {found}, not a {name}")
    return record


def long_of(number: int) -> bytes:
    """An Avro long: zigzag, then groups of seven bits, the lowest first."""
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


# ---- digests -------------------------------------------------------------------------------------------


def part(data: bytes | None) -> bytes:
    """Length and bytes; null has a length of its own."""
    return b"\xff\xff\xff\xff" if data is None else len(data).to_bytes(4, "big") + data


def record_digest(record: Record) -> bytes:
    """BLAKE3 over key and headers, over the value, and over both."""
    head = part(record.key) + len(record.headers).to_bytes(4, "big")
    head += b"".join(part(name.encode()) + part(value) for name, value in record.headers)
    return blake3(blake3(head).digest() + blake3(part(record.value)).digest()).digest()


def leaf_of(record: Record) -> bytes:
    """A record's entry in its shard's tree; in the epoch log the value itself."""
    if record.topic == EPOCH_TOPIC:
        return record.value or b""
    place = long_of(record.offset) + long_of(record.append_ms)
    return HEADER_OF["leaf"] + place + record_digest(record)


def finding_id(rule: str, device: str, cause: str) -> bytes:
    """The 16 bytes that name a cause."""
    return blake3(b"".join(part(text.encode()) for text in (rule, device, cause))).digest(length=16)


@lru_cache(10_000)
def partition_of(key: bytes, partitions: int) -> int:
    """murmur2 as Kafka's Java client computes it, sign bit cleared, modulo the partitions."""
    mixer, mask = 0x5BD1E995, 0xFFFFFFFF
    state = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * mixer & mask
        word = (word ^ word >> 24) * mixer & mask
        state = state * mixer & mask ^ word
    if whole < len(key):
        state = (state ^ int.from_bytes(key[whole:], "little")) * mixer & mask
    state = (state ^ state >> 13) * mixer & mask
    return ((state ^ state >> 15) & 0x7FFFFFFF) % partitions


# ---- signed notes --------------------------------------------------------------------------------------


def open_note(data: bytes, name: str, key: bytes) -> str:
    """The text of a note that the 32-byte Ed25519 `key` signed as `name`; raises UntrueError."""
    text, blank, lines = data.rpartition(b"\n\n")
    if not blank or not lines.endswith(b"\n"):
        raise UntrueError("not a signed note")
    text += b"\n"
    key_id = hashlib.sha256(name.encode() + b"\n\x01" + key).digest()[:4]
    for line in lines.decode(errors="replace").splitlines():
        signer, _, blob = line.removeprefix("— ").rpartition(" ")
        if signer != name:
            continue
        try:
            signature = base64.b64decode(blob, validate=True)
        except binascii.Error as error:
            raise UntrueError(f"a signature line of {name} is no base64") from error
        if signature[:4] != key_id:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature[4:], text)
        except InvalidSignature as error:
            raise UntrueError(f"the signature of {name} does not verify") from error
        return text.decode()
    raise UntrueError(f"not signed by {name}")


def open_checkpoint(data: bytes, origin: str, key: bytes) -> tuple[int, bytes]:
    """Size and root of a checkpoint that `key` signed for `origin`; raises UntrueError."""
    lines = open_note(data, origin, key).splitlines()
    if len(lines) != 3 or lines[0] != origin or not lines[1].isdecimal():
        raise UntrueError(f"not a checkpoint of {origin}: {lines[:2]}")
    root = base64.b64decode(lines[2])
    if len(root) != 32 or str(int(lines[1])) != lines[1]:
        raise UntrueError(f"not a checkpoint of {origin}: {lines}")
    return int(lines[1]), root


def origin_of(log_name: str, partition: Partition) -> str:
    """The name under which a shard's checkpoints are signed."""
    return log_name if partition[0] == EPOCH_TOPIC else f"{log_name}/{partition[0]}/{partition[1]}"

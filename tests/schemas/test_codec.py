"""The codec: what it writes it reads, and bytes from outside cost one error, never more."""

import contextlib
import math
import struct
import tracemalloc
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.codec import CODEC, HEADER_SIZE, MARKER, Codec, compiled_in
from schemas.errors import CodecError, UnknownSchemaError

NEWEST = {name: schema for (name, _version), schema in sorted(compiled_in().items(), key=itemgetter(0))}
NAMES = list(NEWEST)
AVRO_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "string": AVRO_TEXT,
    "bytes": st.binary(max_size=40),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
}


def values_of(schema: Any, named: dict[str, st.SearchStrategy[Any]] | None = None) -> st.SearchStrategy[Any]:
    """Every value that an Avro schema describes; `named` are the types that it has named so far."""
    named = {} if named is None else named
    if isinstance(schema, list):
        return st.one_of([values_of(branch, named) for branch in schema])
    if isinstance(schema, str):
        return named[schema] if schema in named else PRIMITIVES[schema]
    made = _of_kind(schema, named)
    if "name" in schema:
        named[schema["name"]] = made
    return made


def _of_kind(schema: dict[str, Any], named: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    kind = schema["type"]
    if kind == "record":
        return st.fixed_dictionaries({f["name"]: values_of(f["type"], named) for f in schema["fields"]})
    if kind == "array":
        return st.lists(values_of(schema["items"], named), max_size=5)
    if kind == "map":
        return st.dictionaries(AVRO_TEXT, values_of(schema["values"], named), max_size=4)
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    assert kind == "fixed", schema
    return st.binary(min_size=schema["size"], max_size=schema["size"])


NAMED_RECORDS = st.sampled_from(NAMES).flatmap(lambda n: st.tuples(st.just(n), values_of(NEWEST[n])))


def varint(number: int) -> bytes:
    """Avro's zigzag variable-length long, written down from the specification."""
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def crc_64_avro(data: bytes) -> int:
    """The Rabin fingerprint as the Avro specification gives it."""
    empty = 0xC15D213AA4D7A795
    table = []
    for byte in range(256):
        entry = byte
        for _ in range(8):
            entry = (entry >> 1) ^ (empty & -(entry & 1))
        table.append(entry)
    crc = empty
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


@given(NAMED_RECORDS)
def test_record_reads_back(named: tuple[str, dict[str, Any]]) -> None:
    name, record = named
    data = CODEC.encode(name, record)
    assert data[:HEADER_SIZE] == CODEC.header(name)
    assert CODEC.name_of(data) == name
    assert CODEC.decode(name, data) == record


def test_every_schema_file_is_found_and_has_a_header_of_its_own() -> None:
    assert {
        "telemetry",
        "access",
        "lifecycle",
        "signed_envelope",
        "leaf",
        "registry_entry",
        "decision",
    } <= set(NAMES)
    assert len({CODEC.header(name) for name in NAMES}) == len(NAMES)


def test_fingerprint_of_null_is_that_of_the_specification() -> None:
    # Apache Avro's own test data (share/test/data/schema-tests.txt) gives 7195948357588979594 for "null".
    assert crc_64_avro(b'"null"') == 7195948357588979594
    codec = Codec({("nothing", 1): "null"})
    assert codec.header("nothing") == bytes.fromhex("c301") + struct.pack("<Q", 7195948357588979594)


def test_fingerprint_is_taken_over_the_canonical_form() -> None:
    canonical = (
        '{"name":"org.attestream.Leaf","type":"record","fields":[{"name":"offset","type":"long"},'
        '{"name":"timestamp","type":"long"},'
        '{"name":"digest","type":{"name":"org.attestream.Digest","type":"fixed","size":32}}]}'
    )
    assert CODEC.header("leaf") == MARKER + struct.pack("<Q", crc_64_avro(canonical.encode()))


def test_leaf_is_the_bytes_of_the_specification() -> None:
    body = varint(70_000) + varint(-1) + bytes(range(32))
    record = {"offset": 70_000, "timestamp": -1, "digest": bytes(range(32))}
    assert CODEC.encode("leaf", record) == CODEC.header("leaf") + body


@given(NAMED_RECORDS, st.data())
def test_truncated_record_is_one_error(named: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    name, record = named
    whole = CODEC.encode(name, record)
    with pytest.raises(CodecError):
        CODEC.decode(name, whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(NAMED_RECORDS, st.binary(min_size=1, max_size=20))
def test_trailing_bytes_are_one_error(named: tuple[str, dict[str, Any]], trailing: bytes) -> None:
    name, record = named
    with pytest.raises(CodecError, match=f"{len(trailing)} bytes after the end of the {name} record"):
        CODEC.decode(name, CODEC.encode(name, record) + trailing)


@given(NAMED_RECORDS, st.data())
def test_flipped_bit_is_a_record_or_one_error(named: tuple[str, dict[str, Any]], data: st.DataObject) -> None:
    name, record = named
    flipped = bytearray(CODEC.encode(name, record))
    bit = data.draw(st.integers(0, len(flipped) * 8 - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    if 16 <= bit < HEADER_SIZE * 8:
        with pytest.raises(UnknownSchemaError):
            CODEC.decode(name, bytes(flipped))
    else:
        with contextlib.suppress(CodecError):
            CODEC.decode(name, bytes(flipped))


@given(st.sampled_from(NAMES), st.binary(max_size=200))
def test_random_body_is_a_record_or_one_error(name: str, body: bytes) -> None:
    with contextlib.suppress(CodecError):
        CODEC.decode(name, CODEC.header(name) + body)


@given(st.sampled_from(NAMES), st.binary(max_size=60))
@example("leaf", b"")
@example("leaf", MARKER)
@example("leaf", b"\0\0\0\0\x01")
def test_bytes_without_our_header_are_one_error(name: str, data: bytes) -> None:
    with pytest.raises(CodecError):
        CODEC.decode(name, data)
    with pytest.raises(CodecError):
        CODEC.name_of(data)


def test_foreign_fingerprint_is_named() -> None:
    with pytest.raises(UnknownSchemaError, match="schema has the fingerprint 0011223344556677"):
        CODEC.decode("leaf", MARKER + bytes.fromhex("0011223344556677") + bytes(40))


def test_bytes_without_the_marker_are_not_an_unknown_schema() -> None:
    """Confluent's framing (0, then a schema id) must not be mistaken for a record of tomorrow."""
    with pytest.raises(CodecError) as caught:
        CODEC.decode("leaf", b"\0\0\0\0\x01" + bytes(40))
    assert not isinstance(caught.value, UnknownSchemaError)


def test_record_of_another_name_is_refused() -> None:
    leaf = CODEC.encode("leaf", {"offset": 1, "timestamp": 2, "digest": bytes(32)})
    with pytest.raises(CodecError, match="expected a telemetry record, found leaf"):
        CODEC.decode("telemetry", leaf)


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("leaf", {"offset": 2**63, "timestamp": 0, "digest": bytes(32)}),
        ("leaf", {"offset": 1, "timestamp": 0, "digest": bytes(31)}),
        ("leaf", {"offset": "1", "timestamp": 0, "digest": bytes(32)}),
        ("leaf", {"timestamp": 0, "digest": bytes(32)}),
        ("signed_envelope", {"payload": b"", "signatures": [{"key_id": "k", "algorithm": "RSA"}]}),
    ],
)
def test_record_that_does_not_fit_is_not_written(name: str, record: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match=f"record does not fit schema {name}"):
        CODEC.encode(name, record)


HEAD = varint(4) + b"did:" + varint(1) * 3
HUGE = [2**31 - 1, 2**40, 2**62, 2**63 - 1, -1, -(2**40), -(2**63)]


@pytest.mark.parametrize("declared", HUGE)
def test_huge_declared_length_allocates_nothing(declared: int) -> None:
    length = varint(declared)
    bodies = {
        "telemetry": [
            length + b"did:",  # a string's length
            HEAD + length + varint(7),  # an array's count
            HEAD + varint(0) + length + bytes(8),
            HEAD + varint(-1) + length + varint(7),  # a block's size in bytes: not a length to trust
        ],
        "signed_envelope": [length + b"x", varint(0) + length + varint(1) + b"k"],
        "registry_entry": [length],
        "device_state": [varint(0) * 4 + length],
    }
    tracemalloc.start()
    for name, tries in bodies.items():
        for body in tries:
            with contextlib.suppress(CodecError):
                CODEC.decode(name, CODEC.header(name) + body)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_many_empty_blocks_cost_what_they_weigh() -> None:
    """An array may come in blocks; an endless row of them ends with the input."""
    body = HEAD + (varint(-(2**63)) + varint(0)) * 5_000
    with pytest.raises(CodecError):
        CODEC.decode("telemetry", CODEC.header("telemetry") + body)


@pytest.mark.parametrize("text", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80"])
def test_text_that_is_not_utf8_is_refused(text: bytes) -> None:
    body = varint(len(text)) + text + varint(1) * 3 + varint(0) * 2
    with pytest.raises(CodecError):
        CODEC.decode("telemetry", CODEC.header("telemetry") + body)


def test_values_that_are_no_numbers_are_left_to_the_rules_of_events() -> None:
    body = HEAD + varint(0) + varint(1) + struct.pack("<d", math.nan) + varint(0)
    assert math.isnan(CODEC.decode("telemetry", CODEC.header("telemetry") + body)["values"][0])


def test_every_spelling_but_the_plain_one_is_refused() -> None:
    access = {
        "device_id": "did:x", "boot": 1, "sequence": 1, "time": 5, "subject": "s", "action": "a",
        "resource": "r", "purpose": "", "session": "", "outcome": "FAILED",
    }  # fmt: skip
    data = CODEC.encode("access", access)
    assert CODEC.decode("access", data)["outcome"] == "FAILED"
    header, body = data[:10], data[10:]
    telemetry = CODEC.encode(
        "telemetry",
        {"device_id": "did:x", "boot": 1, "sequence": 1, "time": 5, "codes": [1], "values": [2.0]},
    )
    codes = telemetry.index(b"\x02\x02\x00", 10)
    spellings = {
        "an index of -1 for the last symbol": header + body[:-1] + b"\x01",
        "a length in two bytes where one does": header + b"\x8a\x00" + body[1:],
        "an array block with a negative count and its size":
            telemetry[:codes] + b"\x01\x02\x02\x00" + telemetry[codes + 3 :],
        "an array in two blocks":
            telemetry[:codes] + b"\x02\x02\x02\x04\x00" + telemetry[codes + 3 :],
    }  # fmt: skip
    for spelled in spellings.values():
        with pytest.raises(CodecError, match=r"plain form"):
            CODEC.decode(CODEC.name_of(spelled), spelled)

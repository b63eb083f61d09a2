"""Schemas grow: tomorrow's reader reads today's bytes, today's reader names what it does not know."""

import copy
from typing import Any

import pytest

from schemas.codec import CODEC, HEADER_SIZE, Codec, compiled_in
from schemas.errors import CodecError, UnknownSchemaError

TELEMETRY = {
    "device_id": "did:example:monitor",
    "boot": 3,
    "sequence": 17,
    "time": 1_760_000_000_000_000,
    "codes": [147842],
    "values": [82.0],
}
QUALITY = {"name": "quality", "type": {"type": "array", "items": "int"}, "default": []}


def grown(*fields: dict[str, Any]) -> Codec:
    """A build of tomorrow: every schema of today, and telemetry version 2 with more fields."""
    schemas = compiled_in()
    version_2 = copy.deepcopy(schemas["telemetry", 1])
    version_2["fields"] += fields
    return Codec({**schemas, ("telemetry", 2): version_2})


def test_reader_of_the_next_version_reads_the_last_one() -> None:
    old = CODEC.encode("telemetry", TELEMETRY)
    assert grown(QUALITY).decode("telemetry", old) == {**TELEMETRY, "quality": []}


def test_next_version_is_what_its_build_writes_and_reads_back() -> None:
    tomorrow = grown(QUALITY)
    record = {**TELEMETRY, "quality": [1]}
    data = tomorrow.encode("telemetry", record)
    assert data[:HEADER_SIZE] == tomorrow.header("telemetry") != CODEC.header("telemetry")
    assert tomorrow.decode("telemetry", data) == record


def test_reader_of_the_last_version_names_the_next_as_unknown() -> None:
    data = grown(QUALITY).encode("telemetry", {**TELEMETRY, "quality": [1]})
    with pytest.raises(UnknownSchemaError, match=data[2:HEADER_SIZE].hex()):
        CODEC.decode("telemetry", data)


def test_other_records_keep_their_fingerprint() -> None:
    assert grown(QUALITY).header("signed_envelope") == CODEC.header("signed_envelope")


def test_old_bytes_stay_strict_under_a_new_reader() -> None:
    tomorrow, old = grown(QUALITY), CODEC.encode("telemetry", TELEMETRY)
    for broken in (old[:-1], old + b"\0"):
        with pytest.raises(CodecError):
            tomorrow.decode("telemetry", broken)


def test_new_field_without_a_default_leaves_old_bytes_unreadable() -> None:
    """Why every new field must have one."""
    careless = grown({"name": "ward", "type": "string"})
    with pytest.raises(CodecError):
        careless.decode("telemetry", CODEC.encode("telemetry", TELEMETRY))


def test_envelope_carries_old_and_new_payloads_untouched() -> None:
    tomorrow = grown(QUALITY)
    for payload in (CODEC.encode("telemetry", TELEMETRY), tomorrow.encode("telemetry", TELEMETRY)):
        sealed = tomorrow.encode("signed_envelope", {"payload": payload, "signatures": []})
        assert CODEC.decode("signed_envelope", sealed)["payload"] == payload

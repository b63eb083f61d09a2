"""The shortcut reads what the codec reads, or leaves it to the codec: never anything else."""

import math
from array import array
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import CODEC
from schemas.envelope import PayloadKind, decode_envelope
from schemas.errors import FormatError
from schemas.events import decode_event, encode_event
from schemas.shortcut import read_envelope, read_telemetry
from tests.kit.cases.spelling import spelled_otherwise
from tests.kit.cases.telemetry import damaged, damages, envelopes, telemetry


def of_codec(name: str, data: bytes) -> dict[str, Any] | None:
    try:
        return CODEC.decode(name, data)
    except FormatError:
        return None


def is_telemetry_read_alike(data: bytes) -> bool:
    """Compare; return whether the shortcut read it."""
    found = read_telemetry(data)
    if found is None:
        return False
    record = of_codec("telemetry", data)
    assert record is not None
    assert list(found[:4]) == [record[name] for name in ("device_id", "boot", "sequence", "time")]
    assert list(found[4]) == record["codes"]
    assert found[5].tobytes() == array("d", record["values"]).tobytes()
    return True


def is_envelope_read_alike(data: bytes) -> bool:
    """Compare; return whether the shortcut read it."""
    found = read_envelope(data)
    if found is None:
        return False
    payload, key_id, signature = found
    assert of_codec("signed_envelope", data) == {
        "payload": payload,
        "signatures": [{"key_id": key_id, "algorithm": "ED25519", "signature": signature}],
    }
    return True


@settings(max_examples=400, deadline=None)
@given(telemetry, damages)
def test_telemetry_is_read_as_the_codec_reads_it(
    record: dict[str, object], harm: list[tuple[int, int, int]]
) -> None:
    data = CODEC.encode("telemetry", record)
    is_telemetry_read_alike(data)
    for each in harm:
        data = damaged(data, *each)
        is_telemetry_read_alike(data)


@settings(max_examples=400, deadline=None)
@given(envelopes, damages)
def test_envelopes_are_read_as_the_codec_reads_them(
    record: dict[str, object], harm: list[tuple[int, int, int]]
) -> None:
    data = CODEC.encode("signed_envelope", record)
    is_envelope_read_alike(data)
    for each in harm:
        data = damaged(data, *each)
        is_envelope_read_alike(data)


@given(st.binary(max_size=120))
def test_foreign_bytes_behind_a_right_header_are_read_as_the_codec_reads_them(tail: bytes) -> None:
    is_telemetry_read_alike(CODEC.header("telemetry") + tail)
    is_envelope_read_alike(CODEC.header("signed_envelope") + tail)


def test_what_devices_send_takes_the_shortcut_and_other_spellings_of_it_do_not() -> None:
    record = {
        "device_id": "did:key:z6MkfDbPq1tTZkKqVr6qVQ6vD3CzPv5pQeG7Y6nGkT4f8zJp",
        "boot": 3,
        "sequence": 70_000,
        "time": 1_700_000_000_000_000,
        "codes": [147842, 149514, 150456, 151562, 150037, 150038, 150039, 150021],
        "values": [71.3, 71.0, 98.0, 16.0, 120.5, 70.1, 87.0, 118.0],
    }
    data = CODEC.encode("telemetry", record)
    assert is_telemetry_read_alike(data)
    envelope = CODEC.encode(
        "signed_envelope",
        {"payload": data, "signatures": [{"key_id": "k1", "algorithm": "ED25519", "signature": bytes(64)}]},
    )
    assert is_envelope_read_alike(envelope)
    for _, other in spelled_otherwise(data):
        assert not is_telemetry_read_alike(other)
    for at in range(len(data)):
        assert not is_telemetry_read_alike(data[:at])
    for at in range(len(envelope)):
        assert not is_envelope_read_alike(envelope[:at])


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=80))
def test_an_event_is_the_same_by_either_way(values: list[float]) -> None:
    record = {
        "device_id": "did:key:z6MkDevice", "boot": 1, "sequence": 1, "time": 5,
        "codes": [7 + at for at in range(len(values))], "values": values,
    }  # fmt: skip
    event = decode_event(PayloadKind.TELEMETRY, encode_event(PayloadKind.TELEMETRY, record))
    assert event.body == {**record, "codes": tuple(record["codes"]), "values": array("d", values)}  # type: ignore[arg-type]
    assert all(map(math.isfinite, event.body["values"]))


def test_an_envelope_of_two_signatures_is_read_by_the_codec() -> None:
    one = {"key_id": "k1", "algorithm": "ED25519", "signature": bytes(64)}
    data = CODEC.encode("signed_envelope", {"payload": b"p", "signatures": [one, one]})
    assert read_envelope(data) is None
    assert len(decode_envelope(data).signatures) == 2


@given(st.integers(-(2**63), 2**63 - 1))
def test_times_of_any_length_are_read_as_the_codec_reads_them(time_us: int) -> None:
    record = {"device_id": "did:x", "boot": 1, "sequence": 1, "time": time_us, "codes": [7], "values": [1.0]}
    is_read = is_telemetry_read_alike(CODEC.encode("telemetry", record))
    assert is_read or abs(time_us) >= 2**61

"""The records that ingest writes: they always fit, say why and whence, and cannot be guessed back."""

from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import outputs
from pipeline.outputs import KEPT_HEAD, MAX_BLOCKS, MAX_DETAIL, MAX_KEPT_KEY, MAX_KEPT_VALUE, MAX_PRINTS
from pipeline.topics import EVENTS, FINDINGS, PRINTS, REJECTED
from processors.model import RawRecord, Rejection, VerifiedEvent
from schemas.envelope import MAX_ENVELOPE_BYTES, PayloadKind
from schemas.events import Event
from schemas.noise import NoiseBlock, NoisePrint, decode_noise
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Finding, Severity, decode_finding, record_digest
from tests.kit.parties import (
    NOW_MS,
    TELEMETRY_RAW,
    RegistryTopic,
    event_of,
    identity_of,
    sent,
    telemetry_judge,
)

BROKER_MAX_BATCH_BYTES = 1_048_588
"""`message.max.bytes` of a broker, by default; it holds for a record batch."""
DID = identity_of("device").did


class Topics:
    """Stands where a producer's `produce` does."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []

    def produce(self, topic: str, value: Any, key: Any, partition: int, headers: Any = ()) -> None:
        record = {"value": value, "key": key, "partition": partition, "headers": headers}
        self.records.append((topic, record))

    @property
    def last(self) -> dict[str, Any]:
        return self.records[-1][1]


def batch_bytes(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]) -> int:
    """At most so many bytes has a batch of this one record (Kafka protocol, "Record Batch", magic 2)."""
    varint = 5
    size = 61 + 3 * varint + 1 + 10 + varint * 3 + len(key or b"") + len(value or b"")
    return size + sum(2 * varint + len(name.encode()) + len(data or b"") for name, data in headers)


def raw(key: bytes | None, value: bytes | None, **changes: Any) -> RawRecord:
    place = {"topic": TELEMETRY_RAW, "partition": 3, "offset": 41, "append_ms": NOW_MS, **changes}
    return RawRecord(key=key, value=value, **place)


def rejected(source: RawRecord, detail: str = "why", device: str | None = None) -> dict[str, Any]:
    topics = Topics()
    outputs.reject(topics.produce, Rejection(source, Reason.MALFORMED, detail, 7, device))
    ((topic, record),) = topics.records
    assert topic == REJECTED
    assert record["partition"] == source.partition
    return record


# ---- rejections ------------------------------------------------------------------------------------------

SIZES = st.sampled_from([0, 1, 255, 256, 257, 4096, 262_143, 262_144, 262_145, 700_000, 1_048_400])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    key_size=st.none() | SIZES,
    value_size=st.none() | SIZES,
    headers=st.lists(st.tuples(TEXT, st.none() | st.integers(0, 400).map(bytes)), max_size=4),
    many=st.sampled_from([1, 1, 5000]),
    offset=st.integers(0, 2**63 - 1),
    partition=st.integers(0, 2**31 - 1),
    detail=st.tuples(TEXT, st.sampled_from([1, 3000])),
    device=st.none() | st.sampled_from([DID, "did:web:" + "\U0010ffff" * 504]),
    reason=st.sampled_from(list(Reason)),
)
@settings(max_examples=150)
def test_whatever_the_broker_took_becomes_a_rejection_that_it_takes(
    key_size: int | None,
    value_size: int | None,
    headers: list[tuple[str, bytes | None]],
    many: int,
    offset: int,
    partition: int,
    detail: tuple[str, int],
    device: str | None,
    reason: Reason,
) -> None:
    key = None if key_size is None else bytes(key_size)
    value = None if value_size is None else bytes(value_size)
    source = raw(key, value, offset=offset, partition=partition, headers=tuple(headers * many))
    topics = Topics()
    outputs.reject(topics.produce, Rejection(source, reason, detail[0] * detail[1], 2**62, device))
    record = topics.last
    assert batch_bytes(record["key"], record["value"], record["headers"]) < BROKER_MAX_BATCH_BYTES
    found = dict(record["headers"])
    assert len(found) == len(record["headers"]), "a header comes twice"
    assert found["reason"] == reason.value.encode()
    if value is None or len(value) <= MAX_KEPT_VALUE:
        assert record["value"] == value
        assert not {"value.length", "value.blake3"} & set(found)
    else:
        assert record["value"] == value[:KEPT_HEAD]
        assert found["value.length"] == str(len(value)).encode()
        assert found["value.blake3"] == blake3(value).digest()
    if key is None or len(key) <= MAX_KEPT_KEY:
        assert record["key"] == key
    else:
        assert record["key"] is None
        assert found["key.length"] == str(len(key)).encode()
        assert found["key.blake3"] == blake3(key).digest()


def test_headers_say_why_whence_and_by_which_registry() -> None:
    record = rejected(raw(b"key", b"value"), "it was bad", DID)
    headers = dict(record["headers"])
    salt = headers.pop("salt")
    assert len(salt) == 16
    assert headers == {
        "reason": b"malformed",
        "registry.offset": b"7",
        "source": b"device.telemetry.raw/3/41",
        "device": DID.encode(),
        "__streams.errors.exception": b"malformed",
        "__streams.errors.message": b"it was bad",
        "__streams.errors.topic": TELEMETRY_RAW.encode(),
        "__streams.errors.partition": b"3",
        "__streams.errors.offset": b"41",
    }
    assert "device" not in dict(rejected(raw(b"key", b"value"))["headers"])


def test_no_header_of_the_sender_is_taken_over() -> None:
    forged = (("reason", b"replay"), ("registry.offset", b"0"), ("source", b"elsewhere/0/0"), ("salt", b""))
    record = rejected(raw(b"key", b"value", headers=forged))
    assert dict(record["headers"])["source"] == b"device.telemetry.raw/3/41"
    assert [name for name, _ in record["headers"]].count("source") == 1
    topics = Topics()
    outputs.accept(topics.produce, [accepted(headers=forged)])
    assert [name for name, _ in topics.last["headers"]] == ["registry.offset", "source"]


def test_no_two_rejections_of_the_same_bytes_have_the_same_digest() -> None:
    """Whoever knows an empty record, or guesses one, cannot find it among the leaves."""
    for source in (raw(None, None), raw(b"", b""), raw(b"key", b"value")):
        digests = set()
        for _ in range(20):
            record = rejected(source)
            digests.add(record_digest(record["key"], record["headers"], record["value"]))
        assert len(digests) == 20


def test_a_long_detail_is_cut_between_characters() -> None:
    record = rejected(raw(None, None), "é" * 5000)
    assert dict(record["headers"])["__streams.errors.message"] == ("é" * MAX_DETAIL).encode()


# ---- accepted events and findings ------------------------------------------------------------------------


def accepted(value: bytes = b"envelope", **changes: Any) -> VerifiedEvent:
    event = Event(PayloadKind.TELEMETRY, DID, 1, 1, NOW_MS * 1000, {})
    return VerifiedEvent(event, bytes(32), raw(DID.encode(), value, **changes), 7)


def test_an_accepted_envelope_is_forwarded_byte_for_byte() -> None:
    value, topics = event_of("device"), Topics()
    outputs.accept(topics.produce, [accepted(value)])
    assert topics.records == [
        (
            EVENTS,
            {
                "key": DID.encode(),
                "value": value,
                "partition": 3,
                "headers": [("registry.offset", b"7"), ("source", b"device.telemetry.raw/3/41")],
            },
        )
    ]


def test_accepted_envelopes_keep_their_order_and_each_has_its_own_source() -> None:
    topics = Topics()
    outputs.accept(topics.produce, [])
    outputs.accept(topics.produce, [accepted(b"one", offset=5), accepted(b"two", offset=60)])
    found = [(record["value"], dict(record["headers"])["source"]) for _, record in topics.records]
    assert found == [(b"one", b"device.telemetry.raw/3/5"), (b"two", b"device.telemetry.raw/3/60")]


def test_the_largest_event_fits() -> None:
    topics = Topics()
    item = accepted(bytes(MAX_ENVELOPE_BYTES), partition=2**31 - 1, offset=2**63 - 1)
    outputs.accept(topics.produce, [item])
    record = topics.last
    assert batch_bytes(record["key"], record["value"], record["headers"]) < BROKER_MAX_BATCH_BYTES


def test_the_largest_finding_fits_and_its_salt_differs_each_time() -> None:
    device, topics = "did:web:" + "\U0010ffff" * 504, Topics()
    finding = Finding(
        rule="registry_rejected",
        severity=Severity.HIGH,
        device_id=device,
        time_us=NOW_MS * 1000,
        explanation="\U0010ffff" * 2000,
        evidence=tuple(EvidenceRef(TELEMETRY_RAW, 3, number, bytes(32)) for number in range(1000)),
        subject="\U0010ffff" * 512,
        parameters={"key": "value" * 1000},
    )
    for _ in range(2):
        outputs.report(topics.produce, 3, finding)
    record = topics.last
    assert batch_bytes(record["key"], record["value"], []) < BROKER_MAX_BATCH_BYTES
    assert [topic for topic, _ in topics.records] == [FINDINGS] * 2
    assert record["key"] == device.encode()
    first, second = (decode_finding(each["value"]) for _, each in topics.records)
    assert first.pop("salt") != second.pop("salt")
    assert first == second


@given(st.binary(max_size=200), st.none() | st.binary(max_size=80))
def test_what_authenticate_turns_away_can_always_be_written(value: bytes, key: bytes | None) -> None:
    good = sent("device", event_of("device"), 0)
    batch = [good, raw(key, value, offset=1), raw(key, value + event_of("device"), offset=2)]
    for verdict in telemetry_judge().process(batch, RegistryTopic().table):
        assert isinstance(verdict, Rejection)
        topics = Topics()
        outputs.reject(topics.produce, verdict)
        for name, data in topics.last["headers"]:
            assert isinstance(name, str)
            assert isinstance(data, bytes)


@pytest.mark.parametrize(
    ("count", "prints"),
    [(0, 1), (1, 1), (MAX_BLOCKS, 1), (MAX_BLOCKS + 1, 14), (3, MAX_PRINTS), (2 * MAX_BLOCKS + 5, 1)],
)
def test_prints_of_any_batch_fit_and_keep_their_order(count: int, prints: int) -> None:
    each = tuple(NoisePrint(2**31 - 1, 7, 2**48 - 1) for _ in range(prints))
    blocks = [NoiseBlock("d" * 256, 2**62, 2**62, 2**62, number, each) for number in range(count)]
    topics = Topics()
    outputs.tell_noise(topics.produce, (TELEMETRY_RAW, 3), blocks)
    told: list[NoiseBlock] = []
    for topic, record in topics.records:
        assert (topic, record["key"], record["partition"]) == (PRINTS, f"{TELEMETRY_RAW}/3".encode(), 0)
        assert len(record["value"]) < BROKER_MAX_BATCH_BYTES
        told += decode_noise(record["value"]).blocks
    assert told == blocks

"""Who is let in as a device's event, why not, in which order that is asked, and that no input breaks it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.authenticate import Authenticate
from processors.model import RawRecord, Rejection, VerifiedEvent
from schemas.codec import CODEC
from schemas.ed25519 import verify_batch
from schemas.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_SIGNATURES,
    PayloadKind,
    Signature,
    SignedEnvelope,
    decode_envelope,
)
from schemas.errors import FormatError
from schemas.events import decode_event
from schemas.partition import partition_of
from schemas.reasons import Reason
from tests.kit.parties import (
    LIMITS,
    LOG,
    NOW_MS,
    PARTITIONS,
    TELEMETRY_RAW,
    RegistryTopic,
    approval_of,
    envelope_of,
    event_of,
    identity_of,
    new_key,
    payload_of,
    record_of,
    sent,
    telemetry_judge,
)

NOW_US = NOW_MS * 1000
DEVICE = identity_of("device")
DID = DEVICE.did


def make_registry() -> RegistryTopic:
    """Devices in every state of their life, and approvers."""
    topic = RegistryTopic()
    for name in ("device", "rotated", "revoked", "retired"):
        topic.enroll(name)
    for name in ("approver", "revoked approver", "retired approver"):
        topic.enroll(name, "APPROVAL")
    topic.write(identity_of("rotated").did, "ROTATE", key=new_key("k2", "rotated to"))
    topic.write(identity_of("revoked").did, "REVOKE", revoked="k1")
    topic.write(identity_of("retired").did, "DECOMMISSION")
    topic.write(identity_of("revoked approver").did, "REVOKE", revoked="k1")
    topic.write(identity_of("retired approver").did, "DECOMMISSION")
    topic.write(DID, "ROTATE", key=new_key("a1", "device's approval key", "APPROVAL"))
    return topic


TABLE = make_registry().table


def judge(*records: RawRecord) -> list[VerifiedEvent | Rejection]:
    return telemetry_judge().process(records, TABLE)


def reason(record: RawRecord) -> Reason | None:
    (verdict,) = judge(record)
    assert verdict.source is record
    assert verdict.registry_offset == TABLE.offset
    return verdict.reason if isinstance(verdict, Rejection) else None


# ---- one reason each -------------------------------------------------------------------------------------


def test_a_sound_event_is_let_in_with_what_later_stages_need() -> None:
    payload = payload_of(DID, boot=3, sequence=9)
    record = sent("device", envelope_of(payload, DEVICE))
    (verdict,) = judge(record)
    assert isinstance(verdict, VerifiedEvent)
    assert verdict.digest == blake3(payload).digest()
    assert (verdict.event.device_id, verdict.event.boot, verdict.event.sequence) == (DID, 3, 9)
    assert verdict.source is record


GOOD = event_of("device")
BAD_VALUES = {
    "not a number": {"values": [float("nan"), 1.0]},
    "infinite": {"values": [float("inf"), 1.0]},
    "both infinities": {"values": [float("inf"), float("-inf")]},
    "fewer values": {"values": [1.0]},
    "more values": {"values": [1.0, 2.0, 3.0]},
    "too many readings": {"codes": list(range(257)), "values": [1.0] * 257},
    "sequence 0": {"sequence": 0},
    "sequence below 0": {"sequence": -1},
    "sequence beyond 2^62": {"sequence": 2**62 + 1},
    "boot 0": {"boot": 0},
    "boot beyond 2^62": {"boot": 2**62 + 1},
    "no DID": {"device_id": "monitor-1"},
    "long DID": {"device_id": "did:web:" + "x" * 600},
}


@pytest.mark.parametrize("changes", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_a_field_that_breaks_a_rule(changes: dict[str, object]) -> None:
    payload = payload_of(**{"did": DID, **changes})  # type: ignore[arg-type]
    record = record_of(str(changes.get("device_id", DID)).encode(), envelope_of(payload, DEVICE))
    assert reason(record) is Reason.INVALID_VALUE


def test_reasons_of_size_and_form() -> None:
    payload = payload_of(DID)
    signature = DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload)
    unknown = b"\xc3\x01" + bytes(8)
    cases: Sequence[tuple[Reason | None, bytes | None]] = (
        (None, GOOD),
        (Reason.EMPTY, None),
        (Reason.EMPTY, b""),
        (Reason.OVERSIZED, bytes(MAX_ENVELOPE_BYTES + 1)),
        (Reason.MALFORMED, bytes(MAX_ENVELOPE_BYTES)),
        (Reason.OVERSIZED, GOOD + bytes(MAX_ENVELOPE_BYTES)),
        (Reason.MALFORMED, GOOD + b"\0"),
        (Reason.MALFORMED, GOOD[:-1]),
        (Reason.MALFORMED, GOOD[:9]),
        (Reason.MALFORMED, payload),
        (Reason.UNKNOWN_SCHEMA, unknown + GOOD[10:]),
        (Reason.UNKNOWN_SCHEMA, envelope_of(unknown + payload[10:], DEVICE)),
        (Reason.MALFORMED, envelope_of(b"", DEVICE)),
        (Reason.MALFORMED, envelope_of(payload[:-1], DEVICE)),
        (Reason.MALFORMED, envelope_of(payload + b"\0", DEVICE)),
        (Reason.MALFORMED, SignedEnvelope(payload, ()).encode()),
        (Reason.MALFORMED, SignedEnvelope(payload, (signature,) * (MAX_SIGNATURES + 1)).encode()),
    )
    for expected, value in cases:
        assert reason(sent("device", value)) is expected, value[:20] if value else value


@pytest.mark.parametrize("other", ["leaf", "registry_entry", "access", "lifecycle", "signed_envelope"])
def test_a_payload_of_another_kind(other: str) -> None:
    payload = CODEC.header(other) + payload_of(DID)[10:]
    assert reason(sent("device", envelope_of(payload, DEVICE))) is Reason.WRONG_KIND


def test_a_record_is_where_its_device_belongs() -> None:
    place = partition_of(DID.encode(), PARTITIONS)
    for key in (None, b"", b"other", DID.encode() + b"\0", DID.upper().encode(), b"\xff"):
        for partition in range(PARTITIONS):
            assert reason(record_of(key, GOOD, partition=partition)) is Reason.WRONG_PARTITION
    for partition in (-1, *range(PARTITIONS), PARTITIONS, place + PARTITIONS):
        expected = None if partition == place else Reason.WRONG_PARTITION
        assert reason(record_of(DID.encode(), GOOD, partition=partition)) is expected


def test_a_key_must_be_good_now() -> None:
    def with_key(name: str, key_id: str, signer: str | None = None) -> Reason | None:
        identity = replace(identity_of(signer or name), key_id=key_id)
        return reason(sent(name, envelope_of(payload_of(identity_of(name).did), identity)))

    assert with_key("device", "k1") is None
    assert with_key("stranger", "k1") is Reason.UNKNOWN_DEVICE
    assert with_key("device", "k2") is Reason.UNKNOWN_KEY
    assert with_key("device", "") is Reason.UNKNOWN_KEY
    assert with_key("device", "K1") is Reason.UNKNOWN_KEY
    assert with_key("device", f"{DID}#k1") is Reason.UNKNOWN_KEY
    assert with_key("device", "a1", "device's approval key") is Reason.UNKNOWN_KEY
    assert with_key("rotated", "k1") is Reason.REVOKED_KEY
    assert with_key("rotated", "k2", "rotated to") is None
    assert with_key("revoked", "k1") is Reason.REVOKED_KEY
    assert with_key("retired", "k1") is Reason.DECOMMISSIONED


def test_a_signature_is_over_these_bytes_by_that_key() -> None:
    payload = payload_of(DID)
    good = DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload)
    other = DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload_of(DID, sequence=2))
    stranger = replace(identity_of("stranger"), key_id="k1").sign(PayloadKind.TELEMETRY, LOG, payload)
    raw = DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload).signature
    bad = [other.signature, stranger.signature, b"", raw[:63], raw + b"\0", bytes(64), raw[32:] + raw[:32]]
    bad += [bytes([raw[0] ^ 1]) + raw[1:], raw[:-1] + bytes([raw[-1] ^ 0x80])]
    assert reason(sent("device", SignedEnvelope(payload, (good,)).encode())) is None
    for signature in bad:
        value = SignedEnvelope(payload, (Signature("k1", signature),)).encode()
        assert reason(sent("device", value)) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("kind", "audience"),
    [
        (PayloadKind.ACCESS, LOG),
        (PayloadKind.LIFECYCLE, LOG),
        (PayloadKind.REGISTRY_ENTRY, LOG),
        (PayloadKind.TELEMETRY, "other.example"),
        (PayloadKind.TELEMETRY, ""),
        (PayloadKind.TELEMETRY, LOG + " "),
        (PayloadKind.TELEMETRY, LOG.upper()),
    ],
)
def test_a_signature_for_another_kind_or_audience_is_none(kind: PayloadKind, audience: str) -> None:
    value = envelope_of(payload_of(DID), DEVICE, kind=kind, audience=audience)
    assert reason(sent("device", value)) is Reason.BAD_SIGNATURE


@pytest.mark.parametrize("kind", [PayloadKind.ACCESS, PayloadKind.LIFECYCLE])
def test_a_telemetry_payload_relabelled_for_another_topic(kind: PayloadKind) -> None:
    """Either the fingerprint still says telemetry, or the signature does not fit the changed bytes."""
    other = Authenticate(kind, LOG, PARTITIONS, LIMITS)
    payload = payload_of(DID)
    (as_it_is,) = other.process([sent("device", GOOD)], TABLE)
    assert isinstance(as_it_is, Rejection)
    assert as_it_is.reason is Reason.WRONG_KIND
    relabelled = CODEC.header(kind.value) + payload_of(DID, kind)[10:]
    stolen = SignedEnvelope(relabelled, (DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload),))
    (verdict,) = other.process([sent("device", stolen.encode())], TABLE)
    assert isinstance(verdict, Rejection)
    assert verdict.reason is Reason.BAD_SIGNATURE


def test_time_is_held_to_the_brokers_within_limits() -> None:
    for time_us, expected in (
        (NOW_US, None),
        (NOW_US + LIMITS.max_ahead_us, None),
        (NOW_US + LIMITS.max_ahead_us + 1, Reason.IMPLAUSIBLE_TIME),
        (NOW_US - LIMITS.max_behind_us, None),
        (NOW_US - LIMITS.max_behind_us - 1, Reason.IMPLAUSIBLE_TIME),
        (4_102_444_800_000_000, Reason.IMPLAUSIBLE_TIME),
        (0, Reason.IMPLAUSIBLE_TIME),
        (-(2**63), Reason.IMPLAUSIBLE_TIME),
        (2**63 - 1, Reason.IMPLAUSIBLE_TIME),
    ):
        assert reason(sent("device", event_of("device", time=time_us))) is expected, time_us


# ---- approvals -------------------------------------------------------------------------------------------


def test_an_approval_is_by_did_url_for_that_purpose_and_must_verify_too() -> None:
    payload = payload_of(DID)
    approver = identity_of("approver").did
    good = approval_of("approver", payload)

    def approved(*approvals: Signature) -> Reason | None:
        return reason(sent("device", envelope_of(payload, DEVICE, *approvals)))

    assert approved(good) is None
    assert approved(good, approval_of("stranger", payload)) is Reason.UNKNOWN_KEY
    assert approved(replace(good, signature=bytes(64))) is Reason.BAD_SIGNATURE
    assert approved(good, replace(good, signature=good.signature[:63])) is Reason.BAD_SIGNATURE
    assert approved(approval_of("approver", payload_of(DID, sequence=2))) is Reason.BAD_SIGNATURE
    assert approved(approval_of("approver", payload, PayloadKind.ACCESS)) is Reason.BAD_SIGNATURE
    assert approved(approval_of("revoked approver", payload)) is Reason.REVOKED_KEY
    assert approved(approval_of("retired approver", payload)) is Reason.DECOMMISSIONED
    for key_id in ("k1", "#k1", f"{approver}#", f"{approver}#k2", f"{approver}##k1", approver, f"{DID}#k1"):
        assert approved(replace(good, key_id=key_id)) is Reason.UNKNOWN_KEY, key_id
    # The device's own signature does not count as an approval, nor does another device's event key.
    assert approved(approval_of("rotated", payload)) is Reason.UNKNOWN_KEY


def test_an_approver_does_not_speak_for_the_device() -> None:
    payload = payload_of(DID)
    device, approval = DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload), approval_of("approver", payload)
    for signatures in ((approval,), (approval, device), (replace(approval, key_id="k1"),)):
        verdict = reason(sent("device", SignedEnvelope(payload, signatures).encode()))
        assert verdict in (Reason.UNKNOWN_KEY, Reason.BAD_SIGNATURE)
    own = payload_of(identity_of("approver").did)
    value = envelope_of(own, identity_of("approver"))
    assert reason(sent("approver", value)) is Reason.UNKNOWN_KEY


# ---- the order of the checks -----------------------------------------------------------------------------

FLAWS = (
    Reason.OVERSIZED,
    Reason.UNKNOWN_SCHEMA,
    Reason.WRONG_KIND,
    Reason.INVALID_VALUE,
    Reason.WRONG_PARTITION,
    Reason.REVOKED_KEY,
    Reason.BAD_SIGNATURE,
    Reason.IMPLAUSIBLE_TIME,
)


def flawed(flaws: set[Reason]) -> RawRecord:
    """A record with exactly these things wrong."""
    name = "revoked" if Reason.REVOKED_KEY in flaws else "device"
    kind = PayloadKind.ACCESS if Reason.WRONG_KIND in flaws else PayloadKind.TELEMETRY
    changes = {"time": 0 if Reason.IMPLAUSIBLE_TIME in flaws else NOW_US}
    changes["sequence"] = 0 if Reason.INVALID_VALUE in flaws else 1
    payload = payload_of(identity_of(name).did, kind, **changes)
    audience = "other.example" if Reason.BAD_SIGNATURE in flaws else LOG
    value = envelope_of(payload, identity_of(name), audience=audience)
    if Reason.UNKNOWN_SCHEMA in flaws:
        value = value[:2] + bytes(8) + value[10:]
    if Reason.OVERSIZED in flaws:
        value += bytes(MAX_ENVELOPE_BYTES)
    key = b"somebody" if Reason.WRONG_PARTITION in flaws else identity_of(name).did.encode()
    return record_of(key, value)


@given(st.sets(st.sampled_from(FLAWS)))
@settings(max_examples=256)
def test_of_many_flaws_the_first_in_the_order_is_the_reason(flaws: set[Reason]) -> None:
    first = next((flaw for flaw in FLAWS if flaw in flaws), None)
    assert reason(flawed(flaws)) is first


def test_a_forged_event_is_judged_by_its_signature_before_its_time_or_number_matter() -> None:
    forged = envelope_of(payload_of(DID, sequence=2**62, time=0), replace(identity_of("x"), key_id="k1"))
    assert reason(sent("device", forged)) is Reason.BAD_SIGNATURE


# ---- batches ---------------------------------------------------------------------------------------------


def test_of_several_signatures_at_fault_the_first_is_named() -> None:
    payload = payload_of(DID)
    approval = replace(approval_of("approver", payload), signature=bytes(64))
    device = replace(DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload), signature=bytes(64))
    (verdict,) = telemetry_judge().process(
        [sent("device", SignedEnvelope(payload, (device, approval)).encode())], TABLE
    )
    assert isinstance(verdict, Rejection)
    assert verdict.reason is Reason.BAD_SIGNATURE
    assert verdict.detail == "the signature by key 'k1' does not verify"


def approved(index: int, *, good: bool) -> bytes:
    payload = payload_of(DID, sequence=index + 1)
    approval = approval_of("approver", payload)
    return envelope_of(payload, DEVICE, approval if good else replace(approval, signature=bytes(64)))


def pool() -> list[tuple[bytes | None, bytes | None]]:
    """(key, value) of records good and bad in every way."""
    found: list[tuple[bytes | None, bytes | None]] = []
    for number in range(6):
        found += [
            (DID.encode(), event_of("device", sequence=number + 1)),
            (DID.encode(), approved(number, good=True)),
            (DID.encode(), approved(number, good=False)),
        ]
    found += [(flawed({flaw}).key, flawed({flaw}).value) for flaw in FLAWS]
    found += [
        (identity_of(name).did.encode(), event_of(name))
        for name in ("stranger", "rotated", "revoked", "retired")
    ]
    found += [(None, None), (b"", b""), (None, GOOD), (DID.encode(), GOOD[:-1])]
    return found


POOL = pool()


def is_genuine(record: RawRecord) -> bool:
    """Signed by its device; when it arrives is another matter, so also judge it as if at its own time."""
    arrivals = [record]
    try:
        payload = decode_envelope(record.value or b"").payload
        arrivals.append(
            replace(record, append_ms=decode_event(PayloadKind.TELEMETRY, payload).time_us // 1000)
        )
    except FormatError:
        return False
    return any(isinstance(judge(arrival)[0], VerifiedEvent) for arrival in arrivals)


GENUINE = {
    decode_envelope(value).payload for key, value in POOL if value and is_genuine(record_of(key, value))
}


@given(st.lists(st.integers(0, len(POOL) - 1), max_size=30))
@settings(max_examples=100)
def test_a_batch_is_judged_as_its_records_one_by_one(chosen: list[int]) -> None:
    batch = [record_of(*POOL[index], offset=offset) for offset, index in enumerate(chosen)]
    assert judge(*batch) == [judge(record)[0] for record in batch]


def counting() -> tuple[Authenticate, list[int]]:
    """One for telemetry, and how many signatures each call of its verifier had."""
    calls: list[int] = []

    def verify(keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]) -> list[bool]:
        calls.append(len(keys))
        return verify_batch(keys, messages, signatures)

    return Authenticate(PayloadKind.TELEMETRY, LOG, PARTITIONS, LIMITS, verify), calls


def test_a_batch_is_verified_in_one_call_and_only_what_may_be_verified() -> None:
    subject, calls = counting()
    batch = [sent("device", GOOD), sent("stranger", event_of("stranger"), 1), sent("device", b"noise", 2)]
    batch.append(sent("device", approved(0, good=True), 3))
    subject.process(batch, TABLE)
    assert calls == [2, 1], "the devices', then an approval"
    subject.process([], TABLE)
    assert calls == [2, 1], "nothing to verify is no call"


def test_approvals_of_what_its_device_did_not_sign_are_not_looked_at() -> None:
    subject, calls = counting()
    payload = payload_of(DID)
    own = DEVICE.sign(PayloadKind.TELEMETRY, LOG, payload)
    forged = replace(own, signature=own.signature[:32] + bytes(32))
    envelope = SignedEnvelope(payload, (forged, *[approval_of("approver", payload)] * 15)).encode()
    (verdict,) = subject.process([sent("device", envelope)], TABLE)
    assert isinstance(verdict, Rejection)
    assert (verdict.reason, verdict.detail) == (
        Reason.BAD_SIGNATURE,
        "the signature by key 'k1' does not verify",
    )
    assert calls == [1]


def test_a_verdict_stands_for_the_registry_at_its_offset() -> None:
    topic = RegistryTopic()
    record = sent("device", GOOD)
    seen = [telemetry_judge().process([record], topic.table)[0]]
    topic.enroll("device")
    seen += telemetry_judge().process([record], topic.table)
    topic.write(DID, "REVOKE", revoked="k1")
    seen += telemetry_judge().process([record], topic.table)
    topic.write(DID, "DECOMMISSION")
    seen += telemetry_judge().process([record], topic.table)
    reasons = [v.reason if isinstance(v, Rejection) else None for v in seen]
    assert reasons == [Reason.UNKNOWN_DEVICE, None, Reason.REVOKED_KEY, Reason.DECOMMISSIONED]
    assert [v.registry_offset for v in seen] == [0, 1, 2, 3]
    for offset, verdict in enumerate(seen):
        assert telemetry_judge().process([record], topic.upto(offset)) == [verdict]


REWRITES = (
    lambda topic: topic.write(DID, "REVOKE", revoked="k1"),
    lambda topic: topic.write(DID, "ROTATE", key=new_key("k2", "device again")),
    lambda topic: topic.write(DID, "DECOMMISSION"),
    lambda topic: topic.enroll("stranger"),
)


@given(st.lists(st.one_of(st.integers(0, len(POOL) - 1), st.sampled_from(REWRITES), st.none()), max_size=30))
@settings(max_examples=100, deadline=None)
def test_who_was_seen_before_is_judged_as_for_the_first_time(course: list[Any]) -> None:
    topic, subject = make_registry(), telemetry_judge()
    for offset, step in enumerate(course):
        if step is None:
            topic = make_registry()  # another registry: of the same offset, with other subjects
        elif callable(step):
            step(topic)
        else:
            key, value = POOL[step]
            for partition in (None, 0):
                record = record_of(key, value, offset, partition)
                assert subject.process([record], topic.table) == telemetry_judge().process(
                    [record], topic.table
                )


# ---- anything at all -------------------------------------------------------------------------------------

KEYS = st.none() | st.binary(max_size=80) | st.just(DID.encode())
HEADERS = st.lists(st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=8)), max_size=3).map(tuple)
ENVELOPES = st.builds(
    SignedEnvelope,
    st.binary(max_size=80)
    | st.just(payload_of(DID))
    | st.builds(
        lambda kind, body: CODEC.header(kind.value) + body,
        st.sampled_from(list(PayloadKind)),
        st.binary(max_size=60),
    ),
    st.lists(
        st.builds(
            Signature,
            st.text(max_size=12) | st.sampled_from(["k1", f"{identity_of('approver').did}#k1", "#"]),
            st.binary(max_size=70),
        ),
        max_size=18,
    ).map(tuple),
).map(SignedEnvelope.encode)


def spoiled(value: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    data = bytearray(value)
    for at, byte in edits:
        data[at % len(data)] = byte
    return bytes(data[: max(0, len(data) - cut)])


VALUES = (
    st.none()
    | st.binary(max_size=300)
    | ENVELOPES
    | st.builds(
        spoiled,
        st.sampled_from([value for _, value in POOL if value and len(value) < 4000]),
        st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
        st.sampled_from([0, 0, 0, 1, 7, 64]),
    )
)
RECORDS = st.builds(
    RawRecord,
    topic=st.sampled_from([TELEMETRY_RAW, ""]),
    partition=st.integers(-1, 2**31 - 1) | st.integers(0, PARTITIONS - 1),
    offset=st.integers(0, 2**62),
    append_ms=st.integers(-1, 2**53) | st.just(NOW_MS),
    key=KEYS,
    value=VALUES,
    headers=HEADERS,
)


@given(st.lists(RECORDS, max_size=8, unique_by=lambda record: record.offset))
@settings(max_examples=250)
def test_any_batch_gives_one_verdict_a_record_in_its_order(batch: list[RawRecord]) -> None:
    verdicts = judge(*batch)
    assert [verdict.source for verdict in verdicts] == batch
    for verdict in verdicts:
        if isinstance(verdict, Rejection):
            verdict.detail.encode()
            (verdict.device_id or "").encode()
        else:
            envelope = decode_envelope(verdict.source.value or b"")
            assert envelope.payload in GENUINE  # nothing but what a device signed gets in

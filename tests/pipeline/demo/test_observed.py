"""What the watcher keeps of the topics, from records made as the stages make them."""

import json
import random
from dataclasses import replace

from pipeline.demo.notified import PARTY_TOPIC, SeenIncident
from pipeline.demo.observed import Observed
from pipeline.topics import (
    ALERTS,
    ANCHORS,
    CHECKPOINTS,
    DECISIONS,
    EVENTS,
    FINDINGS,
    REGISTRY,
    REJECTED,
    TELEMETRY_RAW,
)
from processors.model import RawRecord
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.codec import CODEC
from schemas.decisions import DecisionKind, DecisionReason, Effect
from schemas.note import Ed25519Signer, format_note
from schemas.records import EvidenceRef, Finding, Headers, Severity
from tests.schemas.test_decisions import DECISION

LOG = "log.example"


def record(
    topic: str, offset: int, value: bytes = b"", headers: Headers = (), append_ms: int = 0, partition: int = 0
) -> RawRecord:
    return RawRecord(topic, partition, offset, append_ms, b"key", value, headers)


def checkpoint(origin: str, size: int) -> bytes:
    signer = Ed25519Signer.from_seed(origin, bytes(32))
    return format_note(sign_checkpoint(Checkpoint(origin, size, bytes(range(32))), [signer]))


def anchor(status: str, size: int) -> bytes:
    body = {"status": status, "origin": LOG, "tree_size": size, "root": bytes(32), "ledger": "x",
            "ledger_topic": "0.0.1", "transaction_id": "t", "checkpoint": b"note", "time": 0}  # fmt: skip
    return CODEC.encode("anchor", body)


def silence(device: str, time_us: int) -> bytes:
    evidence = (EvidenceRef(TELEMETRY_RAW, 3, 7),)
    return Finding("silence", Severity.MEDIUM, device, time_us, "text", evidence).encode(bytes(16))


def alert(
    uid: str,
    rule: str = "stuck",
    suppressed_by: str = "",
    device: str = "did:a",
    incident: int = 0,
    at_ms: int = 5,
) -> bytes:
    """What the correlator writes, as far as the demo reads it."""
    body = {
        "metadata": {"uid": uid},
        "finding_info": {"uid": f"cause of {uid}", "analytic": {"uid": rule}},
        "class_uid": 2004,
        "start_time": at_ms,
        "device": {"uid": device},
        "unmapped": {
            "suppressed_by": suppressed_by,
            **({"incident": True, "devices": incident} if incident else {}),
        },
    }
    return json.dumps(body).encode()


def observed(*records: RawRecord, **fields: object) -> Observed:
    found = Observed(rng=random.Random(1), **fields)  # type: ignore[arg-type]
    for at, each in enumerate(records):
        found.take(each, float(at))
    return found


def test_rejections_and_findings_are_kept_with_their_moment() -> None:
    found = observed(
        record(REJECTED, 0, headers=[("reason", b"replay"), ("source", b"device.telemetry.raw/0/4")]),
        record(FINDINGS, 0, silence("did:a", 5)),
    )
    assert found.rejections["device.telemetry.raw/0/4"].reason == "replay"
    (finding,) = found.findings
    assert (finding.rule, finding.device_id, finding.at_s) == ("silence", "did:a", 1.0)
    assert finding.sources == ("device.telemetry.raw/3/7",)
    assert found.opened == {"silence": 1}


def test_the_silence_of_devices_that_left_is_no_finding() -> None:
    found = observed(gone=frozenset({"did:a"}), gone_us=100)
    for device, time_us in (("did:a", 101), ("did:a", 99), ("did:b", 101)):
        found.take(record(FINDINGS, 0, silence(device, time_us)), 0.0)
    assert found.opened == {"silence": 2}


def test_expected_leaves_are_the_records_of_each_sealed_partition() -> None:
    found = observed(
        record(EVENTS, 0, headers=[("source", b"device.telemetry.raw/0/0")]),
        record(EVENTS, 5, headers=[("source", b"device.telemetry.raw/0/1")]),
        record(REGISTRY, 0),
        record(ALERTS, 0, alert("a")),
        record(TELEMETRY_RAW, 0),
        record(CHECKPOINTS, 0, checkpoint(LOG, 1)),
    )
    expected = {f"{LOG}/{EVENTS}/0": 2, f"{LOG}/{REGISTRY}/0": 1, f"{LOG}/{ALERTS}/0": 1}
    assert found.sealed_by_origin(LOG) == expected
    assert found.told.alerts == 1


def test_the_epoch_log_that_covers_all_shards() -> None:
    a, b = f"{LOG}/{EVENTS}/0", f"{LOG}/{EVENTS}/1"
    found = observed(
        record(CHECKPOINTS, 0, checkpoint(a, 5)),
        record(CHECKPOINTS, 1, b"the signed list of shards"),
        record(CHECKPOINTS, 2, checkpoint(b, 3)),
        record(CHECKPOINTS, 3, checkpoint(a, 9)),
        record(CHECKPOINTS, 4, checkpoint(b, 8)),
    )
    assert found.epoch_size_covering({a: 5, b: 1}) == 3
    assert found.epoch_size_covering({a: 6, b: 3}) == 4
    assert found.epoch_size_covering({a: 6, b: 8}) == 5
    assert found.epoch_size_covering({a: 10}) is None
    assert found.epoch_size_covering({a: 1, "another": 1}) is None
    assert found.epoch_size_covering({}) == 0


def test_anchors_are_counted_by_tree_size_and_lag_by_the_brokers_clock() -> None:
    found = observed(
        record(CHECKPOINTS, 0, checkpoint("a", 1), append_ms=1_000),
        record(CHECKPOINTS, 1, checkpoint("a", 2), append_ms=2_000),
        record(CHECKPOINTS, 2, checkpoint("a", 3), append_ms=9_000),
        record(ANCHORS, 0, anchor("SUBMITTED", 2), append_ms=2_500),
    )
    assert (found.anchor_counts(), found.confirmed_size(), found.last_lag_s()) == ((1, 0), 0, None)
    found.take(record(ANCHORS, 1, anchor("CONFIRMED", 2), append_ms=5_250), 9.0)
    assert (found.anchor_counts(), found.confirmed_size(), found.last_lag_s()) == ((1, 1), 2, 3.25)


def test_what_was_there_before_counts_as_leaves_only() -> None:
    found = observed(since={(EVENTS, 0): 10, (ANCHORS, 0): 10})
    found.take(record(EVENTS, 9, headers=[("source", b"device.telemetry.raw/0/0")]), 0.0)
    found.take(record(ANCHORS, 9, anchor("CONFIRMED", 2)), 0.0)
    assert (found.books.accepted, found.sample, found.confirmed_size()) == (0, None, 0)
    assert found.sealed_by_origin(LOG) == {f"{LOG}/{EVENTS}/0": 1}


def test_the_sampled_event_is_any_of_them() -> None:
    sampled = set()
    for seed in range(60):
        found = Observed(rng=random.Random(seed))
        for offset in range(5):
            found.take(
                record(EVENTS, offset, headers=[("source", b"device.telemetry.raw/0/%d" % offset)]), 0.0
            )
        sampled.add(found.sample)
    assert sampled == {(0, offset) for offset in range(5)}


def test_an_alert_counts_once_and_the_newest_that_is_due_is_the_last_that_is_not_suppressed() -> None:
    found = observed(
        record(ALERTS, 0, alert("a", "break_glass", device="did:pump")),
        record(ALERTS, 3, alert("b")),
        record(ALERTS, 5, alert("c", suppressed_by="another")),
        record(ALERTS, 7, alert("b")),  # made again after a crash
    )
    told = found.told
    assert (told.alerts, told.suppressed, told.due, told.routed) == (4, 1, 3, -1)
    assert told.first_s["break_glass", "did:pump"] == 0.0
    assert ("break_glass", "did:a") not in told.first_s


def test_a_denial_is_an_alert_too() -> None:
    body = {
        "class_uid": 6003,
        "metadata": {"uid": "d", "event_code": "denied.forbidden", "correlation_uid": "cause"},
        "resources": [{"name": "drug library"}, {"uid": "did:pump"}],
        "start_time": 5,
        "unmapped": {"incident": True, "devices": 5},
    }
    found = observed(record(ALERTS, 2, json.dumps(body).encode()))
    assert (found.told.alerts, found.told.due) == (1, 2)
    assert found.incidents() == [SeenIncident("denied.forbidden", 5, frozenset({"did:pump"}), 5, 0.0)]


def test_messages_about_one_incident_are_one_and_a_fleet_that_left_is_none() -> None:
    def message(uid: str, **changes: object) -> bytes:
        return json.dumps({**json.loads(alert(uid, "bounds", incident=5)), **changes}).encode()

    cause = {"uid": "one", "analytic": {"uid": "bounds"}}
    found = observed(
        record(ALERTS, 0, message("a", finding_info=cause, resources=[{"uid": "did:a"}, {"uid": "did:b"}])),
        record(
            ALERTS,
            1,
            message(
                "b",
                finding_info=cause,
                resources=[{"uid": "did:c"}],
                unmapped={"incident": True, "devices": 12},
            ),
        ),
        record(ALERTS, 2, alert("c", "silence", incident=9, at_ms=99)),
        record(ALERTS, 3, alert("d", "silence", incident=9, at_ms=101)),
        gone=frozenset({"did:a"}),
        gone_us=100_000,
    )
    assert found.incidents() == [
        SeenIncident("bounds", 12, frozenset({"did:a", "did:b", "did:c"}), 5, 0.0),
        SeenIncident("silence", 9, frozenset(), 99, 2.0),
    ]


def test_the_partys_numbers_count_from_where_the_demo_began() -> None:
    def numbered(offset: int, number: int, source: int) -> RawRecord:
        headers = [("party.sequence", b"%d" % number), ("source", b"alerts/0/%d" % source)]
        return record(PARTY_TOPIC, offset, headers=headers)

    found = observed(
        numbered(0, 1, 3),
        numbered(2, 2, 4),
        numbered(4, 3, 9),
        numbered(6, 5, 11),
        since={(PARTY_TOPIC, 0): 4},
    )
    told = found.told
    assert (told.before, told.numbers, told.newest, told.routed) == (2, {3, 5}, 5, 11)
    assert observed().told.newest == 0


def test_requests_are_counted_by_their_decision_and_by_their_device() -> None:
    given = [
        DECISION,
        replace(DECISION, effect=Effect.DENY, reason=DecisionReason.NO_PERMIT, device_id="did:pump"),
        replace(DECISION, kind=DecisionKind.REVOCATION, effect=Effect.DENY),
    ]
    found = observed(*(record(DECISIONS, n, d.encode(bytes(16))) for n, d in enumerate(given))).decided
    assert (found.permitted, found.denied) == (1, {"no_permit": 1})
    assert found.asked_at == {DECISION.device_id: 1, "did:pump": 1}

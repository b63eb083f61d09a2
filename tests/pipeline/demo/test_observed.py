"""What the watcher keeps of the topics, from records made as the stages make them."""

import random

from pipeline.demo.observed import Observed
from pipeline.topics import ALERTS, ANCHORS, CHECKPOINTS, EVENTS, FINDINGS, REGISTRY, REJECTED, TELEMETRY_RAW
from processors.model import RawRecord
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.codec import CODEC
from schemas.note import Ed25519Signer, format_note
from schemas.records import EvidenceRef, Finding, Headers, Severity

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
        record(ALERTS, 0),
        record(TELEMETRY_RAW, 0),
        record(CHECKPOINTS, 0, checkpoint(LOG, 1)),
    )
    expected = {f"{LOG}/{EVENTS}/0": 2, f"{LOG}/{REGISTRY}/0": 1, f"{LOG}/{ALERTS}/0": 1}
    assert found.sealed_by_origin(LOG) == expected
    assert found.alerts == 1


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

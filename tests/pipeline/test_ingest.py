"""Ingest on a real Kafka: who gets in, who does not and why, once each, also across restarts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from pipeline import ingest, kafka, topics
from pipeline.authority import NewKey
from pipeline.identity import create_identity
from pipeline.settings import Settings
from pipeline.stage import Health, Stop
from schemas.ed25519 import VERIFIER
from schemas.envelope import (
    MAX_ENVELOPE_BYTES,
    PayloadKind,
    Signature,
    SignedEnvelope,
    decode_envelope,
)
from schemas.partition import partition_of
from schemas.records import decode_finding
from tests.kit.deployment import Deployment, Device, wait_for

pytestmark = pytest.mark.timeout(120)


def rules(deployment: Deployment, device: Device) -> list[str]:
    found = [decode_finding(r.value or b"") for r in deployment.read(topics.FINDINGS)]
    return [f["rule"] for f in found if f["device_id"] == device.did]


def test_each_record_gets_its_one_verdict(deployment: Deployment) -> None:
    device = deployment.enroll(ward="ICU-1")
    stranger = Device(create_identity("k1"), deployment.settings.log_name)
    other_log = Device(device.identity, "another.example")
    key = device.did.encode()
    first, second = device.telemetry(), device.telemetry()
    raw = topics.TELEMETRY_RAW
    wrong = 1 - partition_of(key, 2)
    forged = SignedEnvelope(
        device.telemetry()[10:50], (Signature("k1", os.urandom(64)),)
    )  # a payload that is no record
    cases = [
        ("accepted", deployment.send(device, first)),
        ("accepted", deployment.send(device, second)),
        ("replay", deployment.send(device, first)),
        ("equivocation", deployment.send(device, device.telemetry(sequence=2, values=[1.0, 2.0]))),
        ("malformed", deployment.send(device, forged.encode())),
        ("malformed", deployment.send(device, os.urandom(300))),
        ("malformed", deployment.send(device, first[:-20])),
        ("unknown_schema", deployment.send(device, b"\xc3\x01" + bytes(8) + first[10:])),
        ("empty", deployment.publish(raw, key, None)),
        ("empty", deployment.publish(raw, key, b"")),
        ("oversized", deployment.publish(raw, key, os.urandom(MAX_ENVELOPE_BYTES + 1))),
        ("wrong_kind", deployment.send(device, device.access())),
        ("wrong_partition", deployment.publish(raw, key, device.telemetry(sequence=9), wrong)),
        ("wrong_partition", deployment.publish(raw, b"somebody", device.telemetry(sequence=9))),
        ("wrong_partition", deployment.publish(raw, None, device.telemetry(sequence=9), 0)),
        ("unknown_device", deployment.send(stranger, stranger.telemetry())),
        ("bad_signature", deployment.send(device, other_log.telemetry())),
        ("invalid_value", deployment.send(device, device.telemetry(sequence=9, values=[float("nan"), 1.0]))),
        ("invalid_value", deployment.send(device, device.telemetry(sequence=9, values=[1.0]))),
        (
            "implausible_time",
            deployment.send(device, device.telemetry(sequence=9, time=4_102_444_800_000_000)),
        ),
        ("accepted", deployment.send(device, device.telemetry(sequence=3))),
    ]
    with deployment.ingesting():
        assert deployment.verdicts([s for _, s in cases]) == [v for v, _ in cases]
    assert rules(deployment, device) == ["equivocation"]


def test_a_record_at_the_brokers_size_limit_costs_one_rejection(deployment: Deployment) -> None:
    device = deployment.enroll()
    big_key = deployment.publish(topics.TELEMETRY_RAW, os.urandom(900_000), b"x", 0)
    big = deployment.publish(topics.TELEMETRY_RAW, device.did.encode(), os.urandom(1_048_400))
    many = [(f"h{i}", os.urandom(200)) for i in range(2000)]
    headers = deployment.publish(topics.TELEMETRY_RAW, device.did.encode(), b"x", headers=many)
    after = deployment.send(device, device.telemetry())
    with deployment.ingesting():
        assert deployment.verdicts([big, big_key, headers, after]) == [
            "oversized", "malformed", "malformed", "accepted",
        ]  # fmt: skip


def test_signature_of_wrong_length_is_one_rejection(deployment: Deployment) -> None:
    device = deployment.enroll()
    payload = device.telemetry()
    good = decode_envelope(payload)
    short = SignedEnvelope(good.payload, (Signature("k1", good.signatures[0].signature[:63]),))
    extra = SignedEnvelope(good.payload, (*good.signatures, Signature("did:key:zNobody#k1", bytes(64))))
    sources = [deployment.send(device, e.encode()) for e in (short, extra, good)]
    with deployment.ingesting():
        assert deployment.verdicts(sources) == ["bad_signature", "unknown_key", "accepted"]


def test_revoked_and_rotated_keys_end_at_once(deployment: Deployment) -> None:
    device = deployment.enroll()
    before = deployment.send(device, device.telemetry())
    with deployment.ingesting():
        assert deployment.verdicts([before]) == ["accepted"]
        new = create_identity("k2")
        deployment.authority.rotate(device.did, NewKey("k2", new.public_key))
        old_key = deployment.send(device, device.telemetry())
        assert deployment.verdicts([old_key]) == ["revoked_key"]
        deployment.authority.revoke(device.did, "k2")
        deployment.authority.decommission(device.did)
        assert deployment.verdicts([deployment.send(device, device.telemetry())]) == ["decommissioned"]


def test_a_gap_is_found_and_a_late_record_is_turned_away(deployment: Deployment) -> None:
    device = deployment.enroll()
    sequences = (1, 2, 5, 4)
    sources = [deployment.send(device, device.telemetry(sequence=s)) for s in sequences]
    with deployment.ingesting():
        assert deployment.verdicts(sources) == ["accepted", "accepted", "accepted", "late"]
    assert rules(deployment, device) == ["sequence_gap"]


def test_a_lower_boot_is_stale_and_a_higher_one_starts_over(deployment: Deployment) -> None:
    device = deployment.enroll()
    old = device.telemetry()
    device.boot = 2
    device.sequences[PayloadKind.TELEMETRY] = 0
    sources = [deployment.send(device, v) for v in (device.telemetry(), old)]
    device.boot = 3
    sources.append(deployment.send(device, device.telemetry(sequence=1)))
    with deployment.ingesting():
        assert deployment.verdicts(sources) == ["accepted", "stale", "accepted"]


def test_replay_is_known_across_restarts_and_a_lost_state_folder(deployment: Deployment) -> None:
    device = deployment.enroll()
    values = [device.telemetry() for _ in range(100)]
    with deployment.ingesting():
        sources = [deployment.send(device, v) for v in values]
        assert deployment.verdicts(sources) == ["accepted"] * 100
    again = [deployment.send(device, v) for v in values[-64:]]
    older = deployment.send(device, values[0])
    with deployment.ingesting():
        assert deployment.verdicts([*again, older]) == [*["replay"] * 64, "stale"]
    shutil.rmtree(deployment.settings.data_dir / "state" / "ingest")
    once_more = [deployment.send(device, v) for v in values[-64:]]
    fresh = deployment.send(device, device.telemetry())
    with deployment.ingesting():
        assert deployment.verdicts([*once_more, fresh]) == [*["replay"] * 64, "accepted"]


def test_a_replayed_registration_after_a_revocation_is_ignored_and_reported_once(
    deployment: Deployment,
) -> None:
    identity = create_identity("k1")
    deployment.authority.refresh()
    entry = deployment.authority.enroll(identity.did, NewKey("k1", identity.public_key), {})
    device = Device(identity, deployment.settings.log_name)
    deployment.authority.revoke(identity.did, "k1")
    deployment.publish(topics.REGISTRY, identity.did.encode(), entry, 0)
    with deployment.ingesting():
        assert deployment.verdicts([deployment.send(device, device.telemetry())]) == ["revoked_key"]
        wait_for(lambda: rules(deployment, device), "the finding")
    with deployment.ingesting():
        assert deployment.verdicts([deployment.send(device, device.telemetry())]) == ["revoked_key"]
    assert rules(deployment, device) == ["registry_rejected"]


def test_silence_is_found_and_cleared(deployment: Deployment) -> None:
    device = deployment.enroll()
    quick = Deployment(deployment.settings.model_copy(update={"silence_after_s": 1.0}), deployment.authority)
    with quick.ingesting():
        assert quick.verdicts([quick.send(device, device.telemetry())]) == ["accepted"]
        wait_for(lambda: "silence" in rules(quick, device), "silence")
        assert quick.verdicts([quick.send(device, device.telemetry())]) == ["accepted"]
    found = [decode_finding(r.value or b"") for r in quick.read(topics.FINDINGS)]
    mine = [f for f in found if f["device_id"] == device.did and f["rule"] == "silence"]
    assert [f["status"] for f in mine] == ["OPENED", "CLEARED"]
    assert mine[0]["id"] == mine[1]["id"]


def test_kinds_do_not_wait_for_each_other_and_count_apart(deployment: Deployment) -> None:
    device = deployment.enroll()
    sources = [
        deployment.send(device, device.telemetry()),
        deployment.send(device, device.access(), topics.ACCESS_RAW),
        deployment.send(
            device,
            device.event(PayloadKind.LIFECYCLE, kind="BOOT", firmware="1.0", pseudonym=None),
            topics.LIFECYCLE_RAW,
        ),
    ]
    with deployment.ingesting():
        assert deployment.verdicts(sources) == ["accepted"] * 3


def test_two_workers_share_the_partitions_and_judge_each_record_once(deployment: Deployment) -> None:
    devices = [deployment.enroll() for _ in range(6)]

    def send_round() -> list[str]:
        return [deployment.send(device, device.telemetry()) for device in devices for _ in range(5)]

    with deployment.ingesting(slot=0):
        sources = send_round()
        deployment.verdicts(sources)
        with deployment.ingesting(slot=1) as second:
            wait_for(lambda: second.steps > 0, "the second joins")
            sources += send_round()
            deployment.verdicts(sources)
        sources += send_round()
        assert deployment.verdicts(sources) == ["accepted"] * len(sources)


def test_a_header_name_that_is_not_utf8_costs_one_rejection(deployment: Deployment) -> None:
    device = deployment.enroll()
    partition = partition_of(device.did.encode(), 2)
    place = [deployment.settings.bootstrap_servers, topics.TELEMETRY_RAW, str(partition), device.did]
    command = [sys.executable, "-m", "tests.kit.evilheader", *place]
    environment = {**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    evil = f"{topics.TELEMETRY_RAW}/{partition}/{told.stdout.strip()}"
    after = deployment.send(device, device.telemetry())
    with deployment.ingesting():
        assert deployment.verdicts([evil, after]) == ["malformed", "accepted"]


def test_silence_is_judged_past_markers_that_are_no_records(deployment: Deployment) -> None:
    device = deployment.enroll()
    settings = deployment.settings.model_copy(update={"silence_after_s": 1.0})
    quick = Deployment(settings, deployment.authority)
    partition = partition_of(device.did.encode(), 2)
    with quick.ingesting():
        assert quick.verdicts([quick.send(device, device.telemetry())]) == ["accepted"]
        # Whoever may write may end the partition in the marker of an aborted transaction.
        aborting = kafka.producer(settings, **{"transactional.id": f"{settings.log_name}.aborting"})
        aborting.init_transactions(20)
        aborting.begin_transaction()
        aborting.produce(topics.TELEMETRY_RAW, value=b"never", key=b"k", partition=partition)
        aborting.flush(20)
        aborting.abort_transaction(20)
        wait_for(lambda: "silence" in rules(quick, device), "silence")


def test_a_worker_says_at_its_start_what_verifies_signatures(tmp_path: Path) -> None:
    settings, stop = Settings(data_dir=tmp_path, bootstrap_servers="127.0.0.1:1"), Stop()
    stop.request()
    with structlog.testing.capture_logs() as logs:
        ingest.work(settings, 0, Health(settings, "ingest", 0), stop)
    assert {"event": "signatures are verified in batches", "by": VERIFIER, "log_level": "info"} in logs

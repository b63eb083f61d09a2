"""The correlate stage as a process on a real Kafka: alerts come, floods fold, kills lose nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline import kafka as clients
from pipeline.correlate import ASSIGNMENT_TIMEOUT_S, CorrelateWorker
from pipeline.faust_app import make_app
from pipeline.local.kafka import Broker
from pipeline.local.kafka import start as start_broker
from pipeline.local.process import stop as stop_broker
from pipeline.settings import Settings
from pipeline.topics import ALERTS, FINDINGS, INTEGRITY, REJECTED
from processors.ocsf import Reporter
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity
from tests.kit.deployment import Deployment, make_deployment, read_topic, wait_for

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def log(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    made = make_deployment(kafka, tmp_path)
    yield made
    made.authority.close()


def start(settings: Settings, slot: int = 0) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-m", "pipeline.cli.main", "run", "correlate", "--slot", str(slot)]
    argv += ["--data-dir", str(settings.data_dir), "--bootstrap-servers", settings.bootstrap_servers]
    environment = {**os.environ, "ATTESTREAM_LOG_NAME": settings.log_name}
    with (settings.data_dir / "correlate.log").open("ab") as out:
        return subprocess.Popen(argv, env=environment, stderr=out, stdout=out)


@contextmanager
def correlating(settings: Settings, slot: int = 0) -> Iterator["subprocess.Popen[bytes]"]:
    process = start(settings, slot)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def health(settings: Settings, name: str = "correlate") -> dict[str, Any]:
    path = settings.data_dir / "run" / f"{name}.health.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def alerts(settings: Settings) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in read_topic(settings, ALERTS)]


def distinct(settings: Settings) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["uid"]: each for each in alerts(settings)}


def finding(number: int, status: FindingStatus = FindingStatus.OPENED, rule: str = "bounds") -> Finding:
    return Finding(
        rule,
        Severity.HIGH,
        f"did:key:device-{number}",
        time.time_ns() // 1000,
        "HR is outside 15 to 300 bpm",
        (EvidenceRef("device.telemetry.raw", 0, number),),
        status=status,
        cause=str(number),
    )


def reject_headers(number: int, device: str = "did:key:victim") -> list[tuple[str, str | bytes | None]]:
    return [
        ("reason", b"bad_signature"),
        ("registry.offset", b"3"),
        ("source", b"device.telemetry.raw/0/%d" % number),
        ("salt", os.urandom(16)),
        ("device", device.encode()),
    ]


def publish_findings(deployment: Deployment, numbers: Sequence[int]) -> None:
    for number in numbers:
        found = finding(number)
        deployment.producer.produce(
            FINDINGS, found.encode(os.urandom(16)), found.device_id.encode(), partition=number % 2
        )
    assert deployment.producer.flush(30) == 0


def publish_rejections(
    deployment: Deployment, numbers: Sequence[int], device: str = "did:key:victim"
) -> None:
    for number in numbers:
        deployment.producer.produce(
            REJECTED, b"\xff" * 50, None, partition=0, headers=reject_headers(number, device)
        )
    assert deployment.producer.flush(30) == 0


def test_findings_and_rejections_become_alerts(log: Deployment) -> None:
    settings = log.settings
    publish_findings(log, [1])
    publish_rejections(log, range(500))
    log.publish(REJECTED, b"x", None, 1, [("reason", b"no such reason")])
    log.publish(FINDINGS, b"x", b"\xff not a finding", 1)
    log.publish(FINDINGS, b"x", None, 1)
    with correlating(settings) as process:
        wait_for(lambda: len(alerts(settings)) >= 2, "the first of each is told at once")
        publish_findings(log, [2])
        wait_for(lambda: sum(each["count"] for each in alerts(settings)) == 502, "the rest is counted")
        found = {each["device"]["uid"]: each for each in alerts(settings)}
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.wait(15) == 0
        assert time.monotonic() - asked < 10
    assert set(found) == {"did:key:device-1", "did:key:device-2", "did:key:victim"}
    assert found["did:key:device-1"]["finding_info"]["uid"] == finding(1).id.hex()
    assert len(alerts(settings)) == 4, "two findings, the first rejection and the report of 499 more"
    assert health(settings)["state"] == "stopped"
    first = read_topic(settings, ALERTS)[0]
    headers = dict(first.headers)
    assert headers["ce_specversion"] == b"1.0"
    assert len(headers["ce_salt"] or b"") == 32
    assert first.key == json.loads(first.value or b"")["finding_info"]["uid"].encode()
    assert settings.log_name.encode() in (headers["ce_source"] or b"")


def test_findings_of_the_monitor_become_alerts(log: Deployment) -> None:
    settings = log.settings
    found = finding(7, rule="fork")
    log.publish(INTEGRITY, found.device_id.encode(), found.encode(os.urandom(16)), 0)
    with correlating(settings):
        wait_for(lambda: alerts(settings), "the fork is told")
    (told,) = alerts(settings)
    assert told["finding_info"]["title"] == "Log shows two histories"


def test_aborted_records_are_never_told(log: Deployment) -> None:
    settings = log.settings
    writer: Producer = clients.producer(settings, **{"transactional.id": f"{settings.log_name}.test"})
    writer.init_transactions(30)
    for number, commit in ((1, False), (2, True)):
        writer.begin_transaction()
        found = finding(number)
        writer.produce(FINDINGS, found.encode(os.urandom(16)), found.device_id.encode(), partition=0)
        writer.flush(30)
        if commit:
            writer.commit_transaction(30)
        else:
            writer.abort_transaction(30)
    with correlating(settings):
        told = wait_for(lambda: alerts(settings), "the committed finding is told")
        assert [each["device"]["uid"] for each in told] == ["did:key:device-2"]


def test_kill_9_loses_no_alert_and_repeats_carry_the_same_id(log: Deployment) -> None:
    settings = log.settings
    publish_rejections(log, range(300))
    with correlating(settings) as process:
        wait_for(lambda: alerts(settings), "the first is told")
        process.kill()  # 299 are folded and not told
        process.wait(10)
    publish_findings(log, range(10))
    with correlating(settings) as process:
        wait_for(lambda: len(distinct(settings)) >= 11, "alerts go on")
        process.kill()
        process.wait(10)
    publish_findings(log, range(10, 20))
    with correlating(settings):

        def complete() -> bool:
            found = distinct(settings).values()
            rejections = sum(e["count"] for e in found if e["device"]["uid"] == "did:key:victim")
            return rejections == 300 and len(found) == 22

        wait_for(complete, "every rejection is counted, every finding told")
    victims = {e["finding_info"]["uid"] for e in alerts(settings) if e["device"]["uid"] == "did:key:victim"}
    assert len(victims) <= 2, "one alert, or two where its window ended"


def test_a_restart_does_not_tell_again_what_was_acknowledged(log: Deployment) -> None:
    settings = log.settings
    publish_findings(log, range(5))
    for _ in range(2):
        with correlating(settings) as process:
            wait_for(lambda: len(alerts(settings)) >= 5, "told")
            wait_for(lambda: health(settings).get("pid") == process.pid, "the process runs")
            wait_for(lambda: health(settings)["state"] == "running", "partitions are assigned")
            process.terminate()
            assert process.wait(15) == 0
    assert len(alerts(settings)) == 5


def test_workers_that_come_and_go_lose_no_count(log: Deployment) -> None:
    settings = log.settings
    with correlating(settings) as first:
        wait_for(lambda: health(settings).get("state") == "running", "the first worker has partitions")
        publish_rejections(log, range(200))
        publish_findings(log, range(6))
        with correlating(settings, 1) as second:
            wait_for(lambda: health(settings, "correlate-1").get("state") == "running", "a second one joins")
            publish_rejections(log, range(200, 300))
            second.terminate()
            assert second.wait(15) == 0
        publish_findings(log, range(6, 12))

        def complete() -> bool:
            found = distinct(settings).values()
            counted = sum(e["count"] for e in found if e["device"]["uid"] == "did:key:victim")
            told = {e["device"]["uid"] for e in found} - {"did:key:victim"}
            return counted >= 300 and len(told) == 12

        wait_for(complete, "every rejection is counted, every finding told")
        assert first.poll() is None


def test_kill_9_of_the_broker(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    with broker.owned():
        broker.prepare()
        running = start_broker(broker)
        try:
            (tmp_path / "log").mkdir()
            log = make_deployment(broker.bootstrap_servers, tmp_path / "log")
            with correlating(log.settings) as process:
                publish_findings(log, [1])
                wait_for(lambda: len(distinct(log.settings)) == 1, "alerts before")
                publish_rejections(log, range(50))
                running.kill()
                running.wait(10)
                running = start_broker(broker)
                publish_findings(log, [2])
                wait_for(
                    lambda: sum(e["count"] for e in distinct(log.settings).values()) >= 52, "alerts after"
                )
                assert process.poll() is None, "the stage outlives its broker"
                process.terminate()
                assert process.wait(15) == 0
            log.authority.close()
        finally:
            stop_broker(running, 10)


def test_losing_partitions_is_no_reason_to_end(tmp_path: Path) -> None:
    """A rebalance takes everything away for a moment, and may give nothing back to one worker of many."""
    settings = Settings(data_dir=tmp_path, log_name="calm.example", bootstrap_servers="127.0.0.1:1")
    worker = CorrelateWorker(make_app(settings, "correlate", 0), Reporter(settings.log_name, "0"))
    assert worker.waits_s > 0
    worker._on_assigned(worker.app, {("alerts", 0)}, signal=None)
    assert worker.waits_s == 0
    worker._on_revoked(worker.app, set(), signal=None)
    assert 0 < worker.waits_s < ASSIGNMENT_TIMEOUT_S
    assert worker.detail() == "waiting for an assignment"
    worker._on_assigned(worker.app, set(), signal=None)
    assert worker.waits_s == 0
    assert not worker.is_ready, "nobody has answered"

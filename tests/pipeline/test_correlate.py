"""The correlate stage as a process on a real Kafka: alerts come, floods fold, kills lose nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline import kafka as clients
from pipeline.alerttables import Tables
from pipeline.controls import ControlAuthority, Wanted
from pipeline.correlate import ASSIGNMENT_TIMEOUT_S, CorrelateWorker, config_of
from pipeline.faust_app import make_app
from pipeline.local.kafka import Broker
from pipeline.local.kafka import start as start_broker
from pipeline.local.process import stop as stop_broker
from pipeline.settings import Settings
from pipeline.topics import ALERTS, FINDINGS, INTEGRITY, REJECTED
from pipeline.trust import init_local, trust_path
from processors.covers import places
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


def finding(
    number: int, status: FindingStatus = FindingStatus.OPENED, rule: str = "bounds", device: str = ""
) -> Finding:
    return Finding(
        rule,
        Severity.HIGH,
        device or f"did:key:device-{number}",
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


def covered(settings: Settings) -> Counter[str]:
    """How many distinct messages tell of each record."""
    places_told: Counter[str] = Counter()
    for each in distinct(settings).values():
        places_told.update(places(each["unmapped"].get("covers", {})))
    return places_told


def test_findings_and_rejections_become_alerts(log: Deployment) -> None:
    settings = log.settings
    publish_findings(log, [1])
    publish_rejections(log, range(400))
    log.publish(REJECTED, b"x", None, 1, [("reason", b"no such reason")])
    log.publish(FINDINGS, b"x", b"\xff not a finding", 1)
    log.publish(FINDINGS, b"x", None, 1)
    with correlating(settings) as process:
        wait_for(lambda: len(covered(settings)) == 401, "all that came at once is told")
        publish_findings(log, [2])
        publish_rejections(log, range(400, 500))
        wait_for(lambda: len(covered(settings)) == 402, "a new device is told")
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.wait(15) == 0
        assert time.monotonic() - asked < 10
    assert set(covered(settings).values()) == {1}
    assert len(covered(settings)) == 502, "what was added is told before the stage leaves"
    found = {each["device"]["uid"]: each for each in alerts(settings)}
    assert set(found) == {"did:key:device-1", "did:key:device-2", "did:key:victim"}
    assert found["did:key:device-1"]["finding_info"]["uid"] == finding(1).id.hex()
    assert len({each["finding_info"]["uid"] for each in alerts(settings)}) == 3
    assert health(settings)["state"] == "stopped"
    first = read_topic(settings, ALERTS)[0]
    headers = dict(first.headers)
    assert headers["ce_specversion"] == b"1.0"
    assert len(headers["ce_salt"] or b"") == 32
    assert first.key == json.loads(first.value or b"")["finding_info"]["uid"].encode()
    assert settings.log_name.encode() in (headers["ce_source"] or b"")


def test_devices_of_a_ward_are_one_incident_that_goes_on_after_a_kill(log: Deployment) -> None:
    settings = log.settings
    devices = [log.enroll(ward="icu-1").did for _ in range(7)]

    def report(number: int, status: FindingStatus) -> None:
        found = finding(number, status, "silence", devices[number])
        log.publish(FINDINGS, found.device_id.encode(), found.encode(os.urandom(16)), number % 2)

    for number in range(6):
        report(number, FindingStatus.OPENED)
    with correlating(settings) as process:
        (made,) = wait_for(lambda: alerts(settings), "the incident is told")
        process.kill()
        process.wait(10)
    assert made["unmapped"]["incident"] is True
    assert made["unmapped"]["devices"] == 6
    assert {each["uid"] for each in made["resources"]} == set(devices[:6])
    report(6, FindingStatus.OPENED)
    for number in range(7):
        report(number, FindingStatus.CLEARED)
    with correlating(settings):
        wait_for(lambda: alerts(settings)[-1]["activity_name"] == "Close", "the incident ends")
    assert {each["finding_info"]["uid"] for each in alerts(settings)} == {made["finding_info"]["uid"]}
    assert set(covered(settings).values()) == {1}
    assert len(covered(settings)) == 14


def test_a_silence_that_an_authority_signed_holds_alerts_back(log: Deployment) -> None:
    settings = log.settings
    people = ControlAuthority(settings)
    with correlating(settings):
        wanted = Wanted(600, Severity.HIGH, {"rules": ["rejected.bad_signature"]})
        people.silence("known-work", wanted, "Ida", "new gateways")
        wait_for(lambda: alerts(settings), "the silence is told")
        publish_rejections(log, range(5))
        wait_for(lambda: len(covered(settings)) == 6, "what is held back stands in the log")
        people.unsilence("known-work", "Ida", "done")
        wait_for(lambda: len(alerts(settings)) == 3, "its end is told")
    people.close()
    begun, held_back, over = alerts(settings)
    assert (held_back["status"], held_back["count"]) == ("Suppressed", 5)
    assert held_back["unmapped"]["suppressed_by"] == begun["finding_info"]["uid"]
    assert over["finding_info"]["uid"] == begun["finding_info"]["uid"]
    assert over["unmapped"]["suppressed"] == {"rejected.bad_signature": 5}


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


def test_kill_9_loses_no_alert_and_tells_none_twice(log: Deployment) -> None:
    settings = log.settings
    publish_rejections(log, range(300))
    with correlating(settings) as process:
        wait_for(lambda: alerts(settings), "the first are told")
        publish_rejections(log, range(300, 400))  # wait for their group's interval
        process.kill()
        process.wait(10)
    publish_findings(log, range(10))
    with correlating(settings) as process:
        wait_for(lambda: len(distinct(settings)) >= 11, "alerts go on")
        process.kill()
        process.wait(10)
    publish_findings(log, range(10, 20))
    with correlating(settings):
        wait_for(lambda: len(covered(settings)) == 420, "every record is told")
    assert set(covered(settings).values()) == {1}
    victims = {e["finding_info"]["uid"] for e in alerts(settings) if e["device"]["uid"] == "did:key:victim"}
    assert len(victims) == 1


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


def test_a_second_worker_stands_by_and_takes_over(log: Deployment) -> None:
    settings = log.settings
    with correlating(settings) as first:
        wait_for(lambda: "partitions" in health(settings).get("detail", ""), "the first has partitions")
        with correlating(settings, 1):
            wait_for(lambda: "correlate" in health(settings, "correlate-1").get("detail", ""), "one joins")
            publish_rejections(log, range(200))
            wait_for(lambda: len(covered(settings)) == 200, "one of them tells")
            details = [health(settings, name)["detail"] for name in ("correlate", "correlate-1")]
            assert sum("another worker correlates" in each for each in details) == 1
            first.terminate()
            assert first.wait(15) == 0
            publish_findings(log, range(6))
            wait_for(lambda: len(covered(settings)) == 206, "the other takes over")
    assert len(distinct(settings)) == 7


def test_a_worker_elsewhere_takes_over_and_the_one_that_slept_tells_nothing_twice(
    log: Deployment, tmp_path: Path
) -> None:
    settings = log.settings
    elsewhere = settings.model_copy(update={"data_dir": tmp_path / "elsewhere"})
    elsewhere.data_dir.mkdir()
    shutil.copy(trust_path(settings), elsewhere.data_dir)
    publish_rejections(log, range(50))
    with correlating(settings) as first:
        wait_for(lambda: alerts(settings), "the first worker tells")
        publish_rejections(log, range(50, 100))
        first.send_signal(signal.SIGSTOP)
        with correlating(elsewhere):
            publish_findings(log, range(6))
            wait_for(lambda: len(covered(settings)) == 106, "the second worker tells the rest")
            first.send_signal(signal.SIGCONT)
            publish_findings(log, range(6, 12))
            wait_for(lambda: len(covered(settings)) == 112, "and goes on")
    assert len({e["finding_info"]["uid"] for e in alerts(settings)}) == 13


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
                wait_for(lambda: len(covered(log.settings)) == 52, "alerts after")
                assert process.poll() is None, "the stage outlives its broker"
                process.terminate()
                assert process.wait(15) == 0
            log.authority.close()
        finally:
            stop_broker(running, 10)


def test_losing_partitions_is_no_reason_to_end(tmp_path: Path) -> None:
    """A rebalance takes everything away for a moment, and may give nothing back to one worker of many."""
    settings = Settings(data_dir=tmp_path, log_name="calm.example", bootstrap_servers="127.0.0.1:1")
    init_local(settings)
    tables = Tables(settings)
    reporter = Reporter(settings.log_name, "0")
    worker = CorrelateWorker(make_app(settings, "correlate", 0), reporter, tables, config_of(settings))
    assert worker.waits_s > 0
    worker._on_assigned(worker.app, {("alerts", 0)}, signal=None)
    assert worker.waits_s == 0
    worker._on_revoked(worker.app, set(), signal=None)
    assert 0 < worker.waits_s < ASSIGNMENT_TIMEOUT_S
    assert worker.detail() == "waiting for an assignment"
    worker._on_assigned(worker.app, set(), signal=None)
    assert worker.waits_s == 0
    assert not worker.is_ready, "nobody has answered"
    tables.close()

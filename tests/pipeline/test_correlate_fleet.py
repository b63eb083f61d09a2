"""Alerts about builds on a real Kafka, out of the stage as a process: told once, also over kills."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import Settings
from pipeline.topics import FINDINGS
from processors.detect import DetectConfig
from schemas.records import EvidenceRef, Finding, Severity
from tests.kit.deployment import Deployment, make_deployment, wait_for
from tests.pipeline.test_correlate import alerts, correlating, covered, distinct

pytestmark = pytest.mark.timeout(240)
BUILD = {"kind": "patient-monitor", "model": "VM-4", "firmware": "4.2.1"}


@pytest.fixture
def log(kafka: str, tmp_path: Path) -> Iterator[Deployment]:
    made = make_deployment(kafka, tmp_path)
    yield made
    made.authority.close()


def enrolled(log: Deployment, count: int, **attributes: str) -> list[str]:
    return [log.enroll(**{**BUILD, **attributes}).did for _ in range(count)]


def publish_drifts(log: Deployment, devices: Sequence[str]) -> None:
    """Say of each device that its heart rate drifts, as the detectors do, in both partitions."""
    for number, device in enumerate(devices):
        found = Finding(
            "drift",
            Severity.LOW,
            device,
            time.time_ns() // 1000,
            "HR drifts",
            (EvidenceRef("device.telemetry.raw", 0, number),),
            parameters={"code": "147842", "signal": "HR", "config": DetectConfig.default().digest},
            cause=f"147842 from device.telemetry.raw/0/{number}",
        )
        log.publish(FINDINGS, device.encode(), found.encode(os.urandom(16)), number % 2)


def fleets(settings: Settings) -> list[dict[str, Any]]:
    """Messages about builds, each once, in their order."""
    found = distinct(settings).values()
    return [each for each in found if each["finding_info"]["analytic"]["uid"] == "fleet_drift"]


def named(settings: Settings) -> Counter[str]:
    return Counter(each["uid"] for message in fleets(settings) for each in message.get("resources", ()))


def test_twelve_devices_of_a_build_are_one_alert(log: Deployment) -> None:
    settings, devices = log.settings, enrolled(log, 12, ward="icu-1")
    publish_drifts(log, devices)
    with correlating(settings):
        wait_for(lambda: len(covered(settings)) == 12, "each finding is told")
    uids = {each["finding_info"]["uid"] for each in fleets(settings)}
    first = fleets(settings)[0]
    assert len(uids) == 1
    assert named(settings) == Counter(devices), "each device is named, once"
    assert first["severity"] == "High"
    assert first["finding_info"]["attacks"][0]["sub_technique"]["uid"] == "T1692.002"
    assert first["unmapped"]["config"] == DetectConfig.default().digest
    assert first["unmapped"]["scope"] == "build:VM-4 4.2.1"
    assert first["unmapped"]["in_service"] == "12"
    others = [each for each in alerts(settings) if each["finding_info"]["uid"] not in uids]
    held_back = [each for each in others if each["status"] == "Suppressed"]
    assert {each["unmapped"]["suppressed_by"] for each in held_back} == uids
    assert sum(each["count"] for each in held_back) >= 9, "up to three may be told before there are four"
    assert set(covered(settings).values()) == {1}


def test_devices_of_different_builds_are_told_each_by_itself(log: Deployment) -> None:
    settings = log.settings
    odd = enrolled(log, 4, model="VM-4\u202e\n" + "x" * 5_000)
    bare = [log.enroll(ward="icu-1").did for _ in range(4)]
    devices = [*(enrolled(log, 1, firmware=f"4.{n}")[0] for n in range(6)), *odd[:3], *bare]
    publish_drifts(log, devices)
    with correlating(settings):
        wait_for(lambda: len(covered(settings)) == len(devices), "each finding is told")
        assert fleets(settings) == []
        assert "Suppressed" not in {each["status"] for each in alerts(settings)}
        publish_drifts(log, odd[3:])
        (made,) = wait_for(lambda: fleets(settings), "the fourth of a build with an odd name is told")
    assert made["unmapped"]["model"].startswith("VM-4??xxx")
    assert len(made["unmapped"]["model"]) < 80


def test_kill_9_changes_no_word_about_a_build(log: Deployment) -> None:
    settings, devices = log.settings, enrolled(log, 8)

    def told_of(number: int) -> bool:
        return len(covered(settings)) == number

    with correlating(settings) as process:
        publish_drifts(log, devices[:3])
        wait_for(lambda: told_of(3), "three are told, and are chance")
        process.kill()
        process.wait(10)
    assert fleets(settings) == []
    with correlating(settings) as process:
        publish_drifts(log, devices[3:4])
        (made,) = wait_for(lambda: fleets(settings), "the fourth completes what was told before the kill")
        process.kill()
        process.wait(10)
    assert {each["uid"] for each in made["resources"]} == set(devices[:4])
    publish_drifts(log, devices[4:])
    with correlating(settings):
        wait_for(lambda: told_of(8), "the rest is told")
    assert named(settings) == Counter(devices), "each device is named, once"
    assert {each["finding_info"]["uid"] for each in fleets(settings)} == {made["finding_info"]["uid"]}
    assert [each["activity_name"] for each in fleets(settings)][:2] == ["Create", "Update"]
    assert set(covered(settings).values()) == {1}
    last = [each for each in alerts(settings) if each.get("device", {}).get("uid") in devices[4:]]
    assert {each["status"] for each in last} == {"Suppressed"}


def test_a_device_out_of_service_counts_no_more_after_a_restart(log: Deployment) -> None:
    settings, devices = log.settings, enrolled(log, 5)
    publish_drifts(log, devices[:3])
    with correlating(settings):
        wait_for(lambda: len(covered(settings)) == 3, "three are told")
    log.authority.decommission(devices[0])
    with correlating(settings):
        publish_drifts(log, devices[3:4])
        wait_for(lambda: len(covered(settings)) == 4, "one more is told")
        assert fleets(settings) == []
        publish_drifts(log, devices[4:])
        (made,) = wait_for(lambda: fleets(settings), "four in service are too many")
    assert {each["uid"] for each in made["resources"]} == set(devices[1:])
    assert made["unmapped"]["in_service"] == "4"

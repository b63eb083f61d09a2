"""Alerts as OCSF Detection Findings: required attributes, CloudEvents headers, complete tables."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from processors.alert_rules import (
    ATTACK_VERSION,
    FINDING_RULES,
    REJECTION_RULES,
    UNALERTED,
)
from processors.ocsf import Activity, Alert, Reporter, Status, detection_finding, encode, headers
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Severity

REPORTER = Reporter("attestream.test", "0.1.0")
EVIDENCE = (
    EvidenceRef("device.telemetry.raw", 3, 41, b"\xab" * 32),
    EvidenceRef("device.telemetry.raw", 3, 44),
)


def alert(**changes: Any) -> Alert:
    fields: dict[str, Any] = {
        "uid": "00" * 16,
        "event_uid": "device.findings/3/7",
        "activity": Activity.CREATE,
        "analytic": "bounds",
        "title": "Reading outside the plausible range",
        "types": ("Telemetry anomaly",),
        "severity": Severity.MEDIUM,
        "message": "HR is outside 15 to 300 bpm",
        "start_ms": 1_700_000_000_123,
        "end_ms": 1_700_000_000_123,
        "count": 1,
        "device_id": "did:key:z6MkDevice",
        "evidence": EVIDENCE,
        "techniques": FINDING_RULES["bounds"].techniques,
        "parameters": {"low": "15"},
        "score": 1.0,
    }
    return Alert(**{**fields, **changes})


def assert_valid(found: dict[str, Any]) -> None:
    """OCSF 1.9: what Detection Finding (2004) and the objects in it require, and their constraints."""
    for name in (
        "activity_id",
        "category_uid",
        "class_uid",
        "finding_info",
        "metadata",
        "severity_id",
        "time",
        "type_uid",
    ):
        assert name in found, name
    assert (found["category_uid"], found["class_uid"]) == (2, 2004)
    assert found["activity_id"] in {1, 2, 3}
    assert found["type_uid"] == 200400 + found["activity_id"]
    assert found["severity_id"] in {1, 2, 3, 4, 5}
    assert found["status_id"] in {1, 4}
    assert isinstance(found["time"], int)
    assert found["metadata"]["version"] == "1.9.0"
    assert found["metadata"]["product"]["name"] == "attestream"
    assert found["finding_info"]["uid"]
    for each in found["finding_info"].get("attacks", []):
        assert {"tactic", "technique", "sub_technique"} & set(each)
        assert each["version"] == ATTACK_VERSION
    for each in found["finding_info"].get("related_events", []):
        assert each["uid"]
    assert found["finding_info"]["analytic"]["type_id"] == 1
    for each in found.get("evidences", []):
        assert {"data", "user"} & set(each)
    for each in found.get("observables", []):
        assert isinstance(each["type_id"], int)
    if "device" in found:
        assert found["device"]["type_id"] == 7
        assert found["device"]["uid"]


@pytest.mark.parametrize("activity", Activity)
@pytest.mark.parametrize("severity", Severity)
def test_every_activity_and_severity_is_valid(activity: Activity, severity: Severity) -> None:
    assert_valid(detection_finding(alert(activity=activity, severity=severity), REPORTER))


def test_the_least_and_the_most_are_valid() -> None:
    least = detection_finding(
        alert(device_id=None, evidence=(), techniques=(), parameters={}, score=None, types=()), REPORTER
    )
    assert_valid(least)
    assert not {"device", "evidences", "observables", "unmapped"} & set(least)
    most = detection_finding(
        alert(subject="administrator", related=(("aa", "Create"), ("bb", "Close")), count=2), REPORTER
    )
    assert_valid(most)
    assert most["evidences"][0]["user"] == {"uid": "administrator"}
    assert most["finding_info"]["related_events_count"] == 2


def test_the_content_is_what_a_human_needs() -> None:
    found = json.loads(encode(alert(), REPORTER))
    assert found["message"] == "HR is outside 15 to 300 bpm"
    assert found["severity"] == "Medium"
    assert found["device"]["uid"] == "did:key:z6MkDevice"
    assert found["time"] == 1_700_000_000_123
    assert found["evidences"][0]["data"] == {
        "topic": "device.telemetry.raw",
        "partition": 3,
        "offset": 41,
        "digest": "ab" * 32,
        "digest_algorithm": "BLAKE3",
    }
    assert found["unmapped"] == {"low": "15", "score": 1.0}
    assert found["finding_info"]["attacks"] == [
        {
            "tactic": {"name": "Impair Process Control", "uid": "TA0106"},
            "technique": {"name": "Unauthorized Message", "uid": "T1692"},
            "sub_technique": {"name": "Reporting Message", "uid": "T1692.002"},
            "version": "19.2",
        }
    ]


def test_closing_is_not_an_alert_any_more() -> None:
    found = detection_finding(alert(activity=Activity.CLOSE, status=Status.RESOLVED), REPORTER)
    assert found["is_alert"] is False
    assert found["status"] == "Resolved"
    assert "first_seen_time" not in found["finding_info"]


def test_headers_are_cloudevents_in_binary_mode() -> None:
    written = dict(headers(alert(), REPORTER, bytes(range(16))))
    assert written == {
        "content-type": b"application/json; charset=utf-8",
        "ce_specversion": b"1.0",
        "ce_id": b"device.findings/3/7",
        "ce_source": b"urn:attestream:attestream.test:correlate",
        "ce_type": b"org.attestream.alert.v1",
        "ce_subject": b"did:key:z6MkDevice",
        "ce_time": b"2023-11-14T22:13:20.123Z",
        "ce_salt": b"000102030405060708090a0b0c0d0e0f",
    }
    assert dict(headers(alert(device_id=None), REPORTER, bytes(16)))["ce_subject"] == b"bounds"


def test_a_time_beyond_the_calendar_does_not_stop_an_alert() -> None:
    assert dict(headers(alert(end_ms=2**62), REPORTER, bytes(16)))["ce_time"].startswith(b"1970-")


def test_text_that_is_no_unicode_is_replaced() -> None:
    assert b"?" in encode(alert(message="\ud800"), REPORTER)
    assert dict(headers(alert(device_id="\ud800"), REPORTER, bytes(16)))["ce_subject"] == b"?"


def test_each_reason_is_either_told_or_said_not_to_be() -> None:
    assert set(REJECTION_RULES) | UNALERTED == set(Reason)
    assert not set(REJECTION_RULES) & UNALERTED


def test_the_documents_tables_are_the_codes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    rows = {
        name: line
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    for reason, rule in REJECTION_RULES.items():
        assert f"| {rule.severity.value.lower()} |" in rows[reason.value]
        assert all(each.uid in rows[reason.value] for each in rule.techniques)
    for reason in UNALERTED:
        assert "| none |" in rows[reason.value] or "finding" in rows[reason.value]
    for name, found in FINDING_RULES.items():
        lines = [line for line in text.splitlines() if line.startswith(f"| `{name}` | {found.title}")]
        assert len(lines) == 1
        assert all(each.uid in lines[0] for each in found.techniques)

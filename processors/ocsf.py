"""Alerts as OCSF 1.9 Detection Findings (class 2004) in CloudEvents 1.0 binary-mode Kafka records.

Attributes and enumerations: OCSF 1.9, "Detection Finding" and its objects. Headers: CloudEvents Kafka
Protocol Binding 1.0.2, section 3.2. No measured value of a patient comes in: what alerts are made of
holds none, and evidence is cited by place and digest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from processors.alert_rules import ATTACK_VERSION, Technique
from processors.covers import compact
from schemas.records import EvidenceRef, Severity

OCSF_VERSION = "1.9.0"
CLASS_UID = 2004
CATEGORY_UID = 2
CONTENT_TYPE = b"application/json; charset=utf-8"
EVENT_TYPE = "org.attestream.alert.v1"

_SEVERITY_ID = {
    Severity.INFORMATIONAL: 1,
    Severity.LOW: 2,
    Severity.MEDIUM: 3,
    Severity.HIGH: 4,
    Severity.CRITICAL: 5,
}
_DEVICE_TYPE_IOT = 7
_ANALYTIC_RULE = 1
_OBSERVABLE_USER_UID = 31
_OBSERVABLE_DEVICE_UID = 47


class Activity(IntEnum):
    """`activity_id` of a finding."""

    CREATE = 1
    UPDATE = 2
    CLOSE = 3


class Status(IntEnum):
    """`status_id` of a finding."""

    NEW = 1
    IN_PROGRESS = 2
    """Somebody has acknowledged it."""
    SUPPRESSED = 3
    """By a silence, or because another alert explains it: kept in the log, told to nobody."""
    RESOLVED = 4


_STATUS = {
    Status.NEW: "New",
    Status.IN_PROGRESS: "In Progress",
    Status.SUPPRESSED: "Suppressed",
    Status.RESOLVED: "Resolved",
}


@dataclass(frozen=True, slots=True)
class Incident:
    """What makes one alert of many: the devices that this message names, and of how many the alert is."""

    devices: tuple[str, ...]
    device_count: int


@dataclass(frozen=True, slots=True)
class Alert:
    """One message about one cause; times in milliseconds of broker time."""

    uid: str
    """Derived from the cause: every message about it carries the same."""
    event_uid: str
    """Derived from what this message is about: a repeat after a crash carries the same."""
    activity: Activity
    analytic: str
    """The rule, or `rejected.<reason>`."""
    title: str
    types: tuple[str, ...]
    severity: Severity
    message: str
    start_ms: int
    end_ms: int
    count: int
    """Records that this message stands for; summed over distinct messages, none is counted twice."""
    device_id: str | None = None
    subject: str | None = None
    evidence: tuple[EvidenceRef, ...] = ()
    techniques: tuple[Technique, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    score: float | None = None
    related: tuple[tuple[str, str], ...] = ()
    """(uid, status) of findings that this message stands for without one of their own."""
    covers: tuple[str, ...] = ()
    """Places of these records, `topic/partition/offset`: in the topics one sees that none is left out."""
    status: Status = Status.NEW
    ward: str = ""
    scope: str = ""
    """What it groups by: `ward:ICU-2`, `subject:...`, `device:...`."""
    incident: Incident | None = None
    suppressed_by: str = ""
    """The uid of the silence or alert that holds this one back."""
    suppressed: Mapping[str, int] = field(default_factory=dict)
    """How many records this alert or silence has held back, by rule."""
    comment: str = ""
    """Of the person who acknowledged, resolved or silenced."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the log's name and the product's version."""

    log_name: str
    product_version: str

    @property
    def source(self) -> str:
        """CloudEvents `source`: with the event's id it is unique."""
        return f"urn:attestream:{self.log_name}:correlate"


def detection_finding(alert: Alert, reporter: Reporter) -> dict[str, Any]:
    """Render an alert as an OCSF Detection Finding."""
    rendered: dict[str, Any] = {
        "activity_id": int(alert.activity),
        "activity_name": alert.activity.name.capitalize(),
        "category_name": "Findings",
        "category_uid": CATEGORY_UID,
        "class_name": "Detection Finding",
        "class_uid": CLASS_UID,
        "count": alert.count,
        "end_time": alert.end_ms,
        "evidences": [_evidence(each, alert.subject) for each in alert.evidence],
        "finding_info": _finding_info(alert),
        "is_alert": alert.status in {Status.NEW, Status.IN_PROGRESS},
        "message": alert.message,
        "metadata": {
            "log_name": reporter.log_name,
            "product": {
                "name": "attestream",
                "vendor_name": "attestream",
                "version": reporter.product_version,
            },
            "uid": alert.event_uid,
            "version": OCSF_VERSION,
        },
        "observables": _observables(alert),
        "severity": alert.severity.value.capitalize(),
        "severity_id": _SEVERITY_ID[alert.severity],
        "start_time": alert.start_ms,
        "status": _STATUS[alert.status],
        "status_id": int(alert.status),
        "time": alert.end_ms,
        "type_name": f"Detection Finding: {alert.activity.name.capitalize()}",
        "type_uid": CLASS_UID * 100 + int(alert.activity),
    }
    if alert.device_id is not None:
        rendered["device"] = {"type": "IOT", "type_id": _DEVICE_TYPE_IOT, "uid": alert.device_id}
    if alert.comment:
        rendered["comment"] = alert.comment
    if alert.incident is not None:
        rendered["resources"] = [{"type": "Device", "uid": each} for each in alert.incident.devices]
    unmapped = _unmapped(alert)
    if unmapped:
        rendered["unmapped"] = unmapped
    return {name: value for name, value in rendered.items() if value != []}


def _unmapped(alert: Alert) -> dict[str, Any]:
    """Say what OCSF has no attribute for."""
    found: dict[str, Any] = {**alert.parameters, "covers": compact(alert.covers)}
    if alert.score is not None:
        found["score"] = alert.score
    if alert.incident is not None:
        found |= {"incident": True, "devices": alert.incident.device_count}
    found |= {"ward": alert.ward, "scope": alert.scope}
    found |= {"suppressed_by": alert.suppressed_by, "suppressed": dict(alert.suppressed)}
    return {name: value for name, value in found.items() if value not in ("", {})}


def encode(alert: Alert, reporter: Reporter) -> bytes:
    """Write the value of a Kafka record: UTF-8 JSON with sorted keys."""
    rendered = detection_finding(alert, reporter)
    return json.dumps(rendered, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "replace"
    )


def headers(alert: Alert, reporter: Reporter, salt: bytes) -> list[tuple[str, bytes]]:
    """Write the CloudEvents headers, with `salt` (16 unpredictable bytes) as the extension `salt`."""
    subject = alert.device_id or alert.analytic
    texts = {
        "ce_specversion": "1.0",
        "ce_id": alert.event_uid,
        "ce_source": reporter.source,
        "ce_type": EVENT_TYPE,
        "ce_subject": subject,
        "ce_time": _rfc3339(alert.end_ms),
        "ce_salt": salt.hex(),
    }
    written = [(name, text.encode("utf-8", "replace")) for name, text in texts.items()]
    return [("content-type", CONTENT_TYPE), *written]


def _rfc3339(time_ms: int) -> str:
    seconds, milliseconds = divmod(time_ms, 1000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        moment = datetime.fromtimestamp(0, UTC)  # broker time is never out of range; a forged one may be
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def _finding_info(alert: Alert) -> dict[str, Any]:
    info: dict[str, Any] = {
        "analytic": {
            "name": alert.analytic,
            "type": "Rule",
            "type_id": _ANALYTIC_RULE,
            "uid": alert.analytic,
        },
        "attacks": [_attack(each) for each in alert.techniques],
        "desc": alert.message,
        "last_seen_time": alert.end_ms,
        "title": alert.title,
        "types": list(alert.types),
        "uid": alert.uid,
    }
    if alert.activity is Activity.CREATE:
        info["first_seen_time"] = alert.start_ms
    if alert.related:
        info["related_events"] = [{"uid": uid, "status": status} for uid, status in alert.related]
        info["related_events_count"] = alert.count
    return {name: value for name, value in info.items() if value != []}


def _attack(technique: Technique) -> dict[str, Any]:
    own = {"name": technique.name, "uid": technique.uid}
    rendered: dict[str, Any] = {
        "tactic": {"name": technique.tactic, "uid": technique.tactic_uid},
        "version": ATTACK_VERSION,
    }
    if technique.parent is None:
        return {**rendered, "technique": own}
    uid, name = technique.parent
    return {**rendered, "technique": {"name": name, "uid": uid}, "sub_technique": own}


def _evidence(reference: EvidenceRef, subject: str | None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "topic": reference.topic,
        "partition": reference.partition,
        "offset": reference.offset,
    }
    if reference.digest is not None:
        data["digest"] = reference.digest.hex()
        data["digest_algorithm"] = "BLAKE3"
    rendered: dict[str, Any] = {
        "data": data,
        "name": "Kafka record",
        "uid": f"{reference.topic}/{reference.partition}/{reference.offset}",
    }
    if subject is not None:
        rendered["user"] = {"uid": subject}
    return rendered


def _observables(alert: Alert) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if alert.device_id is not None:
        found.append(
            {
                "name": "device.uid",
                "type": "Device Object: uid",
                "type_id": _OBSERVABLE_DEVICE_UID,
                "value": alert.device_id,
            }
        )
    if alert.subject is not None and alert.evidence:
        found.append(
            {
                "name": "evidences.user.uid",
                "type": "User Object: uid",
                "type_id": _OBSERVABLE_USER_UID,
                "value": alert.subject,
            }
        )
    return found

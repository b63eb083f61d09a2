"""What both classes have in common: who, when, how bad, about which device, shown by which records."""

from typing import Any

from processors.alert_rules import ATTACK_VERSION, Technique
from processors.covers import compact
from processors.ocsf.alert import Alert, Status
from processors.ocsf.integrity import PROFILE, shard_of
from processors.ocsf.reporter import Reporter
from schemas.records import EvidenceRef, Severity

OCSF_VERSION = "1.9.0"
DEVICE_TYPE = {"type": "IOT", "type_id": 7}

_SEVERITY_ID = {
    Severity.INFORMATIONAL: 1,
    Severity.LOW: 2,
    Severity.MEDIUM: 3,
    Severity.HIGH: 4,
    Severity.CRITICAL: 5,
}
_OBSERVABLE_USER_UID = 31
_OBSERVABLE_DEVICE_UID = 47
_SCORE_DIGITS = 4


def shared(alert: Alert, reporter: Reporter, *profiles: str) -> dict[str, Any]:
    """Return the attributes of any class; `profiles` are those of the class, beside that of the record."""
    rendered: dict[str, Any] = {
        "count": alert.count,
        "end_time": alert.end_ms,
        "is_alert": alert.status in {Status.NEW, Status.IN_PROGRESS},
        "message": alert.message,
        "metadata": {
            "log_name": reporter.log_name,
            "product": {
                "name": "attestream",
                "vendor_name": "attestream",
                "version": reporter.product_version,
            },
            "profiles": [*profiles, PROFILE],
            "uid": alert.event_uid,
            "version": OCSF_VERSION,
        },
        "severity": alert.severity.value.capitalize(),
        "severity_id": _SEVERITY_ID[alert.severity],
        "start_time": alert.start_ms,
        "time": alert.end_ms,
    }
    if alert.device_id is not None:
        rendered["device"] = {**DEVICE_TYPE, "uid": alert.device_id}
    return rendered


def named(class_uid: int, class_name: str, activity_id: int, activity_name: str) -> dict[str, Any]:
    """Return the attributes that say which class and activity this is."""
    return {
        "activity_id": activity_id,
        "activity_name": activity_name,
        "class_name": class_name,
        "class_uid": class_uid,
        "type_name": f"{class_name}: {activity_name}",
        "type_uid": class_uid * 100 + activity_id,
    }


def filled(rendered: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is empty; what is 0 or false says something."""
    return {name: value for name, value in rendered.items() if value not in ("", [], {})}


def unmapped(alert: Alert) -> dict[str, Any]:
    """Say what OCSF has no attribute for."""
    found: dict[str, Any] = {**alert.parameters, "covers": compact(alert.covers)}
    if alert.score is not None:
        found["score"] = _plain(alert.score)
    if alert.incident is not None:
        found |= {"incident": True, "devices": alert.incident.device_count}
    found |= {"ward": alert.ward, "scope": alert.scope}
    found |= {"suppressed_by": alert.suppressed_by, "suppressed": dict(alert.suppressed)}
    return filled(found)


def _plain(score: float) -> int | float | str:
    """Write a number so that Python and ECMAScript write the same digits: the fingerprint is over them."""
    if not abs(score) < 2**53:
        return str(score)
    rounded = round(score, _SCORE_DIGITS)
    return int(rounded) if rounded.is_integer() else rounded


def devices(alert: Alert) -> list[dict[str, Any]]:
    """Name the devices of an incident as resources."""
    return [{"type": "Device", "uid": each} for each in alert.incident.devices] if alert.incident else []


def attacks(alert: Alert) -> list[dict[str, Any]]:
    """Name the techniques that the evidence shows."""
    return [_attack(each) for each in alert.techniques]


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


def related_events(alert: Alert) -> list[dict[str, str]]:
    """Name the findings that a message stands for."""
    return [{"uid": uid, "status": status} for uid, status in alert.related]


def evidence(reference: EvidenceRef, reporter: Reporter, subject: str | None) -> dict[str, Any]:
    """Cite a record: its place, its digest where known, and the shard that seals it where one does."""
    rendered: dict[str, Any] = {
        "data": record(reference, reporter),
        "name": "Kafka record",
        "uid": place(reference),
    }
    if subject is not None:
        rendered["user"] = {"uid": subject}
    return rendered


def record(reference: EvidenceRef, reporter: Reporter) -> dict[str, Any]:
    """Cite a record, without a name."""
    data: dict[str, Any] = {
        "topic": reference.topic,
        "partition": reference.partition,
        "offset": reference.offset,
    }
    if reference.digest:
        data |= {"digest": reference.digest.hex(), "digest_algorithm": "BLAKE3"}
    shard = shard_of(reporter.log_name, reference.topic, reference.partition)
    return data if shard is None else {**data, "shard": shard}


def place(reference: EvidenceRef) -> str:
    """Write a record's place."""
    return f"{reference.topic}/{reference.partition}/{reference.offset}"


def observables(alert: Alert, user_at: str) -> list[dict[str, Any]]:
    """Name what to search for; `user_at` is where the class has the user, empty where it has none."""
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
    if alert.subject is not None and user_at:
        found.append(
            {
                "name": user_at,
                "type": "User Object: uid",
                "type_id": _OBSERVABLE_USER_UID,
                "value": alert.subject,
            }
        )
    return found

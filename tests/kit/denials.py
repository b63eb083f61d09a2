"""Decisions on access, their records, and alerts of denials."""

import json
from typing import Any

from processors.model import RawRecord
from processors.notices import DenialNotice, read_denial
from processors.ocsf import Activity, Alert, Reporter, encode
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect
from schemas.records import EvidenceRef

NOW_MS = 1_700_000_000_123
DEVICE, NURSE, PHYSICIAN = "did:key:z6MkPump", "did:key:z6MkNurse", "did:key:z6MkPhysician"
REPORTER = Reporter("attestream.test", "0.1.0")


def decision(reason: DecisionReason = DecisionReason.NO_PERMIT, **changes: Any) -> Decision:
    """A nurse asks a pump for a bolus and is denied."""
    fields: dict[str, Any] = {
        "kind": DecisionKind.REQUEST, "effect": Effect.DENY, "reason": reason, "detail": "no policy does",
        "device_id": DEVICE, "subject": NURSE, "action": "bolus", "resource": "channel-2", "purpose": "TREAT",
        "session": "s-7", "emergency": False, "time_us": NOW_MS * 1000,
        "request": EvidenceRef("device.access.raw", 3, 41, b"\xab" * 32),
        "registry_offset": 12, "policy_offset": 5,
        "policies": ("hospital/bolus",), "policy_digest": b"\xcd" * 32,
        "attributes": {"principal.roles": "nurse", "principal.wards": "ICU-2"},
        "obligations": ("1 of physician",), "approvals": (PHYSICIAN,),
    }  # fmt: skip
    return Decision(**{**fields, **changes})


def decision_record(found: Decision, offset: int = 99) -> RawRecord:
    """A decision as it stands in `access.decisions`."""
    value = found.encode(bytes(range(16)))
    return RawRecord("access.decisions", 3, offset, NOW_MS + 5, DEVICE.encode(), value)


def denial(
    reason: DecisionReason = DecisionReason.NO_PERMIT, offset: int = 99, **changes: Any
) -> DenialNotice:
    """The notice of a denial."""
    notice = read_denial(decision_record(decision(reason, **changes), offset))
    assert notice is not None
    return notice


def denial_alert(notice: DenialNotice, **changes: Any) -> Alert:
    """The alert of one denial."""
    fields: dict[str, Any] = {
        "uid": "00" * 16, "event_uid": notice.position, "activity": Activity.CREATE, "analytic": notice.name,
        "title": notice.rule.title, "types": ("Access denied",), "severity": notice.rule.severity,
        "message": notice.message, "start_ms": notice.time_ms, "end_ms": notice.time_ms, "count": 1,
        "device_id": notice.device_id, "subject": notice.subject, "evidence": notice.evidence,
        "techniques": notice.rule.techniques, "covers": (notice.position,), "ward": notice.ward,
        "access": notice.access,
    }  # fmt: skip
    return Alert(**{**fields, **changes})


def denied(reason: DecisionReason = DecisionReason.NO_PERMIT, **changes: Any) -> dict[str, Any]:
    """The event of one denial, as it is published."""
    document: dict[str, Any] = json.loads(encode(denial_alert(denial(reason), **changes), REPORTER))
    return document

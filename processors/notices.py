"""What the correlator reads: records of `device.findings`, `device.rejected`, `access.decisions`, as notices.

A notice holds what an alert may say, nothing of the rejected bytes, and no measured value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

from blake3 import blake3

from processors.alert_rules import (
    DENIAL_RULES,
    DEVICE_WIDE_ACCESS,
    FINDING_RULES,
    REVOCATION,
    UNTOLD_DENIALS,
    AlertRule,
    DenialRule,
)
from processors.builds import Build
from processors.model import RawRecord
from processors.ocsf import AccessFacts, Activity
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect, decode_decision
from schemas.errors import FormatError
from schemas.reasons import Reason
from schemas.records import EvidenceRef, FindingStatus, Severity, decode_finding

MAX_SHOWN_EVIDENCE = 20
_MAX_TEXT = 512
"""Of what somebody claims: an alert that no broker takes would be tried for ever."""
_MAX_MESSAGE = 4096
_MAX_LISTED = 50
_ACTIVITY = {
    FindingStatus.OPENED: Activity.CREATE,
    FindingStatus.UPDATED: Activity.UPDATE,
    FindingStatus.CLEARED: Activity.CLOSE,
}


class NoticeError(FormatError):
    """A record of ours cannot be read: written by a newer build, or by somebody else."""


@dataclass(frozen=True, slots=True)
class FindingNotice:
    """One record of `device.findings`; `time_ms` is broker time."""

    position: str
    uid: str
    name: str
    rule: AlertRule
    activity: Activity
    severity: Severity
    device_id: str
    time_ms: int
    message: str
    evidence: tuple[EvidenceRef, ...]
    subject: str | None = None
    score: float = 1.0
    parameters: Mapping[str, str] = field(default_factory=dict)
    ward: str = ""
    """Of the device, as the registry has it; the caller knows."""
    build: Build | None = None
    """Of the device, as the ward."""


@dataclass(frozen=True, slots=True)
class RejectionNotice:
    """One record of `device.rejected`; the device is as far as it was read, so it may be a lie."""

    position: str
    reason: Reason
    device_id: str | None
    time_ms: int
    evidence: tuple[EvidenceRef, ...]
    ward: str = ""


@dataclass(frozen=True, slots=True)
class DenialNotice:
    """One record of `access.decisions` that denies; `time_ms` is broker time. Texts and lists are cut."""

    position: str
    name: str
    """`denied.<reason>`; `revoked.<reason>` where a live permit ended."""
    rule: DenialRule
    reason: DecisionReason
    device_id: str
    subject: str
    time_ms: int
    message: str
    evidence: tuple[EvidenceRef, ...]
    """The decision, and the request that it answers."""
    access: AccessFacts
    ward: str = ""
    """Of the device, as the registry has it; the caller knows."""


Notice = FindingNotice | RejectionNotice | DenialNotice


def read_finding(record: RawRecord) -> FindingNotice:
    """Read a record of `device.findings`; raises FormatError."""
    found = decode_finding(record.value or b"")
    name, parameters = found["rule"], found["parameters"]
    rule = FINDING_RULES.get(name) or AlertRule(name, ("Anomaly",))
    if name == "repeated_failed_access" and parameters.get("scope") == "device":
        rule = DEVICE_WIDE_ACCESS
    return FindingNotice(
        position=_position(record),
        uid=found["id"].hex(),
        name=name,
        rule=rule,
        activity=_ACTIVITY[FindingStatus(found["status"])],
        severity=Severity(found["severity"]),
        device_id=found["device_id"],
        time_ms=found["time"] // 1000,
        message=found["explanation"][:_MAX_MESSAGE],
        evidence=tuple(EvidenceRef(**each) for each in found["evidence"][:MAX_SHOWN_EVIDENCE]),
        subject=found["subject"][:_MAX_TEXT] if found["subject"] is not None else None,
        score=found["score"],
        parameters={name: text[:_MAX_TEXT] for name, text in parameters.items()},
    )


def read_rejection(record: RawRecord) -> RejectionNotice:
    """Read a record of `device.rejected` from its headers alone; raises NoticeError."""
    headers = dict(record.headers)
    try:
        reason = Reason(_text(headers.get("reason")))
        topic, partition, offset = _text(headers.get("source")).rsplit("/", 2)
        evidence = EvidenceRef(topic, int(partition), int(offset))
    except ValueError as error:
        message = f"{_position(record)} does not say in its headers why and whence it was rejected"
        raise NoticeError(message) from error
    device = headers.get("device")
    return RejectionNotice(
        _position(record),
        reason,
        _text(device)[:_MAX_TEXT] if device else _device_of_key(record.key),
        record.append_ms,
        (evidence,),
    )


def read_denial(record: RawRecord) -> DenialNotice | None:
    """Read a record of `access.decisions`; raises FormatError.

    None for a permit, a permit's end by time, and what the device itself says that it denied: of that the
    detector of repeated failures tells.
    """
    found = _cut(decode_decision(record.value or b""))
    if found.effect is Effect.PERMIT or found.kind is DecisionKind.EXPIRY or found.reason in UNTOLD_DENIALS:
        return None
    is_revocation = found.kind is DecisionKind.REVOCATION
    rule = DENIAL_RULES.get(found.reason)
    if rule is None:
        message = f"{_position(record)} denies for a reason that permits: {found.reason.value}"
        raise NoticeError(message)
    rule = REVOCATION if is_revocation else rule
    reference = record.reference(blake3(record.value or b"").digest())
    what = " ".join(each for each in (found.action, found.resource) if each)
    return DenialNotice(
        position=_position(record),
        name=f"{'revoked' if is_revocation else 'denied'}.{found.reason.value}",
        rule=rule,
        reason=found.reason,
        device_id=found.device_id,
        subject=found.subject,
        time_ms=found.time_us // 1000,
        message=f"{rule.title}: {what} by {found.subject}: {found.detail}",
        evidence=(reference, found.request),
        access=AccessFacts(found, reference),
    )


def _cut(found: Decision) -> Decision:
    """Bound what a request says: an alert that no broker takes would be tried for ever."""
    return replace(
        found,
        detail=found.detail[:_MAX_TEXT],
        device_id=found.device_id[:_MAX_TEXT],
        subject=found.subject[:_MAX_TEXT],
        action=found.action[:_MAX_TEXT],
        resource=found.resource[:_MAX_TEXT],
        purpose=found.purpose[:_MAX_TEXT],
        session=found.session[:_MAX_TEXT],
        policies=_few(found.policies),
        obligations=_few(found.obligations),
        approvals=_few(found.approvals),
        attributes=dict(zip(_few(found.attributes.keys()), _few(found.attributes.values()), strict=True)),
    )


def _few(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(each[:_MAX_TEXT] for each in islice(texts, _MAX_LISTED))


def _position(record: RawRecord) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _device_of_key(key: bytes | None) -> str | None:
    return key.decode("ascii", "replace")[:_MAX_TEXT] if key and key.startswith(b"did:") else None

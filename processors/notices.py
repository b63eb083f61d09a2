"""What the correlator reads: records of `device.findings` and `device.rejected`, as notices.

A notice holds what an alert may say, nothing of the rejected bytes, and no measured value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from processors.alert_rules import DEVICE_WIDE_ACCESS, FINDING_RULES, AlertRule
from processors.model import RawRecord
from processors.ocsf import Activity
from schemas.errors import FormatError
from schemas.reasons import Reason
from schemas.records import EvidenceRef, FindingStatus, Severity, decode_finding

MAX_SHOWN_EVIDENCE = 20
_MAX_TEXT = 512
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


@dataclass(frozen=True, slots=True)
class RejectionNotice:
    """One record of `device.rejected`; the device is as far as it was read, so it may be a lie."""

    position: str
    reason: Reason
    device_id: str | None
    time_ms: int
    evidence: tuple[EvidenceRef, ...]
    ward: str = ""


Notice = FindingNotice | RejectionNotice


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
        message=found["explanation"],
        evidence=tuple(EvidenceRef(**each) for each in found["evidence"][:MAX_SHOWN_EVIDENCE]),
        subject=found["subject"],
        score=found["score"],
        parameters=parameters,
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


def _position(record: RawRecord) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def _device_of_key(key: bytes | None) -> str | None:
    return key.decode("ascii", "replace")[:_MAX_TEXT] if key and key.startswith(b"did:") else None

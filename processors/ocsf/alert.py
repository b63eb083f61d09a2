"""What an alert says, whatever it is rendered as."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from processors.alert_rules import Technique
from schemas.decisions import Decision
from schemas.records import EvidenceRef, Severity


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


STATUS_NAMES = {
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
class AccessFacts:
    """What an alert of a denial says beyond other alerts: the decision, and where its record stands."""

    decision: Decision
    record: EvidenceRef


@dataclass(frozen=True, slots=True)
class Alert:
    """One message about one cause; times in milliseconds of broker time."""

    uid: str
    """Derived from the cause: every message about it carries the same."""
    event_uid: str
    """Derived from what this message is about: a repeat after a crash carries the same."""
    activity: Activity
    analytic: str
    """The rule, or `rejected.<reason>`, `denied.<reason>`, `revoked.<reason>`."""
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
    access: AccessFacts | None = None
    """Of a denial: the message is an API Activity then. Where it stands for many, of one of them."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports: the log's name and the product's version."""

    log_name: str
    product_version: str

    @property
    def source(self) -> str:
        """CloudEvents `source`: with the event's id it is unique."""
        return f"urn:attestream:{self.log_name}:correlate"

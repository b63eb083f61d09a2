"""What belongs together: notices of one rule or reason, in one ward, about one device, or by one subject."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from blake3 import blake3

from processors.alert_rules import REJECTION_RULES
from processors.notices import DenialNotice, FindingNotice, Notice, RejectionNotice
from schemas.records import Severity

T = TypeVar("T")

_BY_SUBJECT = frozenset({"Access anomaly"})
"""Types of findings that are about a person first, and about a device second."""
_MANY = "many"
BUILD = "build"


class Scope(NamedTuple):
    """Where notices come from: `ward`, `subject`, `device`, `build`, or `many` where they are too many."""

    kind: str
    value: str

    def __str__(self) -> str:
        """Write it as alerts do."""
        return f"{self.kind}:{self.value}"


EVERYWHERE = Scope(_MANY, "")


def parse_scope(text: str) -> Scope:
    """Read what `str` wrote."""
    kind, _, value = text.partition(":")
    return Scope(kind, value)


class GroupKey(NamedTuple):
    """One group: its rule, or `rejected.<reason>`, and its scope."""

    analytic: str
    scope: Scope


class Held(NamedTuple, Generic[T]):
    """A notice that is not told yet, and what the caller acknowledges when it is."""

    notice: Notice
    token: T


@dataclass(slots=True)
class Group(Generic[T]):
    """Notices that wait; `due_ms` is when they are told, by the caller's clock."""

    set_ms: int
    due_ms: int
    held: list[Held[T]] = field(default_factory=list)

    def is_due(self, now_ms: int) -> bool:
        """Tell whether its time has come; a clock that stepped back makes it so, instead of keeping it."""
        return not self.set_ms <= now_ms < self.due_ms


def analytic_of(notice: Notice) -> str:
    """Name the rule of a finding, `rejected.<reason>`, `denied.<reason>` or `revoked.<reason>`."""
    return f"rejected.{notice.reason.value}" if isinstance(notice, RejectionNotice) else notice.name


def severity_of(notice: Notice) -> Severity:
    """Return how bad it is: a finding's own severity, or that of the reason."""
    if isinstance(notice, FindingNotice):
        return notice.severity
    if isinstance(notice, DenialNotice):
        return notice.rule.severity
    return REJECTION_RULES[notice.reason].severity


def subject_of(notice: Notice) -> str | None:
    """Return whom it is about, where it is about a person."""
    return None if isinstance(notice, RejectionNotice) else notice.subject


def key_of(notice: Notice) -> GroupKey:
    """Say to which group a notice belongs."""
    subject = subject_of(notice)
    types = notice.rule.types if isinstance(notice, FindingNotice) else ()
    if subject and (isinstance(notice, DenialNotice) or not _BY_SUBJECT.isdisjoint(types)):
        scope = Scope("subject", subject)
    elif notice.ward:
        scope = Scope("ward", notice.ward)
    else:
        scope = Scope("device", notice.device_id or "")
    return GroupKey(analytic_of(notice), scope)


def id_of(*parts: str) -> str:
    """Derive an id of 32 hex digits from parts."""
    framed = b"".join(len(each.encode()).to_bytes(4, "big") + each.encode() for each in parts)
    return blake3(framed).digest(16).hex()


def message_id(positions: Sequence[str]) -> str:
    """Derive a message's id from the records that it tells of: made again for the same, it is the same."""
    first = positions[0]
    if len(positions) == 1:
        return first
    digest = b""
    for each in positions[1:]:
        digest = blake3(digest + each.encode()).digest(8)
    return f"{first}+{digest.hex()}"

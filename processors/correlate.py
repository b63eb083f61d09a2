"""CORRELATE: findings and rejections become alerts; a flood becomes few, and none is lost from the count.

Notices of one rule (or reason) about one device form a group for `interval_ms`. The first of a group are
told at once; the rest are folded into one report when the group closes. Alert ids follow from causes:
a finding's alert has the finding's id, rejections of one reason by one device have one alert in each
`window_ms` of broker time. Message ids follow from the records told of, of a report from all of them: one
that is made again after a crash has the same id only if it stands for the same records, so that who drops
repeats by id drops no record with them.

Each notice comes with the caller's token and gives it back in `Step.released` together with the alert
that tells of it. A caller that acknowledges only released tokens, after the alerts are durable, needs no
stored state: what was folded but not told is delivered again after a crash, so a count is never too low.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from blake3 import blake3

from processors.alert_rules import REJECTION_RULES
from processors.notices import FindingNotice, Notice, RejectionNotice
from processors.ocsf import Activity, Alert, Status
from schemas.records import EvidenceRef, Severity

T = TypeVar("T")

_RANK = {severity: rank for rank, severity in enumerate(Severity)}
_MAX_RELATED = 50
_POSITIONS_BYTES = 8
_MAX_SEEN = 10_000
_REJECTION_TYPES: tuple[str, ...] = ("Rejected record",)


@dataclass(frozen=True, slots=True)
class CorrelateConfig:
    """Bounds and times of grouping, in milliseconds."""

    interval_ms: int = 10_000
    """A group closes so long after its first notice, by the caller's clock."""
    window_ms: int = 300_000
    """Rejections of one reason by one device within such a window of broker time are one alert."""
    told_findings: int = 5
    """So many findings of one group are told each by itself."""
    max_groups: int = 10_000
    """Beyond, notices of a rule share one group, whatever their device."""
    max_held: int = 20_000
    """Beyond so many folded notices every group closes early."""


@dataclass(slots=True)
class Step(Generic[T]):
    """Alerts to publish, in order, and then the tokens to acknowledge."""

    alerts: list[Alert] = field(default_factory=list)
    released: list[T] = field(default_factory=list)


@dataclass(slots=True)
class _Group(Generic[T]):
    opened_ms: int
    device_id: str | None
    told: set[str] = field(default_factory=set)
    folded: int = 0
    first: Notice | None = None
    last: Notice | None = None
    severity: Severity = Severity.INFORMATIONAL
    related: dict[str, str] = field(default_factory=dict)
    tokens: list[T] = field(default_factory=list)
    positions: bytes = b""
    """Digest of the records that are folded, in their order."""


_Key = tuple[str, str | None]


class Correlator(Generic[T]):
    """Groups notices; deterministic in its arguments, bounded in memory."""

    def __init__(self, config: CorrelateConfig | None = None) -> None:
        self._config = config or CorrelateConfig()
        self._groups: dict[_Key, _Group[T]] = {}  # in the order of their opening
        self._seen: dict[str, None] = {}
        self._held = 0

    @property
    def held(self) -> int:
        """How many notices are folded and not yet told."""
        return self._held

    def add(self, notice: Notice, token: T, now_ms: int) -> Step[T]:
        """Take one notice; `now_ms` is the caller's clock."""
        step: Step[T] = Step()
        if isinstance(notice, RejectionNotice) and notice.reason not in REJECTION_RULES:
            step.released.append(token)
            return step
        group = self._group(notice, now_ms)
        told_as = notice.uid if isinstance(notice, FindingNotice) else notice.reason.value
        limit = self._config.told_findings if isinstance(notice, FindingNotice) else 1
        again = isinstance(notice, FindingNotice) and told_as in group.told
        if again or len(group.told) < limit:
            group.told.add(told_as)
            step.alerts.append(self._told(notice, group.device_id))
            step.released.append(token)
            return step
        self._fold(group, notice, token)
        if self._held > self._config.max_held:
            self._close(list(self._groups), step)
        return step

    def tick(self, now_ms: int) -> Step[T]:
        """Close the groups whose time is over."""
        step: Step[T] = Step()
        due = []
        for key, group in self._groups.items():
            if 0 <= now_ms - group.opened_ms < self._config.interval_ms:
                break
            due.append(key)
        self._close(due, step)
        return step

    def close(self) -> Step[T]:
        """Close every group, before an orderly end."""
        step: Step[T] = Step()
        self._close(list(self._groups), step)
        return step

    def reset(self) -> None:
        """Forget what was not told: its records come again, because nobody acknowledged them."""
        self._groups.clear()
        self._held = 0

    def _group(self, notice: Notice, now_ms: int) -> _Group[T]:
        name, device_id = _analytic(notice), notice.device_id
        group = self._groups.get((name, device_id))
        if group is None and len(self._groups) >= self._config.max_groups:
            device_id = None
            group = self._groups.get((name, None))
        if group is None:
            group = self._groups[name, device_id] = _Group(now_ms, device_id)
        return group

    def _fold(self, group: _Group[T], notice: Notice, token: T) -> None:
        group.folded += 1
        group.positions = blake3(group.positions + notice.position.encode()).digest(_POSITIONS_BYTES)
        group.first = group.first or notice
        group.last = notice
        group.severity = max(group.severity, _severity(notice), key=_RANK.__getitem__)
        if isinstance(notice, FindingNotice) and (
            notice.uid in group.related or len(group.related) < _MAX_RELATED
        ):
            group.related[notice.uid] = notice.activity.name.capitalize()
        group.tokens.append(token)
        self._held += 1

    def _close(self, keys: Iterable[_Key], step: Step[T]) -> None:
        for key in keys:
            group = self._groups.pop(key)
            if group.first is not None and group.last is not None:
                step.alerts.append(self._report(group, group.first, group.last))
            step.released += group.tokens
            self._held -= len(group.tokens)

    # ---- alerts ----------------------------------------------------------------------------------------

    def _told(self, notice: Notice, device_id: str | None) -> Alert:
        if isinstance(notice, RejectionNotice):
            uid = self._uid(notice, device_id)
            rule = REJECTION_RULES[notice.reason]
            return Alert(
                uid=uid,
                event_uid=notice.position,
                activity=self._create_or_update(uid),
                analytic=_analytic(notice),
                title=rule.title,
                types=_REJECTION_TYPES,
                severity=rule.severity,
                message=f"{rule.title}: rejected as {notice.reason.value}",
                start_ms=notice.time_ms,
                end_ms=notice.time_ms,
                count=1,
                device_id=notice.device_id,
                evidence=notice.evidence,
                techniques=rule.techniques,
            )
        return Alert(
            uid=notice.uid,
            event_uid=notice.position,
            activity=notice.activity,
            analytic=notice.name,
            title=notice.rule.title,
            types=notice.rule.types,
            severity=notice.severity,
            message=notice.message,
            start_ms=notice.time_ms,
            end_ms=notice.time_ms,
            count=1,
            device_id=notice.device_id,
            subject=notice.subject,
            evidence=notice.evidence,
            techniques=notice.rule.techniques,
            status=Status.RESOLVED if notice.activity is Activity.CLOSE else Status.NEW,
            parameters=notice.parameters,
            score=notice.score,
        )

    def _report(self, group: _Group[T], first: Notice, last: Notice) -> Alert:
        uid = self._uid(first, group.device_id)
        if isinstance(first, RejectionNotice):
            known = REJECTION_RULES[first.reason]
            title, types, techniques = known.title, _REJECTION_TYPES, known.techniques
        else:
            title, types, techniques = first.rule.title, first.rule.types, first.rule.techniques
        where = "of this device" if group.device_id is not None else "of devices not told apart"
        return Alert(
            uid=uid,
            event_uid=f"{first.position}+{group.positions.hex()}",
            activity=self._create_or_update(uid),
            analytic=_analytic(first),
            title=title,
            types=types,
            severity=group.severity,
            message=f"{title}: {group.folded} more {where}",
            start_ms=min(first.time_ms, last.time_ms),
            end_ms=max(first.time_ms, last.time_ms),
            count=group.folded,
            device_id=group.device_id,
            evidence=_ends(first.evidence, last.evidence),
            techniques=techniques,
            related=tuple(group.related.items()),
        )

    def _uid(self, notice: Notice, device_id: str | None) -> str:
        window = notice.time_ms // self._config.window_ms
        parts = (_analytic(notice), device_id if device_id is not None else "\x00many", str(window))
        framed = b"".join(len(each.encode()).to_bytes(4, "big") + each.encode() for each in parts)
        return blake3(framed).digest(16).hex()

    def _create_or_update(self, uid: str) -> Activity:
        if uid in self._seen:
            return Activity.UPDATE
        self._seen[uid] = None
        if len(self._seen) > _MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        return Activity.CREATE


def _analytic(notice: Notice) -> str:
    return notice.name if isinstance(notice, FindingNotice) else f"rejected.{notice.reason.value}"


def _severity(notice: Notice) -> Severity:
    if isinstance(notice, FindingNotice):
        return notice.severity
    return REJECTION_RULES[notice.reason].severity


def _ends(first: tuple[EvidenceRef, ...], last: tuple[EvidenceRef, ...]) -> tuple[EvidenceRef, ...]:
    return tuple(dict.fromkeys((*first[:1], *last[-1:])))

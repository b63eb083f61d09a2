"""The messages about a case, and what each adds to it. A case and its message are made in one step."""

from collections.abc import Sequence
from typing import Any

from processors.alert_rules import LASTING_RULES, REJECTION_RULES
from processors.correlate.cases import Case
from processors.correlate.config import CorrelateConfig
from processors.correlate.groups import (
    GroupKey,
    Scope,
    analytic_of,
    id_of,
    message_id,
    severity_of,
    subject_of,
)
from processors.notices import DenialNotice, FindingNotice, Notice, RejectionNotice
from processors.ocsf import Activity, Alert, Incident, Status
from schemas.records import SEVERITY_RANK, EvidenceRef

_REJECTION_TYPES: tuple[str, ...] = ("Rejected record",)
_DENIAL_TYPES: tuple[str, ...] = ("Access denied",)
_MAX_DEVICES = 10_000
_WHERE = {"ward": "in ward {}", "subject": "by subject {}", "device": "of this device"}


def case_of_finding(notice: FindingNotice, scope: Scope, now_ms: int, muted_by: str) -> Case:
    """Begin the case of one finding, under the finding's own id."""
    case = _begin(notice.uid, notice, scope, now_ms, muted_by)
    case.device_id, case.subject = notice.device_id, notice.subject
    return case


def case_of_device(key: GroupKey, notice: Notice, window_ms: int, now_ms: int, muted_by: str) -> Case:
    """Begin the case of many records of one device, or of a rejection."""
    is_known = key.scope.kind != "many" and notice.device_id is not None
    named = str(notice.device_id) if is_known else "\x00many"
    case = _begin(_uid(key, notice, window_ms, muted_by, named), notice, key.scope, now_ms, muted_by)
    case.device_id = notice.device_id if key.scope.kind != "many" else None
    case.subject = subject_of(notice) if key.scope.kind == "subject" else None
    return case


def incident(key: GroupKey, notice: Notice, window_ms: int, now_ms: int, muted_by: str) -> Case:
    """Begin the case of many devices."""
    case = _begin(_uid(key, notice, window_ms, muted_by, "\x00incident"), notice, key.scope, now_ms, muted_by)
    case.is_incident, case.subject = True, subject_of(notice)
    return case


def _uid(key: GroupKey, notice: Notice, window_ms: int, muted_by: str, *more: str) -> str:
    window = str(notice.time_ms // window_ms)
    return id_of(key.analytic, str(key.scope), window, muted_by, *more)


def _begin(uid: str, notice: Notice, scope: Scope, now_ms: int, muted_by: str) -> Case:
    rule = REJECTION_RULES[notice.reason] if isinstance(notice, RejectionNotice) else notice.rule
    if isinstance(notice, FindingNotice):
        types = notice.rule.types
    else:
        types = _DENIAL_TYPES if isinstance(notice, DenialNotice) else _REJECTION_TYPES
    return Case(
        uid=uid,
        analytic=analytic_of(notice),
        scope=scope,
        title=rule.title,
        types=types,
        severity=severity_of(notice),
        first_ms=notice.time_ms,
        last_ms=notice.time_ms,
        heard_ms=now_ms,
        told_ms=now_ms,
        ward=notice.ward,
        techniques=rule.techniques,
        is_event=isinstance(notice, DenialNotice),
        muted_by=muted_by,
        status=Status.SUPPRESSED if muted_by else Status.NEW,
    )


def tell(case: Case, notices: Sequence[Notice], now_ms: int, config: CorrelateConfig) -> Alert:
    """Tell of records; an `activity` of Close says that the case is over with them."""
    lasted = case.lasts
    _take(case, notices, now_ms, config)
    first, last = notices[0], notices[-1]
    if len(notices) == 1 and isinstance(first, FindingNotice) and first.uid == case.uid:
        return message_of(
            case,
            event_uid=first.position,
            activity=first.activity,
            message=first.message,
            start_ms=first.time_ms,
            end_ms=first.time_ms,
            count=1,
            covers=(first.position,),
            evidence=first.evidence,
            parameters=first.parameters,
            score=first.score,
        )
    ends = lasted and not case.lasts
    activity = Activity.CLOSE if ends else Activity.CREATE if case.messages == 0 else Activity.UPDATE
    return message_of(
        case,
        event_uid=message_id([each.position for each in notices]),
        activity=activity,
        message=_summary(case, notices),
        start_ms=min(each.time_ms for each in notices),
        end_ms=max(each.time_ms for each in notices),
        count=len(notices),
        covers=tuple(each.position for each in notices),
        evidence=_ends(first.evidence, last.evidence),
        related=_related(notices),
        incident=_incident(case, notices) if case.is_incident else None,
        access=first.access if isinstance(first, DenialNotice) else None,
    )


def _take(case: Case, notices: Sequence[Notice], now_ms: int, config: CorrelateConfig) -> None:
    case.heard_ms = now_ms
    for each in notices:
        case.severity = max(case.severity, severity_of(each), key=SEVERITY_RANK.__getitem__)
        case.last_ms = max(case.last_ms, each.time_ms)
        case.first_ms = min(case.first_ms, each.time_ms)
        if each.device_id is not None and len(case.devices) < _MAX_DEVICES:
            case.devices[each.device_id] = None
        if isinstance(each, FindingNotice) and (
            each.uid in case.members or len(case.members) < config.max_members
        ):
            goes_on = each.activity is not Activity.CLOSE
            case.members[each.uid] = goes_on and each.name in LASTING_RULES


def _summary(case: Case, notices: Sequence[Notice]) -> str:
    where = _WHERE.get(case.scope.kind, "of devices not told apart").format(case.scope.value)
    if case.is_incident:
        more = f"{len(notices)} records" if case.messages == 0 else f"{len(notices)} more records"
        return f"{case.title}: {len(case.devices)} devices {where}, {more}"
    if case.device_id is not None:
        where = "of this device"
    if len(notices) > 1:
        return f"{case.title}: {len(notices)} records {where}"
    only = notices[0]
    if not isinstance(only, RejectionNotice):
        return only.message
    return f"{case.title}: rejected as {only.reason.value}"


def _related(notices: Sequence[Notice]) -> tuple[tuple[str, str], ...]:
    """Return each finding with what was heard of it last."""
    found = {e.uid: e.activity.name.capitalize() for e in notices if isinstance(e, FindingNotice)}
    return tuple(found.items())


def _incident(case: Case, notices: Sequence[Notice]) -> Incident:
    named = dict.fromkeys(each.device_id for each in notices if each.device_id is not None)
    return Incident(tuple(named), len(case.devices))


def _ends(first: tuple[EvidenceRef, ...], last: tuple[EvidenceRef, ...]) -> tuple[EvidenceRef, ...]:
    return tuple(dict.fromkeys((*first[:1], *last[-1:])))


# ---- messages of which no new record is the cause ------------------------------------------------------


def close(case: Case, why: str, now_ms: int, cause: str = "", comment: str = "") -> Alert:
    """Say that a case is over; `cause` is the place of the entry that ended it, if one did."""
    case.told_ms = now_ms
    return _word(case, Activity.CLOSE, why, cause or _own_id(case, "closed"), comment)


def repeat(case: Case, now_ms: int) -> Alert:
    """Tell again of what goes on."""
    case.told_ms = now_ms
    return _word(case, Activity.UPDATE, "this goes on", _own_id(case, "again"))


def unmute(case: Case, now_ms: int) -> Alert:
    """Tell of what was held back and goes on, once nothing holds it back."""
    case.muted_by, case.status, case.told_ms = "", Status.NEW, now_ms
    why = "this goes on, and is not held back any more"
    return _word(case, Activity.UPDATE, why, _own_id(case, "unmuted"))


def acknowledge(case: Case, now_ms: int, cause: str, comment: str) -> Alert:
    """Say that somebody has taken it up: it is not repeated any more."""
    case.status, case.told_ms = Status.IN_PROGRESS, now_ms
    return _word(case, Activity.UPDATE, "acknowledged", cause, comment)


def announce(case: Case, what: str, cause: str, comment: str) -> Alert:
    """Tell of an entry of `alerts.control`: who relies on alerts must know that some are held back."""
    return _word(case, Activity.CREATE, what, cause, comment)


def _own_id(case: Case, what: str) -> str:
    """Name a message that time alone is the cause of; one uid may have several lives in one window."""
    return f"{case.uid}/{what}/{case.last_ms}/{case.messages}"


def _word(case: Case, activity: Activity, what: str, cause: str, comment: str = "") -> Alert:
    is_entry = not cause.startswith(f"{case.uid}/")
    return message_of(
        case,
        event_uid=cause,
        activity=activity,
        message=f"{case.title}: {what}",
        start_ms=case.first_ms,
        end_ms=case.last_ms,
        count=0,
        covers=(cause,) if is_entry else (),
        comment=comment,
        related=tuple((uid, "Suppressed") for uid in case.suppressed_uids),
        incident=_incident_as_a_whole(case),
    )


def _incident_as_a_whole(case: Case) -> Incident | None:
    if not case.is_incident:
        return None
    # A build has no ward: whoever was told of it for the sake of a device is told how it goes on.
    return Incident(tuple(case.devices) if case.is_fleet else (), len(case.devices))


def message_of(case: Case, *, activity: Activity, **more: Any) -> Alert:
    """Make the next message of a case."""
    case.messages += 1
    status = Status.RESOLVED if activity is Activity.CLOSE and not case.muted_by else case.status
    return Alert(
        uid=case.uid,
        activity=activity,
        analytic=case.analytic,
        title=case.title,
        types=case.types,
        # The worst so far, so that whoever was told of it is told how it goes on.
        severity=case.severity,
        device_id=None if case.is_incident else case.device_id,
        subject=case.subject,
        techniques=case.techniques,
        status=status,
        ward=case.ward,
        scope=str(case.scope),
        suppressed_by=case.muted_by,
        suppressed=dict(case.suppressed),
        **more,
    )

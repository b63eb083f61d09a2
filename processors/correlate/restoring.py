"""Reads the newest alerts again: which cases are not over, and which records are told.

The alerts themselves are the memory: they are sealed, so what goes on after a restart is what was said
before it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from processors.alert_rules import (
    DEVICE_WIDE_ACCESS,
    FINDING_RULES,
    LASTING_RULES,
    REJECTION_RULES,
    Technique,
)
from processors.correlate.cases import Case
from processors.correlate.groups import parse_scope
from processors.correlate.people import SILENCED
from processors.covers import places
from processors.ocsf import Activity, Status
from schemas.errors import FormatError
from schemas.reasons import Reason
from schemas.records import SEVERITY_RANK, Severity
from schemas.strictjson import load_object

_DETECTION_FINDING = 2004
_SEVERITY = dict(enumerate(Severity, 1))


class Restored:
    """What the newest records of `alerts`, in their order, come to."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._cases: dict[str, Case] = {}
        self._known: dict[str, None] = {}
        self.unreadable = 0
        self.newest_ms = 0
        """Broker time of the newest record that an alert tells of."""
        for value in values:
            try:
                self._take(load_object(value))
            except (FormatError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self.unreadable += 1

    def cases(self, now_ms: int) -> Iterator[Case]:
        """Return what is not over, heard of when its last record was written, and not later than now."""
        for case in self._cases.values():
            case.heard_ms = min(case.heard_ms, now_ms)
            case.told_ms = min(case.told_ms, now_ms)
            yield case

    def known(self, newest: int) -> list[str]:
        """Return places that were told, the newest."""
        return list(self._known)[-newest:]

    def is_told(self, place: str) -> bool:
        """Tell whether an alert tells of a record."""
        return place in self._known

    def _take(self, found: Mapping[str, Any]) -> None:
        unmapped = found.get("unmapped", {})
        self._known |= dict.fromkeys(places(unmapped.get("covers", {})))
        if found["class_uid"] != _DETECTION_FINDING:
            return
        self.newest_ms = max(self.newest_ms, found["end_time"])
        uid, activity = found["finding_info"]["uid"], Activity(found["activity_id"])
        muter = self._cases.get(unmapped.get("suppressed_by", ""))
        if muter is not None:
            muter.suppressed[found["finding_info"]["analytic"]["uid"]] += found["count"]
            muter.list_suppressed(uid)
        if activity is Activity.CLOSE or "scope" not in unmapped:
            self._cases.pop(uid, None)
            return
        case = self._cases.get(uid) or self._begin(uid, found, unmapped)
        self._cases[uid] = case
        self._go_on(case, activity, found, unmapped)

    def _begin(self, uid: str, found: Mapping[str, Any], unmapped: Mapping[str, Any]) -> Case:
        info = found["finding_info"]
        analytic = info["analytic"]["uid"]
        users = [each["user"]["uid"] for each in found.get("evidences", ()) if "user" in each]
        return Case(
            uid=uid,
            analytic=analytic,
            scope=parse_scope(unmapped["scope"]),
            title=info["title"],
            types=tuple(info["types"]),
            severity=_SEVERITY[found["severity_id"]],
            first_ms=found["start_time"],
            last_ms=found["end_time"],
            heard_ms=found["end_time"],
            told_ms=found["end_time"],
            device_id=found.get("device", {}).get("uid"),
            subject=users[0] if users else None,
            ward=unmapped.get("ward", ""),
            techniques=_techniques(analytic, info["title"]),
            is_incident=bool(unmapped.get("incident")),
            is_silence=analytic == SILENCED,
        )

    def _go_on(
        self, case: Case, activity: Activity, found: Mapping[str, Any], unmapped: Mapping[str, Any]
    ) -> None:
        info = found["finding_info"]
        case.messages += 1
        case.last_ms = case.heard_ms = case.told_ms = max(case.last_ms, found["end_time"])
        case.severity = max(case.severity, _SEVERITY[found["severity_id"]], key=SEVERITY_RANK.__getitem__)
        case.status = Status(found["status_id"])
        case.muted_by = unmapped.get("suppressed_by", "")
        case.suppressed = Counter(unmapped.get("suppressed", {}))
        lasts = case.analytic in LASTING_RULES
        if case.device_id is not None:
            case.devices[case.device_id] = None
        case.devices |= dict.fromkeys(each["uid"] for each in found.get("resources", ()))
        related = {each["uid"]: each["status"] for each in info.get("related_events", ())}
        for uid, status in related.items():
            if status == "Suppressed":
                case.list_suppressed(uid)
            elif not case.is_fleet:
                case.members[uid] = lasts and status != "Close"
        if case.is_fleet:
            case.members[case.uid] = True
        is_own = found["count"] == 1 and not related and not case.is_incident
        if is_own and case.analytic in FINDING_RULES:
            case.members[case.uid] = lasts and activity is not Activity.CLOSE


def _techniques(analytic: str, title: str) -> tuple[Technique, ...]:
    if title == DEVICE_WIDE_ACCESS.title:
        return DEVICE_WIDE_ACCESS.techniques
    if analytic in FINDING_RULES:
        return FINDING_RULES[analytic].techniques
    reason = analytic.removeprefix("rejected.")
    return REJECTION_RULES[Reason(reason)].techniques if reason in set(Reason) else ()

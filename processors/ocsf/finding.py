"""OCSF 1.9, class 2004: Detection Finding."""

from typing import Any

from processors.ocsf import parts
from processors.ocsf.alert import STATUS_NAMES, Activity, Alert
from processors.ocsf.reporter import Reporter

CLASS_UID = 2004
_CATEGORY_UID = 2
_ANALYTIC_RULE = 1


def detection_finding(alert: Alert, reporter: Reporter) -> dict[str, Any]:
    """Render an alert as an OCSF Detection Finding."""
    activity = alert.activity.name.capitalize()
    return parts.filled(
        {
            **parts.shared(alert, reporter, "host"),
            **parts.named(CLASS_UID, "Detection Finding", int(alert.activity), activity),
            "category_name": "Findings",
            "category_uid": _CATEGORY_UID,
            "comment": alert.comment,
            "evidences": [parts.evidence(each, reporter, alert.subject) for each in alert.evidence],
            "finding_info": _finding_info(alert),
            "observables": parts.observables(alert, "evidences.user.uid" if alert.evidence else ""),
            "resources": parts.devices(alert),
            "status": STATUS_NAMES[alert.status],
            "status_id": int(alert.status),
            "unmapped": parts.unmapped(alert),
        }
    )


def _finding_info(alert: Alert) -> dict[str, Any]:
    info: dict[str, Any] = {
        "analytic": {
            "name": alert.analytic,
            "type": "Rule",
            "type_id": _ANALYTIC_RULE,
            "uid": alert.analytic,
        },
        "attacks": parts.attacks(alert),
        "desc": alert.message,
        "last_seen_time": alert.end_ms,
        "title": alert.title,
        "types": list(alert.types),
        "uid": alert.uid,
    }
    if alert.activity is Activity.CREATE:
        info["first_seen_time"] = alert.start_ms
    if alert.related:
        info["related_events"] = parts.related_events(alert)
        info["related_events_count"] = max(alert.count, len(alert.related))
    return {name: value for name, value in info.items() if value != []}

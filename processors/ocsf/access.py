"""OCSF 1.9, class 6003: API Activity. A denial is the call of an operation that somebody was refused.

The profile `security_control` says that it was refused and which techniques it shows. What the class has no
attribute for stands in `unmapped`, evidence too: the class has no `evidences`.
"""

from typing import Any

from processors.ocsf import parts
from processors.ocsf.alert import STATUS_NAMES, AccessFacts, Alert
from processors.ocsf.reporter import Reporter
from schemas.decisions import Decision, DecisionKind

CLASS_UID = 6003
_CATEGORY_UID = 6
_ACTIVITY_OTHER = 99
_STATUS_FAILURE = 2
_ACTION_DENIED = 2
_UNAUTHORIZED = {"disposition": "Unauthorized", "disposition_id": 26}
_REVOKED = {"disposition": "Access Revoked", "disposition_id": 24}
_TYPE_USER = {"type": "User", "type_id": 1}
_ROLE_TARGET = {"role": "Target", "role_id": 1}


def api_activity(alert: Alert, reporter: Reporter) -> dict[str, Any]:
    """Render an alert of a denial as an OCSF API Activity; raises ValueError for one that tells of none."""
    if alert.access is None:
        raise ValueError(f"{alert.event_uid} tells of no decision")
    decision, shared = alert.access.decision, parts.shared(alert, reporter, "host", "security_control")
    return parts.filled(
        {
            **shared,
            # What an action does is the hospital's own word: OCSF's four kinds of calls are not told apart.
            **parts.named(CLASS_UID, "API Activity", _ACTIVITY_OTHER, "Other"),
            **(_REVOKED if decision.kind is DecisionKind.REVOCATION else _UNAUTHORIZED),
            "action": "Denied",
            "action_id": _ACTION_DENIED,
            "activity_name": decision.action or "Other",
            "actor": _actor(decision),
            "api": _api(alert.access, reporter),
            "attacks": parts.attacks(alert),
            "category_name": "Application Activity",
            "category_uid": _CATEGORY_UID,
            "metadata": {
                **shared["metadata"],
                "correlation_uid": alert.uid,
                "event_code": alert.analytic,
                "original_event_uid": parts.place(alert.access.record),
            },
            "observables": parts.observables(alert, "actor.user.uid"),
            "resources": _resources(alert, decision),
            "src_endpoint": {**parts.DEVICE_TYPE, "uid": decision.device_id},
            "status": "Failure",
            "status_code": decision.reason.value,
            "status_detail": decision.detail,
            "status_id": _STATUS_FAILURE,
            "unmapped": _unmapped(alert, decision, reporter),
        }
    )


def _actor(decision: Decision) -> dict[str, Any]:
    session = {"uid": decision.session}
    if decision.kind is DecisionKind.REVOCATION:
        session["expiration_reason"] = decision.reason.value
    return {
        "authorizations": [_authorization(decision, each) for each in decision.policies or ("",)],
        "user": {**_TYPE_USER, "uid": decision.subject},
        **({"session": session} if decision.session else {}),
    }


def _authorization(decision: Decision, policy: str) -> dict[str, Any]:
    """Say what was decided and by which policy; an empty one stands for all that are in force."""
    document, _, name = policy.rpartition("/")
    data = {"digest": decision.policy_digest.hex(), "digest_algorithm": "BLAKE3"}
    return {
        "decision": decision.effect.value,
        "policy": parts.filled(
            {
                "data": data if decision.policy_digest else {},
                "group": {"uid": document} if document else {},
                "is_applied": bool(policy),
                "name": name,
                "type": "Cedar",
                "uid": policy,
                "version": str(decision.policy_offset),
            }
        ),
    }


def _api(access: AccessFacts, reporter: Reporter) -> dict[str, Any]:
    decision = access.decision
    return {
        "operation": decision.action,
        "request": {
            "data": parts.record(decision.request, reporter),
            "uid": parts.place(decision.request),
        },
        "response": {
            "data": parts.record(access.record, reporter),
            "error": decision.reason.value,
            "error_message": decision.detail,
        },
        "service": {"name": "attestream access"},
    }


def _resources(alert: Alert, decision: Decision) -> list[dict[str, Any]]:
    target = {**_ROLE_TARGET, "name": decision.resource, "type": "Resource of the device"}
    return [*([target] if decision.resource else []), *parts.devices(alert)]


def _unmapped(alert: Alert, decision: Decision, reporter: Reporter) -> dict[str, Any]:
    own = {
        "activity": alert.activity.name.capitalize(),
        "approvals": list(decision.approvals),
        "attributes": dict(decision.attributes),
        "comment": alert.comment,
        "decision": decision.kind.value,
        "emergency": decision.emergency,
        "evidences": [parts.evidence(each, reporter, alert.subject) for each in alert.evidence],
        "obligations": list(decision.obligations),
        "policy_offset": decision.policy_offset,
        "purpose": decision.purpose,
        "registry_offset": decision.registry_offset,
        "related_events": parts.related_events(alert),
        "status": STATUS_NAMES[alert.status],
        "title": alert.title,
        "types": list(alert.types),
    }
    return parts.filled({**parts.unmapped(alert), **own})

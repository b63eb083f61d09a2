"""Alerts of denials as OCSF API Activities: who asked for what, what decided it, and where that stands."""

from typing import Any

import pytest
from blake3 import blake3

from processors.alert_rules import REVOCATION
from processors.ocsf import Activity, Alert, Incident, Status, api_activity, headers, reading
from schemas.decisions import DecisionKind, DecisionReason
from schemas.records import Severity
from tests.kit.denials import (
    DEVICE,
    NURSE,
    PHYSICIAN,
    REPORTER,
    decision,
    decision_record,
    denial,
    denial_alert,
    denied,
)

RECORD = {
    "topic": "access.decisions",
    "partition": 3,
    "offset": 99,
    "digest": blake3(decision_record(decision()).value or b"").hexdigest(),
    "digest_algorithm": "BLAKE3",
    "shard": "attestream.test/access.decisions/3",
}
REQUEST = {
    "topic": "device.access.raw",
    "partition": 3,
    "offset": 41,
    "digest": "ab" * 32,
    "digest_algorithm": "BLAKE3",
}


def activity(notice_changes: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return api_activity(denial_alert(denial(**(notice_changes or {})), **changes), REPORTER)


def test_who_asked_for_what() -> None:
    found = denied()
    assert (found["class_uid"], found["category_uid"], found["type_uid"]) == (6003, 6, 600399)
    assert found["activity_name"] == found["api"]["operation"] == "bolus"
    assert found["actor"]["user"] == {"type": "User", "type_id": 1, "uid": NURSE}
    assert found["actor"]["session"] == {"uid": "s-7"}
    assert found["device"] == found["src_endpoint"] == {"type": "IOT", "type_id": 7, "uid": DEVICE}
    (resource,) = found["resources"]
    assert (resource["name"], resource["role"]) == ("channel-2", "Target")
    assert found["unmapped"]["purpose"] == "TREAT"
    assert [each["value"] for each in found["observables"]] == [DEVICE, NURSE]


def test_what_was_decided_and_by_what() -> None:
    found = denied()
    assert (found["status"], found["status_code"]) == ("Failure", "no_permit")
    assert found["status_detail"] == "no policy does"
    assert (found["action"], found["disposition"]) == ("Denied", "Unauthorized")
    assert found["actor"]["authorizations"] == [
        {
            "decision": "DENY",
            "policy": {
                "data": {"digest": "cd" * 32, "digest_algorithm": "BLAKE3"},
                "group": {"uid": "hospital"},
                "is_applied": True,
                "name": "bolus",
                "type": "Cedar",
                "uid": "hospital/bolus",
                "version": "5",
            },
        }
    ]
    unmapped = found["unmapped"]
    assert (unmapped["registry_offset"], unmapped["policy_offset"]) == (12, 5)
    assert (unmapped["obligations"], unmapped["approvals"]) == (["1 of physician"], [PHYSICIAN])
    assert unmapped["attributes"] == {"principal.roles": "nurse", "principal.wards": "ICU-2"}
    assert unmapped["emergency"] is False


def test_where_no_policy_speaks_all_are_meant() -> None:
    found = activity({"policies": ()})
    (authorization,) = found["actor"]["authorizations"]
    assert authorization["policy"]["is_applied"] is False
    assert "uid" not in authorization["policy"]
    assert authorization["policy"]["data"]["digest"] == "cd" * 32


def test_the_decision_and_the_request_are_cited_and_only_what_is_sealed_names_its_shard() -> None:
    found = denied()
    assert found["metadata"]["original_event_uid"] == "access.decisions/3/99"
    assert found["api"]["request"] == {"uid": "device.access.raw/3/41", "data": REQUEST}
    assert found["api"]["response"]["data"] == RECORD
    assert [each["data"] for each in found["unmapped"]["evidences"]] == [RECORD, REQUEST]
    assert found["unmapped"]["covers"] == {"access.decisions/3": "99"}


def test_rule_cause_and_state_stand_where_the_readers_look() -> None:
    found = activity(activity=Activity.CLOSE, status=Status.RESOLVED, comment="he is back")
    assert reading.rule(found) == found["metadata"]["event_code"] == "denied.no_permit"
    assert reading.cause(found) == found["metadata"]["correlation_uid"] == "00" * 16
    assert reading.title(found) == "No policy permits the access"
    assert reading.activity(found) is Activity.CLOSE
    assert reading.user(found) == NURSE
    assert (found["is_alert"], found["unmapped"]["status"]) == (False, "Resolved")
    assert found["unmapped"]["comment"] == "he is back"
    assert reading.techniques(denied(DecisionReason.SUBJECT_ENDED)) == ["T1078"]


def test_the_end_of_a_live_permit_is_a_revocation_whatever_the_reason() -> None:
    notice = denial(DecisionReason.SUBJECT_ENDED, kind=DecisionKind.REVOCATION)
    assert (notice.name, notice.rule) == ("revoked.subject_ended", REVOCATION)
    found = api_activity(denial_alert(notice), REPORTER)
    assert (found["disposition"], found["severity"]) == ("Access Revoked", "Medium")
    assert found["actor"]["session"] == {"uid": "s-7", "expiration_reason": "subject_ended"}
    assert "attacks" not in found


def test_one_of_many_devices_names_them_and_claims_no_device() -> None:
    found = activity(device_id=None, incident=Incident(("did:key:a", "did:key:b"), 7), count=7)
    assert "device" not in found
    assert [each.get("uid", each.get("name")) for each in found["resources"]] == [
        *("channel-2", "did:key:a", "did:key:b")
    ]
    assert (found["unmapped"]["incident"], found["unmapped"]["devices"]) == (True, 7)
    assert found["src_endpoint"]["uid"] == DEVICE  # of the decision that is shown


def test_the_headers_are_those_of_every_alert() -> None:
    written = dict(headers(denial_alert(denial()), REPORTER, bytes(16)))
    assert (written["ce_id"], written["ce_subject"]) == (b"access.decisions/3/99", DEVICE.encode())


def test_an_alert_of_no_decision_is_none() -> None:
    other = Alert(
        "u", "device.findings/0/1", Activity.CREATE, "stuck", "t", ("t",), Severity.LOW, "m", 1, 1, 1
    )
    with pytest.raises(ValueError, match=r"device\.findings/0/1"):
        api_activity(other, REPORTER)

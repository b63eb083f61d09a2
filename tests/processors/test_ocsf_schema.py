"""Alerts against the OCSF schema itself, whole and closed: nothing that it does not know, nothing missing."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from processors.alert_rules import DENIAL_RULES, DEVICE_WIDE_ACCESS, FINDING_RULES, REJECTION_RULES
from processors.builds import Build
from processors.correlate import Correlator
from processors.notices import FindingNotice, Notice, RejectionNotice
from processors.ocsf import Activity, Alert, Incident, Reporter, Status, encode
from schemas.decisions import DecisionKind, DecisionReason
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Severity
from tests.kit.denials import denial, denial_alert
from tests.kit.ocsfschema import ocsf_class, problems

REPORTER = Reporter("attestream.test", "0.1.0")
EVIDENCE = (
    EvidenceRef("device.telemetry.raw", 3, 41, b"\xab" * 32),
    EvidenceRef("device.telemetry.raw", 3, 44),
)
RULES = {**FINDING_RULES, "device_wide": DEVICE_WIDE_ACCESS}


@pytest.fixture(scope="module")
def finding_schema() -> Draft202012Validator:
    return ocsf_class("detection_finding", "host")


@pytest.fixture(scope="module")
def activity_schema() -> Draft202012Validator:
    return ocsf_class("api_activity", "host", "security_control")


def notice(rule: str, number: int = 0, **changes: Any) -> FindingNotice:
    fields: dict[str, Any] = {
        "position": f"device.findings/0/{number}", "uid": f"{number:032x}", "name": rule, "rule": RULES[rule],
        "activity": Activity.CREATE, "severity": Severity.HIGH, "device_id": "did:key:z6MkDevice",
        "time_ms": 1_700_000_000_123, "message": "something", "evidence": EVIDENCE, "subject": "nurse-1",
        "parameters": {"low": "15"},
    }  # fmt: skip
    return FindingNotice(**{**fields, **changes})


def rejection(reason: Reason, number: int = 0, device: str | None = "did:key:z6MkDevice") -> RejectionNotice:
    return RejectionNotice(f"device.rejected/0/{number}", reason, device, 1_700_000_000_123, EVIDENCE)


def alerts_of(*notices: Notice) -> Iterator[Alert]:
    correlator: Correlator[int] = Correlator()
    for number, each in enumerate(notices):
        yield from correlator.add(each, number, 0).alerts
    yield from correlator.close(0).alerts
    yield from correlator.tick(5 * 3_600_000).alerts  # closed, or said again


CASES: dict[str, list[Notice]] = {
    **{f"finding {rule}": [notice(rule)] for rule in RULES},
    **{f"rejection {reason.value}": [rejection(reason)] for reason in REJECTION_RULES},
    "of no device": [rejection(Reason.MALFORMED, device=None)],
    "of no subject and evidence": [notice("fork", subject=None, evidence=(), parameters={})],
    "report of findings": [notice("bounds", number) for number in range(60)],
    "incident": [notice("silence", n, device_id=f"did:key:{n}", ward="icu-1") for n in range(12)],
    "build": [notice("drift", n, device_id=f"did:key:{n}", build=Build("M", "1", 9, 0)) for n in range(6)],
    "suppressed": [notice("equivocation", 0), rejection(Reason.REPLAY, 1), rejection(Reason.REPLAY, 2)],
    "report of rejections": [rejection(Reason.REPLAY, number) for number in range(60)],
    **{f"activity {each.name}": [notice("stuck", activity=each)] for each in Activity},
    **{f"severity {each.value}": [notice("stuck", severity=each)] for each in Severity},
}


@pytest.mark.parametrize("case", CASES)
def test_an_alert_is_valid(case: str, finding_schema: Draft202012Validator) -> None:
    found = list(alerts_of(*CASES[case]))
    assert found
    for alert in found:
        assert not problems(finding_schema, json.loads(encode(alert, REPORTER)))


LEAST: dict[str, Any] = {
    "obligations": (),
    "approvals": (),
    "purpose": "",
    "session": "",
    "resource": "",
    "policies": (),
    "policy_digest": b"",
    "attributes": {},
}
DENIALS: dict[str, Alert] = {
    **{f"reason {each.value}": denial_alert(denial(each)) for each in DENIAL_RULES},
    **{f"status {each.name}": denial_alert(denial(), status=each, comment="seen") for each in Status},
    **{f"activity {each.name}": denial_alert(denial(), activity=each) for each in Activity},
    "revocation": denial_alert(denial(DecisionReason.SUBJECT_ENDED, kind=DecisionKind.REVOCATION)),
    "emergency": denial_alert(denial(emergency=True, purpose="BTG")),
    "the least": denial_alert(denial(**LEAST), evidence=()),
    "of many devices": denial_alert(
        denial(), device_id=None, count=9, incident=Incident(("did:key:a", "did:key:b"), 2), ward="ICU-2"
    ),
    "report": denial_alert(
        denial(), count=60, related=(("aa", "Create"),), suppressed={"denied.no_permit": 2}
    ),
}


@pytest.mark.parametrize("case", DENIALS)
def test_an_alert_of_a_denial_is_valid(case: str, activity_schema: Draft202012Validator) -> None:
    assert not problems(activity_schema, json.loads(encode(DENIALS[case], REPORTER)))


def test_the_schema_would_tell(finding_schema: Draft202012Validator) -> None:
    alert = next(alerts_of(notice("bounds")))
    document = json.loads(encode(alert, REPORTER))
    for broken in (
        {**document, "invented": 1},
        {**document, "time": "yesterday"},
        {**document, "severity_id": 12},
        {name: value for name, value in document.items() if name != "finding_info"},
        {**document, "finding_info": {"title": "no uid"}},
    ):
        assert not finding_schema.is_valid(broken)
    (attestation,) = document["attestation_list"]
    for bad in ({**attestation, "proof": "x"}, {"chain_uid": "log/alerts/0"}):
        assert not finding_schema.is_valid({**document, "attestation_list": [bad]})


def test_the_schema_would_tell_of_a_denial(activity_schema: Draft202012Validator) -> None:
    document = json.loads(encode(DENIALS["revocation"], REPORTER))
    for broken in (
        {**document, "evidences": document["unmapped"]["evidences"]},
        {**document, "finding_info": {"uid": "x", "title": "of the other class"}},
        {**document, "action_id": 12},
        {**document, "actor": {"session": {"uid": 7}}},
        {name: value for name, value in document.items() if name != "src_endpoint"},
    ):
        assert not activity_schema.is_valid(broken)

"""Alerts against the OCSF schema itself, whole and closed: no attribute that it does not know, none missing.

The newest schema that a package carries is 1.8.0. OCSF's minor versions only add, so what is valid there is
valid in 1.9 as well; `metadata.version` says 1.9.0, and what is new in 1.9 is not checked here.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from processors.alert_rules import DEVICE_WIDE_ACCESS, FINDING_RULES, REJECTION_RULES
from processors.correlate import Correlator
from processors.notices import FindingNotice, Notice, RejectionNotice
from processors.ocsf import Activity, Alert, Reporter, encode
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Severity

SCHEMA_VERSION = "1.8.0"
REPORTER = Reporter("attestream.test", "0.1.0")
EVIDENCE = (
    EvidenceRef("device.telemetry.raw", 3, 41, b"\xab" * 32),
    EvidenceRef("device.telemetry.raw", 3, 44),
)
RULES = {**FINDING_RULES, "device_wide": DEVICE_WIDE_ACCESS}


@pytest.fixture(scope="module")
def finding_schema() -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=SCHEMA_VERSION))
    return Draft202012Validator(schema.get_class_schema("detection_finding", ["host"]))


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
        document = json.loads(encode(alert, REPORTER))
        problems = [f"{error.json_path}: {error.message}" for error in finding_schema.iter_errors(document)]
        assert not problems


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

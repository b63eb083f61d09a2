"""Decisions as notices: which denials are told, how loudly, and within what bounds."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.alert_rules import DENIAL_RULES, REVOCATION, UNTOLD_DENIALS
from processors.model import RawRecord
from processors.notices import NoticeError, read_denial
from processors.ocsf import encode
from schemas.decisions import DecisionKind, DecisionReason, Effect
from schemas.errors import FormatError
from schemas.records import Severity
from tests.kit.denials import DEVICE, NOW_MS, NURSE, REPORTER, decision, decision_record, denial, denial_alert

PERMITS = {DecisionReason.POLICY, DecisionReason.BREAK_GLASS}


def test_each_reason_is_told_or_said_not_to_be() -> None:
    assert {*DENIAL_RULES, *UNTOLD_DENIALS, *PERMITS} == set(DecisionReason)
    assert len(DENIAL_RULES) + len(UNTOLD_DENIALS) + len(PERMITS) == len(DecisionReason)


@pytest.mark.parametrize("reason", DENIAL_RULES)
def test_a_denial_is_a_notice(reason: DecisionReason) -> None:
    notice = denial(reason)
    assert (notice.name, notice.reason, notice.rule) == (
        f"denied.{reason.value}",
        reason,
        DENIAL_RULES[reason],
    )
    assert (notice.device_id, notice.subject, notice.time_ms) == (DEVICE, NURSE, NOW_MS)
    assert notice.position == "access.decisions/3/99"
    assert [each.topic for each in notice.evidence] == ["access.decisions", "device.access.raw"]
    assert notice.access.record is notice.evidence[0]
    for said in (notice.rule.title, "bolus channel-2", NURSE, "no policy does"):
        assert said in notice.message


@pytest.mark.parametrize("reason", DENIAL_RULES)
def test_the_end_of_a_live_permit_is_told_as_that(reason: DecisionReason) -> None:
    notice = denial(reason, kind=DecisionKind.REVOCATION)
    assert (notice.name, notice.rule) == (f"revoked.{reason.value}", REVOCATION)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        (DecisionReason.POLICY, {"effect": Effect.PERMIT}),
        (DecisionReason.BREAK_GLASS, {"effect": Effect.PERMIT, "emergency": True}),
        (DecisionReason.EXPIRED, {"kind": DecisionKind.EXPIRY}),
        (DecisionReason.FAILED_AT_DEVICE, {}),
    ],
)
def test_what_is_no_denial_of_ours_is_no_notice(reason: DecisionReason, changes: dict[str, Any]) -> None:
    assert read_denial(decision_record(decision(reason, **changes))) is None


@pytest.mark.parametrize("reason", sorted(PERMITS))
def test_a_denial_for_a_reason_that_permits_is_told_by_its_place(reason: DecisionReason) -> None:
    with pytest.raises(NoticeError, match=r"access\.decisions/3/99"):
        read_denial(decision_record(decision(reason)))


@given(st.binary(max_size=64), st.integers(0, 400))
def test_whatever_bytes_come_only_a_format_error_does(junk: bytes, cut: int) -> None:
    whole = decision_record(decision()).value or b""
    for value in (junk, whole[:cut] + junk, None):
        try:
            read_denial(RawRecord("access.decisions", 0, 0, NOW_MS, None, value))
        except FormatError:
            continue


def test_the_documents_table_is_the_codes() -> None:
    text = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
    table = text.partition("## Denials")[2].partition("| attribute")[0]
    rows = {cells[1].strip(" `"): cells for line in table.splitlines() if len(cells := line.split("|")) == 6}
    told = {reason.value: rule for reason, rule in DENIAL_RULES.items()}
    assert set(rows) - {"reason", "---"} == {*told, *UNTOLD_DENIALS}
    for name, rule in told.items():
        shown = ", ".join(each.uid for each in rule.techniques)
        assert [cell.strip() for cell in rows[name][2:4]] == [rule.severity.value.lower(), shown]
    assert {rows[name][2].strip() for name in UNTOLD_DENIALS} == {"none"}


def test_what_keeps_everybody_out_is_loud_and_the_everyday_is_not() -> None:
    severity = {reason: rule.severity for reason, rule in DENIAL_RULES.items()}
    for reason in ("stale_registry", "stale_policy", "no_policy", "policy_error", "subject_ended"):
        assert severity[DecisionReason(reason)] is Severity.HIGH
    assert severity[DecisionReason.NO_PERMIT] is Severity.INFORMATIONAL
    assert REVOCATION.severity is Severity.MEDIUM


def test_a_request_of_endless_texts_becomes_an_alert_that_a_broker_takes() -> None:
    """An event may be 256 KiB; what says of it everything many times over would be refused for ever."""
    endless = "\x01" * 200_000
    notice = denial(
        subject=endless, action=endless, resource=endless, purpose=endless, session=endless, detail=endless,
        attributes={f"{n}{endless}": endless for n in range(3)} | {str(n): "x" for n in range(500)},
        obligations=(endless,) * 3, approvals=(endless,) * 3, policies=tuple(f"p/{n}" for n in range(500)),
    )  # fmt: skip
    value = encode(denial_alert(notice), REPORTER)
    assert len(value) < 256 * 1024
    assert json.loads(value)["actor"]["user"]["uid"] == endless[:512]

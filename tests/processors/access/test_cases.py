"""Tests of policies: those that ship pass, and a file that is not understood is an error."""

import pytest

from processors.access.cases import run_cases
from processors.access.cedar import Document, compile_book
from processors.access.conditions import PolicyError
from schemas.decisions import DecisionReason
from tests.kit.ward import ACTIONS, HOSPITAL, shipped

BOOK = compile_book([Document("hospital", HOSPITAL, ACTIONS, b"")])
PARTIES = """
[person.nora]
kind = "clinician"
[device.pump7]
ward = "ICU-2"
"""
REQUEST = """
[[request]]
name = "x"
person = "nora"
device = "pump7"
action = "login"
at = "09:30"
expect = "deny"
"""


def test_the_policies_that_ship_decide_as_their_cases_expect() -> None:
    results = run_cases(shipped("hospital.cases.toml"), BOOK)
    assert [each.case.name for each in results if not each.is_as_expected] == []
    assert {each.verdict.reason for each in results} >= {
        DecisionReason.POLICY,
        DecisionReason.BREAK_GLASS,
        DecisionReason.NO_PERMIT,
        DecisionReason.APPROVALS_MISSING,
        DecisionReason.FORBIDDEN,
    }


def test_another_effect_or_another_reason_is_not_as_expected() -> None:
    (plain,) = run_cases(PARTIES + REQUEST, BOOK)
    assert plain.is_as_expected
    (effect,) = run_cases(PARTIES + REQUEST.replace('"deny"', '"permit"'), BOOK)
    assert not effect.is_as_expected
    (reason,) = run_cases(PARTIES + REQUEST + 'reason = "forbidden"', BOOK)
    assert not reason.is_as_expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not TOML"),
        (PARTIES, "no \\[\\[request"),
        (PARTIES + "[persons.x]" + REQUEST, "unknown table 'persons'"),
        ("person = 3" + REQUEST, r"expected \[person.NAME\]"),
        (PARTIES + "[person.x]\nage = 3" + REQUEST, "attributes of 'x' must be texts"),
        ("request = [3]", "request 1 is no table"),
        (PARTIES + REQUEST + 'wards = "x"', "unknown 'wards'"),
        (PARTIES + REQUEST.replace("at =", "target ="), "has no 'at'"),
        (PARTIES + REQUEST.replace('"09:30"', '"9"'), "at is HH:MM"),
        (PARTIES + REQUEST.replace('"deny"', '"maybe"'), "expect is permit or deny"),
        (PARTIES + REQUEST + 'reason = "whim"', "reason 'whim' is none of"),
        (PARTIES + REQUEST + "session = 3", "session is of another type"),
        (PARTIES + REQUEST + 'live = "yes"', "approvals or live"),
        (PARTIES + REQUEST + 'approvals = "x"', "approvals or live"),
    ],
)
def test_a_file_that_is_not_understood_is_an_error(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        run_cases(text, BOOK)

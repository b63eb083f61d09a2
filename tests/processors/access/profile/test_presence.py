"""When and where one person is active: off shift, at two places at once, after a long absence."""

import pytest

from processors.access.profile.memory import place_text
from schemas.decisions import DecisionReason
from schemas.records import FindingStatus, Severity
from tests.kit.decided import DAY_S, HOUR_S, MIN_S, NURSE, cited, decision, run, told

OPENED, UPDATED, CLEARED = FindingStatus.OPENED, FindingStatus.UPDATED, FindingStatus.CLEARED
NO_PERMIT = DecisionReason.NO_PERMIT

# ---- off_shift_access --------------------------------------------------------------------------------------


def test_overtime_of_minutes_is_ordinary() -> None:
    assert run([decision(7 * HOUR_S + 30 * MIN_S), decision(19 * HOUR_S - 30 * MIN_S)]) == []
    assert len(run([decision(7 * HOUR_S + 31 * MIN_S)])) == 1


@pytest.mark.parametrize(
    ("hours", "changes", "severity"),
    [
        (7.75, {"reason": NO_PERMIT}, Severity.LOW),
        (7.75, {}, Severity.MEDIUM),
        (7.75, {"reason": NO_PERMIT, "emergency": True}, Severity.MEDIUM),
        (12, {"reason": NO_PERMIT}, Severity.MEDIUM),
        (12, {"reason": DecisionReason.BREAK_GLASS, "emergency": True}, Severity.HIGH),
    ],
)
def test_off_shift_is_the_worse_the_farther_and_the_more_it_was_permitted(
    hours: float, changes: dict[str, object], severity: Severity
) -> None:
    (found,) = run([decision(hours * HOUR_S, **changes)])
    assert (found.rule, found.status, found.severity) == ("off_shift_access", OPENED, severity)
    assert found.parameters["shift"] == "07:00-19:00"


def test_a_night_off_shift_is_one_finding_that_grows_and_ends() -> None:
    night = [decision(8 * HOUR_S + 60 * i, reason=NO_PERMIT) for i in range(100)]
    found = run([*night, decision(DAY_S)])
    assert [(each.status, each.severity, each.parameters["count"]) for each in found] == [
        (OPENED, Severity.LOW, "1"),
        (UPDATED, Severity.MEDIUM, "10"),
        (UPDATED, Severity.HIGH, "61"),
        (UPDATED, Severity.HIGH, "100"),
        (CLEARED, Severity.INFORMATIONAL, "100"),
    ]
    assert len({each.id for each in found}) == 1
    assert [cited(each) for each in found] == [[0], [0, 9], [0, 60], [0, 99], [0, 100]]
    assert found[0].explanation == (
        f"{NURSE} asked for view 60 min outside of the shift (07:00-19:00 UTC): deny"
    )


def test_a_finding_never_gets_milder_while_it_is_open() -> None:
    broken = decision(12 * HOUR_S, reason=DecisionReason.BREAK_GLASS, emergency=True)
    found = run([broken, *(decision(7.75 * HOUR_S + i, reason=NO_PERMIT) for i in range(9))])
    assert told(found) == [
        ("off_shift_access", OPENED, Severity.HIGH),
        ("off_shift_access", UPDATED, Severity.HIGH),
    ]


def test_what_goes_on_now_and_then_is_not_over() -> None:
    found = run([decision((8 + hour) * HOUR_S, reason=NO_PERMIT) for hour in range(9)])
    assert [each.status for each in found] == [OPENED, UPDATED]
    assert len({each.id for each in found}) == 1


@pytest.mark.parametrize("shifts", ["", "nonsense", "00:00-00:00", "07:00-15:00,22:00-06:00"])
def test_nobody_is_off_a_shift_that_is_unknown_or_holds(shifts: str) -> None:
    assert run([decision(10.5 * HOUR_S, shifts=shifts)]) == []


def test_a_credential_that_did_not_hold_is_no_activity() -> None:
    found = run([decision(), decision(12 * HOUR_S, reason=DecisionReason.FAILED_AT_DEVICE)])
    assert found == []


# ---- impossible_travel -------------------------------------------------------------------------------------


def test_two_wards_within_a_minute() -> None:
    found = run([decision(0), decision(20, ward="ICU-7", device_id="did:example:monitor")])
    assert told(found) == [("impossible_travel", OPENED, Severity.MEDIUM)]
    assert found[0].device_id == "did:example:monitor"
    assert cited(found[0]) == [0, 1]
    assert "the wards ICU-2 and ICU-7 within 20 s" in found[0].explanation


def test_two_sites_need_a_longer_way_and_are_worse() -> None:
    found = run([decision(0, site="north"), decision(500, site="south")])
    assert told(found) == [("impossible_travel", OPENED, Severity.HIGH)]
    assert run([decision(0, site="north"), decision(600, site="south")]) == []


def test_a_walk_and_a_place_that_is_unknown_alarm_nobody() -> None:
    assert run([decision(0), decision(60, ward="ICU-7")]) == []
    assert run([decision(0), decision(1, ward=""), decision(2)]) == []
    assert run([decision(0), decision(1, ward="ICU-7", reason=DecisionReason.FAILED_AT_DEVICE)]) == []


def test_a_device_without_a_ward_hides_no_journey() -> None:
    found = run([decision(0), decision(1, ward=""), decision(2, ward="ICU-7")])
    assert told(found) == [("impossible_travel", OPENED, Severity.MEDIUM)]


def test_a_decision_that_waited_is_judged_by_its_own_time() -> None:
    assert run([decision(1000), decision(0, ward="ICU-7")]) == []
    found = run([decision(1000), decision(0, ward="ICU-7"), decision(1010, ward="ICU-7")])
    assert told(found) == [("impossible_travel", OPENED, Severity.MEDIUM)]
    assert told(run([decision(1000), decision(990, ward="ICU-7")])) == told(found)
    assert told(run([decision(1000), decision(0), decision(1010, ward="ICU-7")])) == told(found)


def test_staying_where_one_came_to_is_no_further_journey() -> None:
    found = run([decision(0), *(decision(i, ward="ICU-7") for i in range(1, 50))])
    assert len(found) == 1


def test_to_and_fro_is_one_finding_that_gets_worse() -> None:
    found = run([decision(10 * i, ward=f"ICU-{i % 2}") for i in range(20)])
    assert told(found) == [
        ("impossible_travel", OPENED, Severity.MEDIUM),
        ("impossible_travel", UPDATED, Severity.HIGH),
        ("impossible_travel", UPDATED, Severity.HIGH),
    ]
    assert [each.parameters["count"] for each in found] == ["1", "3", "10"]


def test_long_names_of_wards_stay_different() -> None:
    one, other = "x" * 5000, "x" * 4999 + "y"
    assert place_text(one) != place_text(other)
    assert len(place_text(one)) == 64
    assert len(run([decision(0, ward=one), decision(1, ward=other)])) == 1


# ---- dormant_credential ------------------------------------------------------------------------------------


def test_a_credential_that_comes_back_after_ninety_days() -> None:
    assert run([decision(0), decision(90 * DAY_S - 1)]) == []
    found = run([decision(0), decision(90 * DAY_S)])
    assert told(found) == [("dormant_credential", OPENED, Severity.MEDIUM)]
    assert found[0].explanation == (
        f"{NURSE} is active again after 90 days without any use of the credential: view, permit"
    )


def test_of_a_return_only_what_is_worse_is_told_again() -> None:
    back = 100 * DAY_S
    denied = [decision(back + i, reason=NO_PERMIT) for i in range(5)]
    permitted = [decision(back + 10 + i) for i in range(5)]
    broken = [decision(back + 20 + i, reason=DecisionReason.BREAK_GLASS, emergency=True) for i in range(5)]
    found = run([decision(0), *denied, *permitted, *broken, decision(back + 2 * DAY_S)])
    assert told(found) == [
        ("dormant_credential", OPENED, Severity.LOW),
        ("dormant_credential", UPDATED, Severity.MEDIUM),
        ("dormant_credential", UPDATED, Severity.HIGH),
    ]
    assert len({each.id for each in found}) == 1


def test_failing_now_and_then_keeps_no_credential_awake() -> None:
    failing = [decision(30 * DAY_S * i, reason=DecisionReason.FAILED_AT_DEVICE) for i in range(1, 4)]
    found = run([decision(0), *failing, decision(100 * DAY_S)])
    assert told(found) == [("dormant_credential", OPENED, Severity.MEDIUM)]


def test_a_decision_that_waited_wakes_nobody() -> None:
    assert run([decision(100 * DAY_S), decision(0), decision(100 * DAY_S + 1)]) == []

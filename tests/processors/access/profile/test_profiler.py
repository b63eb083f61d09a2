"""One person across devices: probing, off shift, two places at once, a long absence, taking out too much."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from blake3 import blake3

from processors.access.profile import Profile, ProfileConfig, Profiler, decode_profile
from processors.access.profile.memory import place_text
from processors.detect.errors import StateError
from processors.model import RawRecord
from schemas.decisions import Decision, DecisionKind, DecisionReason
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity
from tests.kit.decided import NURSE, TOPIC, MemoryProfiles, decision, record_of

CONFIG = ProfileConfig.default()
PROFILER = Profiler(CONFIG)
DAY_S, HOUR_S, MIN_S = 86_400.0, 3600.0, 60.0
OPENED, UPDATED, CLEARED = FindingStatus.OPENED, FindingStatus.UPDATED, FindingStatus.CLEARED
NO_PERMIT = DecisionReason.NO_PERMIT


def run(decisions: Sequence[Decision], profiles: MemoryProfiles | None = None) -> list[Finding]:
    profiled = PROFILER.process(
        [record_of(each, i) for i, each in enumerate(decisions)], profiles or MemoryProfiles()
    )
    assert not profiled.unreadable
    return profiled.findings


def of(rule: str, findings: Sequence[Finding]) -> list[Finding]:
    return [each for each in findings if each.rule == rule]


def told(findings: Sequence[Finding]) -> list[tuple[str, FindingStatus, Severity]]:
    return [(each.rule, each.status, each.severity) for each in findings]


def offsets(finding: Finding) -> list[int]:
    return [each.offset for each in finding.evidence]


# ---- privilege_probing -------------------------------------------------------------------------------------


def test_denied_at_many_devices_is_one_finding_with_its_evidence() -> None:
    doors = [decision(10 * i, reason=NO_PERMIT, device_id=f"did:example:d{i}") for i in range(12)]
    found = run(doors)
    assert told(found) == [
        ("privilege_probing", OPENED, Severity.MEDIUM),
        ("privilege_probing", UPDATED, Severity.HIGH),
    ]
    opened, updated = found
    assert opened.id == updated.id
    assert (opened.subject, opened.device_id, updated.device_id) == (
        NURSE,
        "did:example:d5",
        "did:example:d5",
    )
    assert offsets(opened) == [0, 1, 2, 3, 4, 5]
    assert opened.evidence[-1] == EvidenceRef(
        TOPIC, 0, 5, blake3(record_of(doors[5], 5).value or b"").digest()
    )
    assert opened.score == 1.0
    assert opened.time_us == doors[5].time_us
    assert opened.explanation == f"{NURSE} was denied 6 requests for 1 action at 6 devices within 10 min"
    assert opened.parameters == {
        "device_limit": "6", "action_limit": "4", "window_s": "600", "devices": "6", "actions": "1",
        "count": "1", "config": CONFIG.digest,
    }  # fmt: skip
    assert 5 in offsets(updated)
    assert offsets(updated)[-1] == 11


def test_denied_for_many_actions_at_one_device_is_found() -> None:
    actions = ("login", "unlock", "override", "export")
    found = run([decision(i, reason=DecisionReason.FORBIDDEN, action=a) for i, a in enumerate(actions)])
    assert told(found) == [("privilege_probing", OPENED, Severity.MEDIUM)]


def test_one_door_again_and_again_or_many_in_a_day_is_no_probing() -> None:
    assert run([decision(i, reason=NO_PERMIT) for i in range(200)]) == []
    shifts = "00:00-00:00"
    slow = [decision(150 * i, reason=NO_PERMIT, device_id=f"did:x:{i}", shifts=shifts) for i in range(200)]
    assert run(slow) == []


@pytest.mark.parametrize(
    "reason", ["stale_registry", "stale_policy", "no_policy", "policy_error", "failed_at_device"]
)
def test_what_is_the_systems_fault_or_the_devices_matter_is_no_probing(reason: str) -> None:
    denials = [decision(i + 1, reason=DecisionReason(reason), device_id=f"did:x:{i}") for i in range(30)]
    assert run([decision(), *denials]) == []


def test_probing_is_over_after_a_quiet_window_and_then_another_one() -> None:
    def doors(after_s: float) -> list[Decision]:
        return [decision(after_s + i, reason=NO_PERMIT, device_id=f"did:x:{i}") for i in range(6)]

    found = run([*doors(0), decision(700), *doors(800)])
    assert [each.status for each in found] == [OPENED, CLEARED, OPENED]
    assert found[0].id == found[1].id != found[2].id
    assert (found[1].device_id, found[1].severity) == (found[0].device_id, Severity.INFORMATIONAL)


# ---- off_shift_access --------------------------------------------------------------------------------------


def test_overtime_of_minutes_is_ordinary() -> None:
    assert run([decision(7 * HOUR_S + 29 * MIN_S), decision(19 * HOUR_S - 29 * MIN_S)]) == []


@pytest.mark.parametrize(
    ("hours", "changes", "severity"),
    [
        (7.75, {"reason": NO_PERMIT}, Severity.LOW),
        (7.75, {}, Severity.MEDIUM),
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
    assert found[0].explanation == (
        f"{NURSE} asked for view 60 min outside of the shift (07:00-19:00 UTC): deny"
    )


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
    assert offsets(found[0]) == [0, 1]
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


# ---- mass_export -------------------------------------------------------------------------------------------


def exports(number: int, after_s: float = 0.0, every_s: float = 10.0) -> list[Decision]:
    return [
        decision(
            after_s + every_s * i, action="export", device_id=f"did:example:d{i % 3}", shifts="00:00-00:00"
        )
        for i in range(number)
    ]


def test_more_exports_than_anybody_should_take() -> None:
    assert run(exports(9)) == []
    found = run(exports(10))
    assert told(found) == [("mass_export", OPENED, Severity.MEDIUM)]
    assert "got 10 permits to export from 3 devices within 60 min" in found[0].explanation
    assert run(exports(50, every_s=500)) == [], "never ten within an hour"


def test_a_flood_of_exports_is_told_rarely() -> None:
    found = run(exports(500, every_s=1))
    assert [(each.status, each.severity, each.parameters["count"]) for each in found] == [
        (OPENED, Severity.MEDIUM, "1"),
        (UPDATED, Severity.MEDIUM, "10"),
        (UPDATED, Severity.HIGH, "11"),
        (UPDATED, Severity.HIGH, "100"),
    ]
    assert "at least 64 permits" in found[-1].explanation


def test_denied_exports_and_other_actions_take_nothing_out() -> None:
    assert (
        run([decision(i, action="export", reason=DecisionReason.APPROVALS_MISSING) for i in range(50)]) == []
    )
    assert run([decision(i, action="view") for i in range(300)]) == []


def test_far_more_than_the_persons_own_habit() -> None:
    month = [each for day in range(6) for each in exports(1, day * DAY_S)]
    assert run([*month, *exports(4, 6 * DAY_S)]) == []
    found = run([*month, *exports(5, 6 * DAY_S)])
    assert told(found) == [("mass_export", OPENED, Severity.MEDIUM)]
    assert "1.0 are usual on other days" in found[0].explanation
    busy = [each for day in range(6) for each in exports(3, day * DAY_S)]
    assert run([*busy, *exports(9, 6 * DAY_S)]) == [], "who exports every day may export"
    assert run([*month[:4], *exports(5, 6 * DAY_S)]) == [], "a habit takes days to be known"


def test_what_was_too_much_does_not_become_usual() -> None:
    profiles = MemoryProfiles()
    run([each for day in range(8) for each in exports(60, day * DAY_S, 1)], profiles)
    (profile,) = profiles.profiles.values()
    assert set(profile.peaks.values()) == {CONFIG.export.limit}


# ---- all of them -------------------------------------------------------------------------------------------


def test_persons_are_apart() -> None:
    doors = [
        decision(i, reason=NO_PERMIT, device_id=f"did:x:{i}", subject=f"did:example:{i % 2}")
        for i in range(10)
    ]
    assert run(doors) == []


def test_the_end_of_a_permit_is_nobodys_doing() -> None:
    kinds = (DecisionKind.REVOCATION, DecisionKind.EXPIRY)
    ends = [decision(i, reason=NO_PERMIT, kind=kinds[i % 2], device_id=f"did:x:{i}") for i in range(40)]
    profiles = MemoryProfiles()
    assert run(ends, profiles) == []
    assert not profiles.profiles


def test_invented_names_begin_no_profile() -> None:
    profiles = MemoryProfiles()
    reasons = ("unknown_subject", "failed_at_device", "session_of_another", "stale_registry", "no_policy")
    batch = [
        record_of(decision(i, subject=f"\N{SNOWMAN}{i}" * 200, reason=DecisionReason(reasons[i % 5])), i)
        for i in range(50)
    ]
    profiled = PROFILER.process(batch, profiles)
    assert (profiled.strangers, profiled.judged, profiles.profiles) == (50, 0, {})


def test_a_record_that_is_not_ours_costs_itself_only() -> None:
    good = record_of(decision(), 2)
    broken = [
        RawRecord(TOPIC, 0, 0, 0, None, None),
        RawRecord(TOPIC, 0, 1, 0, good.key, (good.value or b"")[:-1]),
        RawRecord(TOPIC, 0, 3, 0, b"somebody else", good.value),
    ]
    profiled = PROFILER.process([*broken, good], MemoryProfiles())
    assert [record.offset for record, _ in profiled.unreadable] == [0, 1, 3]
    assert profiled.judged == 1


def test_a_state_of_another_kind_is_refused() -> None:
    data = Profile().encode()
    assert decode_profile(data) == Profile()
    for broken in (b"", data[:-1], data + b"\0", record_of(decision(), 0).value or b""):
        with pytest.raises(StateError):
            decode_profile(broken)


def test_causes_of_their_own_have_ids_of_their_own() -> None:
    doors = [
        decision(8 * HOUR_S + i, reason=NO_PERMIT, device_id="did:x:1", action=f"a{i}", ward=f"w{i}")
        for i in range(4)
    ]
    found = [each for each in run(doors) if each.status is OPENED]
    assert {each.rule for each in found} == {"privilege_probing", "off_shift_access", "impossible_travel"}
    assert all(one.id != other.id for one, other in pairwise(found))

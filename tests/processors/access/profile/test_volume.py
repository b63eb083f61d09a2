"""How much one person does: denied at many doors, and taking out too much."""

import pytest
from blake3 import blake3

from processors.access.profile import ProfileConfig
from schemas.decisions import Decision, DecisionReason
from schemas.records import EvidenceRef, FindingStatus, Severity
from tests.kit.decided import DAY_S, NURSE, TOPIC, MemoryProfiles, cited, decision, record_of, run, told

CONFIG = ProfileConfig.default()
OPENED, UPDATED, CLEARED = FindingStatus.OPENED, FindingStatus.UPDATED, FindingStatus.CLEARED
NO_PERMIT = DecisionReason.NO_PERMIT

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
    assert cited(opened) == [0, 1, 2, 3, 4, 5]
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
    assert 5 in cited(updated)
    assert cited(updated)[-1] == 11


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


def test_denials_that_waited_are_of_their_own_time() -> None:
    waited = [decision(i, reason=NO_PERMIT, device_id=f"did:x:{i}") for i in range(6)]
    assert run([decision(1000), *waited]) == []


def test_probing_is_over_after_a_quiet_window_and_then_another_one() -> None:
    def doors(after_s: float) -> list[Decision]:
        return [decision(after_s + i, reason=NO_PERMIT, device_id=f"did:x:{i}") for i in range(6)]

    found = run([*doors(0), decision(700), *doors(800)])
    assert [each.status for each in found] == [OPENED, CLEARED, OPENED]
    assert found[0].id == found[1].id != found[2].id
    assert (found[1].device_id, found[1].severity) == (found[0].device_id, Severity.INFORMATIONAL)


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

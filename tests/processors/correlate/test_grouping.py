"""Grouping: what comes together is told together, after a wait, and the counts add up."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.correlate import CorrelateConfig
from processors.ocsf import Activity, Status
from schemas.reasons import Reason
from schemas.records import EvidenceRef, FindingStatus, Severity
from tests.kit.noticed import NOW, Driven, covered, finding, rejection

OPENED, UPDATED, CLEARED = FindingStatus.OPENED, FindingStatus.UPDATED, FindingStatus.CLEARED


def test_a_rejection_is_told_after_the_wait() -> None:
    driven = Driven()
    assert driven.add(rejection(5)) == []
    assert driven.wait(0.25) == []
    (told,) = driven.wait(0.25)
    assert told.activity is Activity.CREATE
    assert told.analytic == "rejected.bad_signature"
    assert told.severity is Severity.HIGH
    assert told.event_uid == "device.rejected/0/5"
    assert told.covers == ("device.rejected/0/5",)
    assert told.device_id == "did:key:a"
    assert told.evidence == (EvidenceRef("device.telemetry.raw", 0, 5),)
    assert driven.released == driven.added


def test_what_is_added_is_told_at_the_interval() -> None:
    driven = Driven()
    driven.add(*(rejection(i) for i in range(100)))
    (first,) = driven.wait(1)
    assert first.count == 100
    driven.wait(1)
    driven.add(*(rejection(i) for i in range(100, 300)))
    assert driven.wait(8.25) == []
    (more,) = driven.wait(0.25)
    assert more.count == 200
    assert more.uid == first.uid
    assert more.activity is Activity.UPDATE
    assert more.event_uid.startswith("device.rejected/0/100+")
    assert [each.offset for each in more.evidence] == [100, 299]
    assert driven.correlator.held == 0


def test_records_of_a_case_that_is_forgotten_in_the_same_step_are_told() -> None:
    driven = Driven(CorrelateConfig(max_cases=1))
    driven.add(finding(0, cause="one"))
    driven.wait(1)
    driven.add(finding(1, UPDATED, "one"), finding(2, cause="another"))
    told = driven.wait(11)
    assert sorted(place for each in told for place in each.covers) == [
        "device.findings/0/1",
        "device.findings/0/2",
    ]
    assert driven.released == driven.added


def test_a_group_that_was_quiet_for_an_interval_waits_anew() -> None:
    driven = Driven()
    driven.add(rejection(1))
    driven.wait(12)
    driven.add(rejection(2))
    assert len(driven.wait(1)) == 1


def test_reasons_and_devices_are_told_apart() -> None:
    driven = Driven()
    driven.add(
        rejection(0), rejection(1, Reason.REPLAY), rejection(2, device="did:key:b"), rejection(3, device=None)
    )
    assert len({each.uid for each in driven.wait(1)}) == 4


def test_what_is_not_worth_a_human_is_released_without_a_word() -> None:
    driven = Driven()
    driven.add(rejection(0, Reason.EQUIVOCATION), rejection(1, Reason.LATE))
    assert driven.released == driven.added
    assert driven.wait(20) == []


def test_an_alert_id_follows_from_the_cause() -> None:
    first, after_a_crash = Driven(), Driven()
    after_a_crash.now_ms += 3_000
    for each in (first, after_a_crash):
        each.add(rejection(5))
    assert first.wait(1) == after_a_crash.wait(1)


def test_a_finding_keeps_its_id_through_its_life() -> None:
    driven = Driven()
    driven.add(finding(1, OPENED, "x"), finding(2, UPDATED, "x"))
    driven.wait(1)
    driven.add(finding(3, CLEARED, "x"))
    driven.wait(10)
    assert [each.activity for each in driven.told] == [Activity.CREATE, Activity.UPDATE, Activity.CLOSE]
    assert driven.told[-1].status is Status.RESOLVED
    assert len({each.uid for each in driven.told}) == 1
    assert len({each.event_uid for each in driven.told}) == 3
    assert driven.told[0].message == "HR is outside 15 to 300 bpm"
    assert len(driven.correlator.cases) == 0


def test_who_was_told_of_a_bad_finding_is_told_of_its_end() -> None:
    """A party's filter by severity must not hold back the word that it is over."""
    driven = Driven()
    driven.add(finding(1, OPENED, "x"))
    driven.wait(1)
    cleared = finding(2, CLEARED, "x")
    driven.add(cleared)
    (over,) = driven.wait(10)
    assert over.severity is Severity.MEDIUM


def test_many_findings_of_a_device_are_listed_in_one_report() -> None:
    driven = Driven()
    driven.add(*(finding(i, (OPENED, CLEARED)[i % 2], str(i // 2)) for i in range(80)))
    told = driven.wait(1)
    assert len(told) == 11, "the first five are told each by itself, opened and cleared"
    assert (report := told[-1]).count == 70
    assert len(report.related) == 35
    assert {status for _, status in report.related} == {"Close"}


def test_a_finding_that_a_report_stands_for_goes_on_there() -> None:
    driven = Driven()
    driven.add(*(finding(i) for i in range(8)))
    *_, report = driven.wait(1)
    driven.add(*(finding(10 + i, CLEARED, str(i)) for i in (5, 6)))
    (update,) = driven.wait(10)
    assert (update.uid, update.activity) == (report.uid, Activity.UPDATE)
    driven.add(finding(20, CLEARED, "7"))
    (over,) = driven.wait(10)
    assert (over.uid, over.activity) == (report.uid, Activity.CLOSE)


def test_too_many_devices_share_a_group() -> None:
    driven = Driven(CorrelateConfig(max_groups=10))
    driven.add(*(rejection(i, device=f"did:key:{i}") for i in range(500)))
    told = driven.wait(1)
    assert len(told) == 11
    assert told[-1].count == 490
    assert told[-1].device_id is None
    assert "not told apart" in told[-1].message


def test_a_full_memory_is_told_early() -> None:
    driven = Driven(CorrelateConfig(max_held=100))
    told = driven.add(*(rejection(i) for i in range(1000)))
    assert driven.correlator.held <= 100
    assert sum(each.count for each in told) + driven.correlator.held == 1000


def test_a_message_tells_of_no_more_than_its_bound() -> None:
    driven = Driven(CorrelateConfig(max_told=50))
    driven.add(*(rejection(i) for i in range(120)))
    driven.wait(11)
    assert [each.count for each in driven.told] == [50, 50, 20]
    assert len({each.uid for each in driven.told}) == 1


def test_reset_forgets_what_will_come_again() -> None:
    driven = Driven()
    driven.add(*(rejection(i) for i in range(10)))
    driven.correlator.reset()
    assert driven.correlator.held == 0
    assert driven.close() == []


def test_a_clock_that_steps_back_tells_groups_instead_of_keeping_them() -> None:
    driven = Driven()
    driven.add(rejection(0))
    assert [each.count for each in driven.leap(-3_600)] == [1]


def test_a_report_has_the_id_of_all_that_it_stands_for() -> None:
    """Who drops repeats by id must not drop a report that was made again with more in it."""

    def report_of(*offsets: int) -> str:
        driven = Driven()
        driven.add(*(rejection(offset) for offset in offsets))
        (report,) = driven.close()
        return report.event_uid

    assert report_of(1, 2, 3) == report_of(1, 2, 3)
    assert len({report_of(1, 2), report_of(1, 2, 3), report_of(1, 2, 3, 4), report_of(1, 3, 2)}) == 4


STORY = st.lists(
    st.one_of(
        st.tuples(
            st.just("rejection"), st.sampled_from(list(Reason)), st.sampled_from(["a", "b", "c", None])
        ),
        st.tuples(st.just("finding"), st.sampled_from(list(FindingStatus)), st.sampled_from("abcdefgh")),
        st.tuples(st.just("wait"), st.sampled_from([0.25, 1, 11, 400]), st.none()),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(STORY, st.sampled_from(["", "icu"]), st.integers(2, 6))
def test_each_record_is_told_once_and_released_once(
    story: list[tuple[str, object, str | None]], ward: str, incident_devices: int
) -> None:
    driven = Driven(
        CorrelateConfig(max_groups=4, max_held=20, max_told=7, incident_devices=incident_devices, max_cases=6)
    )
    quiet = set()
    for number, (what, which, name) in enumerate(story):
        if what == "wait":
            driven.leap(float(str(which)))
        elif isinstance(which, Reason):
            driven.add(rejection(number, which, name, ward))
            if which in {Reason.EQUIVOCATION, Reason.EMPTY, Reason.LATE}:
                quiet.add(f"device.rejected/0/{number}")
        elif isinstance(which, FindingStatus):
            rule = "bounds" if number % 3 else "sequence_gap"
            driven.add(finding(number, which, f"{name}", ward=ward, rule=rule, device=f"did:key:{name}"))
    driven.close()
    assert driven.released == driven.added
    assert covered(driven.told) == {place: 1 for place in driven.added if place not in quiet}
    assert sum(each.count for each in driven.told) == len(driven.added) - len(quiet)
    assert len({each.event_uid for each in driven.told}) == len(driven.told)
    assert len(driven.correlator.cases) <= 6


@pytest.mark.parametrize("seconds", [0, 3_600])
def test_the_time_of_records_is_the_brokers(seconds: int) -> None:
    driven = Driven()
    driven.now_ms += seconds * 1000
    driven.add(rejection(3), rejection(9))
    (told,) = driven.wait(1)
    assert (told.start_ms, told.end_ms) == (NOW + 3, NOW + 9)

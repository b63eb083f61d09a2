"""Grouping: the first is told at once, a flood becomes few messages, and the counts add up."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.correlate import CorrelateConfig, Correlator, Step
from processors.model import RawRecord
from processors.notices import FindingNotice, Notice, RejectionNotice, read_finding, read_rejection
from processors.ocsf import Activity
from schemas.errors import FormatError
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

NOW = 1_700_000_000_000


def rejection(offset: int, reason: Reason = Reason.BAD_SIGNATURE, device: str | None = "did:key:a") -> Notice:
    return RejectionNotice(
        f"device.rejected/0/{offset}", reason, device, NOW, (EvidenceRef("device.telemetry.raw", 0, offset),)
    )


def finding_record(offset: int, status: FindingStatus, cause: str, rule: str = "bounds") -> RawRecord:
    found = Finding(
        rule,
        Severity.MEDIUM,
        "did:key:a",
        NOW * 1000,
        "HR is outside 15 to 300 bpm",
        (EvidenceRef("device.telemetry.raw", 0, offset),),
        status=status,
        cause=cause,
        parameters={"scope": "device"},
    )
    return RawRecord("device.findings", 0, offset, NOW, b"did:key:a", found.encode(bytes(16)))


def finding(offset: int, status: FindingStatus = FindingStatus.OPENED, cause: str = "") -> Notice:
    return read_finding(finding_record(offset, status, cause or str(offset)))


def feed(correlator: Correlator[int], notices: Sequence[Notice], now_ms: int = NOW) -> Step[int]:
    whole: Step[int] = Step()
    for token, notice in enumerate(notices):
        step = correlator.add(notice, token, now_ms)
        whole.alerts += step.alerts
        whole.released += step.released
    return whole


def test_the_first_rejection_is_told_at_once() -> None:
    step = feed(Correlator(), [rejection(5)])
    (told,) = step.alerts
    assert step.released == [0]
    assert told.activity is Activity.CREATE
    assert told.analytic == "rejected.bad_signature"
    assert told.severity is Severity.HIGH
    assert told.event_uid == "device.rejected/0/5"
    assert told.device_id == "did:key:a"
    assert told.evidence == (EvidenceRef("device.telemetry.raw", 0, 5),)


def test_a_flood_is_two_messages_whose_counts_add_up() -> None:
    correlator: Correlator[int] = Correlator()
    step = feed(correlator, [rejection(i) for i in range(1000)])
    assert [each.count for each in step.alerts] == [1]
    assert step.released == [0]
    assert correlator.held == 999
    assert correlator.tick(NOW + 9_999).alerts == []
    closed = correlator.tick(NOW + 10_000)
    (report,) = closed.alerts
    assert report.count == 999
    assert report.uid == step.alerts[0].uid
    assert report.activity is Activity.UPDATE
    assert report.event_uid.startswith("device.rejected/0/1+")
    assert [each.offset for each in report.evidence] == [1, 999]
    assert closed.released == list(range(1, 1000))
    assert correlator.held == 0
    assert correlator.tick(NOW + 60_000).alerts == []


def test_reasons_and_devices_are_told_apart() -> None:
    notices = [
        rejection(0),
        rejection(1, Reason.REPLAY),
        rejection(2, device="did:key:b"),
        rejection(3, device=None),
    ]
    assert len({each.uid for each in feed(Correlator(), notices).alerts}) == 4


def test_what_is_not_worth_a_human_is_released_without_a_word() -> None:
    step = feed(Correlator(), [rejection(0, Reason.EQUIVOCATION), rejection(1, Reason.LATE)])
    assert step.alerts == []
    assert step.released == [0, 1]


def test_an_alert_id_follows_from_the_cause() -> None:
    first = feed(Correlator(), [rejection(5)]).alerts[0]
    after_a_crash = feed(Correlator(), [rejection(5)], NOW + 3_000).alerts[0]
    assert first == after_a_crash
    later = RejectionNotice("device.rejected/0/9", Reason.BAD_SIGNATURE, "did:key:a", NOW + 300_000, ())
    assert feed(Correlator(), [later]).alerts[0].uid != first.uid


def test_a_finding_keeps_its_id_through_its_life() -> None:
    life = [
        finding(1, FindingStatus.OPENED, "x"),
        finding(2, FindingStatus.UPDATED, "x"),
        finding(3, FindingStatus.CLEARED, "x"),
    ]
    alerts = feed(Correlator(), life).alerts
    assert [each.activity for each in alerts] == [Activity.CREATE, Activity.UPDATE, Activity.CLOSE]
    assert len({each.uid for each in alerts}) == 1
    assert len({each.event_uid for each in alerts}) == 3
    assert alerts[0].message == "HR is outside 15 to 300 bpm"


def test_many_findings_of_a_rule_are_listed_in_one_report() -> None:
    correlator: Correlator[int] = Correlator()
    notices = [
        finding(i, status, str(i // 2))
        for i, status in enumerate([FindingStatus.OPENED, FindingStatus.CLEARED] * 40)
    ]
    step = feed(correlator, notices)
    assert len(step.alerts) == 10, "the first five are told each by itself, opened and cleared"
    (report,) = correlator.close().alerts
    assert report.count == 70
    assert len(report.related) == 35
    assert {status for _, status in report.related} == {"Close"}
    assert report.uid not in {each.uid for each in step.alerts}


def test_too_many_devices_share_a_group() -> None:
    correlator: Correlator[int] = Correlator(CorrelateConfig(max_groups=10))
    step = feed(correlator, [rejection(i, device=f"did:key:{i}") for i in range(500)])
    assert len(step.alerts) == 11
    (report,) = correlator.close().alerts
    assert report.count == 489
    assert report.device_id is None
    assert "not told apart" in report.message


def test_a_full_memory_is_told_early() -> None:
    correlator: Correlator[int] = Correlator(CorrelateConfig(max_held=100))
    step = feed(correlator, [rejection(i) for i in range(1000)])
    assert correlator.held <= 100
    assert sum(each.count for each in step.alerts) + correlator.held == 1000


def test_reset_forgets_what_will_come_again() -> None:
    correlator: Correlator[int] = Correlator()
    feed(correlator, [rejection(i) for i in range(10)])
    correlator.reset()
    assert correlator.held == 0
    assert correlator.close().alerts == []


def test_a_clock_that_steps_back_closes_groups_instead_of_keeping_them() -> None:
    correlator: Correlator[int] = Correlator()
    feed(correlator, [rejection(0), rejection(1)])
    assert [each.count for each in correlator.tick(NOW - 3_600_000).alerts] == [1]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Reason)), st.sampled_from(["a", "b", "c", None]), st.integers(0, 3_000)
        ),
        max_size=200,
    )
)
def test_nothing_is_lost_nothing_is_counted_twice(story: list[tuple[Reason, str | None, int]]) -> None:
    correlator: Correlator[int] = Correlator(CorrelateConfig(max_groups=4, max_held=20))
    now_ms, counted, released = NOW, 0, []
    for i, (reason, device, passed_ms) in enumerate(story):
        now_ms += passed_ms
        for step in (correlator.tick(now_ms), correlator.add(rejection(i, reason, device), i, now_ms)):
            counted += sum(each.count for each in step.alerts)
            released += step.released
    step = correlator.close()
    counted += sum(each.count for each in step.alerts)
    released += step.released
    quiet = sum(reason in {Reason.EQUIVOCATION, Reason.EMPTY, Reason.LATE} for reason, _, _ in story)
    assert counted == len(story) - quiet
    assert sorted(released) == list(range(len(story)))


# ---- reading records ---------------------------------------------------------------------------------------


def rejected_record(**changes: bytes | None) -> RawRecord:
    headers: dict[str, bytes | None] = {
        "reason": b"bad_signature",
        "registry.offset": b"7",
        "source": b"device.telemetry.raw/3/41",
        "salt": bytes(16),
        "device": b"did:key:a",
    }
    headers |= changes
    return RawRecord(
        "device.rejected",
        3,
        9,
        NOW,
        b"did:key:of-the-key",
        b"\xff" * 100,
        tuple((name, value) for name, value in headers.items() if value is not None),
    )


def test_a_rejection_is_read_from_its_headers() -> None:
    assert read_rejection(rejected_record()) == RejectionNotice(
        "device.rejected/3/9",
        Reason.BAD_SIGNATURE,
        "did:key:a",
        NOW,
        (EvidenceRef("device.telemetry.raw", 3, 41),),
    )


def test_the_device_may_come_from_the_key_or_not_at_all() -> None:
    assert read_rejection(rejected_record(device=None)).device_id == "did:key:of-the-key"
    without = RawRecord("device.rejected", 3, 9, NOW, b"\xff\x00", None, rejected_record(device=None).headers)
    assert read_rejection(without).device_id is None


@pytest.mark.parametrize(
    "changes",
    [{"reason": None}, {"reason": b"tea_time"}, {"source": None}, {"source": b"a/b"}, {"source": b"a/b/c"}],
)
def test_a_rejection_that_is_not_ours_is_an_error_with_its_place(changes: dict[str, bytes | None]) -> None:
    with pytest.raises(FormatError, match=r"device\.rejected/3/9"):
        read_rejection(rejected_record(**changes))


@settings(max_examples=100)
@given(st.one_of(st.none(), st.binary(max_size=200)))
def test_bytes_that_are_no_finding_are_a_format_error(value: bytes | None) -> None:
    with pytest.raises(FormatError):
        read_finding(RawRecord("device.findings", 0, 0, NOW, None, value))


def test_a_finding_of_an_unknown_rule_is_told_under_its_name() -> None:
    notice = read_finding(finding_record(0, FindingStatus.OPENED, "x", rule="next_years_rule"))
    assert isinstance(notice, FindingNotice)
    assert notice.rule.title == "next_years_rule"


def test_spraying_and_guessing_are_told_apart() -> None:
    notice = read_finding(finding_record(0, FindingStatus.OPENED, "x", rule="repeated_failed_access"))
    assert notice.rule.techniques[0].uid == "T1110.003"


def test_a_report_has_the_id_of_all_that_it_stands_for() -> None:
    """Who drops repeats by id must not drop a report that was made again with more in it."""

    def report_of(*offsets: int) -> str:
        correlator: Correlator[int] = Correlator()
        for offset in offsets:
            told_of = RejectionNotice(f"device.rejected/0/{offset}", Reason.REPLAY, "did:key:a", NOW, ())
            correlator.add(told_of, offset, 0)
        (report,) = correlator.close().alerts
        return report.event_uid

    assert report_of(1, 2, 3) == report_of(1, 2, 3)
    assert len({report_of(1, 2), report_of(1, 2, 3), report_of(1, 2, 3, 4), report_of(1, 3, 2)}) == 4

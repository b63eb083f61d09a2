"""Repeated failed access: guessing, spraying, success at last, restarts, any input."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.detect import AccessDetectors, AccessState, DetectConfig, DetectError
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.records import Finding, FindingStatus, Severity

CONFIG = DetectConfig.default()
DETECTORS = AccessDetectors(CONFIG)
DEVICE = "did:key:z6MkPump"

Attempt = tuple[int, str, str]  # append_ms, subject, outcome


def event(offset: int, attempt: Attempt) -> VerifiedEvent:
    append_ms, subject, outcome = attempt
    return VerifiedEvent(
        Event(PayloadKind.ACCESS, DEVICE, 1, offset + 1, 0, {"subject": subject, "outcome": outcome}),
        offset.to_bytes(32, "big", signed=True),
        RawRecord("device.access.raw", 1, offset, append_ms, None, None),
        0,
    )


def always(state: AccessState) -> Callable[[str], AccessState]:
    return lambda _device_id: state


def run(attempts: Sequence[Attempt]) -> list[Finding]:
    state = DETECTORS.new()
    return DETECTORS.process([event(i, each) for i, each in enumerate(attempts)], always(state))


def test_guessing_is_one_finding_with_its_evidence() -> None:
    found = run([(1000 * i, "administrator", "FAILED") for i in range(12)])
    assert [each.status for each in found] == [FindingStatus.OPENED]
    opened = found[0]
    assert (opened.rule, opened.subject, opened.severity) == (
        "repeated_failed_access",
        "administrator",
        Severity.MEDIUM,
    )
    assert [each.offset for each in opened.evidence] == [0, 1, 2, 3, 4]
    assert opened.score == 1.0
    assert opened.time_us == 4_000_000
    assert opened.parameters == {
        "scope": "subject",
        "limit": "5",
        "window_s": "300",
        "failures": "5",
        "config": CONFIG.digest,
    }


def test_mistyping_is_not_guessing() -> None:
    assert run([(i * 1000, "nurse", "FAILED" if i % 5 else "GRANTED") for i in range(5)]) == []
    assert run([(i * 400_000, "nurse", "DENIED") for i in range(50)]) == [], "never five within the window"


def test_one_guess_each_with_many_names_is_found_at_the_device() -> None:
    found = run([(1000 * i, f"user{i}", "FAILED") for i in range(30)])
    assert [(each.status, each.subject) for each in found] == [(FindingStatus.OPENED, None)]
    assert found[0].parameters["scope"] == "device"
    assert len(found[0].evidence) == 12


def test_success_after_failures_is_the_worst_news_and_told_once() -> None:
    guesses: list[Attempt] = [(1000 * i, "administrator", "FAILED") for i in range(8)]
    found = run([*guesses, (9000, "administrator", "GRANTED"), (9500, "administrator", "GRANTED")])
    assert [each.severity for each in found] == [Severity.MEDIUM, Severity.CRITICAL]
    assert found[1].id == found[0].id
    assert [each.offset for each in found[1].evidence] == [0, 8]


def test_success_of_a_sprayed_name_is_told() -> None:
    spray: list[Attempt] = [(1000 * i, f"user{i}", "FAILED") for i in range(14)]
    found = run([*spray, (15_000, "bystander", "GRANTED"), (16_000, "user7", "GRANTED")])
    assert [each.severity for each in found] == [Severity.MEDIUM, Severity.CRITICAL]
    assert found[1].evidence[-1].offset == 15


def test_a_quiet_window_clears_with_the_next_event() -> None:
    found = run(
        [*[(i, "x", "FAILED") for i in range(6)], (300_005, "y", "GRANTED"), (300_006, "y", "GRANTED")]
    )
    assert [each.status for each in found] == [FindingStatus.OPENED, FindingStatus.CLEARED]
    assert found[0].id == found[1].id


def test_a_long_attack_is_updated_rarely() -> None:
    found = run([(1000 * i, "x", "FAILED") for i in range(600)])
    assert [each.parameters["failures"] for each in found] == ["5", "50", "500"]


def test_more_subjects_than_are_tracked_still_count_at_the_device() -> None:
    found = run([(10 * i, f"user{i // 5}", "FAILED") for i in range(5 * 40)])
    subjects = [each.subject for each in found if each.status is FindingStatus.OPENED]
    assert len(subjects) == 9
    assert subjects.count(None) == 1


attempts = st.lists(
    st.tuples(
        st.one_of(st.integers(-(2**62), 2**62), st.integers(0, 2000).map(lambda n: n * 500)),
        st.one_of(st.sampled_from(["a", "b", "c", ""]), st.text(max_size=512)),
        st.sampled_from(["GRANTED", "DENIED", "FAILED", "FAILED"]),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(attempts, st.sets(st.integers(0, 119), max_size=8))
def test_any_input_any_restart(tries: list[Attempt], cuts: set[int]) -> None:
    events = [event(i, each) for i, each in enumerate(tries)]
    whole = DETECTORS.new()
    expected = DETECTORS.process(events, always(whole))
    found: list[Finding] = []
    state: AccessState = DETECTORS.new()
    for i, each in enumerate(events):
        if i in cuts:
            data = DETECTORS.dump(state)
            state = DETECTORS.load(data)
            assert DETECTORS.dump(state) == data
        found += DETECTORS.process([each], always(state))
    assert found == expected
    assert len(state.failures) <= 64
    assert len(state.episodes) <= 9
    assert len(DETECTORS.dump(state)) <= 3 + 64 * 24 + 9 * 31 + 8 * 2048


def test_no_bytes_are_a_device_not_seen_before() -> None:
    assert DETECTORS.dump(DETECTORS.load(b"")) == DETECTORS.dump(DETECTORS.new())


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=200))
def test_foreign_state_bytes_are_refused_or_read_whole(data: bytes) -> None:
    try:
        DETECTORS.load(data)
    except DetectError:
        return


def test_a_cut_state_and_another_version_are_named() -> None:
    with pytest.raises(DetectError, match="version 9"):
        DETECTORS.load(b"\x09\0\0")
    with pytest.raises(DetectError, match="cannot be read"):
        DETECTORS.load(b"\x01\x01abc")
    with pytest.raises(DetectError, match="counts ask for"):
        DETECTORS.load(b"\x01\0\0\0")

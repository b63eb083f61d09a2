"""Silences, acknowledgements and resolutions: who may say them, and what they do to alerts."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.correlate.controls import MAX_ACTS, MAX_SILENCES, ControlTable, Silence
from processors.ocsf import Activity, Status
from schemas.records import FindingStatus, Severity
from tests.kit.controltopic import HOUR_US, ControlTopic, control_payload, signed_control
from tests.kit.noticed import NOW, Driven, covered, finding, rejection

CLEARED = FindingStatus.CLEARED
UID = "ab" * 16
LATER = NOW * 1000 + HOUR_US
FULL: dict[str, Any] = {"until": LATER, "severity": "LOW", "rules": ["x"]}


def told_of_stuck(topic: ControlTopic) -> Driven:
    driven = Driven()
    driven.add(finding(1, cause="x", rule="stuck"))
    driven.wait(1, topic.table)
    return driven


# ---- silences ----------------------------------------------------------------------------------------------


def test_a_silence_is_told_and_what_it_holds_back_stays_in_the_log() -> None:
    topic, driven = ControlTopic(), Driven()
    topic.silence("night-work", wards=["icu-1"])
    (begun,) = driven.wait(0.25, topic.table)
    assert (begun.activity, begun.status, begun.count) == (Activity.CREATE, Status.NEW, 0)
    assert begun.covers == ("alerts.control/0/0",)
    assert begun.comment == "Ida: known work"
    assert "ward icu-1, up to high" in begun.message
    driven.add(
        rejection(1, ward="icu-1"), rejection(2, ward="icu-1"), rejection(3, device="did:key:z", ward="w2")
    )
    held_back, told = sorted(driven.wait(1, topic.table), key=lambda each: each.status, reverse=True)
    assert (held_back.status, held_back.suppressed_by, held_back.count) == (Status.SUPPRESSED, begun.uid, 2)
    assert told.status is Status.NEW
    over = driven.leap(3_600, topic.table)
    (end,) = (each for each in over if each.uid == begun.uid)
    assert end.activity is Activity.CLOSE
    assert end.suppressed == {"rejected.bad_signature": 2}
    assert end.related == ((held_back.uid, "Suppressed"),)
    assert covered(driven.told)["device.rejected/0/1"] == 1


def test_what_lasts_longer_than_a_silence_is_told_at_its_end() -> None:
    topic, driven = ControlTopic(), Driven()
    topic.silence("s", rules=["stuck"])
    driven.wait(0.25, topic.table)
    driven.add(finding(1, cause="x", rule="stuck"), finding(2, cause="y", rule="stuck", device="did:key:b"))
    assert {each.status for each in driven.wait(1, topic.table)} == {Status.SUPPRESSED}
    driven.add(finding(3, CLEARED, cause="y", rule="stuck", device="did:key:b"))
    (well,) = driven.wait(10, topic.table)
    assert (well.activity, well.status) == (Activity.CLOSE, Status.SUPPRESSED)
    over = driven.leap(3_600, topic.table)
    assert [(each.analytic, each.activity, each.status) for each in over] == [
        ("silenced", Activity.CLOSE, Status.RESOLVED), ("stuck", Activity.UPDATE, Status.NEW),
    ]  # fmt: skip
    driven.add(finding(4, CLEARED, cause="x", rule="stuck"))
    (end,) = driven.wait(11, topic.table)
    assert (end.activity, end.status) == (Activity.CLOSE, Status.RESOLVED)


def test_what_was_told_before_a_silence_ends_in_it() -> None:
    topic = ControlTopic()
    driven = told_of_stuck(topic)
    topic.silence("s", rules=["stuck"])
    driven.add(finding(2, CLEARED, cause="x", rule="stuck"))
    end = driven.wait(11, topic.table)[-1]
    assert (end.activity, end.status) == (Activity.CLOSE, Status.RESOLVED)


def test_critical_alerts_pass_a_silence_that_does_not_name_them() -> None:
    silence = Silence("s", 0, 1, Severity.HIGH, (), ("d",), (), (), "", "")
    assert silence.fits("r", Severity.HIGH, "d", "", "")
    assert not silence.fits("r", Severity.CRITICAL, "d", "", "")
    assert not silence.fits("r", Severity.LOW, "e", "", "")


def test_a_silence_may_be_ended_and_said_anew() -> None:
    topic, driven = ControlTopic(), Driven()
    topic.silence("s", rules=["stuck"])
    first = driven.wait(0.25, topic.table)[0]
    topic.say("silence/s", "UNSILENCE")
    (end,) = driven.wait(0.25, topic.table)
    assert (end.uid, end.activity) == (first.uid, Activity.CLOSE)
    topic.silence("s", rules=["stuck"])
    (second,) = driven.wait(0.25, topic.table)
    assert second.uid != first.uid


# ---- acknowledgements and resolutions ----------------------------------------------------------------------


def test_an_acknowledged_alert_is_in_progress_and_not_repeated() -> None:
    topic = ControlTopic()
    driven = told_of_stuck(topic)
    topic.now_ms = driven.now_ms + 100
    topic.say(driven.told[0].uid, "ACKNOWLEDGE")
    (taken,) = driven.wait(0.25, topic.table)
    assert (taken.activity, taken.status) == (Activity.UPDATE, Status.IN_PROGRESS)
    assert taken.comment == "Ida: known work"
    assert driven.leap(9 * 3_600, topic.table) == []
    driven.add(finding(2, FindingStatus.UPDATED, cause="x", rule="stuck"))
    (update,) = driven.wait(1, topic.table)
    assert update.status is Status.IN_PROGRESS


def test_a_resolved_alert_is_over_and_a_new_cause_opens_it_anew() -> None:
    topic = ControlTopic()
    driven = told_of_stuck(topic)
    topic.now_ms = driven.now_ms + 100
    topic.say(driven.told[0].uid, "RESOLVE")
    (end,) = driven.wait(0.25, topic.table)
    assert (end.activity, end.status) == (Activity.CLOSE, Status.RESOLVED)
    assert len(driven.correlator.cases) == 0
    driven.add(finding(90_000, FindingStatus.UPDATED, cause="x", rule="stuck"))
    assert len(driven.wait(11, topic.again())) == 1, "what was said of its earlier life does not end it again"


def test_a_word_about_an_alert_that_nobody_knows_does_nothing() -> None:
    topic = ControlTopic()
    topic.say(UID, "ACKNOWLEDGE")
    assert Driven().wait(1, topic.table) == []


# ---- who may say so ----------------------------------------------------------------------------------------


def test_what_no_authority_signed_is_ignored_and_told() -> None:
    topic, driven = ControlTopic(), Driven()
    payload = control_payload(
        "silence/s", 1, b"", "SILENCE", until=NOW * 1000 + HOUR_US, severity="HIGH", rules=["x"]
    )
    topic.put(b"silence/s", signed_control(payload, ["mallory"]))
    (told,) = driven.wait(0.25, topic.table)
    assert told.analytic == "control_rejected"
    assert "no authority" in told.message
    assert topic.table.silences == {}
    assert driven.wait(5, topic.table) == [], "once"


def test_an_old_silence_cannot_be_said_again() -> None:
    topic = ControlTopic()
    topic.silence("s", rules=["stuck"])
    topic.say("silence/s", "UNSILENCE")
    topic.put(b"silence/s", topic.records[0].value)
    assert topic.table.silences == {}
    assert len(topic.table.ignored) == 1


@pytest.mark.parametrize(
    ("subject", "action", "more", "why"),
    [
        ("silence/s", "SILENCE", {**FULL, "rules": []}, "of everything"),
        ("silence/s", "SILENCE", {**FULL, "until": NOW * 1000}, "before it begins"),
        ("silence/s", "SILENCE", {**FULL, "until": LATER + 720 * HOUR_US}, "30 days"),
        ("silence/s", "SILENCE", {**FULL, "severity": "AWFUL"}, "no severity"),
        ("silence/s", "SILENCE", {**FULL, "rules": ["x"] * 257}, "more than 256"),
        ("silence/S", "SILENCE", FULL, "no silence"),
        (UID, "SILENCE", FULL, "no silence"),
        ("silence/s", "ACKNOWLEDGE", {}, "no alert"),
        (UID.upper(), "RESOLVE", {}, "no alert"),
        (UID, "RESOLVE", {"comment": "x" * 1_001}, "characters"),
        ("silence/none", "UNSILENCE", {}, "not in force"),
    ],
)
def test_what_breaks_a_rule_is_ignored(subject: str, action: str, more: dict[str, Any], why: str) -> None:
    topic = ControlTopic()
    assert why in topic.refused(subject, action, **more)
    assert not topic.table.silences
    assert not topic.table.acts


def test_memory_is_bounded() -> None:
    topic = ControlTopic()
    table = topic.table
    silence = Silence("s", 0, 1, Severity.HIGH, ("r",), (), (), (), "", "")
    table.silences = {str(number): silence for number in range(MAX_SILENCES)}
    until = NOW * 1000 + HOUR_US
    assert "are in force" in topic.refused(
        "silence/one-more", "SILENCE", until=until, severity="LOW", rules=["x"]
    )
    for number in range(50):
        topic.say(UID, "ACKNOWLEDGE", comment=str(number))
    assert len(table.acts) == 50 < MAX_ACTS


@settings(max_examples=200)
@given(st.one_of(st.none(), st.binary(max_size=300)), st.one_of(st.none(), st.binary(max_size=40)))
def test_no_bytes_are_too_strange(value: bytes | None, key: bytes | None) -> None:
    topic = ControlTopic()
    topic.put(key, value)
    assert topic.table.offset == 1
    assert len(topic.table.ignored) == 1
    assert isinstance(topic.table, ControlTable)

"""A restart reads the newest alerts again: nothing is told twice, and what was begun goes on."""

from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.correlate import CorrelateConfig
from processors.correlate.restoring import Restored
from processors.notices import Notice
from processors.ocsf import Activity, Alert, Status
from schemas.reasons import Reason
from schemas.records import FindingStatus
from tests.kit.controltopic import ControlTopic
from tests.kit.noticed import Driven, covered, finding, rejection, values

OPENED, CLEARED = FindingStatus.OPENED, FindingStatus.CLEARED


def restarted(driven: Driven, seconds: float = 5) -> Driven:
    """What a new process knows, which reads what the old one had published."""
    new = Driven()
    new.now_ms = driven.now_ms + round(seconds * 1000)
    new.correlator.restore(Restored(values(driven.told)), new.now_ms)
    return new


def silent(count: int = 12) -> list[Notice]:
    return [finding(i, cause=f"c{i}", ward="w", rule="silence", device=f"did:key:{i}") for i in range(count)]


def test_what_was_told_and_not_acknowledged_is_not_told_again() -> None:
    old = Driven()
    notices = [*silent(), rejection(50), rejection(51)]
    old.add(*notices)
    old.wait(1)
    new = restarted(old)
    new.add(*notices)
    assert new.released == new.added
    assert new.wait(20) == []


def test_an_incident_goes_on_under_its_id_and_ends() -> None:
    old = Driven()
    old.add(*silent())
    (made,) = old.wait(1)
    new = restarted(old)
    new.add(finding(70, cause="c70", ward="w", rule="silence", device="did:key:70"))
    (grown,) = new.wait(1)
    assert (grown.uid, grown.activity) == (made.uid, Activity.UPDATE)
    assert grown.incident is not None
    assert grown.incident.device_count == 13
    new.add(
        *(
            finding(80 + i, CLEARED, f"c{i}", ward="w", rule="silence", device=f"did:key:{i}")
            for i in range(12)
        )
    )
    new.add(finding(99, CLEARED, "c70", ward="w", rule="silence", device="did:key:70"))
    assert new.wait(10)[-1].activity is Activity.CLOSE


def test_what_nobody_heard_of_is_closed_after_a_restart_too() -> None:
    old = Driven()
    old.add(rejection(1))
    (told,) = old.wait(1)
    (over,) = restarted(old, 600).wait(0.25)
    assert (over.uid, over.activity) == (told.uid, Activity.CLOSE)


def test_an_acknowledgement_and_a_silence_outlive_a_restart() -> None:
    topic, old = ControlTopic(), Driven()
    topic.silence("s", rules=["bounds"])
    old.add(finding(1, cause="x", rule="stuck"), finding(2, cause="y"))
    old.wait(1, topic.table)
    topic.now_ms = old.now_ms + 1
    topic.say(next(each.uid for each in old.told if each.analytic == "stuck"), "ACKNOWLEDGE")
    old.wait(1, topic.table)
    new = restarted(old)
    assert new.wait(2, topic.again()) == [], "nothing is said twice"
    assert new.leap(3_000, topic.again()) == []
    over = new.leap(3_600 * 5, topic.again())
    assert over[0].suppressed == {"bounds": 1}
    assert {(each.analytic, each.status) for each in over} == {
        ("silenced", Status.RESOLVED), ("bounds", Status.NEW),
    }  # fmt: skip


def test_what_was_held_back_is_still_told_with_its_cause() -> None:
    old = Driven()
    old.add(finding(3, rule="equivocation"), rejection(1, Reason.REPLAY))
    old.wait(1)
    new = restarted(old)
    new.add(rejection(2, Reason.REPLAY))
    (more,) = new.wait(1)
    assert more.status is Status.SUPPRESSED
    (end,) = (each for each in new.leap(400) if each.analytic == "equivocation")
    assert end.suppressed == {"rejected.replay": 2}


SAME = (
    *("uid", "event_uid", "activity", "analytic", "title", "types", "severity", "device_id", "subject"),
    *("techniques", "status", "ward", "scope", "suppressed_by", "incident", "covers", "count", "related"),
)


def plain(alert: Alert) -> dict[str, object]:
    found = asdict(alert)
    return {name: found[name] for name in SAME}


NOTICES = st.lists(
    st.one_of(
        st.tuples(st.just("r"), st.sampled_from([Reason.REPLAY, Reason.BAD_SIGNATURE]), st.integers(0, 7)),
        st.tuples(
            st.sampled_from(["stuck", "equivocation"]),
            st.sampled_from(list(FindingStatus)),
            st.integers(0, 7),
        ),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(NOTICES, NOTICES, st.sampled_from([2, 5]))
def test_with_a_restart_or_without_the_same_is_told(
    before: list[tuple[str, object, int]], after: list[tuple[str, object, int]], many: int
) -> None:
    def notices(story: list[tuple[str, object, int]], first: int) -> list[Notice]:
        made = []
        for number, (what, which, device) in enumerate(story, first):
            name = f"did:key:{device}"
            if isinstance(which, Reason):
                made.append(rejection(number, which, name, "w"))
            elif isinstance(which, FindingStatus):
                made.append(finding(number, which, name, ward="w", rule=what, device=name))
        return made

    config = CorrelateConfig(incident_devices=many)
    through, old, new = Driven(config), Driven(config), Driven(config)
    for each in (through, old):
        each.add(*notices(before, 0))
        each.wait(12)
    new.now_ms = old.now_ms
    new.correlator.restore(Restored(values(old.told)), new.now_ms)
    told = []
    for each in (through, new):
        each.add(*notices(before, 0)[-5:] if each is new else ())  # what was not acknowledged comes again
        each.add(*notices(after, 1_000))
        told.append([plain(alert) for alert in each.wait(12)])
    assert told[1] == told[0]
    assert set(covered([*old.told, *new.told]).values()) <= {1}


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_bytes_that_are_no_alerts_are_counted_and_passed_over(found: list[bytes]) -> None:
    assert Restored(found).unreadable == len(found)


@pytest.mark.parametrize(
    "value",
    [
        b"[]",
        b'{"class_uid": 2004}',
        b'{"class_uid": 2004, "finding_info": 1}',
        b'{"unmapped": {"covers": {"a/0": "x"}}}',
        b'{"class_uid":2004,"unmapped":{"covers":{"a/0":"0-99999999999"}}}',
    ],
)
def test_alerts_that_are_not_ours_do_no_harm(value: bytes) -> None:
    restored = Restored([value])
    assert restored.unreadable == 1
    assert list(restored.cases(0)) == []

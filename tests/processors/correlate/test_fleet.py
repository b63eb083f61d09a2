"""Devices of one build that drift alike, and those that only happen to."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.builds import Build
from processors.correlate import CorrelateConfig
from processors.correlate.fleet import FleetDrift
from processors.correlate.restoring import Restored
from processors.detect import DetectConfig
from processors.notices import FindingNotice
from processors.ocsf import Activity, Alert, Status
from schemas.records import FindingStatus, Severity
from tests.kit.controltopic import ControlTopic
from tests.kit.noticed import NOW, Driven, covered, finding, values

HOUR = 3_600_000
WINDOW = 4 * HOUR
BUILD = Build("M540", "4.2.1", 20, 0)
LIMITS = DetectConfig.default().fleet


def drift(
    number: int,
    after_ms: int = 0,
    *,
    device: int | None = None,
    build: Build | None = BUILD,
    rule: str = "drift",
    code: str = "147842",
    status: FindingStatus = FindingStatus.OPENED,
    ward: str = "",
) -> FindingNotice:
    which = number if device is None else device
    made = finding(number, status, f"c{which}", rule=rule, device=f"did:key:{which}", ward=ward)
    assert isinstance(made, FindingNotice)
    about = {"code": code, "signal": "HR"}
    return replace(made, time_ms=NOW + after_ms, severity=Severity.LOW, build=build, parameters=about)


def fleets(alerts: Iterable[Alert]) -> list[Alert]:
    return [each for each in alerts if each.analytic == "fleet_drift"]


def named(alerts: Iterable[Alert]) -> list[str]:
    """Devices that messages about new ones name, each as often as they do."""
    made = (each for each in fleets(alerts) if each.parameters)
    return [device for each in made if each.incident for device in each.incident.devices]


def told(notices: Sequence[FindingNotice]) -> Driven:
    driven = Driven()
    driven.add(*notices)
    driven.wait(1)
    return driven


def test_twelve_devices_of_a_build_are_one_alert_that_names_them() -> None:
    driven = told([drift(i) for i in range(12)])
    fleet, *held_back = driven.told
    assert (fleet.analytic, fleet.severity, fleet.activity) == ("fleet_drift", Severity.HIGH, Activity.CREATE)
    assert fleet.incident is not None
    assert sorted(fleet.incident.devices) == sorted(f"did:key:{i}" for i in range(12))
    assert fleet.scope == "build:M540 4.2.1"
    assert "12 of 20 devices of model M540 with firmware 4.2.1 show `drift` of HR within 4 h" in fleet.message
    assert fleet.parameters["config"] == DetectConfig.default().digest
    assert {uid for uid, _ in fleet.related} == {each.uid for each in held_back}
    assert fleet.device_id is None
    assert fleet.ward == "", "who is told is said by the wards of the devices that are named"
    assert {each.status for each in held_back} == {Status.SUPPRESSED}
    assert {each.suppressed_by for each in held_back} == {fleet.uid}
    assert set(covered(driven.told).values()) == {1}
    assert driven.released == driven.added


def test_what_was_told_before_goes_on_by_itself_and_what_follows_is_held_back() -> None:
    driven = Driven()
    for number in range(5):
        driven.add(drift(number, number * HOUR // 2))
        driven.wait(1)
    statuses = [each.status for each in driven.told if each.analytic == "drift"]
    assert statuses == [Status.NEW] * 3 + [Status.SUPPRESSED] * 2
    created, grown = fleets(driven.told)
    assert (created.activity, grown.activity) == (Activity.CREATE, Activity.UPDATE)
    assert created.uid == grown.uid
    assert named(driven.told) == [f"did:key:{i}" for i in range(5)]
    driven.add(drift(9, 3 * HOUR, device=0, status=FindingStatus.CLEARED))
    (over,) = driven.wait(10)
    assert (over.device_id, over.activity, over.status) == ("did:key:0", Activity.CLOSE, Status.RESOLVED)


def test_it_is_over_when_none_was_found_for_the_window_and_what_lasts_is_told_then() -> None:
    driven = told([drift(i) for i in range(4)])
    assert driven.leap(WINDOW / 1000 - 10) == []
    driven.add(drift(7, 2 * HOUR, device=2))
    driven.wait(1)
    again = driven.leap(HOUR / 1000)
    assert {each.activity for each in again} == {Activity.UPDATE}, "it goes on, and is told again"
    ends = [*driven.leap(WINDOW / 1000), *driven.wait(2)]
    (over,) = (each for each in fleets(ends) if each.activity is Activity.CLOSE)
    assert over.suppressed == {"drift": 4}
    assert over.incident is not None
    assert len(over.incident.devices) == 4, "who was told for the sake of a device is told of the end"
    told_at_last = {each.uid for each in ends if each.analytic == "drift" and each.status is Status.NEW}
    assert len(told_at_last) == 4


def test_devices_of_a_ward_are_held_back_as_one_incident() -> None:
    driven = told([drift(i, ward="icu-1") for i in range(6)])
    fleet, incident = driven.told
    assert fleet.analytic == "fleet_drift"
    assert (incident.count, incident.status, incident.ward) == (6, Status.SUPPRESSED, "icu-1")


@pytest.mark.parametrize(
    "notices",
    [
        [drift(i, device=1) for i in range(50)],
        [drift(i, i * 5 * HOUR) for i in range(50)],
        [drift(i, build=replace(BUILD, devices=1000)) for i in range(40)],
        [drift(i, build=Build(f"M{i}", "1", 1, 0)) for i in range(12)],
        [drift(i, build=Build("M540", f"4.{i}", 1, 0)) for i in range(12)],
        [drift(i, code=str(i % 3)) for i in range(9)],
        [drift(i, rule="bounds") for i in range(12)],
        [drift(i, build=None) for i in range(12)],
        [drift(i, status=FindingStatus.UPDATED) for i in range(12)],
        [drift(i, build=replace(BUILD, since_us=(NOW + 1) * 1000)) for i in range(12)],
    ],
    ids=[
        *("one device", "days apart", "few of many", "models", "firmware", "signals", "another rule"),
        *("no build", "no new ones", "of the build before"),
    ],
)
def test_what_chance_reaches_is_told_of_the_devices_alone(notices: list[FindingNotice]) -> None:
    driven = told(notices)
    assert fleets(driven.told) == []
    assert Status.SUPPRESSED not in {each.status for each in driven.told}


def test_other_rules_signals_and_builds_are_not_held_back() -> None:
    driven = told([drift(i) for i in range(4)])
    driven.add(drift(10, code="150456"), drift(11, rule="step"), drift(12, build=replace(BUILD, model="M1")))
    driven.add(drift(13, rule="stuck"))
    assert {each.status for each in driven.wait(1)} == {Status.NEW}


def test_what_is_worse_than_the_alert_is_not_held_back() -> None:
    driven = told([drift(i) for i in range(4)])
    driven.add(replace(drift(20), severity=Severity.CRITICAL))
    worse = [each for each in driven.wait(1) if each.analytic == "drift"]
    assert [each.status for each in worse] == [Status.NEW]


def test_a_silence_of_the_rule_holds_it_back_and_then_it_holds_nothing_back() -> None:
    topic, driven = ControlTopic(), Driven()
    topic.silence("s", rules=["fleet_drift"])
    driven.wait(1, topic.table)
    driven.add(*(drift(i) for i in range(6)))
    found = driven.wait(1, topic.table)
    assert [each.status for each in fleets(found)] == [Status.SUPPRESSED]
    assert {each.status for each in found if each.analytic == "drift"} == {Status.NEW}


def test_what_somebody_resolved_is_opened_again_by_the_next_device() -> None:
    topic, driven = ControlTopic(), told([drift(i) for i in range(4)])
    (made,) = fleets(driven.told)
    topic.now_ms = driven.now_ms + 1
    topic.say(made.uid, "RESOLVE")
    found = driven.wait(2, topic.table)
    assert [each.activity for each in fleets(found)] == [Activity.CLOSE]
    assert [each.status for each in found if each.analytic == "drift"] == [Status.NEW] * 4
    driven.add(drift(5))
    (again,) = fleets(driven.wait(1, topic.table))
    assert (again.uid, again.activity) == (made.uid, Activity.CREATE)
    assert again.event_uid != made.event_uid


def test_a_device_that_left_its_build_counts_no_more() -> None:
    driven = told([drift(i) for i in range(3)])
    driven.correlator.forget_builds(["did:key:0"])
    driven.add(drift(3))
    assert fleets(driven.wait(1)) == []
    driven.add(drift(4))
    assert len(fleets(driven.wait(1))) == 1


def test_memory_is_bounded() -> None:
    rule = FleetDrift(LIMITS)
    for number in range(3000):
        rule.take(drift(number, number, build=Build(f"model {number}", "1", 1, 0)))
    assert len(rule._groups) == 1024
    for number in range(3000):
        rule.take(drift(number, number))
    assert max(len(each.found) for each in rule._groups.values()) == 500
    made = drift(0)
    for number in range(60_000):
        device, code = f"did:key:{number % 300}", {"code": str(number // 300)}
        rule.take(replace(made, position=str(number), device_id=device, parameters=code))
    assert rule._sightings == sum(len(each.found) for each in rule._groups.values())
    assert 49_500 < rule._sightings <= 50_000
    rule.forget(["did:key:7"])
    assert rule._sightings == sum(len(each.found) for each in rule._groups.values())


def test_of_a_huge_fleet_no_more_devices_are_named_or_held_back_than_there_is_room_for() -> None:
    driven = told([drift(i, build=replace(BUILD, devices=20_000)) for i in range(600)])
    assert len(named(driven.told)) == len(set(named(driven.told))) == 500
    held_back = sum(each.status is Status.SUPPRESSED for each in driven.told)
    assert held_back == 500
    assert set(covered(driven.told).values()) == {1}


def test_a_kill_between_any_two_messages_loses_none_and_tells_none_twice() -> None:
    notices = [drift(i, i) for i in range(9)]
    old = told(notices)
    for published in range(len(old.told) + 1):
        restored, new = Restored(values(old.told[:published])), Driven()
        new.now_ms = old.now_ms
        known = [each for each in notices if restored.is_told(each.position)]
        new.correlator.restore(restored, new.now_ms, known)
        new.add(*notices)
        new.wait(12)
        both = [*old.told[:published], *new.told]
        assert sorted(named(both)) == sorted(f"did:key:{i}" for i in range(9))
        assert len({each.uid for each in fleets(both)}) == 1
        assert len({each.event_uid for each in both}) == len(both)
        assert set(covered(both).values()) == {1}
        assert len(covered(both)) == 9
        assert {each.status for each in both if each.analytic == "drift"} == {Status.SUPPRESSED}


STORY = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.booleans()), max_size=40)


def notices_of(story: list[tuple[int, int, bool]], first: int) -> list[FindingNotice]:
    return [
        drift(
            first + n, step * HOUR // 8, device=which, build=BUILD if is_mine else replace(BUILD, model="X")
        )
        for n, (which, step, is_mine) in enumerate(story)
    ]


def plain(alert: Alert) -> tuple[object, ...]:
    return alert.uid, alert.event_uid, alert.activity, alert.message, alert.incident, alert.suppressed_by


@settings(max_examples=200, deadline=None)
@given(STORY, STORY, st.integers(0, 12))
def test_with_a_restart_or_without_the_same_is_told(
    before: list[tuple[int, int, bool]], after: list[tuple[int, int, bool]], unacknowledged: int
) -> None:
    first, second = notices_of(before, 0), notices_of(after, 1_000)
    through, old, new = Driven(), Driven(), Driven()
    for each in (through, old):
        each.add(*first)
        each.wait(12)
    new.now_ms = old.now_ms
    restored = Restored(values(old.told))
    again = sorted(first, key=lambda each: (each.time_ms, each.position))
    assert all(restored.is_told(each.position) for each in again)
    new.correlator.restore(restored, new.now_ms, again)
    new.add(*first[len(first) - unacknowledged :])
    for each in (through, new):
        each.add(*second)
    assert [plain(each) for each in new.wait(12)] == [plain(each) for each in through.wait(12)]
    assert set(covered([*old.told, *new.told]).values()) <= {1}


@settings(max_examples=100, deadline=None)
@given(st.permutations(notices_of([(n % 10, n * 3, n % 4 > 0) for n in range(16)], 0)))
def test_in_whichever_order_partitions_are_read_the_same_is_remembered(order: list[FindingNotice]) -> None:
    def remembered(notices: Iterable[FindingNotice]) -> dict[object, list[object]]:
        rule = FleetDrift(CorrelateConfig().fleet)
        for each in notices:
            rule.take(each)
        return {key: list(group.found.items()) for key, group in rule._groups.items()}

    in_order = sorted(order, key=lambda each: each.time_ms)
    assert remembered(order) == remembered(in_order)

"""Inhibition: what another alert explains is held back, counted and listed with it."""

from processors.alert_rules import FINDING_RULES
from processors.correlate.muting import INHIBITIONS
from processors.ocsf import Activity, Status
from schemas.reasons import Reason
from schemas.records import FindingStatus
from tests.kit.noticed import Driven, covered, finding, rejection

CLEARED = FindingStatus.CLEARED


def test_replays_of_a_device_that_signed_twice_are_held_back() -> None:
    driven = Driven()
    driven.add(rejection(1, Reason.REPLAY), rejection(2, Reason.REPLAY))
    driven.add(finding(3, rule="equivocation"))
    driven.add(rejection(4, Reason.REPLAY, device="did:key:other"))
    told = {each.event_uid: each for each in driven.wait(1)}
    source = told["device.findings/0/3"]
    (held_back,) = (each for each in told.values() if each.status is Status.SUPPRESSED)
    assert held_back.covers == ("device.rejected/0/1", "device.rejected/0/2")
    assert held_back.suppressed_by == source.uid
    assert told["device.rejected/0/4"].status is Status.NEW
    (end,) = (each for each in driven.leap(301) if each.uid == source.uid)
    assert end.activity is Activity.CLOSE
    assert end.suppressed == {"rejected.replay": 2}
    assert end.related == ((held_back.uid, "Suppressed"),)


def test_gaps_of_a_ward_that_fell_silent_are_held_back() -> None:
    driven = Driven()
    driven.add(*(finding(i, ward="w", rule="silence", device=f"did:key:{i}") for i in range(6)))
    driven.wait(1)
    driven.add(*(finding(10 + i, ward="w", rule="sequence_gap", device=f"did:key:{i}") for i in range(8)))
    driven.add(finding(30, ward="v", rule="sequence_gap", device="did:key:far"))
    told = driven.wait(1)
    assert {each.ward: each.status for each in told} == {"w": Status.SUPPRESSED, "v": Status.NEW}
    assert sum(each.count for each in told if each.ward == "w") == 8


def test_a_gap_of_one_silent_device_is_told() -> None:
    driven = Driven()
    driven.add(finding(1, ward="w", rule="silence"))
    driven.wait(1)
    driven.add(finding(2, ward="w", rule="sequence_gap"))
    assert [each.status for each in driven.wait(1)] == [Status.NEW]


def test_when_the_source_is_over_nothing_is_held_back_any_more() -> None:
    driven = Driven()
    driven.add(finding(1, rule="equivocation"))
    driven.wait(320)
    driven.add(rejection(2, Reason.REPLAY))
    assert [each.status for each in driven.wait(1)] == [Status.NEW]


def test_each_record_that_was_held_back_stands_in_the_log() -> None:
    driven = Driven()
    driven.add(finding(1, rule="equivocation"), *(rejection(i, Reason.REPLAY) for i in range(2, 900)))
    driven.wait(20)
    assert len(covered(driven.told)) == 899
    assert driven.released == driven.added


def test_alerts_about_the_log_are_never_explained_away() -> None:
    log_rules = {name for name, rule in FINDING_RULES.items() if rule.types == ("Log integrity",)}
    assert not log_rules & {each.target for each in INHIBITIONS}
    assert {each.source for each in INHIBITIONS} <= set(FINDING_RULES)

"""An attack counts as found only by what is said about its own records."""

import random
from dataclasses import replace

import pytest

from loadtests.attacks import ATTACKS
from pipeline.demo.notified import SeenIncident
from pipeline.demo.observed import Observed, SeenFinding, SeenRejection
from pipeline.demo.traffic import LaunchedAttack, schedule
from pipeline.demo.verdicts import Verdict, clean_rejections, false_alarms, judge

BY_NAME = {attack.name: attack for attack in ATTACKS}
SOURCE, OTHER = "device.telemetry.raw/1/10", "device.telemetry.raw/1/11"
DEVICE = "did:key:victim"


def launched(name: str, **delivered: float) -> LaunchedAttack:
    places = {"source": SOURCE, "other": OTHER}
    return LaunchedAttack(BY_NAME[name], DEVICE, 99.0, {places[k]: at for k, at in delivered.items()})


def finding(
    rule: str, *sources: str, device: str = DEVICE, at_s: float = 101.0, status: str = "OPENED"
) -> SeenFinding:
    return SeenFinding(rule, status, device, sources, 0, at_s)


def verdict(attack: LaunchedAttack, observed: Observed, last_telemetry_s: float = 98.0) -> Verdict:
    (found,) = judge([attack], observed, {DEVICE: last_telemetry_s}, silence_after_s=5.0, incident_devices=5)
    return found


def test_a_rejection_of_the_record_with_the_reason() -> None:
    observed = Observed(rejections={SOURCE: SeenRejection("replay", 100.25)})
    found = verdict(launched("replay", source=100.0), observed)
    assert (found.found, found.expected, found.latency_ms) == (True, "rejected: replay", 250.0)


@pytest.mark.parametrize(
    "rejections",
    [
        {},
        {OTHER: SeenRejection("replay", 100.25)},
        {SOURCE: SeenRejection("stale", 100.25)},
    ],
)
def test_another_record_or_another_reason_does_not_count(rejections: dict[str, SeenRejection]) -> None:
    found = verdict(launched("replay", source=100.0), Observed(rejections=rejections))
    assert (found.found, found.latency_ms) == (False, None)


def test_what_was_seen_instead_is_told() -> None:
    observed = Observed(rejections={SOURCE: SeenRejection("stale", 100.25)}, findings=[finding("bounds")])
    assert verdict(launched("replay", source=100.0), observed).seen == "finding: bounds, rejected: stale"
    assert verdict(launched("replay", source=100.0), Observed()).seen == "nothing"


def test_equivocation_needs_both_and_the_later_one_counts() -> None:
    attack = launched("equivocation", source=100.0)
    rejection = {SOURCE: SeenRejection("equivocation", 100.2)}
    assert not verdict(attack, Observed(rejections=rejection)).found
    assert not verdict(attack, Observed(findings=[finding("equivocation", SOURCE)])).found
    both = Observed(rejections=rejection, findings=[finding("equivocation", OTHER, SOURCE, at_s=100.5)])
    assert verdict(attack, both).latency_ms == 500.0


def test_a_finding_counts_by_its_evidence_not_by_its_device() -> None:
    attack = launched("out-of-range spoof", source=100.0)
    assert not verdict(attack, Observed(findings=[finding("bounds", OTHER)])).found
    assert not verdict(attack, Observed(findings=[finding("stuck", SOURCE)])).found
    assert not verdict(attack, Observed(findings=[finding("bounds", SOURCE, status="CLEARED")])).found
    assert verdict(attack, Observed(findings=[finding("bounds", SOURCE)])).latency_ms == 1000.0


def test_latency_counts_from_the_newest_record_that_is_cited() -> None:
    attack = launched("stuck sensor", source=90.0, other=100.5)
    assert verdict(attack, Observed(findings=[finding("stuck", SOURCE, OTHER)])).latency_ms == 500.0


def test_of_a_ward_each_device_must_be_found_and_the_slowest_counts() -> None:
    attack = launched("spoof of a whole ward", source=100.0, other=100.1)
    first, second = finding("bounds", SOURCE, at_s=100.2), finding("bounds", OTHER, device="b", at_s=100.9)
    assert not verdict(attack, Observed(findings=[first])).found
    assert not verdict(attack, Observed(findings=[second, finding("stuck", SOURCE)])).found
    assert verdict(attack, Observed(findings=[first, second])).latency_ms == 800.0


def test_from_five_devices_of_a_ward_on_it_must_be_told_as_one_incident() -> None:
    findings = [finding("bounds", SOURCE, at_s=100.2)]
    attack = replace(launched("spoof of a whole ward", source=100.0), touched=frozenset("abcde"))

    def told(rule: str, *named: str) -> Observed:
        found = Observed(findings=findings)
        found.told.incidents["i"] = SeenIncident(rule, 5, frozenset(named), 0, 101.5)
        return found

    assert verdict(attack, told("bounds", "b", "x")).latency_ms == 1500.0
    assert not verdict(attack, told("stuck", "b")).found
    assert not verdict(attack, told("bounds", "x")).found
    assert not verdict(attack, Observed(findings=findings)).found
    few = replace(attack, touched=frozenset("abcd"))
    assert verdict(few, Observed(findings=findings)).expected == "finding: bounds"
    assert verdict(few, Observed(findings=findings)).found


def test_silence_is_by_device_and_counts_from_the_deadline() -> None:
    attack = launched("silence")
    last = "device.telemetry.raw/1/9"
    observed = Observed(findings=[finding("silence", last, at_s=105.4)])
    assert verdict(attack, observed, last_telemetry_s=100.0).latency_ms == 400.0
    assert not verdict(attack, Observed(findings=[finding("silence", last, device="did:key:other")])).found
    before = Observed(findings=[finding("silence", last, at_s=98.5)])
    assert not verdict(attack, before).found


def test_a_sign_seen_before_its_delivery_report_is_no_negative_latency() -> None:
    observed = Observed(rejections={SOURCE: SeenRejection("replay", 99.99)})
    assert verdict(launched("replay", source=100.0), observed).latency_ms == 0.0


def test_only_attacks_that_mean_to_be_rejected_excuse_a_rejection() -> None:
    observed = Observed(rejections={SOURCE: SeenRejection("replay", 1.0), OTHER: SeenRejection("late", 1.0)})
    assert clean_rejections([launched("replay", source=1.0)], observed) == {OTHER: "late"}
    assert clean_rejections([launched("sequence gap", source=1.0)], observed).keys() == {SOURCE, OTHER}


def test_the_schedule_repeats_by_seed_and_begins_slow_attacks_early() -> None:
    for seconds in (5.0, 30.0, 60.0):
        planned = schedule(random.Random(3), seconds)
        assert planned == schedule(random.Random(3), seconds)
        assert sorted(p.attack.name for p in planned) == sorted(BY_NAME)
        assert all(0 < p.after_s <= seconds for p in planned)
        assert [p.after_s for p in planned] == sorted(p.after_s for p in planned)
        slow = [p.after_s for p in planned if p.attack.name in ("silence", "stuck sensor")]
        assert max(slow) <= seconds * 0.6
    assert schedule(random.Random(4), 60.0) != planned


def test_findings_about_devices_that_nobody_attacked_are_counted() -> None:
    observed = Observed()
    observed.opened_about.update({DEVICE: 2, "did:key:bystander": 3, "did:key:pump": 4, "did:key:ward": 5})
    ward = replace(launched("replay"), touched=frozenset({"did:key:ward"}))
    assert false_alarms([launched("replay")], observed) == 12
    assert false_alarms([ward], observed, ["did:key:pump"]) == 3

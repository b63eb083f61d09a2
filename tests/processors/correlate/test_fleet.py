"""Devices of one build that drift alike, and those that only happen to."""

from processors.correlate.fleet import Build, FleetDrift, FleetLimits
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

HOUR_US = 3_600_000_000
BUILD = Build("M540", "4.2.1", 20)


def drift(device: int, time_us: int, *, rule: str = "drift", code: str = "147842") -> Finding:
    return Finding(
        rule=rule,
        severity=Severity.LOW,
        device_id=f"did:key:{device}",
        time_us=time_us,
        explanation="it drifts",
        evidence=(EvidenceRef("device.telemetry.raw", 0, device),),
        parameters={"code": code, "signal": "HR", "config": "sha256:00"},
    )


def told(findings: list[Finding], build: Build = BUILD) -> list[Finding]:
    rule = FleetDrift(FleetLimits())
    return [each for finding in findings if (each := rule.take(finding, build)) is not None]


def test_four_devices_of_a_build_within_hours_are_one_finding_about_the_build() -> None:
    found = told([drift(i, i * HOUR_US // 2) for i in range(10)])
    assert [(each.status, each.parameters["devices"]) for each in found] == [
        (FindingStatus.OPENED, "4"),
        (FindingStatus.UPDATED, "8"),
    ]
    assert found[0].id != drift(3, 0).id
    assert len({each.id for each in found}) == 1
    assert [each.offset for each in found[0].evidence] == [0, 1, 2, 3]
    assert found[0].parameters["config"] == "sha256:00"


def test_one_device_again_and_again_is_one_device() -> None:
    assert told([drift(1, i) for i in range(50)]) == []


def test_devices_days_apart_are_chance() -> None:
    assert told([drift(i, i * 5 * HOUR_US) for i in range(50)]) == []


def test_few_of_a_large_fleet_are_chance() -> None:
    assert told([drift(i, i) for i in range(40)], Build("M540", "4.2.1", 1000)) == []


def test_different_signals_rules_and_what_a_build_cannot_cause_are_not_added_up() -> None:
    assert told([drift(i, i, code=str(i % 3)) for i in range(9)]) == []
    assert told([drift(i, i, rule="repeated_failed_access") for i in range(9)]) == []


def test_memory_is_bounded() -> None:
    rule = FleetDrift()
    for i in range(3000):
        rule.take(drift(i, i), Build(f"model {i}", "1", 1))
    assert len(rule._groups) == 1024
    for i in range(3000):
        rule.take(drift(i, i), BUILD)
    assert max(len(each.found) for each in rule._groups.values()) == 512

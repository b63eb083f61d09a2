"""An update that shifts one signal on all monitors of a build: what the detectors find of it is one alert."""

from dataclasses import replace

from loadtests.vitals import rows
from processors.builds import Build
from processors.detect import DetectConfig, TelemetryDetectors
from processors.model import RawRecord, VerifiedEvent
from processors.notices import Notice, read_finding
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME
from schemas.records import Finding
from tests.kit.noticed import NOW, Driven, covered

HR = BY_NAME["hr"].code
DEVICES = 8
UPDATED_AT, EVENTS = 100, 160
BUILD = Build("VM-4", "4.3.0", DEVICES, 0)


def findings_of(device: int, shift: float) -> list[Finding]:
    """What the detectors find at one monitor that shows the record from its own place."""
    detectors, record, found = TelemetryDetectors(DetectConfig.default()), rows(), []
    state = detectors.new()
    for number in range(EVENTS):
        row = record[device * 200 + number]
        by = shift if number >= UPDATED_AT else 0.0
        values = [
            value + by if code == HR and value else value
            for code, value in zip(row.codes, row.values, strict=True)
        ]
        time_ms = NOW + number * 1000
        event = Event(
            PayloadKind.TELEMETRY,
            f"did:key:{device}",
            1,
            number + 1,
            time_ms * 1000,
            {"codes": list(row.codes), "values": values},
        )
        source = RawRecord("device.telemetry.raw", device, number, time_ms + 8, None, None)
        found += detectors.process([VerifiedEvent(event, bytes(32), source, 0)], lambda _device: state)
    return found


def notices(shift: float) -> list[Notice]:
    found = [each for device in range(DEVICES) for each in findings_of(device, shift)]
    found.sort(key=lambda each: each.time_us)
    records = (
        RawRecord("device.findings", 0, number, NOW, None, each.encode(bytes(16)))
        for number, each in enumerate(found)
    )
    return [replace(read_finding(record), build=BUILD) for record in records]


def test_an_update_that_shifts_the_heart_rate_is_one_alert_about_the_build() -> None:
    driven, found = Driven(), notices(40.0)
    driven.add(*found)
    driven.wait(12)
    fleets = [each for each in driven.told if each.analytic == "fleet_drift"]
    assert {(each.parameters["of_rule"], each.parameters["signal"]) for each in fleets} == {
        ("plausibility", "PULSE")
    }
    assert fleets[0].incident is not None
    assert fleets[0].incident.device_count == DEVICES - 1, "at one its pulse was not measured then"
    assert fleets[0].parameters["config"] == DetectConfig.default().digest
    assert len(covered(driven.told)) == len(found)
    assert set(covered(driven.told).values()) == {1}


def test_the_record_itself_is_none() -> None:
    driven = Driven()
    driven.add(*notices(0.0))
    assert [each for each in driven.wait(12) if each.analytic == "fleet_drift"] == []

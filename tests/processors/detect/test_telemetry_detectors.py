"""Bounds and stuck values: on the real record, under attack, across restarts, against any input."""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.vitals import rows
from processors.detect import DetectConfig, DetectError, TelemetryDetectors, TelemetryState
from processors.detect.rules import RULES
from processors.detect.statebytes import unpack
from processors.detect.telemetry_state import LEAST_DEVICES, MAX_BUFFERED, MOST_SAMPLES
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME
from schemas.records import Finding, FindingStatus, Severity

CONFIG = DetectConfig.default()
DETECTORS = TelemetryDetectors(CONFIG)
DEVICE = "did:key:z6MkDevice"
HR = BY_NAME["hr"].code
SPO2 = BY_NAME["spo2"].code
ABP = BY_NAME["abpsys"].code
NBP = BY_NAME["nbpsys"].code

Readings = Sequence[tuple[int, float]]


def event(offset: int, readings: Readings, device_id: str = DEVICE) -> VerifiedEvent:
    body = {"codes": [code for code, _ in readings], "values": [value for _, value in readings]}
    return VerifiedEvent(
        Event(PayloadKind.TELEMETRY, device_id, 1, offset + 1, 0, body),
        offset.to_bytes(32, "big", signed=True),
        RawRecord("device.telemetry.raw", 3, offset, 1_700_000_000_000 + offset, None, None),
        0,
    )


def minute(number: int, readings: Readings, append_ms: int | None = None) -> VerifiedEvent:
    """The event of a device that reports once a minute, on time by its own clock and the broker's."""
    plain = event(number, readings)
    start_ms = 1_700_000_000_000
    arrived = start_ms + number * 60_000 + number * 7919 % 230 if append_ms is None else append_ms
    return replace(
        plain,
        event=replace(plain.event, time_us=(start_ms + number * 60_000) * 1000),
        source=replace(plain.source, append_ms=arrived),
    )


def always(state: TelemetryState) -> Callable[[str], TelemetryState]:
    return lambda _device_id: state


def run(samples: Sequence[Readings]) -> list[Finding]:
    state = DETECTORS.new()
    return DETECTORS.process([event(i, each) for i, each in enumerate(samples)], always(state))


def signal(code: int, values: Sequence[float]) -> list[Finding]:
    return run([[(code, value)] for value in values])


def healthy(number: int) -> list[float]:
    return [70.0 + (i % 7) / 10 for i in range(number)]


def real_record() -> list[Readings]:
    return [list(zip(row.codes, row.values, strict=True)) for row in rows()]


def test_the_real_record_has_no_value_out_of_range_and_nothing_stuck_wherever_it_is_entered() -> None:
    record = real_record()
    events = [event(i, row) for i, row in enumerate(record)]
    for start in range(0, len(record), 97):
        state = DETECTORS.new()
        found = DETECTORS.process(events[start:] + events[:start], always(state))
        assert not {each.rule for each in found} & {"bounds", "stuck"}


def test_the_half_that_limits_were_tuned_on_raises_nothing_at_all() -> None:
    record = real_record()
    events = [minute(i, row) for i, row in enumerate(record[: len(record) // 2])]
    for start in (0, 1, 2, 3, 4, 5, 6, 7, 97, 194, 388):
        state = DETECTORS.new()
        assert DETECTORS.process(events[start:], always(state)) == []


def test_an_impossible_rate_is_one_finding_that_clears() -> None:
    found = signal(HR, [*healthy(5), 480.0, *healthy(5)])
    assert [each.status for each in found] == [FindingStatus.OPENED, FindingStatus.CLEARED]
    opened, cleared = found
    assert opened.id == cleared.id
    assert (opened.rule, opened.severity, opened.device_id) == ("bounds", Severity.MEDIUM, DEVICE)
    assert [(e.topic, e.partition, e.offset) for e in opened.evidence] == [("device.telemetry.raw", 3, 5)]
    assert opened.evidence[0].digest == (5).to_bytes(32, "big")
    assert [each.offset for each in cleared.evidence] == [5, 8]
    assert opened.time_us == (1_700_000_000_000 + 5) * 1000
    assert opened.parameters == {
        "code": str(HR),
        "signal": "HR",
        "samples": "1",
        "low": "15",
        "high": "300",
        "clear_after": "3",
        "config": CONFIG.digest,
    }


def test_no_measured_value_stands_in_a_finding() -> None:
    for each in signal(HR, [*healthy(3), *[417.25] * 30, *healthy(5)]):
        assert "417" not in repr(each).replace(CONFIG.digest, "")
        assert each.score != pytest.approx(1 + (417.25 - 300) / 285)


def test_a_flapping_value_is_one_finding() -> None:
    found = signal(HR, [70.1, *[400.0, 70.2, 401.0, 70.3, 70.4] * 20, 70.5, 70.6, 70.7])
    assert [each.status for each in found].count(FindingStatus.OPENED) == 1
    assert len({each.id for each in found}) == 1


def test_a_lasting_cause_is_updated_at_powers_of_ten_only() -> None:
    found = signal(HR, [400.0 + i / 10 for i in range(1500)])
    assert [(each.status.value, each.parameters["samples"]) for each in found] == [
        ("OPENED", "1"),
        ("UPDATED", "10"),
        ("UPDATED", "100"),
        ("UPDATED", "1000"),
    ]
    assert found[1].severity is Severity.HIGH


def test_two_separate_causes_have_two_ids() -> None:
    found = signal(HR, [70.0, 400.0, *healthy(4), 400.0, *healthy(4)])
    opened = [each for each in found if each.status is FindingStatus.OPENED]
    assert len({each.id for each in opened}) == 2


def test_the_score_says_how_far_outside_and_is_1_at_the_threshold() -> None:
    assert signal(HR, [70.0, 300.1])[0].score == 1.0
    assert signal(HR, [70.0, 300.0 + 2 * 285.0])[0].score == 3.0
    assert signal(HR, [70.0, 1e308])[0].score == 100.0
    assert signal(HR, [70.0, math.inf])[0].score == 100.0


def test_a_stuck_sensor_is_found_at_its_length_and_clears_with_the_first_change() -> None:
    normal = CONFIG.signals[HR].stuck_after
    assert normal == 12
    assert signal(HR, [*healthy(3), *[71.3] * 11, *healthy(3)]) == []
    found = signal(HR, [*healthy(3), *[71.3] * 120, 71.4])
    assert [(each.status.value, each.parameters["samples"]) for each in found] == [
        ("OPENED", "12"),
        ("UPDATED", "120"),
        ("CLEARED", "120"),
    ]
    assert [each.offset for each in found[0].evidence] == [3, 14]
    assert found[0].score == 1.0
    assert found[1].score == 10.0
    assert len({each.id for each in found}) == 1


def test_sensor_off_is_a_state_not_an_anomaly() -> None:
    assert signal(HR, [*healthy(3), *[0.0] * 500, *healthy(3)]) == []
    assert signal(SPO2, [0.0] * 500) == []


def test_blanks_are_not_samples() -> None:
    samples: list[Readings] = [[(HR, 71.3)] if i % 2 else [] for i in range(40)]
    assert [each.rule for each in run(samples)] == ["stuck"]
    assert run([[]] * 500) == []


def test_zeroing_and_flushing_a_pressure_line_is_a_state() -> None:
    pressures = [120.0, 121.0, *[-3.0] * 20, 0.0, 4.0, 122.0, 119.0]
    assert signal(ABP, pressures) == []
    assert [each.rule for each in signal(ABP, [120.0, -80.0])] == ["bounds"]


def test_the_first_sample_after_off_may_mix_both_states() -> None:
    assert signal(HR, [*healthy(3), 0.0, 11.5, 0.0, 11.5, *healthy(3)]) == []
    assert [each.rule for each in signal(HR, [0.0, 11.5, 11.6])] == ["bounds"]
    assert [each.rule for each in signal(HR, [0.0, 480.0])] == ["bounds"], "no mixture exceeds both"


def test_saturation_at_the_ceiling_is_not_stuck() -> None:
    assert signal(SPO2, [97.0, *[100.0] * 500, 97.0]) == []
    assert [each.rule for each in signal(SPO2, [97.0] * 40)] == ["stuck"]
    assert [each.rule for each in signal(SPO2, [97.0, 120.0])] == ["bounds"]


def test_a_cuff_result_may_be_repeated_for_hours() -> None:
    assert signal(NBP, [118.0] * 2000) == []


def test_a_stuck_sensor_that_is_switched_off_is_no_longer_stuck() -> None:
    found = signal(HR, [*[71.3] * 12, 0.0])
    assert [each.status for each in found] == [FindingStatus.OPENED, FindingStatus.CLEARED]


def test_devices_are_judged_apart() -> None:
    states: dict[str, TelemetryState] = {}
    events = [event(i, [(HR, 71.3)], f"did:key:{i % 3}") for i in range(33)]
    assert DETECTORS.process(events, lambda d: states.setdefault(d, DETECTORS.new())) == []
    assert len(states) == 3


values = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 5e-324, 1e308, -1e308, math.nan, math.inf, -math.inf, 71.3, 480.0, 11.5]),
)
codes = st.one_of(st.sampled_from(list(CONFIG.signals)), st.integers(-(2**31), 2**31 - 1))
readings = st.lists(st.tuples(codes, values), max_size=256)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**62), readings), max_size=12))
def test_no_input_raises_or_outgrows_the_bound(samples: list[tuple[int, Readings]]) -> None:
    state = DETECTORS.new()
    for offset, each in samples:
        DETECTORS.process([event(offset, each)], always(state))
    signals, relations = len(CONFIG.signals), len(CONFIG.relations)
    # Samples of a signal: 256 readings of an event may all be of one, 8 events long.
    bound = 900 + signals * (240 + 8 * MAX_BUFFERED) + relations * 52 + (signals + 1) * RULES * 18
    assert len(DETECTORS.dump(state)) <= bound
    assert len(state.signals) <= signals
    assert all(len(each.samples) <= MAX_BUFFERED for each in state.signals.values())


def test_a_code_that_comes_many_times_in_an_event_is_judged_and_bounded() -> None:
    state = DETECTORS.new()
    many = [(HR, 60.0 + i % 9) for i in range(250)]
    found = [each for i in range(40) for each in DETECTORS.process([event(i, many)], always(state))]
    assert not {each.rule for each in found} & {"bounds"}
    assert len(state.signals[HR].samples) <= MAX_BUFFERED
    found = DETECTORS.process([event(41, [(HR, 71.3), (HR, 480.0)])], always(state))
    assert [each.rule for each in found] == ["bounds"]


few = st.sampled_from([71.3, 71.3, 71.3, 70.0, 480.0, 0.0, 11.5, 100.0])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from([HR, SPO2, ABP]), few), max_size=4), max_size=120),
    st.sets(st.integers(0, 119), max_size=10),
)
def test_restart_at_any_point_changes_nothing(samples: list[Readings], cuts: set[int]) -> None:
    events = [event(i, each) for i, each in enumerate(samples)]
    whole = DETECTORS.new()
    expected = DETECTORS.process(events, always(whole))
    found: list[Finding] = []
    state = DETECTORS.new()
    for i, each in enumerate(events):
        if i in cuts:
            data = DETECTORS.dump(state)
            state = DETECTORS.load(data)
            assert DETECTORS.dump(state) == data
        found += DETECTORS.process([each], always(state))
    assert found == expected
    assert DETECTORS.dump(state) == DETECTORS.dump(whole)


def test_no_bytes_are_a_device_not_seen_before() -> None:
    assert DETECTORS.dump(DETECTORS.load(b"")) == DETECTORS.dump(DETECTORS.new())


def test_counters_saturate() -> None:
    state = DETECTORS.new()
    DETECTORS.process([event(0, [(HR, 71.3)])], always(state))
    state.signals[HR].run = 2**31 - 1
    state = DETECTORS.load(DETECTORS.dump(state))
    DETECTORS.process([event(i, [(HR, 71.3)]) for i in range(3)], always(state))
    state = DETECTORS.load(DETECTORS.dump(state))
    unpack(state)
    assert state.signals[HR].run == 2**31 - 1


def test_a_device_that_repeats_a_code_writes_states_that_can_be_read() -> None:
    state = DETECTORS.new()
    DETECTORS.process(
        [event(0, [(HR, 72.0)]), event(1, [(HR, 70.0 + at % 9) for at in range(70)])], always(state)
    )
    for offset in range(2, 40):
        DETECTORS.process([event(offset, [(HR, 72.0 + offset % 7 / 10)])], always(state))
        assert DETECTORS.dump(DETECTORS.load(DETECTORS.dump(state))) == DETECTORS.dump(state)
        assert len(state.signals[HR].samples) <= MOST_SAMPLES


def warm_state() -> bytes:
    """The bytes of a device after a hundred healthy reports."""
    state = DETECTORS.new()
    reports = [[(HR, 70.0 + at % 7), (SPO2, 96.0 + at % 3 / 10), (ABP, 120.0 + at % 9)] for at in range(100)]
    DETECTORS.process([event(at, each) for at, each in enumerate(reports)], always(state))
    return DETECTORS.dump(state)


ROW = [(code, 70.0) for code in (HR, SPO2, ABP)]
WARM = warm_state()


@settings(max_examples=200)
@given(st.binary(min_size=1, max_size=200))
def test_foreign_state_bytes_are_refused_or_read_whole(data: bytes) -> None:
    try:
        state = DETECTORS.load(data)
    except DetectError:
        return
    assert len(DETECTORS.dump(state)) <= len(data)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6))
def test_a_changed_state_ends_in_a_state_error_or_is_taken(harm: list[tuple[int, int]]) -> None:
    written = bytearray(WARM)
    for at, byte in harm:
        written[at % len(written)] = byte
    try:
        loaded = [DETECTORS.load(bytes(written)), *(DETECTORS.load(WARM) for _ in range(LEAST_DEVICES))]
        states = {f"did:key:{at}": state for at, state in enumerate(loaded)}
        DETECTORS.process([event(900, ROW, device) for device in states] * 12, states.__getitem__)
        DETECTORS.dump_all(loaded)
    except DetectError:
        return


def test_a_cut_state_and_another_version_are_named() -> None:
    data = DETECTORS.dump(DETECTORS.new())
    with pytest.raises(DetectError, match="cut short"):
        DETECTORS.load(data[:-1])
    with pytest.raises(DetectError, match="1 bytes after its end"):
        DETECTORS.load(data + b"\0")
    with pytest.raises(DetectError, match="version 9"):
        DETECTORS.load(struct.pack("<BH", 9, 0) + b"\0\0")

"""What only several samples show: drift, steps, noise, grids, lines, jitter, contradiction, clock, replay."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.vitals import rows
from processors.detect import DetectConfig, Overrides, TelemetryDetectors, TelemetryState
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind
from schemas.events import Event
from schemas.mdc import BY_NAME
from schemas.records import Finding, FindingStatus, Severity

CONFIG = DetectConfig.default()
DETECTORS = TelemetryDetectors(CONFIG)
HR, PULSE, RESP, SPO2 = (BY_NAME[name].code for name in ("hr", "pulse", "resp", "spo2"))
NBP = tuple(BY_NAME[name].code for name in ("nbpsys", "nbpdias", "nbpmean"))
START_MS = 1_700_000_000_000

Readings = dict[int, float]


def event(
    number: int, readings: Readings, *, time_s: float | None = None, late_s: float = 0.0
) -> VerifiedEvent:
    at_s = number * 60.0
    body = {"codes": list(readings), "values": list(readings.values())}
    time_us = START_MS * 1000 + round((at_s if time_s is None else time_s) * 1e6)
    return VerifiedEvent(
        Event(PayloadKind.TELEMETRY, "did:key:z6MkDevice", 1, number + 1, time_us, body),
        number.to_bytes(32, "big"),
        RawRecord("device.telemetry.raw", 3, number, START_MS + round((at_s + late_s) * 1000), None, None),
        0,
    )


def run(samples: Sequence[Readings]) -> list[Finding]:
    return judge([event(i, each) for i, each in enumerate(samples)])


def judge(events: Sequence[VerifiedEvent]) -> list[Finding]:
    state = DETECTORS.new()
    return DETECTORS.process(events, lambda _device: state)


def opened(found: Sequence[Finding]) -> list[str]:
    return [each.rule for each in found if each.status is FindingStatus.OPENED]


def walk(count: int, seed: int = 1) -> list[float]:
    """A heart rate as one sees it: it wanders within some beats, and jitters by one or so."""
    rng, level, values = random.Random(seed), 70.0, []
    for _ in range(count):
        level += rng.gauss(0, 0.6) + (70 - level) / 30
        values.append(round(level + rng.gauss(0, 0.5), 1))
    return values


def changed(change: Callable[[int, float], float], *, at: int = 160, count: int = 400) -> list[Readings]:
    return [{HR: value if i < at else round(change(i - at, value), 1)} for i, value in enumerate(walk(count))]


def test_a_healthy_walk_raises_nothing() -> None:
    for seed in range(8):
        assert run([{HR: value} for value in walk(600, seed)]) == []


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("drift", lambda i, value: value + i * 0.12),
        ("step", lambda _i, value: value + 22),
        ("noise_burst", lambda i, value: value + 14 * (-1) ** i * (i < 20)),
        ("rate_of_change", lambda i, value: value + 45 * (i == 20)),
        ("quantised", lambda _i, value: 4.0 * round(value / 4)),
        ("interpolation", lambda i, _value: 70 + 0.3 * abs(i % 60 - 30)),
        ("frozen_jitter", lambda i, _value: 70 + (0.1, -0.1, 0.2, 0.0, -0.2, 0.1, 0.0)[i * i % 7]),
    ],
)
def test_what_is_done_to_a_signal_is_found_by_its_rule(
    rule: str, change: Callable[[int, float], float]
) -> None:
    found = run(changed(change))
    assert rule in opened(found)
    mine = [each for each in found if each.rule == rule]
    assert mine[0].evidence[-1].offset >= 160
    assert mine[0].parameters["config"] == CONFIG.digest
    assert mine[0].parameters["signal"] == "HR"
    assert mine[0].score >= 1.0
    assert "HR" in mine[0].explanation


def test_a_lasting_drift_is_one_finding_that_gets_worse_and_ends() -> None:
    found = run(changed(lambda i, value: value + min(i, 200) * 0.2, count=6000))
    mine = [each for each in found if each.rule == "drift"]
    assert len({each.id for each in mine}) == 1
    assert mine[0].status is FindingStatus.OPENED
    assert mine[-1].status is FindingStatus.CLEARED
    severities = [each.severity for each in mine if each.status is FindingStatus.UPDATED]
    assert set(severities) == {Severity.MEDIUM}


def test_a_short_disturbance_is_a_state_and_no_alarm() -> None:
    assert run(changed(lambda i, value: value + 4 * (-1) ** i * (i < 5))) == []


def test_no_measured_value_stands_in_a_finding_of_any_rule() -> None:
    for each in run(changed(lambda i, value: value + 22.37 * (i > 3))):
        assert "92." not in each.explanation + str(each.parameters)
        assert each.score * 2 == math.floor(each.score * 2)


def test_a_pulse_that_leaves_the_heart_rate_is_a_contradiction() -> None:
    heart = walk(300)
    samples = [{HR: value, PULSE: value + (0.2 if i < 160 else 9.0)} for i, value in enumerate(heart)]
    found = [each for each in run(samples) if each.rule == "plausibility"]
    assert found[0].status is FindingStatus.OPENED
    assert "PULSE and HR contradict" in found[0].explanation


def test_a_mean_above_the_systolic_pressure_is_a_contradiction_at_once() -> None:
    right: Readings = dict(zip(NBP, (120.0, 70.0, 87.0), strict=True))
    wrong: Readings = dict(zip(NBP, (120.0, 70.0, 121.0), strict=True))
    assert opened(run([right, *[{}] * 15])) == []
    assert opened(run([right, *[{}] * 7, wrong, *[{}] * 7])) == ["plausibility"]


def test_a_cuff_that_reports_in_kilopascal_is_told_as_such() -> None:
    mmhg: Readings = dict(zip(NBP, (120.0, 70.0, 87.0), strict=True))
    kpa: Readings = {code: round(value * 0.1333, 1) for code, value in mmhg.items()}
    found = run([mmhg, mmhg, kpa, kpa, kpa, mmhg, mmhg, mmhg, mmhg])
    mine = [each for each in found if each.rule == "unit_confusion"]
    assert {each.severity for each in mine if each.status is FindingStatus.OPENED} == {Severity.HIGH}
    assert "kPa" in mine[0].explanation
    assert [each.status.value for each in mine].count("CLEARED") == 3


def real(first: int, count: int) -> list[Readings]:
    return [dict(zip(row.codes, row.values, strict=True)) for row in rows()[first : first + count]]


def test_readings_of_hours_ago_are_a_replay() -> None:
    found = run([*real(0, 400), *real(100, 60), *real(400, 100)])
    mine = [each for each in found if each.rule == "replay"]
    assert mine[0].severity is Severity.HIGH
    assert 400 <= mine[0].evidence[-1].offset < 430
    assert mine[-1].status is FindingStatus.CLEARED


def test_a_day_at_once_a_second_is_remembered_in_bounded_memory() -> None:
    rng = random.Random(3)
    state = DETECTORS.new()
    sent = [{HR: 70 + rng.random(), RESP: 12 + rng.random()} for _ in range(20_000)]
    for i, each in enumerate(sent):
        plain = event(i, each, time_s=float(i))
        plain = replace(plain, source=replace(plain.source, append_ms=START_MS + i * 1000))
        assert not [f for f in DETECTORS.process([plain], lambda _device: state) if f.rule == "replay"]
    assert len(state.prints.kept) <= 192 * 4
    assert state.prints.spacing > 8


def test_a_clock_that_leaps_goes_back_stands_or_falls_behind_is_found() -> None:
    def clocked(time_s: Callable[[int], float]) -> list[str]:
        return opened(judge([event(i, {HR: v}, time_s=time_s(i)) for i, v in enumerate(walk(120))]))

    assert clocked(lambda i: i * 60) == []
    assert clocked(lambda i: i * 60 + 300 * (i >= 60)) == ["clock"]
    assert clocked(lambda i: i * 60 - 300 * (i >= 60)) == ["clock"]
    assert clocked(lambda i: i * 60 - 30 * (i >= 60)) == ["clock"]
    assert "clock" in clocked(lambda i: min(i, 60) * 60)
    assert clocked(lambda i: i * 60 + 0.2 * (i % 3)) == []


def test_a_queue_that_fills_and_drains_is_not_a_clock() -> None:
    late = [0.0] * 40 + [i * 20.0 for i in range(30)] + [600.0 - i * 55 for i in range(11)] + [0.0] * 40
    found = judge([event(i, {HR: v}, late_s=late[i]) for i, v in enumerate(walk(len(late)))])
    assert found == []


def test_a_device_that_reports_twice_as_often_or_seldom_is_found() -> None:
    for factor in (0.5, 2.0):
        times = [min(i, 80) * 60 + max(0, i - 80) * 60 * factor for i in range(200)]
        events = [
            event(i, {HR: v}, time_s=times[i], late_s=times[i] - i * 60.0) for i, v in enumerate(walk(200))
        ]
        assert opened(judge(events)) == ["reporting_rate"]


def test_a_device_with_limits_of_its_own_cites_them() -> None:
    overrides = Overrides(devices={"did:key:z6MkDevice": "[signal.147842]\nhigh = 60.0"})
    config_of = overrides.over(CONFIG, lambda _device: "icu")
    state = DETECTORS.new()
    found = TelemetryDetectors(CONFIG, config_of).process([event(0, {HR: 70.0})], lambda _device: state)
    assert opened(found) == ["bounds"]
    assert found[0].parameters["config"] == config_of("did:key:z6MkDevice").digest != CONFIG.digest


def test_state_of_the_version_before_is_read() -> None:
    former = bytes.fromhex("010100") + HR.to_bytes(4, "little")
    former += bytes.fromhex("3333333333d351400b00000003000000000000000000")
    state = DETECTORS.load(former)
    found = DETECTORS.process([event(14, {HR: 71.3})], lambda _device: state)
    assert [(each.rule, each.evidence[0].offset) for each in found] == [("stuck", 3)]


wild = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 5e-324, 1e308, -1e308, math.nan, math.inf, -math.inf, 71.3, 71.4, 100.0]),
)
tame = st.integers(600, 900).map(lambda tenths: tenths / 10)
times = st.one_of(st.just(0.0), st.floats(-(10.0**9), 10.0**9), st.integers(0, 5000).map(float))
sample = st.tuples(
    st.dictionaries(st.sampled_from([HR, PULSE, SPO2, *NBP]), st.one_of(tame, tame, wild), max_size=6),
    times,
    times,
)


@settings(max_examples=80, deadline=None)
@given(st.lists(sample, max_size=120), st.sets(st.integers(0, 119), max_size=12))
def test_no_course_of_values_and_times_raises_and_restarts_change_nothing(
    samples: list[tuple[Readings, float, float]], cuts: set[int]
) -> None:
    events = [event(i, each, time_s=time_s, late_s=late) for i, (each, time_s, late) in enumerate(samples)]
    whole = DETECTORS.new()
    expected = DETECTORS.process(events, lambda _device: whole)
    states: list[TelemetryState] = [DETECTORS.new()]
    found: list[Finding] = []
    for i, each in enumerate(events):
        if i in cuts:
            data = DETECTORS.dump(states[0])
            states[0] = DETECTORS.load(data)
            assert DETECTORS.dump(states[0]) == data
        found += DETECTORS.process([each], lambda _device: states[0])
    assert repr(found) == repr(expected)
    assert DETECTORS.dump(states[0]) == DETECTORS.dump(whole)


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(0, 599), min_size=1, max_size=40), st.integers(0, 300))
def test_restarts_in_the_real_record_change_nothing(cuts: set[int], first: int) -> None:
    samples = [*real(first, 400), *real(first + 100, 60), *real(first + 400, 140)]
    events = [event(i, each) for i, each in enumerate(samples)]
    whole, state = DETECTORS.new(), DETECTORS.new()
    expected = DETECTORS.process(events, lambda _device: whole)
    found: list[Finding] = []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 600], strict=True):
        found += DETECTORS.process(events[begin:end], {events[0].event.device_id: state}.__getitem__)
        state = DETECTORS.load(DETECTORS.dump(state))
    assert found == expected
    assert "replay" in opened(found)

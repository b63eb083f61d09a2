"""Anomalies are injected where they are said to be, as strong as they are said to be, and the same again."""

import pytest

from tests.eval.adapter import limits
from tests.eval.anomalies import ANOMALIES, Anomaly
from tests.eval.record import (
    CONTINUOUS,
    DEVICE,
    INTERVAL_US,
    Reading,
    beside,
    clean,
    eight_signals,
    half,
    spread,
)
from tests.eval.scene import Injected, Scene

EACH = pytest.mark.parametrize("anomaly", ANOMALIES.values(), ids=list(ANOMALIES))
# Of these all that follows has other times.
LASTING = ("clock_jump", "other_rate")


def inject(anomaly: Anomaly, strength: float, seed: str = "a") -> Injected:
    return anomaly.inject(Scene(seed, with_others=anomaly.two_devices), strength)


def shown(readings: list[Reading] | tuple[Reading, ...]) -> set[Reading]:
    return set(readings)


@EACH
def test_the_same_seed_gives_the_same_stream_and_another_seed_another(anomaly: Anomaly) -> None:
    one, again = (inject(anomaly, anomaly.detectable) for _ in range(2))
    assert one == again
    others = [inject(anomaly, anomaly.detectable, seed) for seed in "bcd"]
    assert any(other.start_us != one.start_us for other in others)


@EACH
def test_only_the_time_of_the_anomaly_in_the_scored_half_is_touched(anomaly: Anomaly) -> None:
    injected = inject(anomaly, anomaly.detectable)
    untouched = shown(clean()[half() :]) | (shown(beside()[half() :]) if anomaly.two_devices else set())
    changed = (shown(list(injected.readings)) ^ untouched) - {None}
    assert changed
    times = [each.time_us for each in changed]
    assert min(times) >= max(clean()[half()].time_us, injected.start_us - INTERVAL_US)
    if anomaly.name not in LASTING:
        assert max(times) <= injected.end_us + INTERVAL_US


@EACH
def test_strengths_rise_and_the_documented_one_is_among_them(anomaly: Anomaly) -> None:
    assert list(anomaly.grades) == sorted(set(anomaly.grades))
    assert anomaly.detectable in anomaly.grades
    for strength in anomaly.grades:
        assert inject(anomaly, strength).end_us >= inject(anomaly, strength).start_us


@EACH
def test_readings_stay_in_the_order_of_the_brokers_time(anomaly: Anomaly) -> None:
    times = [each.append_ms for each in inject(anomaly, anomaly.detectable).readings]
    assert times == sorted(times)


def test_a_course_that_is_anomalous_stays_in_the_plausible_range() -> None:
    # The record's own first minutes after a sensor was off average both states.
    true = {code: {each.value(code) for each in clean()} for code in CONTINUOUS}
    for name in ("sudden_step", "slow_drift", "noise_burst", "impossible_rate"):
        anomaly = ANOMALIES[name]
        for seed in "abcdef":
            for reading in inject(anomaly, anomaly.grades[-1], seed).readings:
                for code in CONTINUOUS:
                    value = reading.value(code)
                    low, high = limits(code)
                    assert not value or value in true[code] or low <= value <= high


def test_a_step_is_as_high_as_it_says() -> None:
    injected = inject(ANOMALIES["sudden_step"], 9.0)
    true = {each.offset: each for each in clean()}
    steps = {
        code: abs(value - (true[each.offset].value(code) or 0.0))
        for each in injected.readings
        for code, value in zip(each.codes, each.values, strict=True)
        if value != true[each.offset].value(code)
    }
    assert len(steps) == 1
    for code, height in steps.items():
        assert height == pytest.approx(9.0 * spread(code), abs=0.06) or height < 9.0 * spread(code)


def test_an_event_of_the_cpu_measurement_has_eight_signals() -> None:
    assert {len(set(each.codes)) for each in eight_signals()} == {8}
    assert {each.device for each in eight_signals()} == {DEVICE}

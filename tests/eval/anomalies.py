"""The anomalies, each at graded strength, and the strength from which the documentation promises to find it.

Strengths rise from barely to plainly there. `spread` and `noise` are the signal's own (see record.py), of
the tuning half; values keep the record's resolution of a tenth, and stay inside the plausible range unless
leaving it is the anomaly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.eval.adapter import limits
from tests.eval.record import CONTINUOUS, HR, PULSE, RESP, noise, spread
from tests.eval.scene import Injected, Scene
from tests.eval.streams import clock_jump, other_rate, replayed, same_noise, silent, unit_confused, wrong_mean

STEP_ROWS, DRIFT_ROWS, BURST_ROWS, LONG_ROWS, PAIR_ROWS, OUTSIDE_ROWS = 60, 240, 15, 120, 30, 5
NOISY = (HR, PULSE, RESP)
"""Signals whose noise is many times their resolution, so that less of it can be told."""


@dataclass(frozen=True)
class Anomaly:
    """One kind: what it is, the unit and grades of its strength, and what must be found of it."""

    name: str
    what: str
    unit: str
    grades: tuple[float, ...]
    detectable: float
    """The documented detectable strength, one of the grades."""
    inject: Callable[[Scene, float], Injected]
    two_devices: bool = False


def _outside(scene: Scene, strength: float) -> Injected:
    code = scene.rng.choice(CONTINUOUS)
    low, high = limits(code)
    beyond = strength * (high - low)
    # Below 0, since a range of values around it is "off".
    value = scene.rng.choice((high + beyond, -beyond))
    return scene.change(code, scene.place([code], OUTSIDE_ROWS), OUTSIDE_ROWS, lambda _row, _true: value)


def _step(scene: Scene, strength: float) -> Injected:
    code = scene.rng.choice(CONTINUOUS)
    at = scene.place([code], STEP_ROWS)
    amount = strength * spread(code)
    amount *= scene.direction(code, at, amount)
    return scene.change(code, at, STEP_ROWS, lambda _row, true: scene.within(code, true + amount))


def _drift(scene: Scene, strength: float) -> Injected:
    code = scene.rng.choice(CONTINUOUS)
    at = scene.place([code], DRIFT_ROWS)
    a_row = strength * spread(code) / 60
    a_row *= scene.direction(code, at, a_row * DRIFT_ROWS)
    return scene.change(code, at, DRIFT_ROWS, lambda row, true: scene.within(code, true + row * a_row))


def _stuck(scene: Scene, strength: float) -> Injected:
    code, rows = scene.rng.choice(CONTINUOUS), int(strength)
    at = scene.place([code], rows)
    held = scene.readings[at].value(code) or 0.0
    return scene.change(code, at, rows, lambda _row, _true: held)


def _stuck_with_jitter(scene: Scene, strength: float) -> Injected:
    code = scene.rng.choice(NOISY)
    at = scene.place([code], LONG_ROWS)
    held = scene.readings[at].value(code) or 0.0
    last = held

    def jittered(_row: int, _true: float) -> float:
        nonlocal last
        value = round(held + scene.rng.gauss(0.0, noise(code) / strength), 1)
        # Never twice the same: otherwise the plain rule for stuck values might do.
        last = value if value != last else value + scene.rng.choice((-0.1, 0.1))
        return last

    return scene.change(code, at, LONG_ROWS, jittered)


def _quantised(scene: Scene, strength: float) -> Injected:
    code = scene.rng.choice(CONTINUOUS)
    grid = max(0.1, strength * noise(code))

    def gridded(_row: int, true: float) -> float:
        return max(grid, round(true / grid) * grid)

    return scene.change(code, scene.place([code], LONG_ROWS), LONG_ROWS, gridded)


def _noise_burst(scene: Scene, strength: float) -> Injected:
    code = scene.rng.choice(CONTINUOUS)

    def noisy(_row: int, true: float) -> float:
        return scene.within(code, true + scene.rng.gauss(0.0, strength * noise(code)))

    return scene.change(code, scene.place([code], BURST_ROWS), BURST_ROWS, noisy)


def _impossible_rate(scene: Scene, strength: float) -> Injected:
    code = scene.rng.choice(CONTINUOUS)
    at = scene.place([code], 1)
    amount = strength * spread(code)
    amount *= scene.direction(code, at, amount)
    return scene.change(code, at, 1, lambda _row, true: scene.within(code, true + amount))


def _interpolated(scene: Scene, strength: float) -> Injected:
    code, apart = scene.rng.choice(CONTINUOUS), int(strength)
    at = scene.place([code], LONG_ROWS)
    true = [scene.readings[at + row].value(code) or 0.0 for row in range(LONG_ROWS + apart)]

    def between(row: int, _true: float) -> float:
        first = row - row % apart
        one, two = true[first], true[first + apart]
        # Across a sensor that goes off there is nothing to interpolate: the last value is carried on.
        return one + (two - one) * (row % apart) / apart if one and two else one or two or true[row]

    return scene.change(code, at, LONG_ROWS, between)


def _pulse_against_heart_rate(scene: Scene, strength: float) -> Injected:
    at = scene.place([HR, PULSE], PAIR_ROWS)
    factor = 1 + strength * scene.rng.choice((1, -1))
    return scene.change(PULSE, at, PAIR_ROWS, lambda _row, true: scene.within(PULSE, true * factor))


ANOMALIES: Mapping[str, Anomaly] = {
    each.name: each
    for each in (
        Anomaly(
            "out_of_range",
            "5 min above the plausible range or below zero",
            "widths of the range beyond it",
            (0.01, 0.03, 0.1, 0.3, 1.0),
            0.01,
            _outside,
        ),
        Anomaly("sudden_step", "the level jumps and stays for 60 min", "spreads", (2, 4, 6, 9, 13), 9, _step),
        Anomaly(
            "slow_drift", "the value is pulled away for 4 h", "spreads/h", (0.5, 1, 2, 4, 8), 4, _drift
        ),
        Anomaly("frozen", "exactly the same value", "minutes", (5, 10, 20, 40, 80), 40, _stuck),
        Anomaly(
            "frozen_with_jitter",
            "a frozen value with noise added, 2 h",
            "times less noise than usual",
            (1.5, 2, 4, 8, 16),
            8,
            _stuck_with_jitter,
        ),
        Anomaly(
            "quantised", "rounded to a grid, 2 h", "noises wide", (1, 2, 4, 8, 16), 8, _quantised
        ),
        Anomaly("noise_burst", "noise added for 15 min", "noises", (2, 4, 8, 16, 32), 16, _noise_burst),
        Anomaly(
            "impossible_rate", "a single minute far away", "spreads", (4, 8, 16, 32, 50), 16, _impossible_rate
        ),
        Anomaly(
            "interpolated", "only every n-th value is true, 2 h", "n", (2, 3, 5, 10, 20), 10, _interpolated
        ),
        Anomaly(
            "pulse_against_heart_rate",
            "the pulse leaves the heart rate for 30 min",
            "share of the pulse",
            (0.05, 0.1, 0.2, 0.4, 0.8),
            0.4,
            _pulse_against_heart_rate,
        ),
        Anomaly(
            "mean_above_systolic",
            "the cuff's mean lies above its systolic pressure for 60 min",
            "pulse pressures above",
            (0.02, 0.1, 0.2, 0.5, 1.0),
            0.1,
            wrong_mean,
        ),
        Anomaly("unit_kpa", "cuff pressures in kPa", "minutes", (15, 30, 60, 120, 240), 30, unit_confused),
        Anomaly(
            "replayed", "all signals repeat old readings", "minutes", (10, 20, 40, 80, 160), 40, replayed
        ),
        Anomaly("clock_jump", "the device's clock is set", "seconds", (1, 5, 30, 300, 3600), 30, clock_jump),
        Anomaly(
            "other_rate", "reports more or less often, 2 h", "times", (1.25, 1.5, 2, 4, 10), 2, other_rate
        ),
        Anomaly("silent", "events are missing", "minutes", (1, 2, 5, 10, 30), 2, silent),
        Anomaly(
            "same_noise",
            "another device reports this one's noise on its own levels for 2 h",
            "share of the noise",
            (0.5, 0.7, 0.9, 0.97, 1.0),
            1.0,
            same_noise,
            two_devices=True,
        ),
    )
}  # fmt: skip

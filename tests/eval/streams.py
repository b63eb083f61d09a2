"""Anomalies of whole events: times, order, several signals or several devices at once."""

from tests.eval.record import CONTINUOUS, CUFF, HR, INTERVAL_US, PULSE, RESP, Reading, clean, half
from tests.eval.scene import Injected, Scene

KPA_IN_A_MMHG = 0.133322
RATE_ROWS, NOISE_ROWS, CUFF_ROWS = 120, 120, 60
REPLAY_LAG_ROWS = (120, 600)


def unit_confused(scene: Scene, strength: float) -> Injected:
    """Cuff pressures arrive in kPa for so many minutes."""
    rows = int(strength)
    at = _first_cuff(scene, rows)
    for code in CUFF:
        scene.change(code, at, rows, lambda _row, true: true * KPA_IN_A_MMHG)
    return scene.between(at, rows)


def wrong_mean(scene: Scene, strength: float) -> Injected:
    """The cuff's mean lies above its systolic pressure, by a share of the pulse pressure."""
    systolic, diastolic, mean = CUFF
    at = _first_cuff(scene, CUFF_ROWS)
    for row in range(at, at + CUFF_ROWS):
        reading = scene.readings[row]
        high, low = reading.value(systolic), reading.value(diastolic)
        if high and low and reading.is_on(mean):
            scene.readings[row] = reading.replaced(mean, high + max(0.1, strength * (high - low)))
    return scene.between(at, CUFF_ROWS)


def replayed(scene: Scene, strength: float) -> Injected:
    """Readings of an earlier time, in fresh events."""
    rows = int(strength)
    at = scene.place([HR, RESP], rows)
    lag = scene.rng.randint(max(REPLAY_LAG_ROWS[0], rows), REPLAY_LAG_ROWS[1])
    for row in range(at, at + rows):
        now, earlier = scene.readings[row], clean()[half() + row - lag]
        scene.readings[row] = Reading(
            now.device, now.offset, now.append_ms, now.device_us, earlier.codes, earlier.values
        )
    return scene.between(at, rows)


def clock_jump(scene: Scene, strength: float) -> Injected:
    """From a moment on, the device's own time is ahead or behind."""
    at = scene.place([HR], 1)
    by_us = round(strength * 1e6) * scene.rng.choice((1, -1))
    scene.readings[at:] = [each.moved(device_us=by_us) for each in scene.readings[at:]]
    return scene.between(at, 1)


def other_rate(scene: Scene, strength: float) -> Injected:
    """The device reports more often or more seldom; what it measures stays the record."""
    at = scene.place([HR], RATE_ROWS)
    part = scene.readings[at : at + RATE_ROWS]
    if scene.rng.random() < 0.5:
        kept = [each for row, each in enumerate(part) if int((row + 1) / strength) > int(row / strength)]
        scene.readings[at : at + RATE_ROWS] = kept
        return scene.between(at, RATE_ROWS)
    # As many rows in less time: all that follows comes earlier by what was saved.
    saved_us = round(INTERVAL_US * (1 - 1 / strength))
    faster = [
        each.moved(append_us=-row * saved_us, device_us=-row * saved_us) for row, each in enumerate(part)
    ]
    whole_us = RATE_ROWS * saved_us
    after = [
        each.moved(append_us=-whole_us, device_us=-whole_us) for each in scene.readings[at + RATE_ROWS :]
    ]
    scene.readings[at:] = faster + after
    return scene.between(at, round(RATE_ROWS / strength))


def silent(scene: Scene, strength: float) -> Injected:
    """So many events are never sent."""
    rows = int(strength)
    at = scene.place([HR], rows)
    del scene.readings[at : at + rows]
    return scene.between(at, rows)


def same_noise(scene: Scene, strength: float) -> Injected:
    """A second device keeps its own levels, but what moves around them is the first device's."""
    at = scene.place([HR, PULSE], NOISE_ROWS)
    true = list(scene.others)
    for row in range(at, at + NOISE_ROWS):
        for code in CONTINUOUS:
            mine, other = scene.readings[row].value(code), true[row].value(code)
            if not mine or not other:
                continue
            level = scene.level(true, code, row)
            copied = mine - scene.level(scene.readings, code, row)
            value = level + strength * copied + (1 - strength) * (other - level)
            scene.others[row] = scene.others[row].replaced(code, scene.within(code, value))
    return scene.between(at, NOISE_ROWS)


def _first_cuff(scene: Scene, rows: int) -> int:
    """Begin with a cuff reading, so that the delay counts from the first wrong value."""
    last = len(scene.readings) - rows
    return scene.rng.choice([at for at in range(30, last) if all(scene.readings[at].is_on(c) for c in CUFF)])

"""A closer look at one sample: off, saturated, unchanged, out of range, changed too fast, in another unit.

Most samples never come here: a value that differs from the last by no more than it may, inside its range
and with nothing open about its signal, is only counted (`telemetry.py`).
"""

import math

from processors.detect.blocks import interrupted
from processors.detect.findings import (
    MAX_SCORE,
    Scene,
    Verdict,
    close,
    is_power_of_ten,
    raise_or_update,
    report,
)
from processors.detect.limits import UNITS, SignalLimits, gate
from processors.detect.rules import BOUNDS, STUCK, UNIT
from processors.detect.telemetry_state import (
    MAX_BUFFERED,
    MAX_RUN,
    MAX_SAMPLES,
    OFF,
    SATURATED,
    Episode,
    SignalState,
)
from schemas.mdc import BY_CODE, label
from schemas.records import FindingStatus, Severity

_UNIT_TOLERANCE = 0.25
_UNIT_SAMPLES = 2
NEVER = 2**63


def bind(signal: SignalState, limits: SignalLimits, open_rules: int) -> None:
    """Set what follows from the configuration; `open_rules` counts episodes that a sample may end."""
    signal.open = open_rules
    signal.floor, signal.roof = gate(limits)
    signal.off_low, signal.off_high = limits.off or (math.inf, -math.inf)
    signal.stuck_after = limits.stuck_after or MAX_RUN  # there `look` counts no further
    if signal.open or signal.unit or signal.run < 1:
        signal.floor = math.inf


def look(scene: Scene, signal: SignalState, limits: SignalLimits, value: float) -> None:
    """Take a sample that is not plainly normal."""
    last, run = signal.last, signal.run
    if value == last and run > SATURATED:
        signal.run = run_now = run + 1 if run < MAX_RUN else MAX_RUN
        if run_now >= (limits.stuck_after or NEVER):
            _unchanged(scene, signal, limits, run_now)
    else:
        if signal.open and (limits.code, STUCK) in scene.state.episodes:
            close(scene, limits.code, STUCK, {"stuck_after": str(limits.stuck_after)})
        if signal.off_low <= value <= signal.off_high:
            _switch_off(scene, signal)
            bind(signal, limits, _open_rules(scene, limits.code))
            return
        if limits.ceiling is not None and value >= limits.ceiling:
            signal.run = SATURATED
        else:
            signal.run = 1
            signal.first_offset = scene.verified.source.offset
        signal.last = value
    if limits.low <= value <= limits.high:
        if signal.open and (limits.code, BOUNDS) in scene.state.episodes:
            _inside(scene, limits)
        # The first sample after "off" may average both states, so it is no part of a course.
        if run != OFF and len(signal.samples) < MAX_BUFFERED:
            signal.samples.append(value)
    else:
        _outside(scene, limits, value, was_off=run == OFF)
    if limits.units or signal.unit:
        _in_another_unit(scene, signal, limits, value, last)
    bind(signal, limits, _open_rules(scene, limits.code))


def _open_rules(scene: Scene, code: int) -> int:
    episodes = scene.state.episodes
    return sum((code, rule) in episodes for rule in (BOUNDS, STUCK, UNIT)) if episodes else 0


def _switch_off(scene: Scene, signal: SignalState) -> None:
    if signal.run != OFF:
        signal.track = interrupted(signal.track)
        del signal.samples[:]
        signal.carried = 0
        signal.unit = 0
        if (signal.code, UNIT) in scene.state.episodes:
            close(scene, signal.code, UNIT)
    signal.run = OFF
    signal.last = math.nan


def _outside(scene: Scene, limits: SignalLimits, value: float, *, was_off: bool) -> None:
    episode = scene.state.episodes.get((limits.code, BOUNDS))
    offset = scene.verified.source.offset
    if episode is None:
        # The first sample after "off" may average both states, so it may lie between them.
        if was_off and limits.off and limits.off[0] <= value < limits.low:
            return
        episode = scene.state.episodes[limits.code, BOUNDS] = Episode(offset, 1)
        status, severity = FindingStatus.OPENED, Severity.MEDIUM
    else:
        episode.samples = min(episode.samples + 1, MAX_SAMPLES)
        episode.calm = 0
        if not is_power_of_ten(episode.samples):
            return
        status, severity = FindingStatus.UPDATED, Severity.HIGH
    distance = (value - limits.high) if value > limits.high else (limits.low - value)
    # min() first: it turns an infinite distance, or none at all (NaN), into a number.
    score = 1.0 + math.floor(min(MAX_SCORE - 1.0, distance / (limits.high - limits.low)))
    span = f"{limits.low:g} to {limits.high:g}{unit_of(limits.code)}"
    text = f"{label(limits.code)} is outside {span}, where no true value lies"
    if status is FindingStatus.UPDATED:
        text += f", for {episode.samples} samples now"
    report(
        scene,
        limits.code,
        BOUNDS,
        episode,
        Verdict(status, severity, score, text),
        extra=_range(scene, limits),
    )


def _inside(scene: Scene, limits: SignalLimits) -> None:
    episode = scene.state.episodes[limits.code, BOUNDS]
    episode.calm += 1
    if episode.calm >= scene.config.clear_after:
        close(scene, limits.code, BOUNDS, _range(scene, limits))


def _range(scene: Scene, limits: SignalLimits) -> dict[str, str]:
    return {
        "low": f"{limits.low:g}",
        "high": f"{limits.high:g}",
        "clear_after": str(scene.config.clear_after),
    }


def _unchanged(scene: Scene, signal: SignalState, limits: SignalLimits, run: int) -> None:
    stuck_after = limits.stuck_after or NEVER
    episode = scene.state.episodes.get((limits.code, STUCK))
    if episode is None:
        episode = scene.state.episodes[limits.code, STUCK] = Episode(signal.first_offset, run)
        status, severity = FindingStatus.OPENED, Severity.LOW
    else:
        episode.samples = run
        if run % stuck_after or not is_power_of_ten(run // stuck_after):
            return
        status, severity = FindingStatus.UPDATED, Severity.MEDIUM
    text = f"{label(limits.code)} has not changed for {run} samples; normal are fewer than {stuck_after}"
    score = math.floor(10 * run / stuck_after) / 10
    verdict = Verdict(status, severity, score, text)
    report(scene, limits.code, STUCK, episode, verdict, extra={"stuck_after": str(limits.stuck_after)})


def _in_another_unit(
    scene: Scene, signal: SignalState, limits: SignalLimits, value: float, last: float
) -> None:
    """Compare with the level before a jump: twice in a row where another unit would put it is no chance."""
    if signal.unit == 0:
        for number, name in enumerate(limits.units, 1):
            if is_in(name, value, last) and abs(value - last) > _UNIT_TOLERANCE * abs(last):
                signal.unit, signal.unit_count, signal.unit_level = number, 1, last
                break
        return
    # Under another configuration there may be fewer units, or none: then no value is in one.
    name = limits.units[min(signal.unit, len(limits.units)) - 1] if limits.units else ""
    if not name or not is_in(name, value, signal.unit_level):
        episode = scene.state.episodes.get((limits.code, UNIT))
        if episode is None:
            signal.unit = 0
            return
        episode.calm += 1
        if episode.calm >= scene.config.clear_after:
            signal.unit = 0
            close(scene, limits.code, UNIT)
        return
    signal.unit_count = min(signal.unit_count + 1, 255)
    if signal.unit_count >= _UNIT_SAMPLES:
        raise_or_update(
            scene,
            limits.code,
            UNIT,
            scene.verified.source.offset,
            1.0,
            limit=f"{name} for{unit_of(limits.code)}",
        )


def is_in(name: str, value: float, level: float) -> bool:
    """Whether a value is what `level` would be in another unit, about."""
    factor, offset = UNITS[name]
    distance = (value - offset) / factor - level
    return -_UNIT_TOLERANCE * abs(level) < distance < _UNIT_TOLERANCE * abs(level)


def unit_of(code: int) -> str:
    """Return the unit of a code's table after a space; nothing where the code is not ours."""
    signal = BY_CODE.get(code)
    return f" {signal.unit}" if signal else ""

"""Detectors over readings: what cannot be true, what cannot be measured, and what was there before.

A sample that is plainly normal costs a few comparisons; what it looks like together with others is judged
once a block of eight events. A lasting cause is one finding: opened, updated at powers of ten, cleared.
Findings are kept for good, so no measured value stands in them: the evidence names the record that holds
it, and scores are rounded until they say no more than "how far".
"""

import struct
from collections.abc import Callable, Sequence
from zlib import crc32

from processors.detect.blocks import BLOCK, LEAST, judge
from processors.detect.config import DetectConfig
from processors.detect.findings import Scene, close, raise_or_update
from processors.detect.relations import RelationLimits, RelationTrack, differences, judge_relation
from processors.detect.replayed import ROWS, is_sampled
from processors.detect.rules import (
    BOUNDS,
    CLOCK,
    DEVICE,
    DRIFT,
    IMPLAUSIBLE,
    JITTER,
    NOISE,
    RATE,
    REPLAY,
    REPORTING,
    STEP,
    STUCK,
    UNIT,
)
from processors.detect.samples import bind, look, unit_of
from processors.detect.telemetry_state import MAX_BUFFERED, OFF, SATURATED, SignalState, TelemetryState
from processors.model import VerifiedEvent
from schemas.mdc import label
from schemas.records import Finding

_ENDED_BY_SAMPLES = (BOUNDS, STUCK, UNIT)
_CALM_BLOCKS = {JITTER: 18, REPLAY: 6, RATE: 2}
"""Blocks without further evidence that end an episode; others 4. Jitter is judged every eighth block only."""
_DEFAULT_INTERVAL_S = 60.0
_ROW = [struct.Struct(f"<{count}d") for count in range(257)]


class TelemetryDetectors:
    """All rules over readings of one device. Holds no state: that is the caller's, by device.

    `config_of` gives a device's own configuration where wards or devices have one; it must give the same
    for the same device as long as the detectors live. Without it `config` holds for all.
    """

    def __init__(
        self, config: DetectConfig, config_of: Callable[[str], DetectConfig] | None = None
    ) -> None:
        self._config, self._config_of = config, config_of

    def new(self) -> TelemetryState:
        """Return the state of a device not seen before."""
        return TelemetryState()

    def load(self, data: bytes) -> TelemetryState:
        """Read a state; `b""` is a new one. Raises StateError for bytes that `dump` never wrote."""
        return TelemetryState.load(data)

    def dump(self, state: TelemetryState) -> bytes:
        """Write a state so that `load` gives exactly it."""
        return state.dump()

    def process(
        self, events: Sequence[VerifiedEvent], state_of: Callable[[str], TelemetryState]
    ) -> list[Finding]:
        """Judge accepted telemetry in its order, updating states; return findings in that order."""
        findings: list[Finding] = []
        config, config_of = self._config, self._config_of
        for verified in events:
            device_id = verified.event.device_id
            if config_of is not None:
                config = config_of(device_id)
            _take(config, verified, state_of(device_id), findings)
        return findings


def _take(
    config: DetectConfig, verified: VerifiedEvent, state: TelemetryState, findings: list[Finding]
) -> None:
    event, source = verified.event, verified.source
    offset = source.offset
    if state.bound_to is not config:
        _bind(config, state)
    # Readings.
    body = event.body
    values = body["values"]
    find = state.signals.get
    for code, value in zip(body["codes"], values, strict=False):
        signal = find(code)
        if signal is None:
            if code not in config.signals:
                continue
            signal = state.signals[code] = SignalState(code)
            bind(signal, config.signals[code], 0)
        change = value - signal.last
        if signal.floor < value < signal.roof and signal.fall < change < signal.rise and change:
            signal.last = value
            signal.run = 1
            signal.first_offset = offset
            signal.samples.append(value)
        elif not (signal.run == OFF and signal.off_low <= value <= signal.off_high):
            look(Scene(config, verified, state, findings), signal, config.signals[code], value)
    # Times.
    course, limits = state.course, config.course
    time_us, append_ms = event.time_us, source.append_ms
    if not state.begun:
        state.begun = True
        course.begin(time_us, append_ms)
    lead_us = time_us - append_ms * 1000
    if time_us < course.time_us or not course.top_us - limits.behind_us <= lead_us <= course.top_us:
        fault = course.irregular(time_us, append_ms, limits)
        if fault:
            scene = Scene(config, verified, state, findings)
            raise_or_update(scene, DEVICE, CLOCK, offset, 1.0, other=fault)
    elif course.below:
        course.below = 0
    course.time_us, course.append_ms = time_us, append_ms
    # Replay.
    prints = state.prints
    row = crc32(_ROW[len(values)].pack(*values) if len(values) <= 256 else repr(values).encode())
    rows = prints.rows
    rows.append(row)
    if len(rows) > ROWS:
        del rows[0]
    prints.since += 1
    if is_sampled(row):
        _compare(Scene(config, verified, state, findings))
    # Blocks.
    if state.events == 0:
        state.first_offset = offset
    state.events += 1
    if state.events == BLOCK:
        _end_block(Scene(config, verified, state, findings))


def _bind(config: DetectConfig, state: TelemetryState) -> None:
    """Give the signals the limits of a configuration; what it does not know is forgotten."""
    known = config.signals
    state.signals = {code: each for code, each in state.signals.items() if code in known}
    state.episodes = {
        key: each for key, each in state.episodes.items() if key[0] == DEVICE or key[0] in known
    }
    for code, signal in state.signals.items():
        bind(signal, known[code], sum((code, rule) in state.episodes for rule in _ENDED_BY_SAMPLES))
    state.bound_to = config


def _compare(scene: Scene) -> None:
    course, prints = scene.state.course, scene.state.prints
    interval_s = course.interval_us / 1e6 or _DEFAULT_INTERVAL_S
    ago = prints.meet(scene.config.replay_window_s / interval_s)
    if ago:
        raise_or_update(
            scene, DEVICE, REPLAY, scene.verified.source.offset, 1.0, other=f"about {ago} reports"
        )


def _end_block(scene: Scene) -> None:
    state, config = scene.state, scene.config
    for relation in config.relations:
        _relate(scene, relation)
    for code, signal in state.signals.items():
        samples = signal.samples
        limits = config.signals[code].course
        if limits is None:
            samples.clear()
            continue
        if len(samples) >= LEAST:
            for rule, score in judge(signal.track, samples, limits):
                _raise_block(scene, code, rule, score)
            samples.clear()
        signal.carried = len(samples)
    fault, factor = state.course.block_end(state.events, config.course)
    if fault:
        raise_or_update(scene, DEVICE, CLOCK, state.first_offset, 1.0, other=fault)
    if factor != 1.0:
        ratio = config.course.rate_ratio
        raise_or_update(
            scene,
            DEVICE,
            REPORTING,
            state.first_offset,
            max(factor, 1 / factor) / ratio,
            f"{ratio:g} times",
            "more often" if factor > 1 else "less often",
        )
    if state.episodes:
        _calm_down(scene)
    state.events = 0


def _raise_block(scene: Scene, code: int, rule: int, score: float) -> None:
    limits = scene.config.signals[code].course
    limit = ""
    if rule == STEP and limits is not None and limits.step:
        limit = f"{limits.step:g}{unit_of(code)}"
    elif rule == STEP:
        limit = "its usual moves"
    elif rule == NOISE and limits is not None:
        limit = f"{limits.noise_ratio_twice:g}"
    if rule in (STEP, DRIFT) and (code, UNIT) in scene.state.episodes:
        return  # told already: the level moved because the unit did
    raise_or_update(scene, code, rule, scene.state.first_offset, score, limit)


def _relate(scene: Scene, relation: RelationLimits) -> None:
    state = scene.state
    parts = [state.signals.get(code) for code in relation.codes]
    signals = [each for each in parts if each is not None and each.run > OFF]
    if len(signals) < len(parts):
        return
    score = 0.0
    code = relation.codes[0]
    if all(len(each.samples) == BLOCK and not each.carried for each in signals):
        track = state.relations.get(code)
        if track is None:
            track = state.relations[code] = RelationTrack()
        score = judge_relation(track, differences(relation.kind, [each.samples for each in signals]), relation)
    if relation.kind == "mean":
        mean, high, low = (each.last for each in signals)
        away = abs(mean - (high + 2 * low) / 3)
        # A mean outside its ends is wrong by any amount; those of one measurement come together.
        if not low <= mean <= high or away > 2 * relation.tolerance:
            score = max(score, 2.0)
    if score > 1.0:
        others = " and ".join(label(each) for each in relation.codes[1:])
        limit = f"{relation.tolerance:g}{unit_of(code)}"
        raise_or_update(scene, code, IMPLAUSIBLE, state.first_offset, score, limit, others)


def _calm_down(scene: Scene) -> None:
    """Count this block for every open episode that blocks end; fresh evidence has set its count to 0."""
    ended = []
    for (code, rule), episode in scene.state.episodes.items():
        if rule in _ENDED_BY_SAMPLES:
            continue
        episode.calm += 1
        if episode.calm > _CALM_BLOCKS.get(rule, 4):
            ended.append((code, rule))
    for code, rule in ended:
        close(scene, code, rule)

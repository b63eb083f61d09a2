"""Detectors over readings: what cannot be true, what cannot be measured, and what was there before.

A sample that is plainly normal costs a few comparisons; what it looks like together with others is judged
once a block of eight events. A lasting cause is one finding: opened, updated at powers of ten, cleared.
Findings are kept for good, so no measured value stands in them: the evidence names the record that holds
it, and scores are rounded until they say no more than "how far".
"""

import math
import struct
from collections.abc import Callable, Sequence
from zlib import crc32

from processors.detect.blocks import BLOCK, LEAST, LEVEL, judge
from processors.detect.config import DetectConfig
from processors.detect.findings import Scene, close, raise_or_update
from processors.detect.relations import RelationLimits, judge_relation, new_relation
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
from processors.detect.telemetry_state import MAX_BUFFERED, OFF, Layout, SignalState, TelemetryState
from processors.model import VerifiedEvent
from schemas.mdc import label
from schemas.records import Finding

_ENDED_BY_SAMPLES = (BOUNDS, STUCK, UNIT)
_CALM_BLOCKS = {JITTER: 18, STEP: 16, DRIFT: 8, NOISE: 6, RATE: 6, REPLAY: 6}
"""Blocks without further evidence that end an episode; others 4. Jitter is judged every eighth block only."""
_DEFAULT_INTERVAL_US = 60e6
_ROW = [struct.Struct(f"<{count}d") for count in range(257)]


class TelemetryDetectors:
    """All rules over readings of one device. Holds no state: that is the caller's, by device.

    `config_of` gives a device's own configuration where wards or devices have one; it must give the same
    for the same device as long as the detectors live. Without it `config` holds for all.
    """

    def __init__(self, config: DetectConfig, config_of: Callable[[str], DetectConfig] | None = None) -> None:
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
    codes, values = body["codes"], body["values"]
    layout = state.layout
    if layout is None or codes != layout.codes or len(values) != len(codes):
        layout = _lay_out(config, state, codes, values)
    at = 0
    for value, last, floor, roof, samples in zip(
        values, layout.lasts, layout.floors, layout.roofs, layout.samples, strict=False
    ):
        if floor < value < roof and value != last:
            samples.append(value)
        elif (signal := layout.signals[at]) is not None and not (
            signal.run == OFF and signal.off_low <= value <= signal.off_high
        ):
            if not (signal.open or signal.run < 1) and signal.floor < value < signal.roof:
                _run(Scene(config, verified, state, findings), layout, at, value)
            else:
                look(Scene(config, verified, state, findings), signal, config.signals[signal.code], value)
                layout.settle(at)
        at += 1
    layout.lasts, layout.is_new = values, False
    state.last_offset = offset
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
        interval_us = course.interval_us or _DEFAULT_INTERVAL_US
        ago = prints.meet(config.replay_window_s * 1e6 / interval_us)
        if ago:
            scene = Scene(config, verified, state, findings)
            raise_or_update(scene, DEVICE, REPLAY, offset, 1.0, other=f"about {ago} reports")
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
    if state.layout is not None:
        state.layout.write_back(state.last_offset)
    state.layout, state.bound_to = None, config


def _lay_out(
    config: DetectConfig, state: TelemetryState, codes: Sequence[int], values: Sequence[float]
) -> Layout:
    """List the signals of an event's codes; None for a code that is not configured."""
    if state.layout is not None:
        state.layout.write_back(state.last_offset)
    signals: list[SignalState | None] = []
    for code in codes:
        signal = state.signals.get(code)
        if signal is None and code in config.signals:
            signal = state.signals[code] = SignalState(code)
            bind(signal, config.signals[code], 0)
        signals.append(signal)
    layout = Layout(codes, signals)
    if len(set(codes)) < len(codes) or len(values) != len(codes):
        # A code that comes twice is looked at sample by sample: the second one's last is the first.
        layout.floors = [math.inf] * len(codes)
        layout.codes = ()
    state.layout = layout
    return layout


def _run(scene: Scene, layout: Layout, at: int, value: float) -> None:
    """Take a sample inside its range that may go on with a run of unchanged ones, or end it."""
    signal = layout.signals[at]
    if signal is None:
        return
    if layout.floors[at] != math.inf and not layout.is_new:
        signal.last, signal.first_offset = layout.lasts[at], scene.state.last_offset
    if value != signal.last:
        signal.last, signal.run, signal.first_offset = value, 1, scene.verified.source.offset
    elif signal.run + 1 < signal.stuck_after:
        signal.run += 1
    else:
        look(scene, signal, scene.config.signals[signal.code], value)
        layout.settle(at)
        return
    if len(signal.samples) < MAX_BUFFERED:
        signal.samples.append(value)
    layout.settle(at)


def _end_block(scene: Scene) -> None:
    state, config = scene.state, scene.config
    for code, signal in state.signals.items():
        samples = signal.samples
        if len(samples) >= LEAST:
            limits = config.signals[code].course
            if limits is not None:
                for rule, score in judge(signal.track, samples, limits):
                    _raise_block(scene, signal, rule, score)
            signal.carried = len(samples) != BLOCK + 1
            del samples[:-1]
        else:
            signal.carried = True
    for relation in config.relations:
        _relate(scene, relation)
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


def _raise_block(scene: Scene, signal: SignalState, rule: int, score: float) -> None:
    code = signal.code
    limits = scene.config.signals[code]
    course = limits.course
    if course is None or (rule in (STEP, DRIFT, RATE) and (code, UNIT) in scene.state.episodes):
        return  # told already: the level moved because the unit did
    if rule == STEP and any((code, other) in scene.state.episodes for other in (RATE, DRIFT)):
        return  # the jump into it, or the end of a drift, is told already
    limit = ""
    if rule == RATE:
        limit = f"{course.max_change:g}{unit_of(code)}"
    elif rule == STEP:
        limit = f"{course.step:g}{unit_of(code)}" if course.step else "its usual moves"
    elif rule == NOISE:
        limit = f"{course.ratio_twice:g}"
    raise_or_update(scene, code, rule, scene.state.first_offset, score, limit)


def _relate(scene: Scene, relation: RelationLimits) -> None:
    signals = []
    for code in relation.codes:
        signal = scene.state.signals.get(code)
        if signal is None or signal.run == OFF:
            return
        signals.append(signal)
    score = 0.0
    code = relation.codes[0]
    if not any(each.carried for each in signals):
        track = scene.state.relations.get(code)
        if track is None:
            track = scene.state.relations[code] = new_relation()
        score = judge_relation(track, [each.track[LEVEL] for each in signals], relation)
    if relation.kind == "mean" and scene.config.signals[code].course is None:
        mean, high, low = (each.last for each in signals)
        # A mean outside its ends is wrong by any amount; those of one measurement come together.
        if not low <= mean <= high:
            score = max(score, 2.0)
    if score > 1.0:
        others = " and ".join(label(each) for each in relation.codes[1:])
        limit = f"{relation.tolerance:g}{unit_of(code)}"
        first_offset = scene.state.first_offset
        raise_or_update(scene, code, IMPLAUSIBLE, first_offset, score, limit, others)


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

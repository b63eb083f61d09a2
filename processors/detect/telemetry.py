"""Detectors over readings: what cannot be true, what cannot be measured, and what was there before.

A sample that is plainly normal costs a few comparisons; what it looks like together with others is judged
once a block of eight events (`deviceblocks.py`). A lasting cause is one finding: opened, updated at powers
of ten, cleared. Findings are kept for good, so no measured value stands in them: the evidence names the
record that holds it, and scores are rounded until they say no more than "how far".
"""

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING
from zlib import crc32

from processors.detect.blocks import BLOCK
from processors.detect.config import DetectConfig
from processors.detect.deviceblocks import ENDED_BY_SAMPLES, end_blocks
from processors.detect.findings import Scene, give_up, raise_or_update
from processors.detect.loose import Loose
from processors.detect.overrides import ConfigOf
from processors.detect.replayed import span_rows
from processors.detect.rules import CLOCK, DEVICE, REPLAY
from processors.detect.samples import bind, look
from processors.detect.statebytes import load_state, splice_of, unpack, write_state
from processors.detect.telemetry_state import (
    LEAST_DEVICES,
    MAX_BUFFERED,
    OFF,
    SATURATED,
    Layout,
    SignalState,
    TelemetryState,
)
from processors.model import VerifiedEvent
from processors.splice import Splice
from schemas.events import MAX_READINGS
from schemas.noise import NoiseBlock
from schemas.records import Finding

if TYPE_CHECKING:
    from processors.detect.rows import Rows
    from processors.detect.together import Tables

_ROWS = attrgetter("rows")
_ROW = [struct.Struct(f"<{count}d") for count in range(MAX_READINGS + 1)]


class TelemetryDetectors:
    """All rules over readings of one device. Holds no state: that is the caller's, by device.

    `overriding` is asked once a batch for what gives a device's configuration; None: `config` holds for all.
    A state goes on under another configuration with what that one knows. Give the same object for the same
    configuration: another one costs the time to bind a device's signals to it. Prints of noise are added to
    `noise`, which its owner empties; where it is None none are taken.
    """

    def __init__(
        self,
        config: DetectConfig,
        overriding: Callable[[], ConfigOf | None] = lambda: None,
        noise: list[NoiseBlock] | None = None,
    ) -> None:
        self._config, self._overriding, self._noise = config, overriding, noise
        self._tables: Tables | None = None
        self._loose = Loose()

    def new(self) -> TelemetryState:
        """Return the state of a device not seen before."""
        return TelemetryState()

    def load(self, data: bytes) -> TelemetryState:
        """Read a state; `b""` is a new one. Raises StateError for bytes that `dump` never wrote."""
        return load_state(data)

    def dump(self, state: TelemetryState) -> bytes:
        """Write a state so that `load` gives exactly it."""
        return self.dump_all([state])[0]

    def dump_all(self, states: Sequence[TelemetryState]) -> list[bytes]:
        """Write states: those that live in rows together, for a fifth of what each alone takes."""
        written = [b""] * len(states)
        for rows, numbers in _by_table(states).items():
            those = [states[number] for number in numbers]
            found = map(_write_alone, those) if rows is None else rows.dump([each.row for each in those])
            for number, data in zip(numbers, found, strict=True):
                written[number] = data
        return written

    def dump_changes(
        self, states: Sequence[TelemetryState], is_whole: Sequence[bool]
    ) -> list[bytes | Splice]:
        """Write states: whole where a block has ended, and else what the events since have changed.

        Of those in objects only some stay so.
        """
        written: list[bytes | Splice] = [b""] * len(states)
        for rows, numbers in _by_table(states).items():
            if rows is not None:
                places, whole = [states[n].row for n in numbers], [is_whole[n] for n in numbers]
                for number, data in zip(numbers, rows.dump_changes(places, whole), strict=True):
                    written[number] = data
                continue
            loose = []
            for number in numbers:
                state = states[number]
                if state.packed is None:
                    data = write_state(state)
                    loose.append((state, data))
                    written[number] = data
                else:
                    written[number] = state.packed if is_whole[number] else splice_of(state.packed)
            self._loose.settle(loose)
        return written

    def process(
        self, events: Sequence[VerifiedEvent], state_of: Callable[[str], TelemetryState]
    ) -> list[Finding]:
        """Judge accepted telemetry in its order, updating states; return findings in that order.

        Events of many devices are judged by columns where they show nothing (`together.py`), the others here.
        A device's block waits until the device speaks again, or the batch is over: by then many blocks have
        ended, and are judged together for a third of the cost.
        """
        if not events:
            return []
        states = [state_of(each.event.device_id) for each in events]
        config_of = self._overriding()
        configs: list[DetectConfig] = (
            [self._config] * len(events)
            if config_of is None
            else [config_of(each.event.device_id) for each in events]
        )
        noise, known = self._noise, len(self._noise or ())
        numbers: Iterable[int] = range(len(events))
        ended: list[tuple[int, Scene]] = []
        if self._tables is None and len(events) >= LEAST_DEVICES and len(set(states)) >= LEAST_DEVICES:
            # Here, since a process that meets few at a time shall not pay for numpy: 0.1 s and 20 MB.
            from processors.detect.together import Tables

            self._tables = Tables(noise)
        if self._tables is not None:
            numbers, blocks = self._tables.judge(events, states, configs)
            ended = [
                (number, Scene(configs[number], events[number], states[number], [])) for number in blocks
            ]
        findings: list[tuple[int, Finding]] = []
        found: list[Finding] = []
        for number in numbers:
            config, verified, state = configs[number], events[number], states[number]
            if state.packed is not None:
                unpack(state)
            if state.events == BLOCK:
                findings += end_blocks(ended, noise)
                ended.clear()
            if state.bound_to is not config:
                _bind(config, verified, state, found)
            state.alone += 1
            _take(config, verified, state, found)
            if found:
                findings += [(number, each) for each in found]
                found.clear()
            if state.events == BLOCK:
                ended.append((number, Scene(config, verified, state, [])))
        findings += end_blocks(ended, noise)
        findings.sort(key=itemgetter(0))
        if noise is not None:
            noise[known:] = sorted(noise[known:], key=attrgetter("offset"))
        return [each for _, each in findings]


def _by_table(states: Sequence[TelemetryState]) -> "dict[Rows | None, list[int]]":
    """Return the numbers of the states that live in each table, and of those that live in none."""
    numbers: dict[Rows | None, list[int]] = {}
    for number, rows in enumerate(map(_ROWS, states)):
        if rows in numbers:
            numbers[rows].append(number)
        else:
            numbers[rows] = [number]
    return numbers


def _write_alone(state: TelemetryState) -> bytes:
    return write_state(state) if state.packed is None else state.packed


def _take(
    config: DetectConfig, verified: VerifiedEvent, state: TelemetryState, findings: list[Finding]
) -> None:
    _readings(config, verified, state, findings)
    _times(config, verified, state, findings)
    values = verified.event.body["values"]
    row = crc32(_ROW[len(values)].pack(*values) if len(values) <= MAX_READINGS else repr(values).encode())
    if state.prints.add(row):
        _compare(config, verified, state, findings)
    if state.events == 0:
        state.first_offset = verified.source.offset
    state.events += 1


def _readings(
    config: DetectConfig, verified: VerifiedEvent, state: TelemetryState, findings: list[Finding]
) -> None:
    body = verified.event.body
    codes, values = body["codes"], body["values"]
    offset = verified.source.offset
    layout = state.layout
    if layout is None or codes != layout.codes or len(values) != len(codes):
        layout = _lay_out(config, state, codes, values)
    at = -1
    for value, last, floor, roof, samples in zip(
        values, layout.lasts, layout.floors, layout.roofs, layout.samples, strict=False
    ):
        at += 1
        if floor < value < roof and value != last:
            samples.append(value)
            continue
        signal = layout.signals[at]
        if signal is None or (signal.run == OFF and signal.off_low <= value <= signal.off_high):
            continue
        if layout.floors[at] != math.inf and not layout.is_new:
            signal.last, signal.first_offset = last, state.last_offset
        is_plain = not signal.open and signal.run > SATURATED and signal.floor < value < signal.roof
        if is_plain and _goes_on(signal, value, offset):
            layout.floors[at] = signal.floor if signal.run == 1 and layout.codes else math.inf
            continue
        look(Scene(config, verified, state, findings), signal, config.signals[signal.code], value)
        layout.settle(at)
    layout.lasts, layout.is_new = values, False
    state.last_offset = offset


def _times(
    config: DetectConfig, verified: VerifiedEvent, state: TelemetryState, findings: list[Finding]
) -> None:
    course, limits = state.course, config.course
    time_us, append_ms = verified.event.time_us, verified.source.append_ms
    if not state.begun:
        state.begun = True
        course.begin(time_us, append_ms)
    lead_us = time_us - append_ms * 1000
    if time_us < course.time_us or not course.top_us - limits.behind_us <= lead_us <= course.top_us:
        fault = course.irregular(time_us, append_ms, limits)
        if fault:
            scene = Scene(config, verified, state, findings)
            raise_or_update(scene, DEVICE, CLOCK, verified.source.offset, 1.0, other=fault)
    elif course.below:
        course.below = 0
    course.time_us, course.append_ms = time_us, append_ms


def _compare(
    config: DetectConfig, verified: VerifiedEvent, state: TelemetryState, findings: list[Finding]
) -> None:
    ago = state.prints.meet(span_rows(config.replay_window_s, state.course.interval_us))
    if ago:
        scene = Scene(config, verified, state, findings)
        raise_or_update(scene, DEVICE, REPLAY, verified.source.offset, 1.0, other=f"about {ago} reports")


def _bind(
    config: DetectConfig, verified: VerifiedEvent, state: TelemetryState, findings: list[Finding]
) -> None:
    """Give the signals the limits of a configuration; what it does not know is ended and forgotten."""
    known = config.signals
    state.signals = {code: each for code, each in state.signals.items() if code in known}
    for code, rule in [key for key in state.episodes if key[0] != DEVICE and key[0] not in known]:
        give_up(Scene(config, verified, state, findings), code, rule)
    for code, signal in state.signals.items():
        bind(signal, known[code], sum((code, rule) in state.episodes for rule in ENDED_BY_SAMPLES))
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


def _goes_on(signal: SignalState, value: float, offset: int) -> bool:
    """Take a sample inside its range that goes on with a run, or ends it; False where the run is too long."""
    if value != signal.last:
        signal.last, signal.run, signal.first_offset = value, 1, offset
    elif signal.run + 1 < signal.stuck_after:
        signal.run += 1
    else:
        return False
    if len(signal.samples) < MAX_BUFFERED:
        signal.samples.append(value)
    return True

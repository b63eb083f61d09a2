"""REPLAY: recorded telemetry once more before the detectors, as ingest would judge it.

From a file of `attestream send`, or from the accepted events in Kafka. Nothing is published or kept: what
comes out is a recording, the signals with the findings on them, for a page (`detectpage.py`).
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

from pipeline.sendinput import InputRow, is_empty, read_rows
from pipeline.settings import UsageError
from processors.detect import DetectConfig, DetectError, SilenceRule, TelemetryDetectors
from processors.model import RawRecord, VerifiedEvent
from schemas.envelope import PayloadKind, decode_envelope
from schemas.errors import FormatError
from schemas.events import Event, decode_event
from schemas.records import Finding

BATCH = 256
MAX_EVENTS = 1_000_000
"""So many events are judged at most: their readings are held in memory, some 130 bytes an event."""
TICK_US = 1_000_000
"""The stage asks about silence once a second."""

OnJudged = Callable[[int], None]
"""Hears how many events were judged so far."""


@dataclass(slots=True)
class Track:
    """One signal of one device: times (us of the broker's clock) and values, parallel."""

    times_us: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Recording:
    """What was replayed: events, each device's signals by MDC code, and findings in order of time."""

    events: int = 0
    tracks: dict[str, dict[int, Track]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    config: str = ""
    """The digest of the configuration, as findings cite it."""
    was_cut: bool = False
    """There were more than `MAX_EVENTS`."""

    def span_us(self, device: str) -> tuple[int, int]:
        """Return the first and last time of a device's readings and findings."""
        times = [
            bound(each.times_us) for each in self.tracks.get(device, {}).values() for bound in (min, max)
        ]
        times += [each.time_us for each in self.findings if each.device_id == device]
        return min(times, default=0), max(times, default=0)


def events_of_file(path: Path, interval_s: float) -> Iterator[VerifiedEvent]:
    """Yield a file's telemetry as accepted events of one device named after the file.

    Seconds into the record count from 1970; rows without any time are `interval_s` apart. A device's time is
    the broker's, since a file has but one. Raises InputError for what cannot be read.
    """
    for place, row in enumerate(read_rows(path, PayloadKind.TELEMETRY)):
        if is_empty(row, PayloadKind.TELEMETRY):
            continue
        time_us = _time_us(row, place, interval_s)
        event = Event(PayloadKind.TELEMETRY, path.name, 1, place + 1, time_us, row.body)
        digest = blake3(f"{path.name} line {row.line}".encode()).digest()
        # The place in the evidence is the line, so that a person finds the row.
        yield VerifiedEvent(event, digest, RawRecord(path.name, 0, row.line, time_us // 1000, None, None), 0)


def _time_us(row: InputRow, place: int, interval_s: float) -> int:
    if row.time_us is not None:
        return row.time_us
    return round((row.t_s if row.t_s is not None else place * interval_s) * 1_000_000)


def events_of_records(records: Iterable[RawRecord]) -> Iterator[VerifiedEvent]:
    """Yield the telemetry of `device.events`; other kinds and what is unreadable are passed over.

    Signatures were checked when they were accepted, and are not checked again.
    """
    for record in records:
        try:
            payload = decode_envelope(record.value or b"").payload
            event = decode_event(PayloadKind.TELEMETRY, payload)
        except FormatError:
            continue
        yield VerifiedEvent(event, blake3(payload).digest(), record, 0)


def read_config(path: Path | None) -> DetectConfig:
    """Read a configuration of detectors, by default the one that ships; raises UsageError."""
    if path is None:
        return DetectConfig.default()
    try:
        return DetectConfig.parse(path.read_text(encoding="utf-8"))
    except (DetectError, OSError, UnicodeDecodeError) as error:
        message = f"{path}: {error}"
        raise UsageError(message) from error


def replay(
    events: Iterable[VerifiedEvent],
    config: DetectConfig,
    *,
    silence: SilenceRule | None = None,
    on_judged: OnJudged = lambda _count: None,
) -> Recording:
    """Judge events in the order given, which for each device is that of its partition."""
    detectors = TelemetryDetectors(config)
    states: dict[str, Any] = {}

    def state_of(device: str) -> Any:
        if device not in states:
            states[device] = detectors.new()
        return states[device]

    recording, quiet = Recording(config=config.digest), Silences(silence)
    for batch in _batches(events, recording):
        recording.findings += detectors.process(batch, state_of)
        for verified in batch:
            recording.findings += quiet.hear(verified)
            _note(recording, verified)
        recording.events += len(batch)
        on_judged(recording.events)
    recording.findings.sort(key=lambda each: each.time_us)
    return recording


class Silences:
    """Asks the rule as the stage's clock would: at the end of a device's limit, and when it returns."""

    def __init__(self, rule: SilenceRule | None) -> None:
        self._rule = rule
        self._last: dict[str, VerifiedEvent] = {}

    def hear(self, verified: VerifiedEvent) -> list[Finding]:
        """Take a device's next event; return the silence before it, opened and cleared, if there was one."""
        device = verified.event.device_id
        last = self._last.get(device)
        self._last[device] = verified
        if self._rule is None or last is None:
            return []
        last_ms, here = last.source.append_ms, verified.source
        before = last.source.reference(last.digest)
        due_us = last_ms * 1000 + self._rule.limit_us + TICK_US
        overdue = self._rule.overdue(device, last_ms, before, due_us) if here.append_us > due_us else None
        if overdue is None:
            return []
        back = here.reference(verified.digest)
        return [overdue, self._rule.returned(device, last_ms, before, back, here.append_ms)]


def _batches(events: Iterable[VerifiedEvent], recording: Recording) -> Iterator[Sequence[VerifiedEvent]]:
    batch: list[VerifiedEvent] = []
    for number, event in enumerate(events):
        if number >= MAX_EVENTS:
            recording.was_cut = True
            break
        batch.append(event)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _note(recording: Recording, verified: VerifiedEvent) -> None:
    tracks = recording.tracks.setdefault(verified.event.device_id, {})
    body, time_us = verified.event.body, verified.source.append_us
    for code, value in zip(body["codes"], body["values"], strict=True):
        track = tracks.get(code)
        if track is None:
            track = tracks[code] = Track()
        track.times_us.append(time_us)
        track.values.append(value)

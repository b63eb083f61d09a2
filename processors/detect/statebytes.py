"""The bytes of a device's state, as the changelog carries them.

Layout of version 3, little-endian, every part a multiple of 8 bytes long unless it is the last: head and
course; of each signal what any report changes (last value, offset, run, number of samples at hand); of each
what a block changes (unit, signs, track); relations; kept prints u32 each; samples at hand, f64, the first of
each signal, then the second of each; open episodes. So a row of `rows.py` is these bytes already. Bounded by
the configuration: a signal takes 241 bytes and 8 for each sample at hand, a relation 52, an open episode 18,
a device's fingerprints 768 at most. What former builds wrote is read too (`formerbytes.py`).
"""

import struct
from array import array
from functools import lru_cache
from itertools import chain, zip_longest
from typing import NamedTuple

from processors.detect.blocks import BLOCK, TRACK
from processors.detect.errors import StateError
from processors.detect.formerbytes import FORMER, cut, little_endian, read_former
from processors.detect.relations import RELATED
from processors.detect.replayed import CRC, KEPT, ROWS
from processors.detect.rules import RULES
from processors.detect.telemetry_state import (
    MAX_SIGNS,
    MOST_SAMPLES,
    NO_SIGNS,
    Episode,
    SignalState,
    TelemetryState,
)
from processors.splice import Splice

VERSION = 3
WORD = 8

HEAD = struct.Struct("<6B2x3H2x8qd3I2H" + f"{ROWS * CRC}s")
"""version, events, begun, samples of the signal that has most, rows, kept; signals, relations, episodes;
first_offset; course; prints"""
_EPISODE = struct.Struct("<iBqIB")


@lru_cache(maxsize=256)
def of_signals(signals: int) -> tuple[struct.Struct, struct.Struct]:
    """Return the parts of so many signals: what a report changes, and what a block changes."""
    n = signals
    return (
        struct.Struct(f"<{n}d{n}q{n}i{n}B{-5 * n % WORD}x"),
        struct.Struct(f"<{n}d{n}Q{n * TRACK.size}s{n}i{n}B{n}B{n}B{-7 * n % WORD}x"),
    )


@lru_cache(maxsize=256)
def of_relations(relations: int) -> struct.Struct:
    """Return the part of so many relations."""
    return struct.Struct(f"<{relations * RELATED}d{relations}i{-4 * relations % WORD}x")


class Head(NamedTuple):
    """How many there are of each part of a state."""

    version: int
    events: int
    begun: int
    most: int
    rows: int
    kept: int
    signals: int
    relations: int
    episodes: int

    def check(self) -> None:
        """Raise StateError for numbers that no state has."""
        if self.events >= BLOCK:
            message = f"telemetry state with {self.events} events in a block"
            raise StateError(message)
        if self.rows > ROWS or self.kept > KEPT:
            message = f"telemetry state with {self.rows} rows and {self.kept} fingerprints"
            raise StateError(message)
        if self.most > MOST_SAMPLES:
            message = f"telemetry state with {self.most} samples in a block"
            raise StateError(message)

    @property
    def counts_at(self) -> int:
        """Where the numbers of the signals' samples begin, a byte each."""
        return HEAD.size + self.signals * (2 * WORD + 4)

    @property
    def codes_at(self) -> int:
        """Where the codes of the signals begin; as many bytes of units follow."""
        by_report, _ = of_signals(self.signals)
        return HEAD.size + by_report.size + self.signals * (2 * WORD + TRACK.size)

    @property
    def related_at(self) -> int:
        """Where the part of the relations begins."""
        return HEAD.size + sum(part.size for part in of_signals(self.signals))

    @property
    def kept_parts(self) -> tuple[int, int]:
        """Where that begins and ends which the end of a block changes, and hardly anything else."""
        by_report, _ = of_signals(self.signals)
        end = self.related_at + of_relations(self.relations).size + self.kept * CRC
        return HEAD.size + by_report.size, end

    @property
    def size(self) -> int:
        """The bytes of the whole state."""
        return self.kept_parts[1] + self.most * self.signals * WORD + self.episodes * _EPISODE.size


def write_state(state: TelemetryState) -> bytes:
    """Write a state that is in objects."""
    if state.layout is not None:
        state.layout.write_back(state.last_offset)
    course, prints, signals = state.course, state.prints, list(state.signals.values())
    relations = sorted(state.relations.items())
    most = max((len(each.samples) for each in signals), default=0)
    by_report, by_block = of_signals(len(signals))
    head = HEAD.pack(
        VERSION, state.events, state.begun, most, len(prints.rows) // CRC, len(prints.kept) // CRC,
        len(signals), len(relations), len(state.episodes), state.first_offset,
        course.time_us, course.append_ms, course.top_us, course.difference_us, course.below_since_ms,
        course.block_us, course.block_append_ms, course.interval_us,
        course.below, prints.spacing, prints.since, course.blocks, course.off_rate, prints.rows,
    )  # fmt: skip
    parts: list[bytes | bytearray] = [
        head,
        by_report.pack(
            *(each.last for each in signals),
            *(each.first_offset for each in signals),
            *(each.run for each in signals),
            *(len(each.samples) for each in signals),
        ),
        by_block.pack(
            *(each.unit_level for each in signals),
            *(each.signs for each in signals),
            b"".join([each.track for each in signals]),
            *(each.code for each in signals),
            *(each.unit for each in signals),
            *(each.unit_count for each in signals),
            *(each.carried for each in signals),
        ),
        of_relations(len(relations)).pack(
            *chain.from_iterable(known for _, known in relations), *(code for code, _ in relations)
        ),
        prints.kept,
        little_endian(
            array("d", chain.from_iterable(zip_longest(*(s.samples for s in signals), fillvalue=0.0)))
        ).tobytes(),
    ]
    for (code, rule), episode in state.episodes.items():
        parts.append(_EPISODE.pack(code, rule, episode.first_offset, episode.samples, episode.calm))
    return b"".join(parts)


def load_state(data: bytes) -> TelemetryState:
    """Return a state that is read when it is needed; its bounds are checked now. Raises StateError."""
    if not data or data[0] != VERSION:
        state = TelemetryState()
        read_state(state, data)
        return state
    if len(data) < HEAD.size:
        message = f"telemetry state of {len(data)} bytes is cut short"
        raise StateError(message)
    head = Head(*HEAD.unpack_from(data)[:9])
    head.check()
    if len(data) != head.size:
        after = len(data) - head.size
        message = f"telemetry state of {len(data)} bytes " + (
            f"has {after} bytes after its end" if after > 0 else "is cut short"
        )
        raise StateError(message)
    return TelemetryState(data)


def splice_of(data: bytes) -> Splice:
    """Tell of a state that `load_state` left packed: what only the end of a block changes is kept."""
    head = Head(*HEAD.unpack_from(data)[:9])
    begin, end = head.kept_parts
    return Splice(data[:begin], begin, end, data[end:])


def unpack(state: TelemetryState) -> None:
    """Read a state that `load_state` left packed. Raises StateError."""
    if state.packed is not None:
        read_state(state, state.packed)


def read_state(state: TelemetryState, data: bytes) -> None:
    """Make `state` what `write_state` wrote; no bytes are a device not seen before. Raises StateError."""
    state.reset()
    if not data:
        return
    if data[0] != VERSION and data[0] not in FORMER:
        versions = ", ".join(map(str, FORMER))
        message = f"telemetry state of version {data[0]}, this build reads {VERSION} and {versions}"
        raise StateError(message)
    try:
        episodes, at = read_former(state, data) if data[0] in FORMER else _read(state, data)
        at = _read_episodes(state, data, at, episodes)
    except struct.error as error:
        message = f"telemetry state of {len(data)} bytes is cut short"
        raise StateError(message) from error
    if at != len(data):
        message = f"telemetry state of {len(data)} bytes has {len(data) - at} bytes after its end"
        raise StateError(message)


def _read(state: TelemetryState, data: bytes) -> tuple[int, int]:
    course, prints = state.course, state.prints
    (
        _, state.events, begun, most, rows, kept, signals, relations, episodes, state.first_offset,
        course.time_us, course.append_ms, course.top_us, course.difference_us, course.below_since_ms,
        course.block_us, course.block_append_ms, course.interval_us,
        course.below, prints.spacing, prints.since, course.blocks, course.off_rate, crcs,
    ) = HEAD.unpack_from(data)  # fmt: skip
    state.begun = bool(begun)
    Head(*HEAD.unpack_from(data)[:9]).check()
    prints.rows = bytearray(crcs[: rows * CRC])
    at, counts = _read_signals(state, data, signals)
    if most != max(counts, default=0):
        message = f"telemetry state with {most} samples in a block, {max(counts, default=0)} of a signal"
        raise StateError(message)
    part = of_relations(relations)
    numbers = part.unpack_from(data, at)
    for number, code in enumerate(numbers[relations * RELATED :]):
        state.relations[code] = list(numbers[number * RELATED : (number + 1) * RELATED])
    at += part.size
    prints.kept, at = bytearray(cut(data, at, kept * CRC)), at + kept * CRC
    size = most * signals * WORD
    samples = array("d")
    samples.frombytes(cut(data, at, size))
    samples = little_endian(samples)
    for number, (each, count) in enumerate(zip(state.signals.values(), counts, strict=True)):
        each.samples = samples[number::signals][:count]
    return episodes, at + size


def _read_signals(state: TelemetryState, data: bytes, signals: int) -> tuple[int, tuple[int, ...]]:
    """Read signals, but for their samples; return where these parts end, and how many samples follow."""
    by_report, by_block = of_signals(signals)
    reports = by_report.unpack_from(data, HEAD.size)
    blocks = by_block.unpack_from(data, HEAD.size + by_report.size)
    lasts, offsets, runs, counts = (reports[n * signals : (n + 1) * signals] for n in range(4))
    levels, signs, tracks = blocks[:signals], blocks[signals : 2 * signals], blocks[2 * signals]
    codes, units, unit_counts, carried = (
        blocks[2 * signals + 1 + n * signals : 2 * signals + 1 + (n + 1) * signals] for n in range(4)
    )
    for number, code in enumerate(codes):
        if code in state.signals:
            message = f"telemetry state with signal {code} twice"
            raise StateError(message)
        if not NO_SIGNS <= signs[number] < MAX_SIGNS:
            message = f"telemetry state with signs {signs[number]:#x}"
            raise StateError(message)
        each = state.signals[code] = SignalState(code)
        each.last, each.run, each.first_offset = lasts[number], runs[number], offsets[number]
        each.unit, each.unit_level, each.unit_count = units[number], levels[number], unit_counts[number]
        each.carried, each.signs = carried[number], signs[number]
        each.track = tracks[number * TRACK.size : (number + 1) * TRACK.size]
    return HEAD.size + by_report.size + by_block.size, counts


def _read_episodes(state: TelemetryState, data: bytes, at: int, episodes: int) -> int:
    for _ in range(episodes):
        code, rule, first_offset, samples, calm = _EPISODE.unpack_from(data, at)
        if rule >= RULES:
            message = f"telemetry state with rule {rule}"
            raise StateError(message)
        state.episodes[code, rule] = Episode(first_offset, samples, calm)
        at += _EPISODE.size
    return at

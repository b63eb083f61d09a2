"""What the telemetry detectors remember of one device, and its bytes for the changelog.

Layout, little-endian, no padding: version u8; block (events u8, first raw offset i64); course, prints,
signals, relations, open episodes, each counted. Bounded by the configuration: a signal takes 244 bytes and
8 for each sample of the block at hand, a relation 52, an open episode 18, a device's fingerprints 810 at
most. Bytes of version 1, which held the last values and episodes only, are read too.
"""

import math
import struct
import sys
from array import array
from collections.abc import Sequence

from processors.detect.blocks import BLOCK, TRACK, new_track
from processors.detect.devicecourse import Course
from processors.detect.errors import StateError
from processors.detect.relations import RELATED, RelationTrack
from processors.detect.replayed import CRC, KEPT, ROWS, Prints
from processors.detect.rules import RULES
from schemas.noise import PRINT_SIGNS

VERSION = 2
OFF = -1
"""`run` of a signal that was off, or was never seen: its next sample may mix both states."""
SATURATED = 0
"""`run` of a signal at its ceiling: on, but unchanged by nature."""
MAX_RUN = 2**31 - 1
MAX_SAMPLES = 2**32 - 1
MAX_BUFFERED = 64
NO_SIGNS = 1
"""`signs` of a signal before its first change (`noiseprints.py`); the highest bit counts them."""
MAX_SIGNS = 1 << PRINT_SIGNS + BLOCK + 1

_FORMER = 1
_HEAD = struct.Struct("<BBq")
_COUNT = struct.Struct("<H")
_EPISODE = struct.Struct("<iBqIB")
_COURSE = struct.Struct("<BqqqqIqqqHHd")
_PRINTS = struct.Struct("<BBIIq")
_SIGNAL = struct.Struct(f"<idiqBdBBBQ{TRACK.size}s")
_RELATION = struct.Struct(f"<i{RELATED}d")
_FORMER_HEAD = struct.Struct("<BH")
_FORMER_SIGNAL = struct.Struct("<idiq")


def _little_endian(numbers: "array[float]") -> "array[float]":
    """Return the numbers as they stand in a state, or the other way round."""
    if sys.byteorder == "little":
        return numbers
    swapped = numbers[:]
    swapped.byteswap()
    return swapped


class Episode:
    """An open finding: raw offset of its first sample, samples or blocks so far, calm ones since."""

    __slots__ = ("calm", "first_offset", "samples")

    def __init__(self, first_offset: int, samples: int, calm: int = 0) -> None:
        self.first_offset = first_offset
        self.samples = samples
        self.calm = calm


class SignalState:
    """One signal of a device: its last sample and run, the block at hand, what is known from blocks before.

    Between `floor` and `roof` the next value needs no closer look, unless it is the last one again; they
    follow from the rest and the configuration, and are not kept. `last` and `first_offset` may lag behind
    the device's `Layout` until it is written back.
    """

    __slots__ = (
        "carried", "code", "first_offset", "floor", "last", "off_high", "off_low", "open", "roof", "run",
        "samples", "signs", "stuck_after", "track", "unit", "unit_count", "unit_level",
    )  # fmt: skip

    def __init__(self, code: int) -> None:
        self.code = code
        self.last = math.nan
        self.run = OFF
        self.first_offset = 0
        self.open = 0
        self.samples = array("d")
        """Doubles side by side: eight lists of numbers of each device would take four times the room."""
        self.carried = 0
        self.unit = self.unit_count = 0
        self.unit_level = 0.0
        self.track = new_track()
        self.signs = NO_SIGNS
        self.stuck_after = 0
        self.floor = self.roof = self.off_low = self.off_high = math.nan


class Layout:
    """The signals of one list of codes, as parallel lists: what a plainly normal sample needs, and no more.

    Devices send the same codes again and again, so what a sample is compared with lies ready: the range of
    values that need no closer look (empty for a signal that is looked at in any case), the last values, and
    where samples of the block at hand are collected.
    """

    __slots__ = ("codes", "floors", "is_new", "lasts", "roofs", "samples", "signals")

    def __init__(self, codes: Sequence[int], signals: list[SignalState | None]) -> None:
        self.codes, self.signals = codes, signals
        self.lasts: Sequence[float] = [math.nan if each is None else each.last for each in signals]
        self.floors = [math.inf if each is None or each.run != 1 else each.floor for each in signals]
        self.is_new = True
        """Until the first event with it: `lasts` are the signals' own."""
        self.roofs = [math.nan if each is None else each.roof for each in signals]
        self.samples = [array("d") if each is None else each.samples for each in signals]

    def settle(self, at: int) -> None:
        """Take up what a closer look made of a signal; one in a run is looked at until the run ends."""
        signal = self.signals[at]
        if signal is not None and self.codes:
            self.floors[at] = signal.floor if signal.run == 1 else math.inf

    def write_back(self, offset: int) -> None:
        """Give the signals their last values, and the offset of the event that had them."""
        if self.is_new:
            return
        for signal, floor, last in zip(self.signals, self.floors, self.lasts, strict=False):
            if signal is not None and floor != math.inf:
                signal.last, signal.first_offset = last, offset


class TelemetryState:
    """One device: its signals, relations between them, its clock, what it sent before, and open episodes."""

    __slots__ = (
        "begun", "bound_to", "course", "episodes", "events", "first_offset", "last_offset", "layout",
        "prints", "relations", "signals",
    )  # fmt: skip

    def __init__(self) -> None:
        self.signals: dict[int, SignalState] = {}
        self.relations: dict[int, RelationTrack] = {}
        self.episodes: dict[tuple[int, int], Episode] = {}
        self.course = Course()
        self.prints = Prints()
        self.begun = False
        self.events = 0
        self.first_offset = 0
        self.bound_to: object = None
        """The configuration whose limits the signals carry; not kept."""
        self.layout: Layout | None = None
        """Of the last event; not kept."""
        self.last_offset = 0

    def dump(self) -> bytes:
        """Write the state."""
        if self.layout is not None:
            self.layout.write_back(self.last_offset)
        course, prints = self.course, self.prints
        parts: list[bytes | bytearray] = [
            _HEAD.pack(VERSION, self.events, self.first_offset),
            _COURSE.pack(
                self.begun, course.time_us, course.append_ms, course.top_us, course.difference_us,
                course.below, course.below_since_ms, course.block_us, course.block_append_ms,
                course.blocks, course.off_rate, course.interval_us,
            ),
            _PRINTS.pack(len(prints.rows) // CRC, len(prints.kept) // CRC, prints.spacing, prints.since, 0),
            prints.rows,
            prints.kept,
            _COUNT.pack(len(self.signals)),
        ]  # fmt: skip
        for each in self.signals.values():
            parts.append(
                _SIGNAL.pack(
                    each.code, each.last, each.run, each.first_offset, each.unit, each.unit_level,
                    each.unit_count, each.carried, len(each.samples), each.signs, each.track,
                )
            )  # fmt: skip
            parts.append(_little_endian(each.samples).tobytes())
        parts.append(_COUNT.pack(len(self.relations)))
        for code, known in self.relations.items():
            parts.append(_RELATION.pack(code, *known))
        parts.append(_COUNT.pack(len(self.episodes)))
        for (code, rule), episode in self.episodes.items():
            parts.append(_EPISODE.pack(code, rule, episode.first_offset, episode.samples, episode.calm))
        return b"".join(parts)

    @classmethod
    def load(cls, data: bytes) -> "TelemetryState":
        """Read what `dump` wrote; no bytes are a device not seen before. Raises StateError."""
        if not data:
            return cls()
        if data[0] not in (VERSION, _FORMER):
            message = f"telemetry state of version {data[0]}, this build reads {VERSION} and {_FORMER}"
            raise StateError(message)
        try:
            state, at = _former(data) if data[0] == _FORMER else _current(data)
            at = _read_episodes(state, data, at)
        except struct.error as error:
            message = f"telemetry state of {len(data)} bytes is cut short"
            raise StateError(message) from error
        if at != len(data):
            message = f"telemetry state has {len(data) - at} bytes after its end"
            raise StateError(message)
        return state


def _current(data: bytes) -> tuple[TelemetryState, int]:
    state = TelemetryState()
    course, prints = state.course, state.prints
    _, state.events, state.first_offset = _HEAD.unpack_from(data)
    if state.events >= BLOCK:
        message = f"telemetry state with {state.events} events in a block"
        raise StateError(message)
    at = _HEAD.size
    (
        begun, course.time_us, course.append_ms, course.top_us, course.difference_us, course.below,
        course.below_since_ms, course.block_us, course.block_append_ms, course.blocks, course.off_rate,
        course.interval_us,
    ) = _COURSE.unpack_from(data, at)  # fmt: skip
    state.begun = bool(begun)
    at += _COURSE.size
    rows, kept, prints.spacing, prints.since, _ = _PRINTS.unpack_from(data, at)
    if rows > ROWS or kept > KEPT:
        message = f"telemetry state with {rows} rows and {kept} fingerprints"
        raise StateError(message)
    at += _PRINTS.size
    prints.rows, at = bytearray(_cut(data, at, rows * CRC)), at + rows * CRC
    prints.kept, at = bytearray(_cut(data, at, kept * CRC)), at + kept * CRC
    (signals,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    for _ in range(signals):
        at = _read_signal(state, data, at)
    (relations,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    for _ in range(relations):
        code, *known = _RELATION.unpack_from(data, at)
        state.relations[code] = known
        at += _RELATION.size
    return state, at


def _read_signal(state: TelemetryState, data: bytes, at: int) -> int:
    (
        code, last, run, first_offset, unit, unit_level, unit_count, carried, samples, signs, track,
    ) = _SIGNAL.unpack_from(data, at)  # fmt: skip
    at += _SIGNAL.size
    if samples > MAX_BUFFERED:
        message = f"telemetry state with {samples} samples in a block"
        raise StateError(message)
    if not NO_SIGNS <= signs < MAX_SIGNS:
        message = f"telemetry state with signs {signs:#x}"
        raise StateError(message)
    each = state.signals[code] = SignalState(code)
    each.last, each.run, each.first_offset, each.carried = last, run, first_offset, carried
    each.unit, each.unit_level, each.unit_count = unit, unit_level, unit_count
    each.track, each.signs = track, signs
    size: int = samples * each.samples.itemsize
    each.samples.frombytes(_cut(data, at, size))
    each.samples = _little_endian(each.samples)
    return at + size


def _cut(data: bytes, at: int, size: int) -> bytes:
    """Return so many bytes; raises struct.error, as unpacking does, where there are fewer."""
    found = data[at : at + size]
    if len(found) < size:
        raise struct.error
    return found


def _read_episodes(state: TelemetryState, data: bytes, at: int) -> int:
    (episodes,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    for _ in range(episodes):
        code, rule, first_offset, samples, calm = _EPISODE.unpack_from(data, at)
        if rule >= RULES:
            message = f"telemetry state with rule {rule}"
            raise StateError(message)
        state.episodes[code, rule] = Episode(first_offset, samples, calm)
        at += _EPISODE.size
    return at


def _former(data: bytes) -> tuple[TelemetryState, int]:
    """Read version 1: version u8, signals u16, per signal (code i32, last f64, run i32, first i64)."""
    state = TelemetryState()
    _, signals = _FORMER_HEAD.unpack_from(data)
    at = _FORMER_HEAD.size
    for _ in range(signals):
        code, last, run, first_offset = _FORMER_SIGNAL.unpack_from(data, at)
        each = state.signals[code] = SignalState(code)
        each.run, each.first_offset = run, first_offset
        if run != OFF:
            each.last = last
        at += _FORMER_SIGNAL.size
    return state, at

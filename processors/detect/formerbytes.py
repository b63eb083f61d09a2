"""Reads the bytes of a device's state as former builds wrote them.

Version 2, little-endian, no padding: version u8; block (events u8, first raw offset i64); course, prints,
signals, relations, open episodes, each counted. Version 1 held the last values and episodes only.
"""

import struct
import sys
from array import array

from processors.detect.blocks import BLOCK, TRACK
from processors.detect.errors import StateError
from processors.detect.relations import RELATED
from processors.detect.replayed import CRC, KEPT, ROWS
from processors.detect.telemetry_state import (
    MAX_SIGNS,
    MOST_SAMPLES,
    NO_SIGNS,
    OFF,
    SignalState,
    TelemetryState,
)

FORMER = (2, 1)

_HEAD = struct.Struct("<BBq")
_COUNT = struct.Struct("<H")
_COURSE = struct.Struct("<BqqqqIqqqHHd")
_PRINTS = struct.Struct("<BBIIq")
_SIGNAL = struct.Struct(f"<idiqBdBBBQ{TRACK.size}s")
_RELATION = struct.Struct(f"<i{RELATED}d")
_FIRST_HEAD = struct.Struct("<BH")
_FIRST_SIGNAL = struct.Struct("<idiq")


def read_former(state: TelemetryState, data: bytes) -> tuple[int, int]:
    """Read all but the open episodes; return how many there are, and where.

    Raises StateError, and struct.error where bytes are missing.
    """
    at = _second(state, data) if data[0] == FORMER[0] else _first(state, data)
    (episodes,) = _COUNT.unpack_from(data, at)
    return episodes, at + _COUNT.size


def _second(state: TelemetryState, data: bytes) -> int:
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
    prints.rows, at = bytearray(cut(data, at, rows * CRC)), at + rows * CRC
    prints.kept, at = bytearray(cut(data, at, kept * CRC)), at + kept * CRC
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
    return at


def _read_signal(state: TelemetryState, data: bytes, at: int) -> int:
    (
        code, last, run, first_offset, unit, unit_level, unit_count, carried, samples, signs, track,
    ) = _SIGNAL.unpack_from(data, at)  # fmt: skip
    at += _SIGNAL.size
    if samples > MOST_SAMPLES:
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
    each.samples.frombytes(cut(data, at, size))
    each.samples = little_endian(each.samples)
    return at + size


def _first(state: TelemetryState, data: bytes) -> int:
    """Read version 1: version u8, signals u16, per signal (code i32, last f64, run i32, first i64)."""
    _, signals = _FIRST_HEAD.unpack_from(data)
    at = _FIRST_HEAD.size
    for _ in range(signals):
        code, last, run, first_offset = _FIRST_SIGNAL.unpack_from(data, at)
        each = state.signals[code] = SignalState(code)
        each.run, each.first_offset = run, first_offset
        if run != OFF:
            each.last = last
        at += _FIRST_SIGNAL.size
    return at


def cut(data: bytes, at: int, size: int) -> bytes:
    """Return so many bytes; raises struct.error, as unpacking does, where there are fewer."""
    found = data[at : at + size]
    if len(found) < size:
        raise struct.error
    return found


def little_endian(numbers: "array[float]") -> "array[float]":
    """Return the numbers as they stand in a state, or the other way round."""
    if sys.byteorder == "little":
        return numbers
    swapped = numbers[:]
    swapped.byteswap()
    return swapped

"""What the telemetry detectors remember of one device, and its bytes for the changelog.

Layout, little-endian: version u8, signals u16, per signal (code i32, last f64, run i32, first i64),
episodes u16, per episode (code i32, rule u8, first i64, samples u32, calm u8). A device without an open
episode and with eight signals takes 197 bytes.
"""

import struct
from functools import lru_cache

from processors.detect.errors import StateError

VERSION = 1
BOUNDS = 0
STUCK = 1

# A signal's cells: code, last value, how often it came in a row, raw offset of the first of these.
LAST, RUN, FIRST, STRIDE = 1, 2, 3, 4
OFF = -1
"""`RUN` of a signal that was off, or was never seen: its next sample may mix both states."""
SATURATED = 0
"""`RUN` of a signal at its ceiling: on, but unchanged by nature."""
MAX_RUN = 2**31 - 1
MAX_SAMPLES = 2**32 - 1

_HEAD = struct.Struct("<BH")
_COUNT = struct.Struct("<H")
_EPISODE = struct.Struct("<iBqIB")
_SIGNAL_BYTES = struct.calcsize("<idiq")


@lru_cache(maxsize=1024)
def _cells(signals: int) -> struct.Struct:
    return struct.Struct("<" + "idiq" * signals)


class Episode:
    """An open finding: raw offset of its first sample, samples so far, good samples in a row since."""

    __slots__ = ("calm", "first_offset", "samples")

    def __init__(self, first_offset: int, samples: int, calm: int = 0) -> None:
        self.first_offset = first_offset
        self.samples = samples
        self.calm = calm


class TelemetryState:
    """One device's signals in flat cells (`STRIDE` each), and the few episodes that are open.

    Flat, because packing one list is a single call, which counts at one dump per device and batch.
    """

    __slots__ = ("cells", "episodes", "slots")

    def __init__(self) -> None:
        self.cells: list[int | float] = []
        self.slots: dict[int, int] = {}
        self.episodes: dict[tuple[int, int], Episode] = {}

    def add(self, code: int) -> int:
        """Make room for a signal not seen before; return the index of its first cell."""
        at = len(self.cells)
        self.cells += (code, 0.0, OFF, 0)
        self.slots[code] = at
        return at

    def dump(self) -> bytes:
        """Write the state."""
        signals = len(self.slots)
        parts = [_HEAD.pack(VERSION, signals), _cells(signals).pack(*self.cells)]
        parts.append(_COUNT.pack(len(self.episodes)))
        for (code, rule), each in self.episodes.items():
            parts.append(_EPISODE.pack(code, rule, each.first_offset, each.samples, each.calm))
        return b"".join(parts)

    @classmethod
    def load(cls, data: bytes) -> "TelemetryState":
        """Read what `dump` wrote; no bytes are a device not seen before. Raises StateError."""
        state = cls()
        if not data:
            return state
        try:
            version, signals = _HEAD.unpack_from(data)
            if version != VERSION:
                message = f"telemetry state of version {version}, this build reads {VERSION}"
                raise StateError(message)
            at = _HEAD.size
            state.cells = list(_cells(signals).unpack_from(data, at))
            at += signals * _SIGNAL_BYTES
            (episodes,) = _COUNT.unpack_from(data, at)
            at += _COUNT.size
            for _ in range(episodes):
                code, rule, first_offset, samples, calm = _EPISODE.unpack_from(data, at)
                state.episodes[code, rule] = Episode(first_offset, samples, calm)
                at += _EPISODE.size
        except struct.error as error:
            message = f"telemetry state of {len(data)} bytes is cut short"
            raise StateError(message) from error
        if at != len(data):
            message = f"telemetry state has {len(data) - at} bytes after its end"
            raise StateError(message)
        state.slots = {int(state.cells[i]): i for i in range(0, len(state.cells), STRIDE)}
        return state

"""What ingest remembers of one device in one raw topic-partition."""

import struct
from dataclasses import dataclass, field
from typing import Any

from schemas.codec import CODEC
from schemas.errors import CodecError

REMEMBERED = 64
_HEADER = CODEC.header("device_state")
_ENTRY = struct.Struct(">QQ16s")  # sequence, raw offset, first 16 bytes of the payload digest


class RememberedSequences:
    """The last 64 accepted sequences of the current boot, oldest first, packed.

    Sixteen bytes of the digest tell a replay from an equivocation: finding two payloads that agree in
    them takes 2^64 work and gains only the milder name for a record that is rejected in any case.
    """

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes = b"") -> None:
        self._packed = bytearray(packed)

    def add(self, sequence: int, offset: int, digest: bytes) -> None:
        """Remember an accepted event; the oldest beyond 64 is forgotten."""
        self._packed += _ENTRY.pack(sequence, offset, digest[:16])
        if len(self._packed) > REMEMBERED * _ENTRY.size:
            del self._packed[: _ENTRY.size]

    def find(self, sequence: int) -> tuple[int, bytes] | None:
        """Return (raw offset, 16 bytes of digest) of an accepted sequence, if remembered."""
        for found, offset, digest in _ENTRY.iter_unpack(self._packed):
            if found == sequence:
                return offset, digest
        return None

    @property
    def oldest(self) -> int:
        """The lowest remembered sequence; 0 when none is."""
        return _ENTRY.unpack_from(self._packed)[0] if self._packed else 0

    @property
    def newest_offset(self) -> int | None:
        """The raw offset of the last accepted event."""
        return _ENTRY.unpack_from(self._packed, len(self._packed) - _ENTRY.size)[1] if self._packed else None

    def pack(self) -> bytes:
        """Return the bytes for the changelog."""
        return bytes(self._packed)


@dataclass(slots=True)
class DeviceState:
    """Last accepted boot and sequence, time of the last event, and the detectors' state."""

    detectors: Any
    boot: int = 0
    sequence: int = 0
    last_append_ms: int = 0
    silent_since_ms: int = 0
    """LogAppendTime of the last event before a reported silence; 0 when none is reported."""
    remembered: RememberedSequences = field(default_factory=RememberedSequences)

    def encode(self, detectors: bytes) -> bytes:
        """Write the changelog value; `detectors` is the detectors' state as they dump it."""
        return CODEC.encode(
            "device_state",
            {
                "boot": self.boot,
                "sequence": self.sequence,
                "last_append_ms": self.last_append_ms,
                "silent_since_ms": self.silent_since_ms,
                "remembered": self.remembered.pack(),
                "detectors": detectors,
            },
        )


def last_append_if_due(value: bytes) -> int:
    """Return LogAppendTime, in ms, of the last event of a device that is due to speak again; 0 for others.

    Of a million devices each is asked this at every recovery: only the numbers at the front are read.
    """
    if not value.startswith(_HEADER):
        state, _detectors = decode_state(value)
        return 0 if state.silent_since_ms else state.last_append_ms
    at, numbers = len(_HEADER), list[int]()
    try:
        while len(numbers) < 4:
            number, shift = 0, 0
            while (byte := value[at]) >= 0x80:
                number |= (byte & 0x7F) << shift
                at, shift = at + 1, shift + 7
            numbers.append(number | byte << shift)
            at += 1
    except IndexError:
        message = f"a device's state of {len(value)} bytes is cut short"
        raise CodecError(message) from None
    _boot, _sequence, last_append, silent_since = numbers
    return 0 if silent_since else last_append >> 1  # zigzag, of numbers that are never negative


def decode_state(value: bytes) -> tuple[DeviceState, bytes]:
    """Read a changelog value: the state without its detectors, and their bytes."""
    record = CODEC.decode("device_state", value)
    state = DeviceState(
        None,
        record["boot"],
        record["sequence"],
        record["last_append_ms"],
        record["silent_since_ms"],
        RememberedSequences(record["remembered"]),
    )
    return state, record["detectors"]

"""What ingest remembers of one device in one raw topic-partition, and how that is written.

A state is some four thousand bytes, of which an event changes few. So it is written whole now and then, as a
`device_state`, and in between what has changed since, as a `device_delta` under a key of its own. A delta
names the state that it changes by its digest: beside another one it says nothing.
"""

import struct
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from processors.splice import Splice
from schemas.codec import CODEC, HEADER_SIZE
from schemas.errors import CodecError
from schemas.varint import write_long

REMEMBERED = 64
MOST_SINCE = 16
"""Sequences that a delta tells of; with more the state is written whole."""
DELTA = b"\xff"
"""What follows a device id in the key of its delta: no byte of any text in UTF-8."""
BASE_BYTES = 8
_FRONT = struct.Struct(f">{HEADER_SIZE}s{BASE_BYTES}s5Q")
"""Of a delta, whose numbers do not vary in length: it is written for every event."""
_HEADER, _DELTA_HEADER = CODEC.header("device_state"), CODEC.header("device_delta")
_MOST = 2**63 - 1
_MORE, _MOST_SHIFT = 0x80, 56
"""Of a number: the bit that says that another byte follows, and how far the last one's bits may lie up."""
_ENTRY = struct.Struct(">QQ16s")  # sequence, raw offset, first 16 bytes of the payload digest


class RememberedSequences:
    """The last 64 accepted sequences of the current boot, oldest first, packed.

    Sixteen bytes of the digest tell a replay from an equivocation: finding two payloads that agree in
    them takes 2^64 work and gains only the milder name for a record that is rejected in any case.
    """

    __slots__ = ("_packed", "since")

    def __init__(self, packed: bytes = b"", since: bytes = b"") -> None:
        """`since` are those accepted after the state was last written whole."""
        self._packed = bytearray(packed + since)[-REMEMBERED * _ENTRY.size :]
        self.since = len(since) // _ENTRY.size
        """How many were added since the state was last written whole."""

    def add(self, sequence: int, offset: int, digest: bytes) -> None:
        """Remember an accepted event; the oldest beyond 64 is forgotten."""
        self._packed += _ENTRY.pack(sequence, offset, digest[:16])
        self.since += 1
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

    def pack_since(self) -> bytes | bytearray:
        """Return those that were added since the state was last written whole."""
        return self._packed[len(self._packed) - self.since * _ENTRY.size :]


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
    base: bytes = b""
    """Digest of the state as it was last written whole; empty where the next must be."""

    @property
    def is_due_whole(self) -> bool:
        """Tell whether a delta cannot tell of what has changed."""
        return not self.base or self.remembered.since > MOST_SINCE

    def restart(self, boot: int) -> None:
        """Begin another boot: nothing of the former one is remembered."""
        self.boot, self.remembered, self.base = boot, RememberedSequences(), b""

    def write(self, detectors: bytes | Splice) -> tuple[bytes, bytes]:
        """Return what follows the device id in the changelog's key, and the value.

        `detectors` is the detectors' state, or how it differs from that in the state as last written whole.
        Nothing but an accepted event, which raises sequence or boot, leads back to what was written whole
        before: else a delta of then would be taken for one of now.
        """
        if isinstance(detectors, Splice):
            return DELTA, self._delta(detectors)
        value = self.encode(detectors)
        self.base, self.remembered.since = digest_of(value), 0
        return b"", value

    def _delta(self, detectors: Splice) -> bytes:
        since, (head, begin, end, tail) = self.remembered.pack_since(), detectors
        front = _FRONT.pack(
            _DELTA_HEADER, self.base, self.sequence, self.last_append_ms, self.silent_since_ms, begin, end
        )
        return b"".join((front, _size(since), since, _size(head), head, _size(tail), tail))

    def encode(self, detectors: bytes) -> bytes:
        """Write the changelog value; `detectors` is the detectors' state as they dump it.

        The codec's bytes, written by hand because there are hundreds in a batch; a test holds the two equal.
        """
        numbers = map(write_long, (self.boot, self.sequence, self.last_append_ms, self.silent_since_ms))
        remembered = self.remembered.pack()
        return b"".join((_HEADER, *numbers, _size(remembered), remembered, _size(detectors), detectors))


def digest_of(value: bytes) -> bytes:
    """Name a state as written whole."""
    return blake3(value).digest(BASE_BYTES)


def last_append_if_due(value: bytes, delta: bytes | None = None) -> int:
    """Return LogAppendTime, in ms, of the last event of a device that is due to speak again; 0 for others.

    Of a million devices each is asked this at every recovery: only the numbers at the front are read.
    """
    if delta is not None and _changes(delta, digest_of(value)):
        _, _, _, last_append, silent_since, _, _ = _FRONT.unpack_from(delta)
    elif value.startswith(_HEADER):
        _boot, _sequence, last_append, silent_since = _numbers(value, len(_HEADER), 4)
    else:
        state, _detectors = decode_state(value)
        last_append, silent_since = state.last_append_ms, state.silent_since_ms
    return 0 if silent_since else last_append


def decode_state(value: bytes, delta: bytes | None = None) -> tuple[DeviceState, bytes]:
    """Read a state as written whole, and what has changed since: it without its detectors, and their bytes.

    Raises CodecError.
    """
    base = digest_of(value)
    boot, sequence, last_append_ms, silent_since_ms, remembered, detectors = _whole(value)
    if delta is None or not _changes(delta, base):
        since = b""
    else:
        since, head, tail = _changed(delta)
        if len(since) % _ENTRY.size:
            message = f"a device's delta with {len(since)} bytes of sequences of {_ENTRY.size} each"
            raise CodecError(message)
        _, _, sequence, last_append_ms, silent_since_ms, begin, end = _FRONT.unpack_from(delta)
        if max(sequence, last_append_ms, silent_since_ms) > _MOST:
            message = "a device's delta with a number above 2^63 - 1, which no state could hold"
            raise CodecError(message)
        detectors = Splice(head, begin, end, tail).applied(detectors)
    known = RememberedSequences(remembered, since)
    return DeviceState(None, boot, sequence, last_append_ms, silent_since_ms, known, base), detectors


def _whole(value: bytes) -> tuple[int, int, int, int, bytes, bytes]:
    """Read a `device_state`: without the codec where it is spelled as `encode` does, for a sixth of the time.

    A fleet larger than what is kept in memory has this done for every event.
    """
    if value.startswith(_HEADER):
        try:
            numbers, at = [], HEADER_SIZE
            for _ in range(4):
                number, at = _number(value, at)
                numbers.append(number >> 1)
            fields = _fields(value, at, 2)
        except (IndexError, CodecError):
            fields = None
        if fields is not None:
            boot, sequence, last_append_ms, silent_since_ms = numbers
            return boot, sequence, last_append_ms, silent_since_ms, fields[0], fields[1]
    record = CODEC.decode("device_state", value)
    names = ("boot", "sequence", "last_append_ms", "silent_since_ms", "remembered", "detectors")
    return tuple(record[name] for name in names)


def _changed(delta: bytes) -> tuple[bytes, bytes, bytes]:
    """Read what a `device_delta` has after its front, as `_whole` does."""
    try:
        fields = _fields(delta, _FRONT.size, 3)
    except (IndexError, CodecError):
        fields = None
    if fields is not None:
        return fields[0], fields[1], fields[2]
    record = CODEC.decode("device_delta", delta)
    return record["remembered"], record["head"], record["tail"]


def _fields(data: bytes, at: int, count: int) -> list[bytes] | None:
    """Read so many byte strings up to the end; None where they do not end there. Raises as `_number` does."""
    found = []
    for _ in range(count):
        size, at = _number(data, at)
        end = at + (size >> 1)
        found.append(data[at:end])
        at = end
    return found if at == len(data) else None


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number that is not negative, as it is written; return it and where the next field begins.

    Raises IndexError, and CodecError for what the codec must look at.
    """
    number, shift = data[at], 7
    at += 1
    if number >= _MORE:
        number &= _MORE - 1
        while (byte := data[at]) >= _MORE and shift <= _MOST_SHIFT:
            number |= (byte & _MORE - 1) << shift
            at, shift = at + 1, shift + 7
        if not byte or shift > _MOST_SHIFT:
            message = "a number that is spelled otherwise, or is larger than any of ours"
            raise CodecError(message)
        number |= byte << shift
        at += 1
    if number & 1:
        message = "a number that is negative"
        raise CodecError(message)
    return number, at


def _changes(delta: bytes, base: bytes) -> bool:
    """Tell whether a delta is of the state of this digest, not of one before. Raises CodecError."""
    if not delta.startswith(_DELTA_HEADER) or len(delta) < _FRONT.size:
        CODEC.decode("device_delta", delta)  # says what it is instead
    return delta[HEADER_SIZE : HEADER_SIZE + BASE_BYTES] == base


def _size(data: bytes | bytearray) -> bytes:
    """Write how many bytes follow, as Avro does."""
    return _SIZES[len(data)] if len(data) < len(_SIZES) else write_long(len(data))


_SIZES = tuple(map(write_long, range(4096)))
"""Those that occur: to work one out takes longer than to copy what it is about."""


def _numbers(data: bytes, at: int, count: int) -> list[int]:
    """Read so many numbers, none of which is negative. Raises CodecError."""
    numbers = list[int]()
    try:
        while len(numbers) < count:
            number, shift = 0, 0
            while (byte := data[at]) >= 0x80:
                number |= (byte & 0x7F) << shift
                at, shift = at + 1, shift + 7
            numbers.append((number | byte << shift) >> 1)
            at += 1
    except IndexError:
        message = f"a device's state of {len(data)} bytes is cut short"
        raise CodecError(message) from None
    return numbers

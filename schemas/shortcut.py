"""Reads envelopes and telemetry of the common shape for a quarter of what the codec takes.

Each function returns exactly what `CODEC.decode` would, or None: then the codec reads the bytes, and says
what is wrong with them if anything is. So nothing is accepted here that is not accepted there: other shapes,
other spellings of a number, anything cut short or too long are all left to it.
"""

import sys
from array import array
from math import isfinite

from schemas.codec import CODEC, HEADER_SIZE

_ENVELOPE = CODEC.header("signed_envelope")
_TELEMETRY = CODEC.header("telemetry")
_ONE = b"\x02"
_MORE = 0x80
_SIGNATURE = b"\x00\x80\x01"
"""Ed25519, and that 64 bytes follow."""
_SIGNATURE_BYTES = 64
_MAX_NUMBER_BYTES = 9
_MORES, _MORES_OF_EIGHT = 0x8080_8080_8080_8080, 0x0080_8080_8080_8080
"""The bits of eight bytes that say that another follows, and how they are in a number of eight bytes."""
_MAX_REMEMBERED = 4096
_MAX_WRITTEN = 2 << 62
"""A boot or sequence of 2^62, the largest, as it is written."""

Reading = tuple[str, int, int, int, tuple[int, ...], "array[float]"]
"""device_id, boot, sequence, time, codes, values"""


class _UncommonError(Exception):
    """What is read here has another shape."""


_names: dict[bytes, str] = {}
_devices: dict[bytes, str] = {}
"""Those of `_names` that are DIDs."""
_codes: dict[bytes, tuple[int, ...]] = {}
"""Codes and number of values by their bytes: devices of one model send the same again and again."""


def read_envelope(value: bytes) -> tuple[bytes, str, bytes] | None:
    """Return (payload, key id, signature) of an envelope with one signature; None: ask the codec."""
    if not value.startswith(_ENVELOPE) or len(value) < HEADER_SIZE + 2:
        return None
    size, at = value[HEADER_SIZE], HEADER_SIZE + 1
    if size >= _MORE:
        high, at = value[at], at + 1
        if not 0 < high < _MORE:
            return None
        size = size & 0x7F | high << 7
    end = at + (size >> 1)
    if size & 1 or value[end : end + 1] != _ONE:
        return None
    # After the count: a key id whose length is one byte, the signature, and the end of the array.
    key_at = end + 2
    tail = len(value) - _SIGNATURE_BYTES - 1 - len(_SIGNATURE)
    if key_at > tail or value[end + 1] != 2 * (tail - key_at) or tail - key_at >= _MORE >> 1 or value[-1]:
        return None
    if value[tail : tail + len(_SIGNATURE)] != _SIGNATURE:
        return None
    key_id = _name(value[key_at:tail])
    return None if key_id is None else (value[at:end], key_id, value[-_SIGNATURE_BYTES - 1 : -1])


def read_telemetry(payload: bytes) -> Reading | None:  # noqa: C901, PLR0911, PLR0912 - no call that can be spared
    """Return what a telemetry event says that breaks no rule of `events.py`; None: ask the codec."""
    if not payload.startswith(_TELEMETRY) or payload[-1] or len(payload) == HEADER_SIZE:
        return None
    size = payload[HEADER_SIZE]
    if size & 1 or size >= _MORE:
        return None
    at = HEADER_SIZE + 1 + (size >> 1)
    name = payload[HEADER_SIZE + 1 : at]
    device_id = _devices.get(name) or _device(name)
    if device_id is None:
        return None
    try:
        boot = payload[at]
        if boot < _MORE:
            at += 1
        else:
            boot, at = _number(payload, at)
        sequence = payload[at]
        if sequence < _MORE:
            at += 1
        elif 0 < payload[at + 1] < _MORE:
            sequence = sequence & 0x7F | payload[at + 1] << 7
            at += 2
        else:
            sequence, at = _number(payload, at)
        # A time in microseconds since 1970 takes eight bytes from 1987 to 3111.
        time_us = int.from_bytes(payload[at : at + 8], "little")
        if time_us & _MORES == _MORES_OF_EIGHT and payload[at + 7]:
            time_us = time_us & 0x007F_007F_007F_007F | (time_us & 0x7F00_7F00_7F00_7F00) >> 1
            time_us = time_us & 0x0000_3FFF_0000_3FFF | (time_us & 0x3FFF_0000_3FFF_0000) >> 2
            time_us = time_us & 0x0FFF_FFFF | time_us >> 4 & 0x00FF_FFFF_F000_0000
            at += 8
        else:
            time_us, at = _number(payload, at)
        end = len(payload) - 8 * (payload[at] >> 1) - 1
    except (IndexError, _UncommonError):
        return None
    # As they are written: even where they are not negative.
    if (boot | sequence) & 1 or not (0 < boot <= _MAX_WRITTEN and 0 < sequence <= _MAX_WRITTEN) or end < at:
        return None
    codes = _codes.get(payload[at:end]) or _codes_of(payload[at:end])
    if codes is None:
        return None
    values = array("d", payload[end:-1])
    if sys.byteorder == "big":
        values.byteswap()
    if not isfinite(sum(values)):
        return None
    return device_id, boot >> 1, sequence >> 1, time_us >> 1 ^ -(time_us & 1), codes, values


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of Avro's as it is written; return it and where the next begins.

    Raises IndexError, _UncommonError.
    """
    number = shift = 0
    while (byte := data[at]) >= _MORE:
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
    if (shift and not byte) or shift > 7 * (_MAX_NUMBER_BYTES - 1):
        raise _UncommonError  # spelled with more bytes than it takes, or maybe out of range
    return number | byte << shift, at + 1


def _device(raw: bytes) -> str | None:
    name = _name(raw)
    if name is None or not name.startswith("did:"):
        return None
    if len(_devices) >= _MAX_REMEMBERED * 16:
        _devices.clear()
    _devices[raw] = name
    return name


def _name(raw: bytes) -> str | None:
    name = _names.get(raw)
    if name is None:
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            return None
        if len(_names) >= _MAX_REMEMBERED * 16:
            _names.clear()
        _names[raw] = name
    return name


def _codes_of(shape: bytes) -> tuple[int, ...] | None:
    """Read one block of codes, its end, and the count of one block of as many values; None for all else."""
    count, at, codes = shape[0] if shape else 1, 1, []
    if count & 1 or not 0 < count < _MORE:
        return None
    for _ in range(count >> 1):
        code = shift = 0
        while True:
            if at >= len(shape) or shift > 28:
                return None
            byte = shape[at]
            at += 1
            code |= (byte & 0x7F) << shift
            shift += 7
            if byte < _MORE:
                break
        if code & 1 or code >= 1 << 32 or (shift > 7 and not byte):
            return None
        codes.append(code >> 1)
    if shape[at:] != bytes((0, count)):
        return None
    if len(_codes) >= _MAX_REMEMBERED:
        _codes.clear()
    _codes[shape] = found = tuple(codes)
    return found

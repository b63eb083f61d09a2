r"""A corpus: signed events on disk, so that signing takes no CPU time from what is measured.

    magic      b"attestream corpus 1\n"
    header     u32be length, then JSON (see `Header`)
    keys       32 bytes each: the public keys of all devices, then those of all nurses
    records    u32be length of what follows | u8 kind | u32be device | the signed envelope
    digest     BLAKE3 of all before it, 32 bytes

`kind` is the place in `KINDS`, with 0x80 added where the signature was forged on purpose. A record has no
partition: the device's key says it, whatever the partition count of the topics. Whoever reads a file gets a
whole corpus or one CorpusError.
"""

import json
import mmap
import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from loadtests.errors import CorpusError
from schemas.did import encode_did_key
from schemas.envelope import MAX_ENVELOPE_BYTES, PayloadKind
from schemas.errors import FormatError
from schemas.strictjson import load_object

FILE, SEED_FILE = "corpus.bin", "seed"
MAGIC = b"attestream corpus 1\n"
KINDS = (PayloadKind.TELEMETRY, PayloadKind.ACCESS, PayloadKind.LIFECYCLE)
FORGED = 0x80
MAX_HEADER_BYTES = 64 * 1024
MAX_SUBJECTS = 10_000_000
MAX_RECORDS = 2**31
KEY_BYTES = DIGEST_BYTES = 32

_LENGTH = struct.Struct(">I")
_PLACE = struct.Struct(">BI")
_RECORD = struct.Struct(">IBI")


@dataclass(frozen=True, slots=True)
class Header:
    """What is in a corpus. Times are the devices' own, in microseconds since 1970."""

    log_name: str
    """Audience of every signature: the corpus fits this log only."""
    devices: int
    nurses: int
    """Persons who log in; nurse n is of ward n // 2, device n of ward n // 8."""
    records: int
    forged: int
    """Records among them whose signature is not the device's."""
    mix: Mapping[str, int]
    """How many records of each kind."""
    first_us: int
    last_us: int
    event_rate: float
    """Events a second by the devices' clocks, all together."""


@dataclass(frozen=True, slots=True)
class Index:
    """Where the records lie, parallel arrays in their order."""

    positions: npt.NDArray[np.int64]
    """Of the envelopes in the file."""
    sizes: npt.NDArray[np.int32]
    """Of the envelopes, in bytes."""
    devices: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.uint8]
    """Places in `KINDS`."""
    forged: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.positions)


class Corpus:
    """A corpus that was read whole and checked; the records stay on disk."""

    def __init__(self, folder: Path) -> None:
        """Open and check it; raises CorpusError."""
        self.path = folder / FILE if folder.is_dir() else folder
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size == 0:  # cannot be mapped
                    raise CorpusError(f"{self.path} is empty")
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CorpusError(f"cannot read {self.path}: {error.strerror}") from error
        self.header, self._keys_at = _read_header(self._data, self.path)
        subjects = self.header.devices + self.header.nurses
        self._records_at = self._keys_at + KEY_BYTES * subjects
        self._end = len(self._data) - DIGEST_BYTES
        if self._records_at > self._end:
            raise CorpusError(f"{self.path} ends within its keys: it was cut off")
        with memoryview(self._data) as view:
            digest = blake3(view[: self._end], max_threads=blake3.AUTO).digest()
        if digest != self._data[self._end :]:
            raise CorpusError(f"{self.path} does not have the digest at its end: it was cut off or changed")
        self.index = self._read_index()

    def envelope(self, number: int) -> bytes:
        """Return the envelope of a record."""
        at = int(self.index.positions[number])
        return self._data[at : at + int(self.index.sizes[number])]

    def device_key(self, device: int) -> bytes:
        """Return the public key of a device; nurses come behind the devices."""
        at = self._keys_at + KEY_BYTES * device
        return self._data[at : at + KEY_BYTES]

    def did(self, device: int) -> str:
        """Return the DID of a device or nurse."""
        try:
            return encode_did_key(self.device_key(device))
        except FormatError as error:
            raise CorpusError(f"{self.path}: key {device:,} is none: {error}") from error

    def close(self) -> None:
        """Let the file go."""
        self._data.close()

    def _read_index(self) -> Index:
        """Walk the records once; their lengths must lead exactly to the digest."""
        data, at, end, header = self._data, self._records_at, self._end, self.header
        count = header.records
        if count * _RECORD.size > end - at:
            raise CorpusError(f"{self.path}: {count:,} records do not fit into its {len(data):,} bytes")
        positions, sizes, devices, kinds = array("q"), array("i"), array("i"), bytearray()
        unpack, size = _RECORD.unpack_from, _RECORD.size
        for number in range(count):
            if at + size > end:
                raise CorpusError(f"{self.path} ends before record {number:,} of {count:,}")
            length, kind, device = unpack(data, at)
            value_bytes = length - _PLACE.size
            if not 0 < value_bytes <= MAX_ENVELOPE_BYTES or at + _LENGTH.size + length > end:
                raise CorpusError(f"{self.path}: record {number:,} cannot have {length:,} bytes")
            if device >= header.devices or (kind & ~FORGED) >= len(KINDS):
                raise CorpusError(f"{self.path}: record {number:,} is of an unknown device or kind")
            positions.append(at + size)
            sizes.append(value_bytes)
            devices.append(device)
            kinds.append(kind)
            at += _LENGTH.size + length
        if at != end:
            raise CorpusError(f"{self.path} has {end - at:,} bytes behind its {count:,} records")
        marked = np.frombuffer(kinds, np.uint8)
        forged = (marked & FORGED) != 0
        if int(forged.sum()) != header.forged:
            raise CorpusError(f"{self.path}: {int(forged.sum()):,} records are forged, not {header.forged:,}")
        return Index(
            np.frombuffer(positions, np.int64),
            np.frombuffer(sizes, np.int32),
            np.frombuffer(devices, np.int32),
            marked & np.uint8(0xFF ^ FORGED),
            forged,
        )


def _read_header(data: mmap.mmap, path: Path) -> tuple[Header, int]:
    start = len(MAGIC) + _LENGTH.size
    if data[: len(MAGIC)] != MAGIC or len(data) < start:
        raise CorpusError(f"{path} is no corpus of version 1")
    (length,) = _LENGTH.unpack_from(data, len(MAGIC))
    if not 0 < length <= MAX_HEADER_BYTES or start + length > len(data):
        raise CorpusError(f"{path}: a header of {length:,} bytes cannot be")
    try:
        header = _header_of(load_object(data[start : start + length]))
    except (ValueError, TypeError, KeyError) as error:
        raise CorpusError(f"{path}: its header is not one: {error}") from error
    return header, start + length


def _header_of(found: dict[str, Any]) -> Header:
    """Check a header's members; raises ValueError, TypeError or KeyError."""
    if set(found) != {each.name for each in fields(Header)}:
        raise ValueError("other members than a header has")
    for name, most in (("devices", MAX_SUBJECTS), ("nurses", MAX_SUBJECTS), ("records", MAX_RECORDS)):
        if type(found[name]) is not int or not 0 <= found[name] <= most:
            raise ValueError(f"{name} is not between 0 and {most:,}")
    if type(found["forged"]) is not int or not 0 <= found["forged"] <= found["records"]:
        raise ValueError("forged is no part of the records")
    mix = found["mix"]
    if not isinstance(mix, dict) or any(type(each) is not int for each in mix.values()):
        raise ValueError("mix has no counts")
    for name in ("first_us", "last_us"):
        if type(found[name]) is not int or not 0 <= found[name] < 2**62:
            raise ValueError(f"{name} is no time")
    if not isinstance(found["log_name"], str) or not isinstance(found["event_rate"], int | float):
        raise ValueError("log_name or event_rate has another type")
    return Header(**{**found, "event_rate": float(found["event_rate"])})


def write(
    folder: Path, header: Header, keys: Iterable[bytes], records: Iterable[tuple[int, int, bytes]]
) -> Path:
    """Write a corpus whole or not at all; `records` are (kind with FORGED, device, envelope).

    Raises CorpusError where the folder cannot be written.
    """
    path = folder / FILE
    text = json.dumps(asdict(header), sort_keys=True).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{FILE}.", dir=folder)
        try:
            with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
                digest = blake3()

                def put(part: bytes) -> None:
                    digest.update(part)
                    file.write(part)

                put(MAGIC + _LENGTH.pack(len(text)) + text)
                for key in keys:
                    put(key)
                for kind, device, envelope in records:
                    put(_RECORD.pack(len(envelope) + _PLACE.size, kind, device) + envelope)
                file.write(digest.digest())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CorpusError(f"cannot write {path}: {error.strerror}") from error
    return path

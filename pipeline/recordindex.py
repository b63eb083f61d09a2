"""Where an event stands: an index of `device.events`, beside the hot path and disposable.

Keys are 16 bytes of BLAKE3: of (device, event type, boot, sequence), which ingest accepts once, and of the
payload, which findings cite and a device can compute by itself. Values are partition and offset. Nothing is
believed for being in here: whoever looks a record up reads it and compares.

`prove` brings the index up to date by reading on from where it stands; a stage may keep it warm. One process
writes, and RocksDB's lock decides which; any other looks at the same files as a secondary.
"""

import json
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from rocksdict import AccessType, Options, Rdict

from pipeline.settings import PipelineError
from pipeline.workingcopy import CopyBusyError, WorkingCopy, empty_batch, end_of
from processors.model import RawRecord
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, decode_envelope
from schemas.errors import FormatError
from schemas.events import EVENT_KINDS

KEY_BYTES = 16
BUFFER_BYTES = 32 << 20
_EVENT, _DIGEST, _POSITIONS = b"e", b"d", b"p"
_PLACE = struct.Struct(">IQ")


class IndexBusyError(PipelineError):
    """Another process writes the index."""


@dataclass(frozen=True, slots=True)
class EventName:
    """What names an event: sequences rise per device, boot and event type."""

    device_id: str
    kind: PayloadKind
    boot: int
    sequence: int

    @property
    def key(self) -> bytes:
        """The index key."""
        device = self.device_id.encode()
        kind = self.kind.value.encode()
        parts = struct.pack(">I", len(device)), device, struct.pack(">I", len(kind)), kind
        return blake3(b"".join(parts) + struct.pack(">qq", self.boot, self.sequence)).digest(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Positions:
    """The next offset of each partition to read, in the topic of this Kafka id."""

    topic_id: str
    next_offsets: dict[int, int]


def name_of(record: RawRecord) -> tuple[EventName, bytes] | None:
    """Name an accepted event, and give its payload's digest; None for what is no event."""
    try:
        payload = decode_envelope(record.value or b"").payload
        kind = PayloadKind(CODEC.name_of(payload))
        if kind not in EVENT_KINDS:
            return None
        body = CODEC.decode(kind.value, payload)
    except (FormatError, ValueError):
        return None
    return EventName(body["device_id"], kind, body["boot"], body["sequence"]), blake3(payload).digest()


class RecordIndex:
    """The index's files; `close` it. Opening for writing raises IndexBusyError while another process does."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._aside: tempfile.TemporaryDirectory[str] | None = None
        self._reader: Any = None
        self._copy = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
        if read_only:
            self._reader = self._follow(path)
            return
        try:
            self._copy.mend()
        except CopyBusyError as error:
            raise IndexBusyError(f"{path} is written by another process") from error

    def _follow(self, path: Path) -> Any:
        """Open a secondary: it follows the files of a writer that lives, and keeps its own log elsewhere."""
        self._aside = tempfile.TemporaryDirectory(prefix="attestream-index-")
        options = Options(raw_mode=True)
        options.set_max_open_files(-1)
        try:
            return Rdict(str(path), options, access_type=AccessType.secondary(self._aside.name))
        except Exception as error:  # rocksdict has no class of its own for it
            self.close()
            raise PipelineError(f"the record index {path} cannot be read: {error}") from error

    def by_name(self, name: EventName) -> tuple[int, int] | None:
        """Find partition and offset of an event."""
        return self._place(_EVENT + name.key)

    def by_digest(self, digest: bytes) -> tuple[int, int] | None:
        """Find partition and offset of the event whose payload has this BLAKE3, or these first 16 bytes."""
        return self._place(_DIGEST + digest[:KEY_BYTES])

    def positions(self) -> Positions | None:
        """Return how far the topic has been read; None before the first record."""
        found = self._get(_POSITIONS)
        if found is None:
            return None
        document = json.loads(found)
        offsets = {int(number): int(offset) for number, offset in document["next_offsets"].items()}
        return Positions(document["topic_id"], offsets)

    def write(self, records: Iterable[RawRecord], positions: Positions) -> None:
        """Add records and say how far the topic is read, in one batch. What is no event is passed over."""
        batch = empty_batch()
        for record in records:
            named = name_of(record)
            if named is None:
                continue
            name, digest = named
            self._put(batch, name.key, digest, record.partition, record.offset)
        self._commit(batch, positions)

    def _put(self, batch: Any, key: bytes, digest: bytes, partition: int, offset: int) -> None:
        place = _PLACE.pack(partition, offset)
        batch.put(_EVENT + key, place)
        batch.put(_DIGEST + digest[:KEY_BYTES], place)

    def _commit(self, batch: Any, positions: Positions) -> None:
        document = {"topic_id": positions.topic_id, "next_offsets": positions.next_offsets}
        batch.put(_POSITIONS, json.dumps(document).encode())
        self._copy.write(batch)

    def refresh(self) -> None:
        """For a read-only view: see what the writer has written since."""
        self._reader.try_catch_up_with_primary()

    def wipe(self) -> None:
        """Forget everything: the topic is another one."""
        batch = empty_batch()
        for prefix in (_EVENT, _DIGEST, _POSITIONS):
            batch.delete_range(prefix, end_of(prefix))
        self._copy.write(batch)

    def close(self) -> None:
        """Release the files."""
        if self._reader is not None:
            self._reader.close()
        self._copy.close()
        if self._aside is not None:
            self._aside.cleanup()

    def _get(self, key: bytes) -> bytes | None:
        if self._reader is None:
            return self._copy.get(key)
        found: bytes | None = self._reader.get(key)
        return found

    def _place(self, key: bytes) -> tuple[int, int] | None:
        found = self._get(key)
        return None if found is None else _PLACE.unpack(found)

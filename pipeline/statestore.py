"""Ingest's working copy of its state: RocksDB, disposable, restored from the changelog.

Keys: `s/<topic>/<partition>/<device>` for a device's state (and with 0xff after it for what has changed since
that was written: keys are the changelog's), `p/<topic>/<partition>` for how far into the
changelog it reaches, `l/<topic>/<partition>` for the digest of the last record that was applied. State and
position change in one WriteBatch, after the transaction committed: a crash between the two leaves an older
position, and the restore reads the rest again.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from pipeline.workingcopy import WorkingCopy, empty_batch, end_of

Partition = tuple[str, int]
"""Topic and partition number."""
BUFFER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class ChangelogPosition:
    """The next changelog offset to apply, in the topic of this Kafka id.

    The record before it is the last that was applied: a position never passes markers that are no records.
    """

    topic_id: str
    next_offset: int


class StateStore:
    """State of many source partitions in one database; one process has it open at a time.

    Whatever RocksDB raises comes as a WorkingCopyError, once and at each call until `mend`.
    """

    def __init__(self, path: Path) -> None:
        self._copy = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
        self.mend = self._copy.mend
        self.close = self._copy.close

    def get(self, partition: Partition, key: bytes) -> bytes | None:
        """Read one device's state."""
        return self._copy.get(_state_prefix(partition) + key)

    def items(self, partition: Partition) -> Iterator[tuple[bytes, bytes]]:
        """Walk over all devices of a partition."""
        prefix = _state_prefix(partition)
        for key, value in self._copy.items(prefix):
            yield key[len(prefix) :], value

    def damaged(self, partition: Partition, why: object) -> Exception:
        """Take note that states of a partition do not fit together; the caller raises what this returns."""
        return self._copy.damaged(f"states of {partition[0]}[{partition[1]}]: {why}")

    def position(self, partition: Partition) -> ChangelogPosition | None:
        """How far the changelog of a partition has been applied; None where nothing was."""
        found = self._copy.get(_position_key(partition))
        try:
            return ChangelogPosition(**json.loads(found)) if found else None
        except (ValueError, TypeError) as error:
            raise self._copy.damaged(f"the position of {partition[0]}[{partition[1]}]: {error}") from error

    def last_digest(self, partition: Partition) -> bytes | None:
        """`record_digest` of the record before the position; None where nothing was applied."""
        return self._copy.get(_last_key(partition))

    def write(
        self,
        updates: Iterable[tuple[Partition, bytes, bytes]],
        positions: dict[Partition, ChangelogPosition],
    ) -> None:
        """Apply state and positions together; updates in changelog order within each partition."""
        batch = empty_batch()
        last: dict[Partition, tuple[bytes, bytes]] = {}
        prefixes: dict[Partition, bytes] = {}
        for partition, key, value in updates:
            prefix = prefixes.get(partition) or prefixes.setdefault(partition, _state_prefix(partition))
            batch.put(prefix + key, value)
            last[partition] = key, value
        for partition, position in positions.items():
            text = json.dumps({"topic_id": position.topic_id, "next_offset": position.next_offset})
            batch.put(_position_key(partition), text.encode())
            if partition in last:
                batch.put(_last_key(partition), record_digest(*last[partition]))
            else:
                batch.delete(_last_key(partition))
        self._copy.write(batch)

    def restoring(self) -> AbstractContextManager[None]:
        """Surround many writes that can be done again: they go without a log, in larger pieces."""
        return self._copy.bulk()

    def wipe(self, partition: Partition) -> None:
        """Forget a partition: its changelog is not the one that this state came from."""
        batch = empty_batch()
        prefix = _state_prefix(partition)
        batch.delete_range(prefix, end_of(prefix))
        batch.delete(_position_key(partition))
        batch.delete(_last_key(partition))
        self._copy.write(batch)


def record_digest(key: bytes, value: bytes) -> bytes:
    """Digest of a changelog record, by which it is known again."""
    return blake3(len(key).to_bytes(4, "big") + key + value).digest(16)


def _state_prefix(partition: Partition) -> bytes:
    return f"s/{partition[0]}/{partition[1]}/".encode()


def _position_key(partition: Partition) -> bytes:
    return f"p/{partition[0]}/{partition[1]}".encode()


def _last_key(partition: Partition) -> bytes:
    return f"l/{partition[0]}/{partition[1]}".encode()

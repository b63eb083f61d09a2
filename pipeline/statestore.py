"""Ingest's working copy of its state: RocksDB, disposable, restored from the changelog.

Keys: `s/<topic>/<partition>/<device>` for a device's state, `p/<topic>/<partition>` for how far into the
changelog it reaches. State and position change in one WriteBatch, after the transaction committed: a crash
between the two leaves an older position, and the restore reads the rest again.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict, WriteBatch

Partition = tuple[str, int]
"""Topic and partition number."""


@dataclass(frozen=True, slots=True)
class ChangelogPosition:
    """The next changelog offset to apply, in the topic of this Kafka id."""

    topic_id: str
    next_offset: int


class StateStore:
    """State of many source partitions in one database; one process opens it at a time."""

    def __init__(self, path: Path) -> None:
        options = Options(raw_mode=True)
        options.set_write_buffer_size(8 << 20)
        # Typed as the union of all modes; raw mode deals in bytes only.
        self._db: Any = Rdict(str(path), options)

    def get(self, partition: Partition, key: bytes) -> bytes | None:
        """Read one device's state."""
        found: bytes | None = self._db.get(_state_prefix(partition) + key)
        return found

    def items(self, partition: Partition) -> Iterator[tuple[bytes, bytes]]:
        """Walk over all devices of a partition."""
        prefix = _state_prefix(partition)
        for key, value in self._db.items(from_key=prefix):
            if not key.startswith(prefix):
                return
            yield key[len(prefix) :], value

    def position(self, partition: Partition) -> ChangelogPosition | None:
        """How far the changelog of a partition has been applied; None where nothing was."""
        found = self._db.get(_position_key(partition))
        return ChangelogPosition(**json.loads(found)) if found else None

    def write(
        self,
        updates: Iterable[tuple[Partition, bytes, bytes]],
        positions: dict[Partition, ChangelogPosition],
    ) -> None:
        """Apply state and positions together."""
        batch = WriteBatch(raw_mode=True)
        for partition, key, value in updates:
            batch.put(_state_prefix(partition) + key, value)
        for partition, position in positions.items():
            text = json.dumps({"topic_id": position.topic_id, "next_offset": position.next_offset})
            batch.put(_position_key(partition), text.encode())
        self._db.write(batch)

    def wipe(self, partition: Partition) -> None:
        """Forget a partition: its changelog is not the one that this state came from."""
        batch = WriteBatch(raw_mode=True)
        for key, _value in self.items(partition):
            batch.delete(_state_prefix(partition) + key)
        batch.delete(_position_key(partition))
        self._db.write(batch)

    def close(self) -> None:
        """Release the database."""
        self._db.close()


def _state_prefix(partition: Partition) -> bytes:
    return f"s/{partition[0]}/{partition[1]}/".encode()


def _position_key(partition: Partition) -> bytes:
    return f"p/{partition[0]}/{partition[1]}".encode()

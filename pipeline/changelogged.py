"""What one transaction writes to changelogs, and what follows from it for marks and working copy."""

from collections.abc import Iterable, Mapping

from pipeline.changelogmark import ChangelogMark
from pipeline.statestore import ChangelogPosition, Partition, StateStore, record_digest
from pipeline.topics import changelog_of
from pipeline.transaction import Delivered, TransactionalProducer


class ChangelogWrites:
    """The changelog records of one transaction; `marks` tell where each changelog stood before it."""

    def __init__(self, producer: TransactionalProducer, marks: Mapping[Partition, ChangelogMark]) -> None:
        self._producer = producer
        self.marks = dict(marks)
        """Where each changelog stands; complete once `note` was asked for every partition."""
        self._changes: list[tuple[Partition, bytes, bytes]] = []
        self._last: dict[Partition, tuple[bytes, bytes]] = {}
        self._delivered: dict[Partition, Delivered] = {}

    def add(self, partition: Partition, changes: Iterable[tuple[bytes, bytes]]) -> None:
        """Produce the changes of a source partition's state."""
        changelog = changelog_of(partition[0])
        key, value = None, None
        for following in changes:
            if key is not None:
                self._producer.produce(changelog, value, key, partition[1])
            key, value = following
            self._changes.append((partition, key, value))
        if key is not None and value is not None:
            # Records of a partition are delivered in order: only where the last one lies is of interest.
            callback = self._delivered.setdefault(partition, Delivered())
            self._producer.produce(changelog, value, key, partition[1], on_delivery=callback)
            self._last[partition] = key, value

    def note(self, partition: Partition) -> str:
        """Say what is committed beside a source offset; asked after the flush."""
        if partition in self._last:
            next_offset = self._delivered[partition].next_offset
            digest = record_digest(*self._last[partition])
            self.marks[partition] = ChangelogMark(self.marks[partition].topic_id, next_offset, digest)
        return self.marks[partition].encode()

    def keep(self, store: StateStore) -> None:
        """Write state and changelog position into the working copy, after the commit.

        A crash before this leaves the copy one commit behind its changelog; the next restore reads it.
        """
        positions = {
            partition: ChangelogPosition(self.marks[partition].topic_id, last.next_offset)
            for partition, last in self._delivered.items()
            if last.next_offset is not None
        }
        store.write(self._changes, positions)

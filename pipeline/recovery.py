"""One recovery for everything: assignment, abort, a commit in doubt, a stalled call.

Its order is what makes it right:

1. A new producer under the same transactional id. Afterwards the predecessor's transaction is decided.
2. The committed source offsets, read committed, hence stable.
3. The changelog's end at read_uncommitted. A zombie's open transaction may lie below it; it can only
   abort, because its offsets carry a dead generation, but we must not read past it before it has.
4. The changelog, read_committed, up to that end, into RocksDB.
5. Seek the sources to the committed offsets.

So state and source offsets are of the same transaction. A commit that timed out is not an abort: steps 1
to 3 find out which it was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import ChangelogPosition, Partition, StateStore
from pipeline.topics import changelog_of
from pipeline.transaction import TransactionalProducer

log = structlog.get_logger()

RESTORE_BATCH = 5000
STALL_S = 60.0
"""A restore that makes no progress for so long gives up; the caller tries again from the start."""


class RecoveryError(PipelineError):
    """State and source offsets could not be brought to one point."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A fenced producer, and where to go on in each source partition."""

    producer: TransactionalProducer
    next_offsets: dict[Partition, int]


def recover(
    settings: Settings,
    transactional_id: str,
    consumer: Consumer,
    admin: AdminClient,
    store: StateStore,
    assigned: list[Partition],
    on_progress: Callable[[str], None],
) -> Recovered:
    """Bring producer, state and source position of the assigned partitions to the last commit."""
    producer = TransactionalProducer(settings, transactional_id)
    if not assigned:
        return Recovered(producer, {})
    wanted = [TopicPartition(topic, number) for topic, number in assigned]
    committed = {(tp.topic, tp.partition): tp.offset for tp in consumer.committed(wanted, CALL_TIMEOUT_S)}
    ends = kafka.end_offsets(admin, [(changelog_of(topic), number) for topic, number in assigned])
    _restore(settings, admin, store, assigned, ends, on_progress)
    starts = kafka.end_offsets(admin, assigned, spec=OffsetSpec.earliest())
    next_offsets = {}
    for partition in assigned:
        offset = committed[partition]
        if offset < 0:
            _must_be_new(store, partition)
            offset = starts[partition]
        next_offsets[partition] = offset
    consumer.assign(
        [TopicPartition(topic, number, offset) for (topic, number), offset in next_offsets.items()]
    )
    return Recovered(producer, next_offsets)


def _must_be_new(store: StateStore, partition: Partition) -> None:
    """Refuse to judge a partition from its start when its state says that it was judged before."""
    if next(iter(store.items(partition)), None) is not None:
        message = (
            f"{partition[0]}[{partition[1]}] has state but no committed offset (expired or deleted): "
            "set the group's offset by hand; starting over would reject every record as a replay"
        )
        raise RecoveryError(message)


def _restore(
    settings: Settings,
    admin: AdminClient,
    store: StateStore,
    assigned: list[Partition],
    ends: dict[Partition, int],
    on_progress: Callable[[str], None],
) -> None:
    topic_ids = {topic: kafka.topic_id(admin, changelog_of(topic)) for topic in {t for t, _ in assigned}}
    positions: dict[Partition, ChangelogPosition] = {}
    for partition in assigned:
        topic_id, end = topic_ids[partition[0]], ends[changelog_of(partition[0]), partition[1]]
        position = store.position(partition)
        if position is None or position.topic_id != topic_id or position.next_offset > end:
            # The working copy is of another changelog (or a newer one): it is disposable.
            store.wipe(partition)
            position = ChangelogPosition(topic_id, 0)
        if position.next_offset < end:
            positions[partition] = position
    if not positions:
        return
    reader = kafka.consumer(
        settings,
        f"{settings.log_name}.restore",
        **{"enable.partition.eof": True, "auto.offset.reset": "earliest"},
    )
    try:
        _read_up_to_ends(reader, store, positions, ends, on_progress)
    finally:
        reader.close()


def _read_up_to_ends(
    reader: Consumer,
    store: StateStore,
    positions: dict[Partition, ChangelogPosition],
    ends: dict[Partition, int],
    on_progress: Callable[[str], None],
) -> None:
    source_of = {(changelog_of(topic), number): (topic, number) for topic, number in positions}
    reader.assign(
        [
            # Compaction may have removed the very first offsets.
            TopicPartition(changelog_of(topic), number, position.next_offset or OFFSET_BEGINNING)
            for (topic, number), position in positions.items()
        ]
    )
    waiting = set(positions)
    restored, progressed_at = 0, time.monotonic()
    while waiting:
        updates: list[tuple[Partition, bytes, bytes]] = []
        moved: dict[Partition, ChangelogPosition] = {}
        for message in reader.consume(RESTORE_BATCH, 0.2):
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name
                kafka.to_record(message)  # raises with the error's text
            partition = source_of[message.topic() or "", message.partition() or 0]
            reached = message.offset() or 0  # of an end-of-partition event: the next offset
            if error is None:
                record = kafka.to_record(message)
                updates.append((partition, record.key or b"", record.value or b""))
                reached = record.offset + 1
            moved[partition] = ChangelogPosition(positions[partition].topic_id, reached)
        if moved:
            store.write(updates, moved)
            restored += len(updates)
            progressed_at = time.monotonic()
            waiting -= {p for p, at in moved.items() if at.next_offset >= ends[changelog_of(p[0]), p[1]]}
        on_progress(f"restored {restored} states, {len(waiting)} partitions to go")
        if time.monotonic() - progressed_at > STALL_S:
            message_text = f"restore stalled with {len(waiting)} partitions to go, such as {min(waiting)}"
            raise RecoveryError(message_text)
    log.info("state restored", states=restored, partitions=len(positions))

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
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.membership import GroupMember
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


class Recovery:
    """Knows how to bring one worker's producer, state and source positions to the last commit."""

    def __init__(
        self,
        settings: Settings,
        admin: AdminClient,
        store: StateStore,
        *,
        transactional_id: str,
        on_progress: Callable[[str], None],
    ) -> None:
        self._settings, self._admin, self._store = settings, admin, store
        self._transactional_id, self._on_progress = transactional_id, on_progress

    def run(self, member: GroupMember) -> Recovered:
        """Do steps 1 to 5 for the assigned partitions; every call in it has a time-out."""
        assigned = member.assigned
        grown = [f"{topic}[{number}]" for topic, number in assigned if number >= self._settings.partitions]
        if grown:
            raise RecoveryError(
                f"{grown[0]} should not be there: raw topics have {self._settings.partitions} partitions for "
                "good, and outputs and states are laid out by them"
            )
        producer = TransactionalProducer(self._settings, self._transactional_id)
        wanted = [TopicPartition(topic, number) for topic, number in assigned]
        found = member.consumer.committed(wanted, CALL_TIMEOUT_S)
        committed = {(place.topic, place.partition): place.offset for place in found}
        ends = kafka.end_offsets(self._admin, [(changelog_of(topic), number) for topic, number in assigned])
        self._restore(assigned, ends)
        next_offsets = self._starting_points(assigned, committed)
        member.start_at(next_offsets)
        return Recovered(producer, next_offsets)

    def _starting_points(
        self, assigned: list[Partition], committed: dict[Partition, int]
    ) -> dict[Partition, int]:
        new = [partition for partition in assigned if committed[partition] < 0]
        for topic, number in new:
            # Starting over where state says "judged before" would reject every record as a replay.
            if next(iter(self._store.items((topic, number))), None) is not None:
                message = (
                    f"{topic}[{number}] has state but no committed offset (expired or deleted): "
                    "set the group's offset by hand to where it had come"
                )
                raise RecoveryError(message)
        starts = kafka.start_offsets(self._admin, new) if new else {}
        return {partition: starts.get(partition, committed[partition]) for partition in assigned}

    def _restore(self, assigned: list[Partition], ends: dict[Partition, int]) -> None:
        topics = {topic for topic, _number in assigned}
        topic_ids = {topic: kafka.topic_id(self._admin, changelog_of(topic)) for topic in topics}
        behind: dict[Partition, ChangelogPosition] = {}
        for partition in assigned:
            topic_id, end = topic_ids[partition[0]], ends[changelog_of(partition[0]), partition[1]]
            position = self._store.position(partition)
            if position is None or position.topic_id != topic_id or position.next_offset > end:
                # The working copy is of another changelog, or newer than this one: it is disposable.
                self._store.wipe(partition)
                position = ChangelogPosition(topic_id, 0)
            if position.next_offset < end:
                behind[partition] = position
        if not behind:
            return
        reader = kafka.consumer(
            self._settings,
            f"{self._settings.log_name}.restore",
            # Compaction may have removed the very offset that we stand at.
            **{"enable.partition.eof": True, "auto.offset.reset": "earliest"},
        )
        try:
            reader.assign(
                [
                    TopicPartition(changelog_of(topic), number, position.next_offset)
                    for (topic, number), position in behind.items()
                ]
            )
            self._read_up_to(reader, behind, ends)
        finally:
            reader.close()

    def _read_up_to(
        self, reader: Consumer, behind: dict[Partition, ChangelogPosition], ends: dict[Partition, int]
    ) -> None:
        source_of = {(changelog_of(topic), number): (topic, number) for topic, number in behind}
        waiting = set(behind)
        restored, progressed_at = 0, time.monotonic()
        while waiting:
            updates: list[tuple[Partition, bytes, bytes]] = []
            reached: dict[Partition, ChangelogPosition] = {}
            for message in reader.consume(RESTORE_BATCH, 0.2):
                partition = source_of[message.topic() or "", message.partition() or 0]
                error = message.error()
                if error is None:
                    record = kafka.to_record(message)
                    if record.key is not None and record.value is not None:
                        updates.append((partition, record.key, record.value))
                    next_offset = record.offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
                    next_offset = message.offset() or 0
                else:
                    raise KafkaException(error)
                reached[partition] = ChangelogPosition(behind[partition].topic_id, next_offset)
            if reached:
                self._store.write(updates, reached)
                restored += len(updates)
                progressed_at = time.monotonic()
                waiting -= {
                    p for p, at in reached.items() if at.next_offset >= ends[changelog_of(p[0]), p[1]]
                }
            self._on_progress(f"restored {restored} states, {len(waiting)} partitions to go")
            if time.monotonic() - progressed_at > STALL_S:
                message_text = f"restore stalled with {len(waiting)} partitions to go, such as {min(waiting)}"
                raise RecoveryError(message_text)
        log.info("state restored", states=restored, partitions=len(behind))

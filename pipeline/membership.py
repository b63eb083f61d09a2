"""A worker's place in a consumer group: what it is assigned, and from where it reads.

Membership is static: a worker that restarts takes its partitions back at once, and its predecessor, should it
still live, is fenced. Nothing is fetched between an assignment and `start_at`: the stage alone knows from
where.
"""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.brokerless import WatchedAdmin
from pipeline.settings import Settings
from pipeline.stalls import Stalls
from pipeline.statestore import Partition
from processors.model import RawRecord


def group_of(settings: Settings, stage: str) -> str:
    """Name the consumer group of a stage's workers."""
    return f"{settings.log_name}.{stage}"


class GroupMember:
    """One consumer of a group. `changed` is true from an assignment or a loss until `start_at`."""

    def __init__(
        self,
        settings: Settings,
        admin: WatchedAdmin,
        stage: str,
        slot: int,
        topics: list[str],
        *,
        with_headers: bool = True,
    ) -> None:
        name = group_of(settings, stage)
        self.assigned: list[Partition] = []
        self.changed = False
        self.has_joined = False
        self.membership: Any = None
        """The group's metadata as of `start_at`. That of a later moment may be of another membership, or of
        none, and an empty group does not refuse that."""
        self.ends: dict[Partition, int] = {}
        """Where a partition's end was met last: the next offset, past markers that are no records."""
        self._places: dict[Partition, int] = {}
        """The next offset of each partition that is read."""
        self.admin = admin
        self._stalls = Stalls(admin)
        self._with_headers = with_headers
        self._fatal: KafkaError | None = None
        self.consumer: Consumer = kafka.consumer(
            settings,
            name,
            **{
                "group.instance.id": f"{name}.{slot}",
                "error_cb": self._on_error,
                "enable.partition.eof": True,
                **kafka.STREAM,
            },
        )
        self.consumer.subscribe(
            topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def consume(self, most: int, wait_s: float) -> dict[Partition, list[RawRecord]]:
        """Return the next records by partition, in offset order; nothing while `changed`.

        Raises KafkaException, whose fatal ones tell that we are fenced, KafkaReadError,
        StalledPartitionError or BrokerlessClientError.
        """
        messages = self.consumer.consume(most, wait_s)
        if len(messages) < most:
            self._stalls.drained()
        if self._fatal is not None:
            raise KafkaException(self._fatal)
        batches: dict[Partition, list[RawRecord]] = {}
        for message in messages:
            error = message.error()
            if error is not None and kafka.is_fatal_error(error):
                # Told here or to the callback, whichever comes first; either way the successor stays.
                raise KafkaException(error)
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name
                partition = (message.topic() or "", message.partition() or 0)
                self.ends[partition] = message.offset() or 0
                self._move(partition, self.ends[partition])
                continue
            record = kafka.to_record(message, with_headers=self._with_headers)
            batches.setdefault((record.topic, record.partition), []).append(record)
        if not self.changed:
            for partition, batch in batches.items():
                self._move(partition, batch[-1].offset + 1)
            self._stalls.look(self._places)
        # What came together with a new assignment belongs to nobody's state; it is fetched again.
        return {} if self.changed else batches

    def start_at(self, next_offsets: Mapping[Partition, int]) -> None:
        """Read from these offsets on; assigned partitions that are not named stay unread."""
        places = [TopicPartition(topic, number, at) for (topic, number), at in next_offsets.items()]
        self.ends, self._places = {}, dict(next_offsets)
        self._stalls.begin()
        self.consumer.assign(places)
        self.consumer.resume(places)  # a pause outlives an assignment
        self.membership = self.consumer.consumer_group_metadata()
        self.changed = False

    def pause(self, partition: Partition) -> None:
        """Read no more of a partition."""
        self._places.pop(partition, None)
        self.consumer.pause([TopicPartition(*partition)])

    def resume(self, partition: Partition, next_offset: int) -> None:
        """Go on reading a partition that was paused, behind the last record that came of it."""
        self._places[partition] = next_offset
        self._stalls.begin()
        self.consumer.resume([TopicPartition(*partition)])

    def _move(self, partition: Partition, next_offset: int) -> None:
        # A partition that was paused may still have records under way.
        if partition in self._places:
            self._places[partition] = max(self._places[partition], next_offset)

    def close(self) -> None:
        """Leave off; the place is kept for a successor until the session times out."""
        self.consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.assigned = sorted((tp.topic, tp.partition) for tp in partitions)
        self.changed = self.has_joined = True
        # Of nothing yet: who assigns and pauses lets the client look up a place first, and one that is looked
        # up twice while a broker comes back now and then stays unread.
        consumer.assign([])

    def _on_revoke(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self.assigned, self.changed = [], True
        consumer.unassign()

    def _on_error(self, error: KafkaError) -> None:
        if kafka.is_fatal_error(error):
            self._fatal = error

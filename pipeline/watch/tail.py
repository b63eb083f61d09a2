"""The sealed topics as they grow, read as committed: by partition, the leaves that their records must have.

The monitor's own consumer, of no group: it follows every partition from where the leaves were last compared.
"""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from pipeline import kafka
from pipeline.settings import Settings
from pipeline.shard import leaf_of
from pipeline.statestore import Partition
from processors.integrity.leaves import TopicLeaf
from processors.model import UNREADABLE_HEADERS

log = structlog.get_logger()

MOST_WAITING = 20_000
"""Leaves of one partition that are held; beyond, it is paused until half of them are compared."""
BATCH = 2000
MOST_TIME_S = 0.3
"""Of a round, for records that arrive faster than they are taken."""
_LOST_PLACE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - public codes


@dataclass(slots=True)
class _Place:
    seen_to: int
    """Everything committed below this offset was read."""
    begins_at: int
    """Reading began here: what lies below was not read and is not missed."""
    waiting: deque[TopicLeaf] = field(default_factory=deque)
    waiting_since_s: float | None = None
    is_paused: bool = False


class Tail:
    """Follows partitions; what was read waits until it is compared."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = kafka.consumer(
            settings,
            f"{settings.log_name}.monitor",
            **{
                "enable.partition.eof": True,
                **kafka.STREAM,
                "queued.max.messages.kbytes": 16384,
                "queued.min.messages": 2000,
                "error_cb": self._on_error,
            },
        )
        self._places: dict[Partition, _Place] = {}
        self._fatal: KafkaError | None = None
        self.trouble = ""
        """Why nothing arrives, while that is so."""

    def place(self, wanted: Mapping[Partition, tuple[int, int]]) -> None:
        """Follow these partitions too, each from its offset; the second number is where it `begins_at`."""
        new = {key: at for key, at in wanted.items() if key not in self._places}
        if not new:
            return
        for key, (at, begins_at) in new.items():
            self._places[key] = _Place(at, begins_at)
        self._assign()

    def drop(self, partition: Partition) -> None:
        """Follow a partition no more."""
        if self._places.pop(partition, None) is not None:
            self._assign()

    def follows(self, partition: Partition) -> bool:
        """Tell whether a partition is followed."""
        return partition in self._places

    def poll(self, wait_s: float, now_s: float) -> None:
        """Take what has arrived."""
        until_s = time.monotonic() + MOST_TIME_S
        while True:
            messages = self._consumer.consume(BATCH, wait_s)
            if self._fatal is not None:
                raise KafkaException(self._fatal)
            for message in messages:
                self._take(message, now_s)
            if len(messages) < BATCH // 4 or time.monotonic() > until_s:
                break
        for partition, place in self._places.items():
            if len(place.waiting) > MOST_WAITING and not place.is_paused:
                place.is_paused = True
                self._consumer.pause([TopicPartition(*partition)])
            elif place.is_paused and len(place.waiting) < MOST_WAITING // 2:
                place.is_paused = False
                self._consumer.resume([TopicPartition(*partition)])

    def seen_to(self, partition: Partition) -> int:
        """Return the offset below which everything committed was read; -1 while it is not followed."""
        place = self._places.get(partition)
        return place.seen_to if place else -1

    def begins_at(self, partition: Partition) -> int:
        """Return the offset at which reading began."""
        place = self._places.get(partition)
        return place.begins_at if place else 0

    def waiting(self, partition: Partition, below: int | None = None) -> list[TopicLeaf]:
        """Return the leaves that wait, up to an offset."""
        place = self._places.get(partition)
        if place is None:
            return []
        return [leaf for leaf in place.waiting if below is None or leaf.offset < below]

    def behind(self, partition: Partition, end: int) -> int:
        """Count the records before `end` that have no published leaf yet, read or not."""
        place = self._places.get(partition)
        return len(place.waiting) + max(0, end - place.seen_to) if place else 0

    def waits_since_s(self, partition: Partition) -> float | None:
        """Return since when the oldest waiting record waits; None where none does."""
        place = self._places.get(partition)
        return place.waiting_since_s if place and place.waiting else None

    def compared(self, partition: Partition, below: int, now_s: float) -> None:
        """Let go of the leaves below an offset."""
        place = self._places.get(partition)
        if place is None:
            return
        while place.waiting and place.waiting[0].offset < below:
            place.waiting.popleft()
        place.waiting_since_s = now_s if place.waiting else None

    def close(self) -> None:
        """Leave off."""
        self._consumer.close()

    def _assign(self) -> None:
        self._consumer.assign(
            [TopicPartition(*partition, place.seen_to) for partition, place in self._places.items()]
        )
        for partition, place in self._places.items():
            if place.is_paused:
                self._consumer.pause([TopicPartition(*partition)])

    def _take(self, message: Message, now_s: float) -> None:
        partition = (message.topic() or "", message.partition() or 0)
        place = self._places.get(partition)
        if place is None:
            return
        error = message.error()
        if error is None:
            self.trouble = ""
            record = kafka.to_record(message)
            if record.offset < place.seen_to:
                return
            place.seen_to = record.offset + 1
            if record.headers is UNREADABLE_HEADERS:
                log.warning("a record that cannot be digested", partition=partition, offset=record.offset)
            place.waiting.append(TopicLeaf(record.offset, leaf_of(record)))
            if place.waiting_since_s is None:
                place.waiting_since_s = now_s
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
            self.trouble = ""
            place.seen_to = max(place.seen_to, message.offset() or 0)
        elif error.code() in _LOST_PLACE:
            # Trimmed by retention, cut off, or another topic of this name: the cluster's facts tell which.
            del self._places[partition]
        else:
            self.trouble = f"{partition[0]}[{partition[1]}]: {error.str()}"

    def _on_error(self, error: KafkaError) -> None:
        self.trouble = error.str()
        if error.fatal():
            self._fatal = error

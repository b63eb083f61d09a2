"""Reads whole topics as committed: for tools and audits, never for a stage."""

import itertools
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import Settings
from processors.model import RawRecord

BATCH = 5000
_numbers = itertools.count()


def read_all(
    settings: Settings,
    topic: str,
    timeout_s: float = 3 * CALL_TIMEOUT_S,
    newest: int | None = None,
    since_ms: int = 0,
) -> Iterator[RawRecord]:
    """Yield every record of a topic up to its ends as of now, partition by partition in offset order.

    `newest` bounds how far before each partition's end that begins; with `since_ms` records are left out that
    the broker took earlier. Raises KafkaReadError when nothing arrives for `timeout_s`.
    """
    with _reader(settings) as reader:
        partitions = reader.list_topics(topic, timeout=CALL_TIMEOUT_S).topics[topic].partitions
        starts = dict.fromkeys(partitions, 0)
        if newest is not None:
            ends = {n: reader.get_watermark_offsets(TopicPartition(topic, n), CALL_TIMEOUT_S) for n in starts}
            starts = {n: max(low, high - newest) for n, (low, high) in ends.items()}
        if since_ms > 0:
            asked = [TopicPartition(topic, n, since_ms) for n in starts]
            for found in reader.offsets_for_times(asked, timeout=CALL_TIMEOUT_S):
                # Where there is no such record the answer is the logical end, and there is nothing to read.
                late = found.offset >= 0
                starts[found.partition] = max(starts[found.partition], found.offset) if late else OFFSET_END
        yield from _up_to_ends(reader, topic, starts, timeout_s)


def read_from(
    settings: Settings, partition: tuple[str, int], first: int, timeout_s: float = CALL_TIMEOUT_S
) -> Iterator[RawRecord]:
    """Yield the records of one partition from an offset up to its end as of now; raises as `read_all`."""
    topic, number = partition
    with _reader(settings) as reader:
        yield from _up_to_ends(reader, topic, {number: first}, timeout_s)


@contextmanager
def _reader(settings: Settings) -> Iterator[Consumer]:
    group = f"{settings.log_name}.reader.{os.getpid()}.{next(_numbers)}"
    reader = kafka.consumer(
        settings, group, **{"enable.partition.eof": True, "auto.offset.reset": "earliest"}
    )
    try:
        yield reader
    finally:
        reader.close()


def _up_to_ends(
    reader: Consumer, topic: str, starts: Mapping[int, int], timeout_s: float
) -> Iterator[RawRecord]:
    waiting = set(starts)
    reader.assign([TopicPartition(topic, number, start) for number, start in starts.items()])
    moved_at = time.monotonic()
    while waiting:
        messages = reader.consume(BATCH, 0.1)
        if messages:
            moved_at = time.monotonic()
        elif time.monotonic() - moved_at > timeout_s:
            raise kafka.KafkaReadError(f"{topic}: nothing arrives, {len(waiting)} partitions to go")
        for message in messages:
            error = message.error()
            if error is None:
                yield kafka.to_record(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
                waiting.discard(message.partition())
            else:
                raise KafkaException(error)

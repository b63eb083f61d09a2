"""Reads a party's topic from a number of the party's own: what a subscriber missed, fetched again.

Numbers rise with offsets, and between two of them stand only markers of transactions. So the place of a
number is found by halving, in about as many looks as the topic's size has binary digits.
"""

import itertools
import os
import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.kafkaread import read_from
from pipeline.partytopics import party_topic
from pipeline.settings import Settings, UsageError
from processors.model import RawRecord

LOOK_S = 0.1
_numbers = itertools.count()


def sequence_of(record: RawRecord) -> int:
    """Return a record's number; 0 for one that route did not write."""
    text = dict(record.headers).get("party.sequence") or b""
    return int(text) if text.isdigit() else 0


class PartyReader:
    """Reads one party's topic; `group` is where its owner keeps a position, empty for none."""

    def __init__(self, settings: Settings, party: str, group: str = "") -> None:
        self._topic = party_topic(party)
        name = group or f"{settings.log_name}.reader.{os.getpid()}.{next(_numbers)}"
        self._consumer = kafka.consumer(settings, name, **{"enable.partition.eof": True})
        known = self._consumer.list_topics(self._topic, timeout=CALL_TIMEOUT_S).topics[self._topic]
        if known.error is not None:
            self._consumer.close()
            raise UsageError(f"there is no topic {self._topic}: has the party ever been subscribed?")

    def bounds(self) -> tuple[int, int]:
        """Return the lowest offset that is kept and the next one to be written."""
        low, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, 0), CALL_TIMEOUT_S)
        return int(low), int(high)

    def place_of(self, sequence: int) -> int:
        """Return the offset of a number, or of the next higher one that is kept; the end for none."""
        low, high = self.bounds()
        low = max(low, min(sequence - 1, high))  # each number took at least one offset
        while low < high:
            middle = (low + high) // 2
            found = self._first_from(middle, high)
            if found is None or sequence_of(found) >= sequence:
                high = middle
            else:
                low = found.offset + 1
        return low

    def last_before(self, offset: int) -> int:
        """Return the highest number below an offset; 0 where there is none."""
        low, _ = self.bounds()
        for first in range(offset - 1, low - 1, -1):  # past markers, of which there are a few in a row
            if (found := self._first_from(first, offset)) is not None:
                return sequence_of(found)
        return 0

    def position(self) -> int | None:
        """Return the offset that was committed for the group; None before the first."""
        found = self._consumer.committed([TopicPartition(self._topic, 0)], CALL_TIMEOUT_S)[0]
        return found.offset if found.offset >= 0 else None

    def commit(self, next_offset: int) -> None:
        """Keep the group's position."""
        place = TopicPartition(self._topic, 0, next_offset)
        self._consumer.commit(offsets=[place], asynchronous=False)

    def start_at(self, offset: int) -> None:
        """Let `next` go on at an offset."""
        self._consumer.assign([TopicPartition(self._topic, 0, offset)])

    def next(self, most: int, wait_s: float) -> list[RawRecord]:
        """Return the next records, none when none came in time; raises KafkaReadError or KafkaException."""
        return [record for record in self._consume(most, wait_s) if record is not None]

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()

    def _first_from(self, offset: int, end: int) -> RawRecord | None:
        """Return the first record at or behind an offset, before `end`."""
        self.start_at(offset)
        until = time.monotonic() + CALL_TIMEOUT_S
        while time.monotonic() < until:
            for record in self._consume(1, LOOK_S):
                return record if record is not None and record.offset < end else None
        raise kafka.KafkaReadError(f"{self._topic}: nothing arrives at {offset}")

    def _consume(self, most: int, wait_s: float) -> list[RawRecord | None]:
        """Return records, and None for the end of the partition."""
        found: list[RawRecord | None] = []
        for message in self._consumer.consume(most, wait_s):
            error = message.error()
            if error is None:
                found.append(kafka.to_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
                found.append(None)
            else:
                raise KafkaException(error)
        return found


def fetch(settings: Settings, party: str, first: int) -> Iterator[RawRecord]:
    """Yield a party's alerts from a number up to the newest as of now; raises UsageError, KafkaReadError."""
    reader = PartyReader(settings, party)
    try:
        low, high = reader.bounds()
        offset = reader.place_of(first) if low < high else high
    finally:
        reader.close()
    if offset < high:
        yield from (
            r for r in read_from(settings, (party_topic(party), 0), offset) if sequence_of(r) >= first
        )

"""Reads topics as committed, on and on, whatever the broker goes through meanwhile.

Each `read` asks for the stable ends first and returns only when everything below them was handed out. Clients
that stand still are thrown away: one that lived through a broker's death may never come back to life.
"""

import itertools
import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.faults.machine.oracle.formats import Partition, Record

PATIENCE_S = 3.0
"""No client gets longer without showing a sign of life."""
ANSWER_S = 3.0
BATCH = 2000
_QUIET = logging.getLogger("oracle.librdkafka")
_QUIET.setLevel(logging.CRITICAL)
_numbers = itertools.count()


class UnreadableError(Exception):
    """The broker did not give what was asked for in time."""


class TopicReader:
    """Positions in a set of topic-partitions; each committed record is handed out once, in its order."""

    def __init__(self, bootstrap: str, partitions: Iterable[Partition]) -> None:
        self._bootstrap = bootstrap
        self._positions: dict[Partition, int] = dict.fromkeys(partitions, 0)
        self.shrunk: dict[Partition, tuple[int, int]] = {}
        """Where the last `read` found an end below what had been read: (end, position)."""
        self._trouble = ""
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None

    def read(self, deadline_s: float = 30.0) -> Iterator[Record]:
        """Yield what is new up to the ends as of now; raises UnreadableError."""
        until = time.monotonic() + deadline_s
        ends = self._ends(until)
        self.shrunk = {p: (end, self._positions[p]) for p, end in ends.items() if end < self._positions[p]}
        moved_at = time.monotonic()
        while any(self._positions[partition] < end for partition, end in ends.items()):
            messages = self._consume()
            now = time.monotonic()
            for message in messages:
                record = self._take(message)
                if record is not None:
                    moved_at = now
                    yield record
            if now - moved_at > PATIENCE_S:
                self._throw_away()
                moved_at = now
            if now > until:
                missing = [p for p, end in ends.items() if self._positions[p] < end]
                raise UnreadableError(f"{missing[:3]} cannot be read: {self._trouble or 'nothing arrives'}")

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Read these no more."""
        for partition in partitions:
            self._positions.pop(partition, None)
        self._throw_away()

    def close(self) -> None:
        """Leave the broker."""
        self._throw_away()

    def _take(self, message: Message) -> Record | None:
        error, topic, number = message.error(), message.topic(), message.partition()
        partition = (topic or "", -1 if number is None else number)
        offset = message.offset()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF and partition in self._positions:
                self._positions[partition] = max(self._positions[partition], offset or 0)
            else:
                self._trouble = error.str()
            return None
        if offset is None or offset < self._positions.get(partition, 1 << 63):
            return None
        self._positions[partition] = offset + 1
        headers: Any = tuple(message.headers() or ())
        return Record(*partition, offset, message.timestamp()[1], message.key(), headers, message.value())

    def _ends(self, until: float) -> dict[Partition, int]:
        while True:
            try:
                return self._ask()
            except (KafkaException, TimeoutError) as error:
                self._trouble = str(error)
            self._throw_away()
            if time.monotonic() > until:
                raise UnreadableError(f"no ends of topics: {self._trouble}")
            time.sleep(0.05)

    def _ask(self) -> dict[Partition, int]:
        if self._admin is None:
            self._admin = AdminClient({**self._base(), "socket.timeout.ms": int(ANSWER_S * 1000)})
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = {TopicPartition(*partition): latest for partition in self._positions}
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=ANSWER_S
        )
        return {
            (each.topic, each.partition): future.result(timeout=2 * ANSWER_S).offset
            for each, future in futures.items()
        }

    def _consume(self) -> list[Message]:
        try:
            if self._consumer is None:
                self._consumer = Consumer(
                    {
                        **self._base(),
                        "group.id": f"oracle.{os.getpid()}.{next(_numbers)}",
                        "enable.auto.commit": False,
                        "isolation.level": "read_committed",
                        "auto.offset.reset": "error",
                        "enable.partition.eof": True,
                        "fetch.wait.max.ms": 100,
                        "fetch.queue.backoff.ms": 5,
                    }
                )
                self._consumer.assign([TopicPartition(*p, at) for p, at in self._positions.items()])
            return self._consumer.consume(BATCH, 0.05)
        except KafkaException as error:
            self._trouble = str(error)
            self._throw_away()
            time.sleep(0.05)
            return []

    def _base(self) -> dict[str, Any]:
        return {"bootstrap.servers": self._bootstrap, "logger": _QUIET, "reconnect.backoff.max.ms": 500}

    def _throw_away(self) -> None:
        consumer, self._consumer, self._admin = self._consumer, None, None
        if consumer is not None:
            consumer.close()

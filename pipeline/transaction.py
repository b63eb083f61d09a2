"""The producer side of exactly once: one transaction per batch, outputs and source offsets together."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from pipeline import kafka
from pipeline.bounded import BoundedCalls
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import Partition

log = structlog.get_logger()

COMMIT_PATIENCE = 1.2
"""Flush, offsets and commit together, in transaction time-outs: beyond one nothing is worth a wait."""
OFFSETS_PATIENCE = 0.5
"""Of that for the offsets alone, which is where the library hangs. A coordinator answers in milliseconds, and
one that fails over in a few seconds. Where it takes longer (by Kafka's default 9 s until a dead broker is
noticed) nothing is lost by leaving: the next session waits for the same coordinator, in calls that do find
the new one. Less would leave calls that are only slow, and each recovery adds to the load that made them so.
"""
SECOND_CHANCE = 0.5
INIT_GRACE_S = 1.0
SLOW_S = 2.0
"""A commit that takes longer tells in the log what it waited for."""


class TransactionError(PipelineError):
    """A transaction did not end as asked; whether it committed is for recovery to find out."""


@dataclass(slots=True)
class Delivered:
    """Place behind the last record written to one changelog partition, once delivered; None: not known.

    A record that was sent again after its broker died may be acknowledged without an offset.
    """

    next_offset: int | None = None

    def __call__(self, error: object, message: Message) -> None:
        """Delivery callback; a failed delivery fails the transaction by itself."""
        if error is None:
            offset = message.offset()
            self.next_offset = None if offset is None else offset + 1


class TransactionalProducer:
    """A producer whose transactional id is stable per worker slot, so that a successor fences it."""

    def __init__(
        self, settings: Settings, transactional_id: str, beat: Callable[[], None] = lambda: None
    ) -> None:
        """Fence predecessors; `beat` is called while that takes."""
        self._timeout_s = settings.transaction_timeout_s
        self._producer: Producer = kafka.producer(
            settings,
            **{
                **kafka.FOLLOW_LEADERS,
                **kafka.IN_FLIGHT,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": round(self._timeout_s * 1000),
                # A broker that stands still keeps its connections: what it was sent goes to its successor
                # once this is over, in time for a second chance within the transaction.
                "socket.timeout.ms": round(SECOND_CHANCE * self._timeout_s * 1000),
            },
        )
        self._calls = BoundedCalls(transactional_id)
        self.produce = self._producer.produce
        try:
            # Ends what a predecessor left: after this its transaction is committed or aborted, not pending.
            self._calls.call(
                self._producer.init_transactions,
                CALL_TIMEOUT_S,
                deadline_s=CALL_TIMEOUT_S + INIT_GRACE_S,
                beat=beat,
            )
        except BaseException:
            self._calls.close()
            raise

    def begin(self) -> None:
        """Open a transaction."""
        self._producer.begin_transaction()

    def commit(
        self, consumer: Consumer, next_offsets: Mapping[Partition, int], note: Callable[[Partition], str]
    ) -> None:
        """Flush, add the source offsets, commit.

        `note` is asked after the flush for what is committed beside each offset. Group metadata lets the
        broker fence a worker whose partitions have moved. Raises TransactionError, StalledCallError or
        KafkaException; the transaction may then have committed or not.
        """
        metadata = consumer.consumer_group_metadata()
        began_at = time.monotonic()
        seconds: dict[str, float] = {}

        def call(name: str, function: Callable[..., None], *arguments: Any, patience: float) -> None:
            step_at = time.monotonic()
            left_s = began_at + COMMIT_PATIENCE * self._timeout_s - step_at
            try:
                self._calls.call(function, *arguments, deadline_s=min(left_s, patience * self._timeout_s))
            finally:
                seconds[name] = round(time.monotonic() - step_at, 2)

        try:
            # The flush comes before the offsets: without it librdkafka stalls (measured).
            call("flush", self._flush, patience=COMMIT_PATIENCE)
            offsets = [TopicPartition(*place, at, metadata=note(place)) for place, at in next_offsets.items()]
            send = self._producer.send_offsets_to_transaction
            call("offsets", send, offsets, metadata, self._timeout_s, patience=OFFSETS_PATIENCE)
            end = self._producer.commit_transaction
            call("commit", end, self._timeout_s, patience=COMMIT_PATIENCE)
        finally:
            if time.monotonic() - began_at > SLOW_S:
                log.info("a commit took long", seconds=seconds)

    def _flush(self) -> None:
        left = self._producer.flush(self._timeout_s)
        if left:
            raise TransactionError(f"{left} records were not acknowledged in {self._timeout_s:.0f} s")

    def close(self) -> None:
        """Drop what is queued; the successor's init_transactions aborts what was sent."""
        self._producer.purge()
        self._calls.close()

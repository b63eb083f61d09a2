"""The producer side of exactly once: one transaction per batch, outputs and source offsets together."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from pipeline import kafka
from pipeline.bounded import BoundedCalls
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import Partition

COMMIT_PATIENCE = 1.2
"""Flush, offsets and commit together, in transaction time-outs: beyond one nothing is worth a wait."""


class TransactionError(PipelineError):
    """A transaction did not end as asked; whether it committed is for recovery to find out."""


@dataclass(slots=True)
class Delivered:
    """Offset of the last record written to one changelog partition, once delivered."""

    next_offset: int | None = None

    def __call__(self, error: object, message: Message) -> None:
        """Delivery callback; a failed delivery fails the transaction by itself."""
        if error is None:
            self.next_offset = (message.offset() or 0) + 1


class TransactionalProducer:
    """A producer whose transactional id is stable per worker slot, so that a successor fences it."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        self._timeout_s = settings.transaction_timeout_s
        self._producer: Producer = kafka.producer(
            settings,
            **{
                "transactional.id": transactional_id,
                "transaction.timeout.ms": round(self._timeout_s * 1000),
            },
        )
        # Ends what a predecessor left: after this its transaction is committed or aborted, not pending.
        self._producer.init_transactions(CALL_TIMEOUT_S)
        self._calls = BoundedCalls(transactional_id)
        self.produce = self._producer.produce

    def begin(self) -> None:
        """Open a transaction."""
        self._producer.begin_transaction()

    def commit(self, consumer: Consumer, next_offsets: Mapping[Partition, int]) -> None:
        """Flush, add the source offsets, commit.

        Group metadata lets the broker fence a worker whose partitions have moved. Raises TransactionError,
        StalledCallError or KafkaException; the transaction may then have committed or not.
        """
        offsets = [TopicPartition(topic, number, offset) for (topic, number), offset in next_offsets.items()]
        metadata = consumer.consumer_group_metadata()
        self._calls.call(self._commit, offsets, metadata, deadline_s=COMMIT_PATIENCE * self._timeout_s)

    def _commit(self, offsets: list[TopicPartition], metadata: object) -> None:
        # The flush comes before the offsets: without it librdkafka stalls (measured).
        left = self._producer.flush(self._timeout_s)
        if left:
            raise TransactionError(f"{left} records were not acknowledged in {self._timeout_s:.0f} s")
        self._producer.send_offsets_to_transaction(offsets, metadata, self._timeout_s)
        self._producer.commit_transaction(self._timeout_s)

    def close(self) -> None:
        """Drop what is queued; the successor's init_transactions aborts what was sent."""
        self._producer.purge()
        self._calls.close()

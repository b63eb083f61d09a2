"""The producer side of exactly once: one transaction per batch, outputs and source offsets together."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import Message, Producer, TopicPartition

from pipeline import kafka
from pipeline.bounded import BoundedCalls
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import Partition
from schemas.records import Headers

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
ROOM_S = 0.05
"""So long acknowledgements are waited for, which make room in a full queue."""
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


class _Ending:
    """How far the end of a transaction is: written by the thread that ends it, read by the one that waits."""

    def __init__(self, began_at: float, timeout_s: float) -> None:
        self.began_at, self._timeout_s = began_at, timeout_s
        self.until = self._last = began_at + COMMIT_PATIENCE * timeout_s
        """By when the step at hand must be over, in monotonic seconds."""
        self.ended_at: float | None = None
        self._steps: list[tuple[str, float]] = []

    def begin(self, name: str, patience: float) -> None:
        """Say that a step begins, and how many transaction time-outs it may take."""
        now = time.monotonic()
        self._steps.append((name, now))
        self.until = min(self._last, now + patience * self._timeout_s)

    def end(self) -> None:
        """Say that it is over."""
        self.ended_at = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Return what each step took, the last one up to now where it is not over."""
        steps = list(self._steps)  # the other thread may go on
        ends = [*(at for _, at in steps[1:]), self.ended_at or time.monotonic()]
        return {name: round(end - at, 2) for (name, at), end in zip(steps, ends, strict=False)}


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
        self._outcome: Future[None] | None = None
        self._ending = _Ending(0.0, self._timeout_s)
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

    def produce(  # noqa: PLR0917 - as the library has it
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        headers: Headers | None = None,
        on_delivery: Callable[[Any, Message], None] | None = None,
    ) -> None:
        """Add a record, as `confluent_kafka.Producer.produce` does; waits where the client's queue is full.

        Raises TransactionError where no room is made for as long as a transaction may take.
        """
        # All by place: there is one for each event, and to read names takes the library as long as all else.
        # The first of the two places for a callback: the second counts only where the first was left out.
        message: tuple[Any, ...] = (topic, value, key, partition, on_delivery, None, 0, headers)
        try:
            self._producer.produce(*message)
        except BufferError:
            self._produce_late(message)

    def _produce_late(self, message: tuple[Any, ...]) -> None:
        until = time.monotonic() + self._timeout_s
        while time.monotonic() < until:
            self._producer.poll(ROOM_S)  # what was acknowledged leaves the queue only when it is asked for
            with suppress(BufferError):
                self._producer.produce(*message)
                return
        raise TransactionError(f"the broker took nothing of a full queue for {self._timeout_s:.0f} s")

    def commit(
        self, membership: Any, next_offsets: Mapping[Partition, int], note: Callable[[Partition], str]
    ) -> None:
        """Flush, add the source offsets, commit: `start_commit` and `finish_commit` at once."""
        self.start_commit(membership, next_offsets, note)
        self.finish_commit()

    def start_commit(
        self, membership: Any, next_offsets: Mapping[Partition, int], note: Callable[[Partition], str]
    ) -> None:
        """Begin to commit what was produced; nothing more is, until `finish_commit` returns.

        `membership` is the group's metadata as of the assignment (pipeline/membership.py): by it the broker
        fences a worker whose partitions have moved. `note` is asked after the flush, in another thread, for
        what is committed beside each offset. Raises StalledCallError after a call that was left behind.
        """
        self._ending = _Ending(time.monotonic(), self._timeout_s)
        self._outcome = self._calls.start(self._end_transaction, membership, dict(next_offsets), note)

    def finish_commit(self) -> None:
        """Return once it has committed; at once where nothing was begun.

        Raises TransactionError, StalledCallError or KafkaException; the transaction may then have committed
        or not.
        """
        if self._outcome is None:
            return
        outcome, self._outcome = self._outcome, None
        ending = self._ending
        try:
            self._calls.finish(outcome, lambda: ending.until)
        finally:
            if (ending.ended_at or time.monotonic()) - ending.began_at > SLOW_S:
                log.info("a commit took long", seconds=ending.seconds())

    def _end_transaction(
        self, membership: Any, next_offsets: Mapping[Partition, int], note: Callable[[Partition], str]
    ) -> None:
        """What is done of a commit in the thread of calls."""
        # The flush comes before the offsets: without it librdkafka stalls (measured).
        self._ending.begin("flush", COMMIT_PATIENCE)
        self._flush()
        offsets = [TopicPartition(*place, at, metadata=note(place)) for place, at in next_offsets.items()]
        self._ending.begin("offsets", OFFSETS_PATIENCE)
        self._producer.send_offsets_to_transaction(offsets, membership, self._timeout_s)
        self._ending.begin("commit", COMMIT_PATIENCE)
        self._producer.commit_transaction(self._timeout_s)
        self._ending.end()

    def _flush(self) -> None:
        left = self._producer.flush(self._timeout_s)
        if left:
            raise TransactionError(f"{left} records were not acknowledged in {self._timeout_s:.0f} s")

    def close(self) -> None:
        """Drop what is queued; the successor's init_transactions aborts what was sent."""
        self._producer.purge()
        self._calls.close()

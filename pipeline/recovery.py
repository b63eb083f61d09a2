"""One recovery for everything: assignment, abort, a commit in doubt, a stalled call.

Its order is what makes it right:

1. A new producer under the same transactional id. Afterwards the predecessor's transaction is decided.
2. The committed source offsets, read committed, hence stable.
3. The changelog's end at read_uncommitted. A zombie's open transaction may lie below it; it can only
   abort, because its offsets carry a dead generation, but we must not read past it before it has.
4. The changelog, read_committed, up to that end, into RocksDB (pipeline/restore.py).
5. Seek the sources to the committed offsets.

So state and source offsets are of the same transaction. A commit that timed out is not an abort: steps 1
to 3 find out which it was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.bounded import BoundedCalls
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.membership import GroupMember
from pipeline.restore import restore
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import Partition, StateStore
from pipeline.topics import changelog_of
from pipeline.transaction import TransactionalProducer

R = TypeVar("R")
ASK_DEADLINE_S = 1.5 * CALL_TIMEOUT_S
"""Of a call that ends itself after CALL_TIMEOUT_S, give or take a second."""


class RecoveryError(PipelineError):
    """State and source offsets could not be brought to one point."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A fenced producer, and where to go on in each source partition."""

    producer: TransactionalProducer
    next_offsets: dict[Partition, int]
    topic_ids: dict[str, str]
    """By source topic: the id of its changelog."""
    seconds: dict[str, float]
    """What each step took."""


class _Steps:
    """Runs the calls of one recovery: each bounded and with beats, each step timed."""

    def __init__(self, on_progress: Callable[[str], None]) -> None:
        self._on_progress, self._calls = on_progress, BoundedCalls("recovery")
        self._seconds: dict[str, float] = {}
        self._name, self._began_at = "", 0.0

    def begin(self, name: str) -> None:
        """End the step before."""
        self.end()
        self._name, self._began_at = name, time.monotonic()

    def end(self) -> dict[str, float]:
        """Return what the steps took."""
        if self._name:
            self._seconds[self._name] = round(time.monotonic() - self._began_at, 2)
        return self._seconds

    def beat(self) -> None:
        """Say what is waited for."""
        self._on_progress(f"recovering: {self._name}")

    def call(self, function: Callable[..., R], /, *arguments: Any) -> R:
        """Return what `function` returns, which is bound to answer within CALL_TIMEOUT_S."""
        return self._calls.call(function, *arguments, deadline_s=ASK_DEADLINE_S, beat=self.beat)

    def close(self) -> None:
        """Let the thread go."""
        self._calls.close()


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
        """Do steps 1 to 5 for the assigned partitions; every call in it has a time-out, and beats."""
        assigned = member.assigned
        grown = [f"{topic}[{number}]" for topic, number in assigned if number >= self._settings.partitions]
        if grown:
            raise RecoveryError(
                f"{grown[0]} should not be there: raw topics have {self._settings.partitions} partitions for "
                "good, and outputs and states are laid out by them"
            )
        steps = _Steps(self._on_progress)
        try:
            steps.begin("transactions")
            producer = TransactionalProducer(self._settings, self._transactional_id, steps.beat)
            try:
                return self._read_up(member, producer, steps)
            except BaseException:
                producer.close()
                raise
        finally:
            steps.close()

    def _read_up(self, member: GroupMember, producer: TransactionalProducer, steps: "_Steps") -> Recovered:
        assigned = member.assigned
        steps.begin("committed offsets")
        wanted = [TopicPartition(topic, number) for topic, number in assigned]
        found = steps.call(member.consumer.committed, wanted, CALL_TIMEOUT_S)
        for place in found:
            if place.error is not None:
                raise KafkaException(place.error)
        committed = {(place.topic, place.partition): place.offset for place in found}
        steps.begin("changelog ends")
        changelogs = [(changelog_of(topic), number) for topic, number in assigned]
        ends = steps.call(kafka.end_offsets, self._admin, changelogs)
        ids = steps.call(kafka.topic_ids, self._admin, sorted({name for name, _ in changelogs}))
        steps.begin("states")
        restore(
            self._settings,
            self._admin,
            self._store,
            {(topic, number): ends[changelog_of(topic), number] for topic, number in assigned},
            self._on_progress,
            call=steps.call,
        )
        steps.begin("starting points")
        next_offsets = self._starting_points(assigned, committed)
        member.start_at(next_offsets)
        topic_ids = {topic: ids[changelog_of(topic)] for topic, _ in assigned}
        return Recovered(producer, next_offsets, topic_ids, steps.end())

    def _starting_points(
        self, assigned: list[Partition], committed: dict[Partition, int]
    ) -> dict[Partition, int]:
        new = [partition for partition in assigned if committed[partition] < 0]
        for topic, number in new:
            # Starting over where state says "judged before" would reject every record as a replay.
            if next(iter(self._store.items((topic, number))), None) is not None:
                message = (
                    f"{topic}[{number}] has state but no committed offset (expired or deleted): "
                    f"stop ingest, then `attestream topics set-offset {topic} {number}`"
                )
                raise RecoveryError(message)
        starts = kafka.start_offsets(self._admin, new) if new else {}
        return {partition: starts.get(partition, committed[partition]) for partition in assigned}

"""One recovery for everything: assignment, abort, a commit in doubt, a stalled call.

Its order is what makes it right:

1. A new producer under the same transactional id. Afterwards the predecessor's transaction is decided.
2. The committed source offsets, read committed, hence stable.
3. The changelog's end at read_uncommitted. A zombie's open transaction may lie below it; it can only
   abort, because its offsets carry a dead generation, but we must not read past it before it has.
4. The changelog, read_committed, up to that end, into RocksDB (pipeline/restore.py). It must then stand where
   the committed offsets say that it stood (pipeline/changelogmark.py). It may stand further only where the
   verdicts do as well.
5. Seek the sources to the committed offsets.

So state and source offsets are of the same transaction. A commit that timed out is not an abort: steps 1
to 3 find out which it was.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.bounded import BoundedCalls
from pipeline.changelogmark import ChangelogMark
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.membership import GroupMember
from pipeline.restore import restore
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import Partition, StateStore
from pipeline.topics import FOLLOWED, changelog_of, stage_of
from pipeline.transaction import TransactionalProducer

log = structlog.get_logger()
R = TypeVar("R")
ASK_DEADLINE_S = 1.5 * CALL_TIMEOUT_S
"""Of a call that ends itself after CALL_TIMEOUT_S, give or take a second."""


class RecoveryError(PipelineError):
    """State and source offsets could not be brought to one point."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A source partition that lost records before they were judged, most likely to its retention."""

    records: int
    why: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """A fenced producer, and where to go on in each source partition."""

    producer: TransactionalProducer
    next_offsets: dict[Partition, int]
    """Of the partitions that go on."""
    stopped: dict[Partition, Gone]
    """Those that do not."""
    marks: dict[Partition, ChangelogMark]
    """Where each changelog stands now."""
    topic_ids: dict[str, str]
    """Of changelogs and registry, as of before they were read."""
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
        stops_alone: bool = False,
    ) -> None:
        """With `stops_alone` a partition that lost records does not keep the others; the caller tells."""
        self._settings, self._admin, self._store = settings, admin, store
        self._stops_alone = stops_alone
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
        marks = {(place.topic, place.partition): ChangelogMark.decode(place.metadata) for place in found}
        steps.begin("changelog ends")
        changelogs = [(changelog_of(topic), number) for topic, number in assigned]
        ends = steps.call(kafka.end_offsets, self._admin, changelogs)
        ids = steps.call(kafka.topic_ids, self._admin, sorted({*FOLLOWED, *(name for name, _ in changelogs)}))
        for topic, number in assigned:
            if committed[topic, number] >= 0:
                changelog = changelog_of(topic)
                end = ends[changelog, number]
                self._check_changelog((topic, number), marks[topic, number], ids[changelog], end)
        steps.begin("states")
        restore(
            self._settings,
            self._admin,
            self._store,
            {(topic, number): ends[changelog_of(topic), number] for topic, number in assigned},
            self._on_progress,
            call=steps.call,
            is_vouched=lambda partition: self._is_at(partition, marks[partition]),
        )
        steps.begin("starting points")
        for partition in assigned:
            committed[partition] = self._agreed(partition, committed[partition], marks[partition], steps)
        starts = steps.call(kafka.start_offsets, self._admin, assigned)
        next_offsets = self._starting_points(assigned, committed, starts)
        lost = {place: at for place, at in next_offsets.items() if at < starts[place]}
        stopped = {place: _gone(place, at, starts[place]) for place, at in lost.items()}
        if stopped and not self._stops_alone:
            raise RecoveryError(next(iter(stopped.values())).why)
        next_offsets = {place: at for place, at in next_offsets.items() if place not in stopped}
        member.start_at(next_offsets)
        marks_now = {place: self._mark_of(place, ids[changelog_of(place[0])]) for place in assigned}
        return Recovered(producer, next_offsets, stopped, marks_now, ids, steps.end())

    def _check_changelog(
        self, partition: Partition, mark: ChangelogMark | None, topic_id: str, end: int
    ) -> None:
        """Refuse a changelog that is not the one that offsets were committed with.

        Before the restore, which would drop a working copy that disagrees with it: that may be all there is.
        """
        if mark is None:
            # Committed by a version that left no mark: then the working copy, if any, is the witness.
            position = self._store.position(partition)
            mark = ChangelogMark(position.topic_id, position.next_offset, None) if position else None
        if mark is not None and (why := mark.denied_by(topic_id, end)):
            raise _changelog_error(partition, why)

    def _agreed(
        self, partition: Partition, committed: int, mark: ChangelogMark | None, steps: "_Steps"
    ) -> int:
        """Return the committed offset if the restored state is of the same transaction.

        An offset commit that was sent again may reach its broker a second time when the next transaction has
        already begun, and is then taken for that one's: the group stands where it stood, all the rest is
        committed (the hole that KIP-890 closes for clients newer than ours). State that is ahead of the
        offset, with verdicts that are ahead too, tells so; the last verdict then says where to go on.
        """
        if mark is None:
            return committed
        position = self._store.position(partition)
        why = mark.denied_by_copy(position, self._store.last_digest(partition))
        if not why:
            return committed
        if mark.is_before(position):
            # Loaded here: it knows what every stage writes, and is hardly ever asked.
            from pipeline.judged import judged_to

            last = steps.call(judged_to, self._settings, self._admin, partition)
            if last is not None and last > committed:
                log.warning(
                    "the group's offset is older than state and verdicts, which are followed",
                    topic=partition[0], partition=partition[1], committed=committed, judged_to=last,
                )  # fmt: skip
                return last
        raise _changelog_error(partition, why)

    def _is_at(self, partition: Partition, mark: ChangelogMark | None) -> bool:
        """Tell whether the working copy stands where the last commit left the changelog."""
        position = self._store.position(partition)
        return position is not None and mark == self._mark_of(partition, position.topic_id)

    def _mark_of(self, partition: Partition, topic_id: str) -> ChangelogMark:
        position = self._store.position(partition)
        next_offset = 0 if position is None else position.next_offset
        return ChangelogMark(topic_id, next_offset, self._store.last_digest(partition))

    def _starting_points(
        self, assigned: list[Partition], committed: dict[Partition, int], starts: dict[Partition, int]
    ) -> dict[Partition, int]:
        new = [partition for partition in assigned if committed[partition] < 0]
        for topic, number in new:
            # Starting over where state says "judged before" would reject every record as a replay.
            if next(iter(self._store.items((topic, number))), None) is not None:
                message = (
                    f"{topic}[{number}] has state but no committed offset (expired or deleted): "
                    f"stop {stage_of(topic)}, then `attestream topics set-offset {topic} {number}`"
                )
                raise RecoveryError(message)
        return {place: starts[place] if place in new else committed[place] for place in assigned}


def _gone(partition: Partition, committed: int, start: int) -> Gone:
    topic, number = partition
    records = start - committed
    why = (
        f"{topic}[{number}] begins at {start}: {records} records from {committed} on are gone and were never "
        f"judged; stop {stage_of(topic)}, then `attestream topics set-offset {topic} {number}`"
    )
    return Gone(records, why)


def _changelog_error(partition: Partition, why: str) -> RecoveryError:
    topic, number = partition
    return RecoveryError(
        f"{changelog_of(topic)}[{number}] {why}. What was accepted would be accepted again: bring it back, "
        f"or stop {stage_of(topic)}, then `attestream topics set-offset --accept-changelog {topic} {number}`"
    )

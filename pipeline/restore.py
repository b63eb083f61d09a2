"""Step 4 of recovery: what a changelog says, into the working copy, up to an end that was asked for before.

A changelog is compacted and never deleted from, and nobody writes tombstones. So the copy at any earlier
position, plus every record from there on, is the copy at the end: also when compaction has removed records in
between. An old copy can mislead in three ways, and each is looked for:

- its changelog is another one: the topic's id has changed, or its position lies beyond the end;
- its changelog was cut off (a broker lost what it had not written) and has grown past the position since: the
  last record that was applied is not the one that stands there;
- records were deleted from the changelog's beginning: nothing can restore those, and recovery says so.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.patience import Call, at_once
from pipeline.settings import PipelineError, Settings
from pipeline.statestore import ChangelogPosition, Partition, StateStore, record_digest
from pipeline.topics import changelog_of

log = structlog.get_logger()

READ_BATCH = 2000
WAIT_S = 0.1
STALL_S = 60.0
"""A restore that makes no progress for so long gives up; the caller tries again from the start."""
BULK_RECORDS = 20_000
"""From so many offsets on the copy is written in bulk."""
RATE_AFTER_S = 1.0


class RestoreError(PipelineError):
    """The changelog could not be applied up to its end."""


class _OtherHistoryError(Exception):
    """The record before our position is not the one that we applied."""

    def __init__(self, place: "_Place") -> None:
        self.place = place


@dataclass(slots=True)
class _Place:
    """One changelog partition that is behind."""

    source: Partition
    topic_id: str
    next_offset: int
    end: int
    expected: bytes | None
    """Digest of the record before `next_offset` as we applied it, until it was met."""

    @property
    def reads_from(self) -> TopicPartition:
        """Where to begin: one record early where there is one to be recognised."""
        first = self.next_offset if self.expected is None else self.next_offset - 1
        return TopicPartition(changelog_of(self.source[0]), self.source[1], first)


def restore(
    settings: Settings,
    admin: AdminClient,
    store: StateStore,
    ends: Mapping[Partition, int],
    on_progress: Callable[[str], None],
    *,
    call: Call = at_once,
    is_vouched: Callable[[Partition], bool] = lambda _partition: False,
) -> None:
    """Bring the states of source partitions to these ends of their changelogs.

    Raises RestoreError, and what the clients raise. `on_progress` may raise to leave off; `call` runs what
    may take long to be answered. A working copy that `is_vouched` is right, and kept, where the changelog has
    another past.
    """
    while True:
        places = _places_behind(admin, store, ends, call)
        if not places:
            return
        try:
            _Restore(settings, store, places, on_progress).run()
        except _OtherHistoryError as other:
            place = other.place
            topic, number = changelog_of(place.source[0]), place.source[1]
            if is_vouched(place.source):
                raise RestoreError(
                    f"{topic}[{number}] holds another record at {place.next_offset - 1} than ingest "
                    "committed; the working copy is right, and kept"
                ) from None
            log.warning(
                "the changelog has another past than the working copy, which is dropped",
                topic=topic, partition=number, position=place.next_offset,
            )  # fmt: skip
            store.wipe(place.source)
        else:
            return


def _places_behind(
    admin: AdminClient, store: StateStore, ends: Mapping[Partition, int], call: Call
) -> list[_Place]:
    topic_ids = call(kafka.topic_ids, admin, sorted({changelog_of(topic) for topic, _ in ends}))
    starts = call(kafka.start_offsets, admin, [(changelog_of(topic), number) for topic, number in ends])
    found = []
    for partition, end in ends.items():
        changelog = changelog_of(partition[0]), partition[1]
        start, topic_id = starts[changelog], topic_ids[changelog[0]]
        position, expected = store.position(partition), store.last_digest(partition)
        if position is None or position.topic_id != topic_id or position.next_offset > end:
            # The working copy is of another changelog, or newer than this one: it is disposable.
            store.wipe(partition)
            position, expected = ChangelogPosition(topic_id, 0), None
        if start > position.next_offset:
            raise RestoreError(
                f"{changelog[0]}[{changelog[1]}] begins at {start}: what was before is deleted, which "
                "compaction never does, and states from before cannot be restored"
            )
        if position.next_offset < end or expected is not None:
            found.append(_Place(partition, topic_id, position.next_offset, end, expected))
    return found


class _Restore:
    """One reading of the changelogs from where the working copy stands."""

    def __init__(
        self, settings: Settings, store: StateStore, places: list[_Place], on_progress: Callable[[str], None]
    ) -> None:
        self._settings, self._store, self._on_progress = settings, store, on_progress
        self._places = {(changelog_of(p.source[0]), p.source[1]): p for p in places}
        self._waiting = set(self._places)
        self._offsets_to_go = sum(place.end - place.next_offset for place in places)
        self._offsets_passed = self._restored = 0
        self._began_at = time.monotonic()

    def run(self) -> None:
        """Read and apply until every end is reached."""
        reader = kafka.consumer(
            self._settings, f"{self._settings.log_name}.restore", **{"enable.partition.eof": True}
        )
        is_much = self._offsets_to_go >= BULK_RECORDS
        try:
            reader.assign([place.reads_from for place in self._places.values()])
            with self._store.restoring() if is_much else nullcontext():
                self._read(reader)
        finally:
            reader.close()
        seconds = round(time.monotonic() - self._began_at, 2)
        log.info("state restored", states=self._restored, partitions=len(self._places), seconds=seconds)

    def _read(self, reader: Consumer) -> None:
        moved_at = time.monotonic()
        while self._waiting:
            messages = reader.consume(READ_BATCH, WAIT_S)
            if messages:
                self._apply(messages)
                moved_at = time.monotonic()
            self._on_progress(self._progress())
            if time.monotonic() - moved_at > STALL_S:
                changelog, number = min(self._waiting)
                to_go = f"{len(self._waiting)} partitions to go, such as {changelog}[{number}]"
                raise RestoreError(f"nothing arrives within {STALL_S:.0f} s: {to_go}")

    def _apply(self, messages: list[Message]) -> None:
        """Apply a batch: states and positions together, and of several states of a device only the last."""
        states: dict[tuple[Partition, bytes], bytes] = {}
        advanced: dict[Partition, ChangelogPosition] = {}
        for message in messages:
            place = self._places[message.topic(), message.partition()]  # type: ignore[index]
            error, offset = message.error(), message.offset() or 0
            if error is None:
                if self._is_news(place, offset, message.key(), message.value()):
                    # Taken out first, so that the last one in is the last record.
                    name = place.source, message.key()
                    states.pop(name, None)  # type: ignore[arg-type]
                    states[name] = message.value()  # type: ignore[index, assignment]
                    advanced[place.source] = ChangelogPosition(place.topic_id, offset + 1)
                    self._restored += 1
                self._reached(place, offset + 1)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
                # Behind the last record may stand markers of transactions.
                self._reached(place, offset)
            else:
                raise KafkaException(error)
        if advanced:
            self._store.write(((p, key, value) for (p, key), value in states.items()), advanced)

    def _is_news(self, place: _Place, offset: int, key: object, value: object) -> bool:
        """Tell whether a record is to be applied; raises _OtherHistoryError for one that should be known."""
        if not isinstance(key, bytes) or not isinstance(value, bytes):
            return False
        expected, place.expected = place.expected, None
        if offset >= place.next_offset:
            return True
        if expected != record_digest(key, value):
            raise _OtherHistoryError(place)
        return False

    def _reached(self, place: _Place, next_offset: int) -> None:
        self._offsets_passed += max(0, next_offset - place.next_offset)
        place.next_offset = max(place.next_offset, next_offset)
        if next_offset >= place.end:
            self._waiting.discard((changelog_of(place.source[0]), place.source[1]))

    def _progress(self) -> str:
        to_go = max(0, self._offsets_to_go - self._offsets_passed)
        # Compaction leaves holes: what is to come is taken to be as dense as what came.
        density = self._restored / self._offsets_passed if self._offsets_passed else 1.0
        text = f"restored {self._restored:,} of about {self._restored + round(to_go * density):,} states"
        seconds = time.monotonic() - self._began_at
        if seconds >= RATE_AFTER_S:
            text += f" ({self._restored / seconds:,.0f}/s)"
        return f"{text}, {len(self._waiting)} of {len(self._places)} partitions to go"

"""INDEX: reads `device.events` into the record index, so that `prove` finds an event by its name.

The story:

    consume    committed records of every partition, from where the index stands
    write      names, digests and positions in one WriteBatch

`prove` does the same by itself for what is missing, so nothing depends on this stage; where it runs, `prove`
has nothing left to read. No group, no commit: the index says how far it is.
"""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.recordindex import IndexBusyError, Positions, RecordIndex
from pipeline.sessions import run_sessions
from pipeline.settings import Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from pipeline.topics import EVENTS

log = structlog.get_logger()

BATCH_RECORDS = 5000
WAIT_S = 0.1
CATCH_UP_S = 3 * CALL_TIMEOUT_S
"""Nothing arriving for so long means that Kafka does not answer; a long topic takes as long as it takes."""

Place = tuple[int, int]
"""Partition and offset in `device.events`."""
Look = Callable[[RecordIndex], Place | None]


def index_path(settings: Settings) -> Path:
    """Where the index of this deployment is."""
    return settings.data_dir / "state" / "recordindex"


def find(settings: Settings, look: Look, *, is_right: Callable[[Place], bool]) -> Place | None:
    """Look a record up: in the index as it is, then in the index brought up to date.

    `is_right` reads the record and compares: an index of another topic's records misleads nobody.
    """
    try:
        index = RecordIndex(index_path(settings))
    except IndexBusyError:
        return _find_aside(settings, look, is_right)
    with closing(index):
        place = look(index)
        if place is not None and is_right(place):
            return place
        with closing(IndexFollower(settings, index)) as follower:
            follower.catch_up()
        place = look(index)
    return place if place is not None and is_right(place) else None


def _find_aside(settings: Settings, look: Look, is_right: Callable[[Place], bool]) -> Place | None:
    """Look into an index that another process keeps; wait for it to reach the topic's present end."""
    ends: dict[tuple[str, int], int] | None = None
    with closing(RecordIndex(index_path(settings), read_only=True)) as index:
        deadline = time.monotonic() + CATCH_UP_S
        while time.monotonic() < deadline:
            index.refresh()
            place = look(index)
            if place is not None and is_right(place):
                return place
            ends = ends or _ends(settings)
            positions = index.positions()
            if positions and all(
                positions.next_offsets.get(number, 0) >= end for (_, number), end in ends.items()
            ):
                return None
            time.sleep(WAIT_S)
    raise IndexBusyError(
        f"the process that writes {index_path(settings)} did not catch up within {CATCH_UP_S:.0f} s"
    )


def _ends(settings: Settings) -> dict[tuple[str, int], int]:
    admin = kafka.admin(settings)
    partitions = admin.list_topics(EVENTS, timeout=CALL_TIMEOUT_S).topics[EVENTS].partitions
    return kafka.end_offsets(admin, [(EVENTS, number) for number in partitions])


class IndexFollower:
    """Reads the topic on from where the index stands."""

    def __init__(self, settings: Settings, index: RecordIndex) -> None:
        self._index = index
        admin = kafka.admin(settings)
        topic_id = kafka.topic_id(admin, EVENTS)
        known = index.positions()
        if known is not None and known.topic_id != topic_id:
            log.warning("the topic was recreated, the record index begins anew", topic=EVENTS)
            index.wipe()
            known = None
        ends = admin.list_topics(EVENTS, timeout=CALL_TIMEOUT_S).topics[EVENTS].partitions
        starts = kafka.start_offsets(admin, [(EVENTS, number) for number in ends])
        next_offsets = {
            number: max(start, known.next_offsets.get(number, 0) if known else 0)
            for (_, number), start in starts.items()
        }
        self._positions = Positions(topic_id, next_offsets)
        self._at_end: set[int] = set()
        self._consumer = kafka.consumer(
            settings, f"{settings.log_name}.recordindex", **{"enable.partition.eof": True}
        )
        self._consumer.assign(
            [TopicPartition(EVENTS, number, offset) for number, offset in next_offsets.items()]
        )

    @property
    def behind(self) -> int:
        """How many partitions have not been read to their ends."""
        return len(self._positions.next_offsets) - len(self._at_end)

    def step(self) -> int:
        """Take what has arrived into the index; returns how many records."""
        records, offsets = [], self._positions.next_offsets
        for message in self._consumer.consume(BATCH_RECORDS, WAIT_S):
            error, number = message.error(), message.partition() or 0
            if error is None:
                records.append(kafka.to_record(message, with_headers=False))
                offsets[number] = (message.offset() or 0) + 1
                self._at_end.discard(number)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
                # Behind the last record may stand markers of transactions.
                offsets[number] = max(offsets[number], message.offset() or 0)
                self._at_end.add(number)
            else:
                raise KafkaException(error)
        # A crash before this reads the batch again, and writes the same.
        self._index.write(records, self._positions)
        return len(records)

    def catch_up(self) -> None:
        """Read to the ends of all partitions; raises KafkaReadError when nothing arrives any more."""
        moved_at = time.monotonic()
        while self.behind:
            before = len(self._at_end)
            if self.step() or len(self._at_end) > before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > CATCH_UP_S:
                raise kafka.KafkaReadError(f"{EVENTS}: nothing arrives, {self.behind} partitions to go")

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()


def run(settings: Settings, slot: int) -> None:
    """Keep the index warm until asked to stop."""
    with running_stage(settings, "index", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, _slot: int, health: Health, stop: Stop) -> None:
    """Run session after session; waits while another process writes the index."""
    run_sessions("index", lambda: _IndexSession(settings, health), health, stop)


class _IndexSession:
    def __init__(self, settings: Settings, health: Health) -> None:
        self._settings, self._health = settings, health
        self._index: RecordIndex | None = None
        self._follower: IndexFollower | None = None

    def run(self, stop: Stop) -> None:
        self._index = RecordIndex(index_path(self._settings))
        self._follower = IndexFollower(self._settings, self._index)
        while not stop.requested:
            self._follower.step()
            behind = self._follower.behind
            state = StageState.RESTORING if behind else StageState.RUNNING
            self._health.beat(state, f"{behind} partitions to go" if behind else "")

    def close(self) -> None:
        for each in (self._follower, self._index):
            if each is not None:
                each.close()

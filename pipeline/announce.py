"""From the anchor stage's outbox to `log.anchors`: at least once, in order, the same bytes each time.

Never waits for Kafka: an outage there delays what is said about anchors, not the anchors.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from pipeline import kafka
from pipeline.anchorrecords import CONFIRMED, Anchored, AnchorPlace, confirmed
from pipeline.anchorstore import AnchorStore
from pipeline.brokerless import BrokerlessClientError
from pipeline.epochlog import EpochLog
from pipeline.kafka import KafkaReadError
from pipeline.kafkaread import read_all
from pipeline.patience import Call
from pipeline.settings import Settings
from pipeline.sqlitefile import DatabaseError
from pipeline.topics import ANCHORS
from schemas.checkpoint import SignedCheckpoint
from schemas.codec import CODEC
from schemas.errors import FormatError

log = structlog.get_logger()

CLOSE_WAIT_S = 2.0
MOST_WAITING = 1000
"""So many records are handed over and not acknowledged; the rest waits in the outbox, which is on disk."""
NEWEST = 10_000
"""An anchor's records are among so many last ones, or its successor has long been confirmed."""


class Announcer:
    """Hands records of the outbox to Kafka, and strikes out what is acknowledged."""

    def __init__(self, settings: Settings, store: AnchorStore) -> None:
        self._store = store
        self._settings = settings
        self._producer = kafka.watched_producer(settings)
        self._handed_over = 0
        self._waiting: set[int] = set()
        self.trouble: str | None = None
        """Why Kafka did not take a record, while that is so."""

    def send(self) -> None:
        """Hand over what is new and take acknowledgements; returns at once.

        Raises KafkaException when the producer can never send again.
        """
        if len(self._waiting) < MOST_WAITING:
            self._hand_over()
        try:
            self._producer.check()
        except BrokerlessClientError as error:
            self._begin_anew(str(error))

    def _begin_anew(self, why: str) -> None:
        self.trouble = why
        self._producer = kafka.watched_producer(self._settings)
        # Nobody tells of these any more, whether Kafka has them or not: they go again.
        self._handed_over = min([self._handed_over, *(number - 1 for number in self._waiting)])
        self._waiting.clear()

    def _hand_over(self) -> None:
        for number, record in self._store.outbox(after=self._handed_over):
            self._producer.produce(
                ANCHORS,
                key=record.key,
                value=record.value,
                partition=0,
                on_delivery=self._taken(number),
            )
            self._handed_over = number
            self._waiting.add(number)

    @property
    def waiting(self) -> int:
        """How many records Kafka has not acknowledged."""
        return len(self._waiting)

    def close(self) -> None:
        """Give what is on its way a moment; what is not acknowledged goes again after the next start."""
        deadline_s = time.monotonic() + CLOSE_WAIT_S
        with suppress(DatabaseError, KafkaException):  # then they go again
            while self._waiting and time.monotonic() < deadline_s:
                self._producer.poll(0.1)
        self._producer.purge()

    def _taken(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            self._waiting.discard(number)
            if error is None:
                self.trouble = None
                # A crash before this repeats the record after the start: equal bytes, which harm nobody.
                self._store.acknowledged(number)
                return
            self.trouble = error.str()
            if error.fatal():
                raise KafkaException(error)
            # From here on again, in order; records behind it that arrive now are then repeated.
            self._handed_over = min(self._handed_over, number - 1)

        return on_delivery


@dataclass(frozen=True, slots=True)
class FoundNote:
    """The signed checkpoint of an anchor that stands on the ledger but not in the database."""

    signed: SignedCheckpoint
    transaction_id: str = ""
    """Empty where unknown."""
    is_confirmed: bool = False
    """CONFIRMED was said of it already."""


def find_note(
    settings: Settings,
    anchored: Anchored,
    epoch_log: EpochLog,
) -> FoundNote | None:
    """Look for an anchor's signed checkpoint in `log.anchors`, then at the published ones; None: nowhere.

    It is for a database that was lost, and for what another process anchored.
    """
    found: FoundNote | None = None
    for record in read_all(settings, ANCHORS, newest=NEWEST):
        try:
            said = CODEC.decode("anchor", record.value or b"")
            if said["tree_size"] != anchored.tree_size:
                continue
            note = FoundNote(
                epoch_log.verify(said["checkpoint"]), said["transaction_id"], said["status"] == CONFIRMED
            )
        except FormatError:
            continue  # not of our making, so it says nothing
        if _is_of(note.signed, anchored):
            found = note
            if note.is_confirmed:
                break
    if found is not None:
        return found
    for signed in (epoch_log.cosigned(), epoch_log.published()):
        if signed is not None and _is_of(signed, anchored):
            return FoundNote(signed)
    return None


class FoundAnchors:
    """Says CONFIRMED of an anchor that was found: the database was lost, or another process made it."""

    def __init__(self, settings: Settings, store: AnchorStore, epoch_log: EpochLog, call: Call) -> None:
        self._settings, self._store, self._log, self._call = settings, store, epoch_log, call
        self._tried_size = 0

    def announce(self, place: AnchorPlace) -> None:
        """Announce the newest anchor, unless that was done; raises KafkaException or KafkaReadError."""
        anchored = self._store.anchored()
        if anchored is None or anchored.tree_size <= self._store.announced_size():
            return
        found = self._call(find_note, self._settings, anchored, self._log)
        records = []
        if found is None:
            # The next anchor covers what this one does.
            log.warning("an anchor without its checkpoint's note", tree_size=anchored.tree_size)
        elif not found.is_confirmed:
            now_us = time.time_ns() // 1000
            records = [confirmed(found.signed, place, found.transaction_id, now_us, anchored)]
        self._store.announce(records, anchored.tree_size)

    def announce_before_the_next(self, place: AnchorPlace) -> None:
        """Try once, so that what was said to be submitted is said to be confirmed; Kafka may be away."""
        anchored = self._store.anchored()
        if anchored is None or anchored.tree_size == self._tried_size:
            return
        self._tried_size = anchored.tree_size
        try:
            self.announce(place)
        except (KafkaException, KafkaReadError) as error:
            log.warning("an anchor that was found is not announced", why=str(error))


def _is_of(signed: SignedCheckpoint, anchored: Anchored) -> bool:
    return (signed.checkpoint.size, signed.checkpoint.root) == (anchored.tree_size, anchored.root)

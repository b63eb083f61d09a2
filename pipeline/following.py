"""Follows a topic of signed entries as a global table: every worker holds all of it and knows its offset.

*Fresh* means: the position equalled a high watermark that was asked for at most N seconds ago.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import Counter

from pipeline.kafka import CALL_TIMEOUT_S, FIRST_TRY_S, ask_ends, consumer, to_record
from pipeline.settings import PipelineError, Settings
from processors.chain import SignedTable

log = structlog.get_logger()

T = TypeVar("T", bound=SignedTable)
_ANOTHER = frozenset(
    {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}  # noqa: SLF001 - the public names
)
"""Our place is not in the topic, although we have read up to it: it was made anew or cut."""
RETRY_S = 0.1
POLL_MOST_S = 0.5
"""Of a step, for entries that arrive faster than they are applied."""
TRY_AGAIN_S = 0.25
"""What another try is worth while the topic cannot be read: enough once it answers, and no burden."""

ANSWER_S = 1.0
"""A question that is not waited for is answered within so long, or it has failed."""
PATIENCE = 2
"""Within so many times that the table has got to where the answer says."""

OnProgress = Callable[[str], None]
"""Hears in words how far a long read is."""


class TableLagError(PipelineError):
    """The topic could not be read to its high watermark in time."""


class _Question(NamedTuple):
    """How far the topic goes, asked at a moment of the monotonic clock."""

    asked_at: float
    read: int
    """How far it had been read then: entries that came since do not make the answer a wrong one."""
    answer: Future[Any]


class TableFollower(Generic[T]):
    """Owns a consumer of a topic and the table that it fills; `noun` names the table to people."""

    stale = "the view is STALE"

    def __init__(self, settings: Settings, table: T, topic: str, noun: str, unread: Counter) -> None:
        self.table = table
        self.topic = topic
        self._noun, self._unread = noun, unread
        self._settings = settings
        self._consumer = consumer(
            settings, f"{settings.log_name}.{noun}-readers", **{"enable.partition.eof": True}
        )
        self._place = TopicPartition(topic, 0)
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._reached_at: float | None = None
        self._trouble = ""
        self._question: _Question | None = None
        self.distrusted = ""
        """Why the topic is not the one that the table is of; then nothing more is applied."""

    def distrust(self, why: str) -> None:
        """Never be fresh again: what the topic holds is another history, and the two do not mix."""
        if not self.distrusted:
            log.error(f"the {self._noun} is another one, judging by the last known view", why=why)
            self.distrusted = f"{self.topic}: {why}"

    def poll(self) -> None:
        """Apply what has arrived, without waiting."""
        if self.distrusted:
            return
        until = time.monotonic() + POLL_MOST_S
        while self._take(0.0) and time.monotonic() < until:
            continue
        self._take_answer()

    @property
    def was_read_up(self) -> bool:
        """Tell whether the table was complete at any moment since this process began to follow."""
        return self._reached_at is not None

    def is_fresh(self) -> bool:
        """Tell whether the table was complete at a moment within the configured bound."""
        if self._reached_at is None or self.distrusted:
            return False
        return time.monotonic() - self._reached_at <= self._settings.registry_fresh_s

    def staleness(self) -> str:
        """Say that the view is stale, for a worker's status; empty while it is fresh."""
        if self.is_fresh():
            return ""
        return f"; {self.stale}" + (f": {self.distrusted}" if self.distrusted else "")

    def catch_up(self, on_progress: OnProgress = lambda _text: None) -> None:
        """Read to the high watermark as of now, however far that is.

        Raises TableLagError when nothing arrives for CALL_TIMEOUT_S, KafkaException when nobody answers.
        """
        asked_at = time.monotonic()
        high = self._ask_high_watermark(asked_at + CALL_TIMEOUT_S, on_progress)
        moved_at = time.monotonic()
        while self.table.offset < high:
            before = self.table.offset
            self._take(RETRY_S)
            if self.table.offset > before:
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > CALL_TIMEOUT_S:
                raise self._lags(high, CALL_TIMEOUT_S)
            on_progress(f"reading the {self._noun}: {self.table.offset:,} of {high:,} entries")
        self._reached_at = asked_at

    def keep_up(self, admin: AdminClient) -> None:
        """Ask how far the topic goes, where no earlier question is open; never waits.

        `poll` takes the answer, and knows the table for fresh once it has got there.
        """
        if self.distrusted:
            self._unread.inc()
        elif self._question is None:
            asked_at = time.monotonic()
            answer = ask_ends(admin, [(self.topic, 0)], ANSWER_S, committed=True)[self.topic, 0]
            self._question = _Question(asked_at, self.table.offset, answer)

    def _take_answer(self) -> None:
        question = self._question
        if question is None:
            return
        waited_s = time.monotonic() - question.asked_at
        try:
            if not question.answer.done():
                if waited_s <= PATIENCE * ANSWER_S:
                    return
                raise TableLagError(f"nobody says how far {self.topic} goes")
            high = self._checked(question.answer.result().offset, question.read)
            if self.table.offset < high:
                if waited_s <= PATIENCE * ANSWER_S:
                    return
                raise self._lags(high, waited_s)
        except (KafkaException, TableLagError) as error:
            self._question = None
            self._in_trouble(error)
        else:
            self._question, self._reached_at = None, max(self._reached_at or 0.0, question.asked_at)
            self._out_of_trouble()

    def try_catch_up(self, timeout_s: float) -> bool:
        """Catch up within `timeout_s` if that is possible now; else keep the last known view.

        Says so in the log once. While it lasts each try is short, so that whoever judges is not held up.
        """
        if self.distrusted:
            self._unread.inc()
            return False
        try:
            self._catch_up_by(time.monotonic() + (TRY_AGAIN_S if self._trouble else timeout_s))
        except (KafkaException, TableLagError) as error:
            self._in_trouble(error)
            return False
        self._out_of_trouble()
        return True

    def _in_trouble(self, error: Exception) -> None:
        if not self._trouble:
            log.warning(f"{self._noun} cannot be read up, judging by the last known view", error=str(error))
        self._trouble = str(error)
        self._unread.inc()

    def _out_of_trouble(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info(f"{self._noun} is read up again", offset=self.table.offset)

    def close(self) -> None:
        """Release the consumer."""
        self._consumer.close()

    def _catch_up_by(self, deadline: float) -> None:
        asked_at = time.monotonic()
        high = self._high_watermark(deadline)
        while self.table.offset < high:
            self._take(0.05)
            if time.monotonic() > deadline:
                raise self._lags(high, deadline - asked_at)
        self._reached_at = asked_at

    def _lags(self, high: int, after_s: float) -> TableLagError:
        return TableLagError(f"{self.topic} stands at {self.table.offset} of {high} after {after_s:.3g} s")

    def _ask_high_watermark(self, deadline: float, on_progress: OnProgress) -> int:
        """Ask in tries that grow, as `pipeline.kafka.asked` does, with a sign of life before each."""
        try_s = FIRST_TRY_S
        while True:
            on_progress(f"asking how far {self.topic} goes")
            try:
                return self._high_watermark(min(deadline, time.monotonic() + try_s))
            except KafkaException:
                if time.monotonic() + RETRY_S > deadline:
                    raise
            try_s *= 2

    def _high_watermark(self, deadline: float) -> int:
        while True:
            left_s = max(0.1, deadline - time.monotonic())
            try:
                offsets = self._consumer.get_watermark_offsets(self._place, timeout=left_s, cached=False)
            except KafkaException:
                # A leader that moves or is just being elected answers a moment later.
                if time.monotonic() + RETRY_S > deadline:
                    raise
                time.sleep(RETRY_S)
            else:
                if offsets is None:
                    raise TableLagError(f"nobody says how far {self.topic} goes")
                return self._checked(int(offsets[1]), self.table.offset)

    def _checked(self, high: int, read: int) -> int:
        if high < read:
            # The table knows more than the topic: no later answer of that topic makes it fresh.
            raise TableLagError(f"{self.topic} ends at {high}, {read} were read: it is another or cut")
        return high

    def _take(self, timeout_s: float) -> int:
        messages = self._consumer.consume(1000, timeout_s)
        for message in messages:
            error = message.error()
            if error is None:
                self.table.apply(to_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name of the code
                self.table.offset = max(self.table.offset, message.offset() or 0)
            elif error.code() in _ANOTHER and self._reached_at is not None:
                self.distrust(f"{error.str()}, {self.table.offset} were read")
                break
            else:
                to_record(message)  # raises with the error's text
        return sum(1 for m in messages if m.error() is None)

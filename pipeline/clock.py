"""What time alone can say: which devices are silent.

Judged only where we have seen everything up to a moment: log ends are asked for, and once the position has
passed them, all that was appended before the question has been judged. Deadlines start anew after a recovery
or an outage: an outage of ours is not a fleet falling silent.
"""

import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.statestore import Partition

OUTAGE_S = 5.0
"""When knowledge of a partition stood still for so long, its deadlines start anew."""
TICKS_IN_OUTAGE = 4
ANSWER_S = 5.0
"""A question that is not answered within so long is asked again: it may have gone to a dead broker."""


@dataclass(slots=True)
class _Knowledge:
    since_us: int
    complete_until_us: int
    asked_us: int = 0
    answer: "Future[Any] | None" = None
    """On its way."""
    asked_end: int | None = None


class BrokerClock:
    """The broker's time, from the last LogAppendTime heard and our own steps since.

    It runs late by a record's way to us, never early, and does not care what time this machine thinks it is.
    Before the first record there is only this machine's clock.
    """

    def __init__(self) -> None:
        self._heard_us: int | None = None
        self._heard_at = 0.0

    def heard(self, append_us: int) -> bool:
        """Take a LogAppendTime; True for the first, when the clock may have jumped."""
        first = self._heard_us is None
        if first or append_us > self.now_us():
            self._heard_us, self._heard_at = append_us, time.monotonic()
        return first

    def now_us(self) -> int:
        """Estimate the broker's time, in microseconds since 1970."""
        if self._heard_us is None:
            return time.time_ns() // 1000
        return self._heard_us + round((time.monotonic() - self._heard_at) * 1e6)


class FleetClock:
    """Tracks, for each assigned partition, up to which moment all its records have been judged."""

    def __init__(self, partitions: list[Partition], silence_after_s: float, tick_interval_s: float) -> None:
        self._silence_us = round(silence_after_s * 1e6)
        # Short of the limit, so that no outage passes for silence; long enough for a few ticks to fit in.
        outage_s = min(OUTAGE_S, max(silence_after_s / 2, TICKS_IN_OUTAGE * tick_interval_s))
        self._outage_us = round(outage_s * 1e6)
        self._broker = BrokerClock()
        self._known = self._anew(partitions)
        self._failing_since: float | None = None
        """Since when no question has been answered, where one has failed."""

    def heard(self, append_us: int) -> None:
        """Take a record's LogAppendTime: the only clock that counts is the broker's."""
        if self._broker.heard(append_us):
            self._known = self._anew(list(self._known))

    def _anew(self, partitions: list[Partition]) -> dict[Partition, _Knowledge]:
        now_us = self._broker.now_us()
        return {partition: _Knowledge(now_us, now_us) for partition in partitions}

    def ask(self, admin: AdminClient) -> None:
        """Ask for log ends where no earlier question is open. Never waits: judging does not need the answer.

        `reached` raises KafkaException when questions have done nothing but fail for CALL_TIMEOUT_S.
        """
        open_ = [p for p, k in self._known.items() if k.asked_end is None and k.answer is None]
        if not open_:
            return
        now_us = self._broker.now_us()
        for partition, answer in kafka.ask_ends(admin, open_, ANSWER_S).items():
            known = self._known[partition]
            known.asked_us, known.answer = now_us, answer

    def _take_answers(self) -> None:
        failure: Exception | None = None
        has_answer = False
        for known in self._known.values():
            if known.answer is None or not known.answer.done():
                continue
            answer, known.answer = known.answer, None
            try:
                known.asked_end = answer.result().offset
                has_answer = True
            except KafkaException as error:
                failure = error  # asked again
        if has_answer:
            self._failing_since = None
        elif failure is not None:
            now = time.monotonic()
            self._failing_since = self._failing_since or now
            if now - self._failing_since > CALL_TIMEOUT_S:
                # A client may have lost its way for good; the next session has a new one.
                raise failure

    def reached(self, next_offsets: dict[Partition, int]) -> None:
        """Take note of positions: a question whose end was passed is answered; may raise, see `ask`."""
        self._take_answers()
        for partition, known in self._known.items():
            if known.asked_end is None or next_offsets[partition] < known.asked_end:
                continue
            if known.asked_us - known.complete_until_us > self._outage_us:
                known.since_us = known.asked_us
            known.complete_until_us, known.asked_end = known.asked_us, None

    def horizon_us(self, partition: Partition) -> int | None:
        """Return the moment since which a device must have spoken; None while deadlines start anew."""
        known = self._known[partition]
        horizon_us = known.complete_until_us - self._silence_us
        return None if known.since_us > horizon_us else horizon_us

    def now_us(self) -> int:
        """Estimate the broker's time."""
        return self._broker.now_us()

    def complete_until_us(self, partition: Partition) -> int:
        """Return the moment up to which all records of a partition have been judged."""
        return self._known[partition].complete_until_us

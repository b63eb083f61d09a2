"""Notices a partition that the client library has stopped fetching, which a new client mends.

After a broker's restart librdkafka now and then goes on with all partitions but one, silently and for good
(librdkafka issue 5153; met here once by killing the broker of a running demo). Neither an error nor its own
watermark tells, since both come with a fetch. So a partition that has been quiet for a while has its end
asked for, and where that lies beyond our place while the client hands out nothing, it is stalled.
"""

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException

from pipeline import kafka
from pipeline.brokerless import WatchedAdmin
from pipeline.settings import PipelineError
from pipeline.statestore import Partition

LOOK_EVERY_S = 1.0
QUIET_S = 15.0
"""A partition whose place has not moved for so long has its end asked for, and again after as long."""
OWED_S = 10.0
"""How long a record may be known to wait before nobody can call it slow."""


class StalledPartitionError(PipelineError):
    """The client library fetches a partition no more."""


class Stalls:
    """Watches the places of one consumer."""

    def __init__(self, admin: WatchedAdmin) -> None:
        self._admin = admin
        self.begin()

    def begin(self) -> None:
        """Forget all: the client fetches anew."""
        self._looked_at = self._drained_at = 0.0
        self._quiet: dict[Partition, tuple[int, float]] = {}
        self._asked_at = 0.0
        self._asked: dict[Partition, Future[Any]] = {}
        self._owed: dict[Partition, tuple[int, float]] = {}
        """Where a record waits: our place when that was found, and when."""

    def drained(self) -> None:
        """Say that the client has just handed out all it had."""
        self._drained_at = time.monotonic()

    def look(self, places: Mapping[Partition, int]) -> None:
        """Compare the next offsets of all partitions that are to be fetched, at most once a second.

        Never waits for an answer. Raises StalledPartitionError, and BrokerlessClientError.
        """
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now
        self._admin.check()
        kept = {p: told for p, told in self._quiet.items() if places.get(p) == told[0]}
        self._quiet = {p: kept.get(p, (at, now)) for p, at in places.items()}
        self._owed = {p: owed for p, owed in self._owed.items() if places.get(p) == owed[0]}
        self._take_answers(places, now)
        for (topic, number), (at, since) in self._owed.items():
            # What it holds for other partitions may come first: only when it holds nothing is that sure.
            if now - since > OWED_S and self._drained_at > since + OWED_S:
                raise StalledPartitionError(
                    f"{topic}[{number}] has had records from {at} on for {now - since:.0f} s, and "
                    "the client fetches none of them"
                )
        if not self._asked and now - self._asked_at > QUIET_S:
            self._ask([p for p, (_, since) in self._quiet.items() if now - since > QUIET_S], now)

    def _ask(self, partitions: list[Partition], now: float) -> None:
        self._asked_at = now
        if partitions:
            # What an open transaction holds back is not owed to us.
            self._asked = kafka.ask_ends(self._admin, partitions, kafka.CALL_TIMEOUT_S, committed=True)

    def _take_answers(self, places: Mapping[Partition, int], now: float) -> None:
        done = {p: answer for p, answer in self._asked.items() if answer.done()}
        for partition, answer in done.items():
            del self._asked[partition]
            at = places.get(partition)
            try:
                end = answer.result().offset
            except KafkaException:
                continue  # asked again later
            if at is not None and end > at:
                self._owed.setdefault(partition, (at, now))

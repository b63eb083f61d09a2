"""Judges correlate, route and deliver by what stands in their topics and what receivers were sent.

It shares no code with the stages: values are JSON and Avro read here, headers are bytes. It holds `alerts`
against the source records, each party's topic against `alerts`, and what arrived against that topic.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from tests.faults.machine.ledger import Violation
from tests.faults.machine.notify.covers import BY_DEVICE, SINGLE, SOURCES, read_message
from tests.faults.machine.notify.delivered import Arrival, Output
from tests.faults.machine.notify.routed import Stream
from tests.faults.machine.notify.told import Told
from tests.faults.machine.oracle.formats import Partition, Record, UntrueError
from tests.faults.machine.oracle.found import Found
from tests.faults.machine.oracle.reading import ANSWER_S, TopicReader, UnreadableError

ALERTS = "alerts"
Arrivals = Mapping[tuple[str, str], Sequence[Arrival]]
"""By party and output; they grow meanwhile."""


class NotifyOracle:
    """Takes records in any order among topics; `judge` when all is quiet."""

    def __init__(
        self, parties: Sequence[Mapping[str, Any]], wards: Mapping[str, str], arrivals: Arrivals
    ) -> None:
        """`parties` is the list of the parties file; `wards` is by device."""
        self._found = Found()
        self.told = Told(self._found)
        self.streams = {
            party["name"]: Stream(party["name"], party["filter"], wards, self._found) for party in parties
        }
        self.outputs = {
            (party, output): Output(output, self.streams[party], came, self._found)
            for (party, output), came in arrivals.items()
        }

    def take(self, record: Record) -> None:
        """Take a committed record of any of the topics."""
        if record.topic in SOURCES:
            self.told.source(record)
        elif record.topic == ALERTS:
            self._take_alert(record)
        else:
            party, dot, _ = record.topic.removeprefix(f"{ALERTS}.").partition(".")
            if not dot:
                self.streams[party].take(record)
                return
            for (name, _), output in self.outputs.items():
                if name == party:
                    output.undelivered(record)

    def _take_alert(self, record: Record) -> None:
        try:
            message = read_message(record)
        except UntrueError as error:
            self._found.add("alert", str(error))
            return
        if self.told.message(message):
            for stream in self.streams.values():
                stream.expect(message)

    def pending(self, acknowledged: Mapping[Partition, int]) -> str:
        """Say what is still waited for; empty when all is quiet."""
        texts = [self.told.pending(acknowledged)]
        texts += [stream.pending() for stream in self.streams.values()]
        texts += [output.pending() for output in self.outputs.values()]
        return next(filter(None, texts), "")

    def judge(self, *, is_calm: bool) -> list[Violation]:
        """Return what is wrong and was not told before; `is_calm` as in `Told.judge`."""
        self.told.judge(is_calm=is_calm)
        for stream in self.streams.values():
            stream.judge()
        for output in self.outputs.values():
            output.judge()
        return self._found.take()


class Reading:
    """Feeds an oracle from a broker."""

    def __init__(self, bootstrap: str, log_name: str, partitions: int, oracle: NotifyOracle) -> None:
        self._oracle = oracle
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "socket.timeout.ms": int(ANSWER_S * 1000)})
        self._group = f"{log_name}.correlate"
        places = [(topic, number) for topic in BY_DEVICE for number in range(partitions)]
        places += [(topic, 0) for topic in (*SINGLE, ALERTS)]
        for party in oracle.streams:
            places += [(f"{ALERTS}.{party}", 0), (f"{ALERTS}.{party}.undelivered", 0)]
        self._reader = TopicReader(bootstrap, places)

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()

    def pending(self) -> str:
        """Read all there is now; say what is still waited for."""
        try:
            for record in self._reader.read():
                self._oracle.take(record)
            return self._oracle.pending(self._acknowledged())
        except (UnreadableError, KafkaException) as error:
            return f"the broker: {error}"

    def _acknowledged(self) -> dict[Partition, int]:
        asked = [ConsumerGroupTopicPartitions(self._group)]
        (future,) = self._admin.list_consumer_group_offsets(asked, request_timeout=ANSWER_S).values()
        return {(p.topic, p.partition): p.offset for p in future.result(2 * ANSWER_S).topic_partitions}

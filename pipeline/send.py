"""SEND: a user's own file of readings or access events, signed by a device's key and published.

The story: check the whole file, reserve sequence numbers, then sign and publish row by row and wait until
the broker holds every one. What became of them stands in `device.events` and `device.rejected`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from pipeline import kafka, sequences
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.sendinput import FileSummary, InputRow, is_empty, read_rows
from pipeline.settings import PipelineError, Settings
from pipeline.topics import RAW_TOPIC_OF
from schemas.envelope import PayloadKind
from schemas.partition import partition_of
from schemas.signing import SigningIdentity

DELIVERY_DEADLINE_S = 60.0

OnSent = Callable[[int], None]
"""Hears how many rows were handled so far."""


class SendError(PipelineError):
    """Not everything was delivered."""


@dataclass(slots=True)
class Sent:
    """What was sent: device, place, boot, first and last sequence and offset, counts."""

    device_id: str
    topic: str
    partition: int
    boot: int
    empty_rows: int
    delivered: int = 0
    first_sequence: int | None = None
    last_sequence: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    failures: list[str] = field(default_factory=list)

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """Take one delivery report."""
        if error is not None:
            self.failures.append(str(error.str()))
            return
        offset = message.offset() or 0
        self.delivered += 1
        self.first_offset = offset if self.first_offset is None else min(offset, self.first_offset)
        self.last_offset = max(offset, self.last_offset or 0)


class Pace:
    """Spreads events over time; without a rate it never waits."""

    def __init__(self, rate_hz: float | None) -> None:
        self._period_s = 1 / rate_hz if rate_hz else 0.0
        self._next_s = time.monotonic()

    def wait(self, poll: Callable[[float], Any]) -> None:
        """Wait for the next turn, serving `poll(seconds)` meanwhile."""
        while (left_s := self._next_s - time.monotonic()) > 0:
            poll(min(left_s, 0.1))
        self._next_s += self._period_s


@dataclass(frozen=True, slots=True)
class SendJob:
    """What to send, as whom, and how fast."""

    path: Path
    key_file: Path
    identity: SigningIdentity
    kind: PayloadKind = PayloadKind.TELEMETRY
    rate_hz: float | None = None
    boot: int | None = None


def send(
    settings: Settings, job: SendJob, summary: FileSummary, *, on_sent: OnSent = lambda _count: None
) -> Sent:
    """Sign and publish every row of a file that `scan` found good; returns when the broker holds them all.

    Raises InputError for a file that has changed since, UsageError for the key's counters, SendError
    when something was not delivered.
    """
    topic = RAW_TOPIC_OF[job.kind]
    producer = kafka.producer(settings, **{"delivery.timeout.ms": int(DELIVERY_DEADLINE_S * 1000)})
    metadata = producer.list_topics(topic, timeout=CALL_TIMEOUT_S).topics[topic]
    if metadata.error is not None:
        raise SendError(f"topic {topic}: {metadata.error.str()}")
    did = job.identity.did
    partition = partition_of(did.encode(), len(metadata.partitions))
    started_us = time.time_ns() // 1000
    pace = Pace(job.rate_hz)
    with sequences.opened(job.key_file, did, now_s=started_us // 1_000_000, boot=job.boot) as counters:
        sent = Sent(did, topic, partition, counters.boot, summary.empty_rows)
        for count, row in enumerate(read_rows(job.path, job.kind), 1):
            if not is_empty(row, job.kind):
                pace.wait(producer.poll)
                sequence = counters.next(job.kind)
                header = {"device_id": did, "boot": counters.boot, "sequence": sequence}
                time_us = _time_us(row, summary, started_us)
                record = {**header, "time": time_us, **row.body}
                value = job.identity.seal_event(job.kind, settings.log_name, record)
                sent.first_sequence = sent.first_sequence or sequence
                sent.last_sequence = sequence
                _produce(producer, value, sent)
            on_sent(count)
        left = producer.flush(DELIVERY_DEADLINE_S)
        if left or sent.failures:
            raise SendError(_what_is_missing(left, sent))
        counters.finish()
    return sent


def _time_us(row: InputRow, summary: FileSummary, started_us: int) -> int:
    """The device's time of a row; a record in seconds of its own is taken as having just ended."""
    if row.time_us is not None:
        return row.time_us
    if row.t_s is not None and summary.last_t_s is not None:
        return started_us - round((summary.last_t_s - row.t_s) * 1_000_000)
    return time.time_ns() // 1000


def _produce(producer: Producer, value: bytes, sent: Sent) -> None:
    key = sent.device_id.encode()
    while True:
        try:
            producer.produce(sent.topic, value, key, partition=sent.partition, on_delivery=sent.on_delivery)
        except BufferError:
            producer.poll(0.1)
            if sent.failures:
                raise SendError(_what_is_missing(len(producer), sent)) from None
            continue
        producer.poll(0)
        return


def _what_is_missing(left: int, sent: Sent) -> str:
    why = f": {sent.failures[0]}" if sent.failures else ""
    return (
        f"{sent.delivered} events were delivered to {sent.topic}, {len(sent.failures) + left} were not{why}; "
        "the next send begins a new boot"
    )

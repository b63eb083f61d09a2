"""The generator: sends a part of a corpus at a rate, whatever becomes of it (an open loop).

Record n of the part is meant to be sent at `start + n / rate`, and that is when its latency begins, however
late it is sent: a system that stalls does not get its stall forgiven (no coordinated omission). A process of
its own: it takes a job as JSON on standard input, tells on standard output how far it is, a JSON object a
line, and leaves times and places of all records in a file.

    {"ready": true}                                        the corpus is read and the producer connected
    {"sent": 1200, "acknowledged": 1100, "failed": 0, "late_ms": 0.3, "done": false}

A line of input while it sends ends it early; the end of its input ends it without a result.
"""

import gc
import json
import math
import select
import sys
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, Message, Producer

from loadtests.corpus import KINDS, Corpus
from schemas.partition import partition_of

TELL_EVERY_NS = 250_000_000
TURN_NS = 1_000_000
"""Records that are due are sent in turns at least so far apart, each in full."""
MOST_A_TURN = 500
"""Then the client library is asked for acknowledgements, however many more are due."""
FLUSH_S = 60.0
UNSET = -1

PRODUCER: Mapping[str, Any] = {
    "enable.idempotence": True,
    # One client stands for a fleet's gateways. With 5 ms it sends each partition batches of a record or two,
    # and the broker's work for a batch, whatever is in it, is a quarter of all that it does (measured).
    "linger.ms": 20,
    "batch.size": 1_000_000,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1 << 20,
    "log_level": 0,
}
"""What --producer-props overrides."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each record of a part is meant to be sent; a rate of 0: all at once."""

    start_ns: int
    rate: float

    def intended_ns(self, number: int) -> int:
        """Moment (monotonic, ns) at which record `number` of the part is due."""
        return self.start_ns + (round(number * 1e9 / self.rate) if self.rate else 0)

    def due(self, now_ns: int) -> int:
        """How many records are due at a moment."""
        if not self.rate:
            return sys.maxsize
        if now_ns < self.start_ns:
            return 0
        found = math.floor((now_ns - self.start_ns) * self.rate / 1e9) + 1
        # By one too many or too few where the division rounds.
        while self.intended_ns(found - 1) > now_ns:
            found -= 1
        while self.intended_ns(found) <= now_ns:
            found += 1
        return found


@dataclass(frozen=True, slots=True)
class Job:
    """What to send: `count` records from `first` on, to the topics of each kind, and where to leave times."""

    corpus: str
    first: int
    count: int
    rate: float
    seconds: float
    """No record is sent that is due later than so long after the start; 0: all are."""
    topics: Mapping[str, str]
    partitions: int
    properties: Mapping[str, Any]
    out: str


@dataclass(frozen=True, slots=True)
class Sent:
    """Parallel arrays over the records of a part that were due; times are monotonic, in ns."""

    first: int
    """Number of the first record in the corpus."""
    start_ns: int
    rate: float
    sent_ns: npt.NDArray[np.int64]
    acknowledged_ns: npt.NDArray[np.int64]
    """UNSET where the broker did not."""
    offsets: npt.NDArray[np.int64]
    """In the record's raw topic-partition; UNSET where it is not there."""
    partitions: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sent_ns)

    def intended_ns(self) -> npt.NDArray[np.int64]:
        """When each record was due, as `Schedule` says."""
        schedule = Schedule(self.start_ns, self.rate)
        return np.fromiter(map(schedule.intended_ns, range(len(self))), np.int64, len(self))

    def save(self, path: Path) -> None:
        """Write to a file."""
        arrays = {
            name: getattr(self, name) for name in ("sent_ns", "acknowledged_ns", "offsets", "partitions")
        }
        with path.open("wb") as file:
            np.savez(file, plan=np.array([self.first, self.start_ns]), rate=np.array([self.rate]), **arrays)

    @classmethod
    def load(cls, path: Path) -> "Sent":
        """Read what `save` wrote."""
        with np.load(path) as found:
            first, start_ns = found["plan"].tolist()
            names = ("sent_ns", "acknowledged_ns", "offsets", "partitions")
            arrays = {name: found[name] for name in names}
            return cls(first, start_ns, float(found["rate"][0]), **arrays)


class Generator:
    """Sends one part."""

    def __init__(self, job: Job, corpus: Corpus, producer: Producer) -> None:
        self._job, self._corpus, self._producer = job, corpus, producer
        count = min(job.count, len(corpus.index) - job.first)
        if job.rate and job.seconds:
            count = min(count, round(job.rate * job.seconds))
        self.count = max(0, count)
        part = slice(job.first, job.first + self.count)
        index = corpus.index
        used = np.unique(index.devices[part])
        dids = {int(device): corpus.did(int(device)).encode() for device in used}
        places = {device: partition_of(did, job.partitions) for device, did in dids.items()}
        self._keys = [dids[device] for device in index.devices[part].tolist()]
        self._partitions = array("i", (places[device] for device in index.devices[part].tolist()))
        self._topics = [job.topics[kind.value] for kind in KINDS]
        self._sent, self._acknowledged, self._offsets = (array("q", [UNSET]) * self.count for _ in range(3))
        self.sent = self.acknowledged = self.failed = 0
        self.late_ns = 0

    def run(self, start_ns: int, tell: Callable[[], None]) -> Sent:
        """Send from `start_ns` on; returns when all are acknowledged or given up."""
        schedule = Schedule(start_ns, self._job.rate)
        tell_ns = start_ns
        while self.sent < self.count:
            now_ns = time.monotonic_ns()
            if self._job.seconds and now_ns - start_ns > self._job.seconds * 1e9 and not self._job.rate:
                self.stop()
                break
            due = min(schedule.due(now_ns), self.count, self.sent + MOST_A_TURN)
            if due > self.sent:
                self.late_ns = now_ns - schedule.intended_ns(self.sent)
                self._send_up_to(due)
            self._producer.poll(0)
            now_ns = time.monotonic_ns()
            if now_ns >= tell_ns:
                tell()
                tell_ns = now_ns + TELL_EVERY_NS
            if self.sent < self.count:
                wait_ns = max(schedule.intended_ns(self.sent), now_ns + TURN_NS) - now_ns
                if schedule.intended_ns(self.sent) > now_ns:
                    time.sleep(wait_ns / 1e9)
        until = time.monotonic() + FLUSH_S
        while self._producer.flush(TELL_EVERY_NS / 1e9) and time.monotonic() < until:
            tell()
        return Sent(
            self._job.first,
            start_ns,
            self._job.rate,
            np.frombuffer(self._sent, np.int64)[: self.count],
            np.frombuffer(self._acknowledged, np.int64)[: self.count],
            np.frombuffer(self._offsets, np.int64)[: self.count],
            np.frombuffer(self._partitions, np.int32)[: self.count],
        )

    def stop(self) -> None:
        """Send no more; what was sent counts."""
        self.count = min(self.count, self.sent)

    def _send_up_to(self, due: int) -> None:
        index, topics, produce = self._corpus.index, self._topics, self._producer.produce
        first, clock = self._job.first, time.monotonic_ns
        for number in range(self.sent, due):
            place = first + number
            value = self._corpus.envelope(place)
            topic, acknowledged = topics[index.kinds[place]], partial(self._acknowledge, number)
            while True:
                try:
                    produce(
                        topic,
                        value,
                        self._keys[number],
                        self._partitions[number],
                        on_delivery=acknowledged,
                    )
                except BufferError:
                    # The queue is full: it is late, and its latency says so.
                    self._producer.poll(0.01)
                    continue
                break
            self._sent[number] = clock()
            self.sent += 1

    def _acknowledge(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed += 1
            return
        self.acknowledged += 1
        self._acknowledged[number] = time.monotonic_ns()
        offset = message.offset()
        self._offsets[number] = UNSET if offset is None else offset


def main() -> None:
    """Do one job; begins when a line with the start (monotonic ns) comes in."""
    job = Job(**json.loads(sys.stdin.readline()))
    corpus = Corpus(Path(job.corpus))
    producer = Producer({**PRODUCER, **job.properties})
    producer.list_topics(timeout=20)
    generator = Generator(job, corpus, producer)
    gc.collect()
    gc.freeze()  # the corpus' index is no garbage, and need not be looked at again
    gc.disable()
    _say({"ready": True, "count": generator.count})
    line = sys.stdin.readline()
    if not line:
        return  # whoever started it is gone

    def tell(*, done: bool = False) -> None:
        late_ms = round(generator.late_ns / 1e6, 1)
        _say(
            {
                "sent": generator.sent,
                "acknowledged": generator.acknowledged,
                "failed": generator.failed,
                "late_ms": late_ms,
                "done": done,
            }
        )
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                sys.exit(1)  # nobody is left to measure for
            generator.stop()

    sent = generator.run(int(line), tell)
    sent.save(Path(job.out))
    tell(done=True)


def _say(what: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

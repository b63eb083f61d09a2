"""Findings and rejections as ingest and the monitor write them: in transactions, some of which are aborted.

What came of each transaction nobody needs to remember: the topics say which records there are.
"""

import os
import random
import threading
import time
from collections.abc import Sequence

from confluent_kafka import KafkaException, Producer

from pipeline import kafka, topics
from pipeline.outputs import reject, report
from pipeline.settings import Settings
from processors.model import RawRecord, Rejection
from schemas.partition import partition_of
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Finding, FindingStatus, Headers, Severity

TRANSACTION_MS = 4000
COMMIT_S = 10.0
ABORTED = 0.1
LARGEST = 400
UNREADABLE = 0.01
STRANGERS = 100
"""Devices that nobody has registered: with them there are more groups than devices."""
DEVICE_RULES = ("bounds", "stuck", "silence", "sequence_gap", "equivocation", "repeated_failed_access")
LOG_RULES = ("tile_rewritten", "fork", "shard_missing", "mirror_lies")


class NotifyWorkload:
    """Writes bursts, each a transaction, until it is told to stop; made and used by one world."""

    def __init__(self, settings: Settings, devices: Sequence[str], rng: random.Random) -> None:
        self.rng = rng
        self._settings = settings
        self._devices = [
            *devices,
            *devices,
            *devices,
            *(f"did:key:zStranger{number}" for number in range(STRANGERS)),
        ]
        self.committed = 0
        """Bursts that the broker has for certain."""
        self._offset = 0
        self._producer: Producer | None = None
        self._thread: threading.Thread | None = None
        self._ends = threading.Event()

    def begin(self, rate_per_s: float) -> None:
        """Write in the background."""
        self._ends.clear()
        self._thread = threading.Thread(target=self._run, args=(rate_per_s,), name="notices")
        self._thread.start()

    def end(self) -> None:
        """Stop writing; what was begun is committed or aborted."""
        self._ends.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._producer = None

    def burst(self, count: int) -> None:
        """Write so many records in one transaction, whatever comes of it."""
        try:
            producer = self._transactional()
            producer.begin_transaction()
            for _ in range(count):
                self._write(producer)
            if self.rng.random() < ABORTED:
                producer.flush(COMMIT_S)  # so that the aborted records stand in the topics
                producer.abort_transaction(COMMIT_S)
            else:
                producer.commit_transaction(COMMIT_S)
                self.committed += 1
        except KafkaException:
            # The next one fences this one's transaction; a commit in doubt is as the broker has it.
            self._producer = None

    def _run(self, rate_per_s: float) -> None:
        pause_s, written_s = self.rng.choice((0.1, 0.3, 0.6)), time.monotonic()
        while not self._ends.wait(pause_s):
            # Also for the time that the last commit took, so that a slow broker makes bursts larger.
            now_s = time.monotonic()
            count = round(rate_per_s * (now_s - written_s) * self.rng.uniform(0.5, 1.5))
            self.burst(max(1, min(count, LARGEST)))
            written_s = now_s

    def _transactional(self) -> Producer:
        if self._producer is None:
            producer = kafka.producer(
                self._settings,
                **{
                    "transactional.id": f"{self._settings.log_name}.notices",
                    "transaction.timeout.ms": TRANSACTION_MS,
                },
            )
            producer.init_transactions(COMMIT_S)
            self._producer = producer
        return self._producer

    def _write(self, producer: Producer) -> None:
        rng, device = self.rng, self.rng.choice(self._devices)
        number = partition_of(device.encode(), self._settings.partitions)
        self._offset += 1

        def produce(
            topic: str, value: bytes | None, key: bytes | None, partition: int, headers: Headers = ()
        ) -> None:
            producer.produce(topic, value, key, partition, headers=list(headers))

        if rng.random() < UNREADABLE:
            producer.produce(rng.choice((topics.FINDINGS, topics.REJECTED)), b"not ours", b"x", number)
        elif rng.random() < 0.1:
            finding = self._finding(
                rng.choice(LOG_RULES), f"{self._settings.log_name}/device.events/{number}"
            )
            producer.produce(topics.INTEGRITY, finding.encode(os.urandom(16)), partition=0)
        elif rng.random() < 0.5:
            report(produce, number, self._finding(rng.choice(DEVICE_RULES), device))
        else:
            source = RawRecord(
                topics.TELEMETRY_RAW, number, self._offset, 0, device.encode(), b"as it was sent"
            )
            reason = rng.choice(list(Reason))
            reject(produce, Rejection(source, reason, "made so", 0, device))

    def _finding(self, rule: str, device: str) -> Finding:
        rng = self.rng
        return Finding(
            rule=rule,
            severity=rng.choice(list(Severity)),
            device_id=device,
            time_us=1_700_000_000_000_000 + self._offset * 1000,
            explanation=f"{rule} of a device, number {self._offset}",
            evidence=(EvidenceRef(topics.TELEMETRY_RAW, 0, self._offset, os.urandom(16)),),
            status=rng.choice(list(FindingStatus)),
            cause=str(rng.randrange(8)),
        )

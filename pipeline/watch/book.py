"""The book of findings: each is opened once, cleared when what it is about has healed, and told until heard.

A finding is durable here before anybody is told. Its record is made once, salt included, so a repeat after a
crash has the same bytes, and its id follows from its cause.
"""

import os
from collections import Counter
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from pipeline import kafka, metrics
from pipeline.brokerless import BrokerlessClientError
from pipeline.settings import Settings
from pipeline.topics import INTEGRITY
from pipeline.watch.memory import KeptFinding, Memory
from schemas.codec import CODEC
from schemas.records import Finding, FindingStatus, decode_finding

log = structlog.get_logger()

SALT_BYTES = 16


class FindingBook:
    """Open findings, and the records on their way to `integrity.findings`."""

    def __init__(self, settings: Settings, memory: Memory) -> None:
        self._settings, self._memory = settings, memory
        self._kept = memory.findings()
        self._producer = kafka.watched_producer(settings)
        self._handed_over = 0
        self._acknowledged: list[int] = []
        self.trouble = ""
        """Why Kafka did not take a record, while that is so."""
        self._count()

    # ---- within a round --------------------------------------------------------------------------------

    def open(self, finding: Finding) -> None:
        """Tell a finding, unless it is told and open."""
        known = self._kept.get(finding.id)
        if known is not None and known.is_open:
            return
        value = finding.encode(os.urandom(SALT_BYTES))
        kept = KeptFinding(finding.rule, finding.device_id, finding.cause, is_open=True, value=value)
        self._memory.tell(finding.id, kept, value)
        self._kept[finding.id] = kept
        log.error("integrity finding", rule=finding.rule, log=finding.device_id, what=finding.explanation)
        metrics.FINDINGS.labels(finding.rule).inc()
        self._count()

    def clear(self, rule: str, origin: str, time_us: int, cause: str) -> None:
        """Say that what was found has healed: the finding of this cause, and of all causes below it (`/`)."""
        for identity, kept in list(self._kept.items()):
            if not kept.is_open or (kept.rule, kept.origin) != (rule, origin):
                continue
            if kept.cause != cause and not kept.cause.startswith(f"{cause}/"):
                continue
            record = decode_finding(kept.value)
            record |= {
                "status": FindingStatus.CLEARED.value,
                "time": time_us,
                "salt": os.urandom(SALT_BYTES),
            }
            closed = KeptFinding(rule, origin, kept.cause, is_open=False, value=kept.value)
            self._memory.tell(identity, closed, CODEC.encode("finding", record))
            self._kept[identity] = closed
            log.warning("integrity finding has healed", rule=rule, log=origin, cause=kept.cause)
            self._count()

    def is_open(self, rule: str, origin: str) -> bool:
        """Tell whether any finding of a rule about a log is open."""
        return any(
            kept.is_open and kept.rule == rule and kept.origin == origin for kept in self._kept.values()
        )

    def open_causes(self, origin: str, *rules: str) -> list[tuple[str, str]]:
        """Return rule and cause of what is open about a log."""
        return [
            (kept.rule, kept.cause)
            for kept in self._kept.values()
            if kept.is_open and kept.origin == origin and kept.rule in rules
        ]

    @property
    def open_count(self) -> int:
        """How many findings are open."""
        return sum(kept.is_open for kept in self._kept.values())

    # ---- after a round ---------------------------------------------------------------------------------

    def send(self) -> None:
        """Hand new records to Kafka and take acknowledgements; returns at once.

        Raises BrokerlessClientError.
        """
        for number, origin, value in self._memory.outbox(self._handed_over):
            self._producer.produce(
                INTEGRITY, key=origin.encode(), value=value, partition=0, on_delivery=self._taken(number)
            )
            self._handed_over = number
        self._producer.check()
        done, self._acknowledged = self._acknowledged, []
        if done:
            with self._memory.round():
                self._memory.acknowledged(done)

    def close(self) -> None:
        """Give what is on its way a moment; the rest goes after the next start."""
        try:
            self._producer.flush(2.0)
            self.send()
        except (KafkaException, BrokerlessClientError) as error:
            log.warning("left before Kafka took every finding", why=str(error))

    def _taken(self, number: int) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            if error is None:
                self._acknowledged.append(number)
                self.trouble = ""
                return
            self.trouble = error.str()
            # It goes again with all that follow; a reader tells repeats by their bytes.
            self._handed_over = min(self._handed_over, number - 1)

        return on_delivery

    def _count(self) -> None:
        counted = Counter(kept.rule for kept in self._kept.values() if kept.is_open)
        for rule in {kept.rule for kept in self._kept.values()}:
            metrics.INTEGRITY_OPEN.labels(rule).set(counted[rule])

"""All that the oracle knows and judges, without a broker: records in, violations out."""

from collections.abc import Iterable
from pathlib import Path

from tests.faults.machine.ledger import Sent, Violation
from tests.faults.machine.oracle.accounts import EVENTS, REJECTED, Accounts
from tests.faults.machine.oracle.findings import TELEMETRY, Findings
from tests.faults.machine.oracle.findings import TOPIC as FINDINGS
from tests.faults.machine.oracle.formats import EPOCH_TOPIC, Partition, Record, spell
from tests.faults.machine.oracle.found import Found
from tests.faults.machine.oracle.shards import ANCHORS, Shards

BY_DEVICE = (EVENTS, REJECTED, FINDINGS, "access.decisions")
TABLES = ("identity.registry", "access.policies", "alerts.control")
SINGLE = (*TABLES, "integrity.findings", "alerts", EPOCH_TOPIC)


def sealed_partitions(partitions: int) -> list[Partition]:
    """Every topic-partition that has a tree."""
    by_device = [(topic, number) for topic in BY_DEVICE for number in range(partitions)]
    return by_device + [(topic, 0) for topic in SINGLE]


class Court:
    """Hands each record to those who judge it; invariants over the whole history, each record once."""

    def __init__(self, log_name: str, log_key: bytes, partitions: int) -> None:
        self._found = Found()
        self.findings = Findings(self._found)
        self.accounts = Accounts(self._found, self.findings, partitions)
        self.shards = Shards(self._found, log_name, log_key, sealed_partitions(partitions))
        self.topics = [*self.shards.trees, (ANCHORS, 0), *((TELEMETRY, n) for n in range(partitions))]

    def complain(self, invariant: str, what: str) -> None:
        """Note a violation that was seen elsewhere."""
        self._found.add(invariant, what)

    def sent(self, each: Iterable[Sent]) -> None:
        """Book what was sent."""
        for one in each:
            self.accounts.sent(one)

    def take(self, record: Record) -> None:
        """Take a committed record, in the order of its topic-partition."""
        if record.topic == TELEMETRY:
            self.findings.silence.appended(record)
            return
        if record.topic == ANCHORS:
            self.shards.anchor(record)
            return
        self.shards.take(record)
        if record.topic in (EVENTS, REJECTED):
            self.accounts.output(record)
        elif record.topic == FINDINGS:
            self.findings.take(record)

    def published(self, log_dir: Path) -> None:
        """Take what is published under the folder now."""
        for partition, checkpoint in read_published(log_dir, self.shards.trees).items():
            self.shards.published(partition, checkpoint)

    def end_pass(self) -> None:
        """Judge what may have become known in a pass of reading."""
        self.findings.silence.settle()
        self.shards.judge_claims()

    def unjudged(self) -> list[str]:
        """What the stages have yet to do, in words."""
        unjudged = self.accounts.unjudged()
        return [f"{len(unjudged)} records without a verdict, first {spell(unjudged[0])}"] if unjudged else []

    @property
    def adds_up(self) -> bool:
        """Whether every verdict and finding has its cause, and every cause its verdict and finding."""
        return not (self.accounts.unjudged() or self.accounts.orphans or self.findings.missing())

    def verdict(self) -> list[Violation]:
        """All is read: what is still open is a fault. Returns what is new."""
        self.accounts.complain()
        self.findings.complain()
        return self._found.take()


def read_published(log_dir: Path, partitions: Iterable[Partition]) -> dict[Partition, bytes]:
    """The published checkpoints, where there are any."""
    found = {}
    for topic, number in partitions:
        try:
            found[topic, number] = (log_dir / topic / str(number) / "checkpoint").read_bytes()
        except FileNotFoundError:
            continue
    return found


def size_of(checkpoint: bytes) -> int:
    """The size that a checkpoint states, unverified; 0 for nonsense."""
    lines = checkpoint.split(b"\n", 2)
    return int(lines[1]) if len(lines) > 1 and lines[1].isdigit() else 0

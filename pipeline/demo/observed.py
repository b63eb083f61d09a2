"""What a stranger sees of the pipeline: every topic's records, with the moment at which they were visible.

`Observed` takes records and keeps what the demo asks about; `Watcher` feeds it from Kafka in a thread.
Nothing here asks a stage for anything.
"""

import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.demo.books import Books, Partition
from pipeline.demo.notified import PARTY_TOPIC, Decided, SeenIncident, Told
from pipeline.settings import PipelineError, Settings
from pipeline.topics import (
    ALERTS,
    ANCHORS,
    CHECKPOINTS,
    DECISIONS,
    EVENTS,
    FINDINGS,
    INTEGRITY,
    RAW_TOPICS,
    REJECTED,
    SEALED_TOPICS,
)
from processors.model import RawRecord
from schemas.checkpoint import parse_checkpoint
from schemas.codec import CODEC
from schemas.errors import FormatError
from schemas.note import parse_note
from schemas.records import decode_finding

WATCHED = tuple(dict.fromkeys((*RAW_TOPICS, *SEALED_TOPICS, ANCHORS, PARTY_TOPIC)))


class WatchError(PipelineError):
    """The watcher lost sight of the topics."""


@dataclass(frozen=True, slots=True)
class SeenRejection:
    """A rejection and when it became visible (monotonic seconds)."""

    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class SeenFinding:
    """A finding, the raw places that it cites, and when it became visible (monotonic seconds)."""

    rule: str
    status: str
    device_id: str
    sources: tuple[str, ...]
    time_us: int
    at_s: float


@dataclass(frozen=True, slots=True)
class EpochEntry:
    """A shard's checkpoint as a leaf of the epoch log: `index` counts from 0."""

    index: int
    origin: str
    size: int
    append_ms: int


@dataclass(frozen=True, slots=True)
class SeenAnchor:
    """A record of `log.anchors`."""

    status: str
    tree_size: int
    append_ms: int
    at_s: float


@dataclass(slots=True)
class Observed:
    """What was seen so far. Use `lock` around anything that iterates."""

    since: Mapping[Partition, int] = field(default_factory=dict)
    """First offsets that count; what lies before was there before the demo."""
    rng: random.Random = field(default_factory=random.Random)
    lock: threading.Lock = field(default_factory=threading.Lock)
    books: Books = field(init=False)
    rejections: dict[str, SeenRejection] = field(default_factory=dict)
    findings: list[SeenFinding] = field(default_factory=list)
    opened: Counter[str] = field(default_factory=Counter)
    opened_about: Counter[str] = field(default_factory=Counter)
    decided: Decided = field(default_factory=Decided)
    told: Told = field(default_factory=Told)
    anchors: list[SeenAnchor] = field(default_factory=list)
    epoch: list[EpochEntry] = field(default_factory=list)
    sealed_records: Counter[Partition] = field(default_factory=Counter)
    """Committed records per sealed topic-partition: as many leaves must its tree have."""
    sample: tuple[int, int] | None = None
    """Partition and offset of an accepted event, each as likely as any other."""
    gone: frozenset[str] = frozenset()
    """Devices that left in good order at `gone_us`: that they are silent from then on is no finding."""
    gone_us: int = 0
    _sampled: int = 0
    _epoch_leaves: int = 0

    def __post_init__(self) -> None:
        self.books = Books(self.since)

    def take(self, record: RawRecord, at_s: float) -> None:
        """Note one record of a watched topic."""
        with self.lock:
            partition = (record.topic, record.partition)
            if record.topic in SEALED_TOPICS:
                self.sealed_records[partition] += 1
            if record.topic == CHECKPOINTS:
                self._checkpoint(record)  # counted from the log's first leaf on, whoever ran before
            elif record.topic == PARTY_TOPIC:
                self.told.take_routed(record, earlier=record.offset < self.since.get(partition, 0))
            elif record.offset >= self.since.get(partition, 0):
                self._note(record, at_s)

    def _note(self, record: RawRecord, at_s: float) -> None:
        match record.topic:
            case topic if topic in RAW_TOPICS:
                self.books.take(record)
            case topic if topic == EVENTS:
                self.books.take(record)
                self._sampled += 1
                if self.rng.randrange(self._sampled) == 0:
                    self.sample = (record.partition, record.offset)
            case topic if topic == REJECTED:
                self.books.take(record)
                headers = dict(record.headers)
                source = (headers.get("source") or b"").decode(errors="replace")
                reason = (headers.get("reason") or b"").decode(errors="replace")
                self.rejections[source] = SeenRejection(reason, at_s)
            case topic if topic in (FINDINGS, INTEGRITY):
                self._finding(record, at_s)
            case topic if topic == ALERTS:
                self.told.take_alert(record, at_s)
            case topic if topic == DECISIONS:
                self.decided.take(record)
            case topic if topic == ANCHORS:
                anchor = CODEC.decode("anchor", record.value or b"")
                seen = SeenAnchor(anchor["status"], anchor["tree_size"], record.append_ms, at_s)
                self.anchors.append(seen)

    def _finding(self, record: RawRecord, at_s: float) -> None:
        finding = decode_finding(record.value or b"")
        sources = tuple(f"{e['topic']}/{e['partition']}/{e['offset']}" for e in finding["evidence"])
        seen = SeenFinding(
            finding["rule"], finding["status"], finding["device_id"], sources, finding["time"], at_s
        )
        self.findings.append(seen)
        left = seen.rule == "silence" and seen.device_id in self.gone and seen.time_us >= self.gone_us
        if seen.status == "OPENED" and not left:
            self.opened[seen.rule] += 1
            self.opened_about[seen.device_id] += 1

    def _checkpoint(self, record: RawRecord) -> None:
        index = self._epoch_leaves
        self._epoch_leaves += 1
        try:
            checkpoint = parse_checkpoint(parse_note(record.value or b"").text)
        except FormatError:
            return  # the signed list of the shards is a leaf too, but no checkpoint
        self.epoch.append(EpochEntry(index, checkpoint.origin, checkpoint.size, record.append_ms))

    def incidents(self) -> list[SeenIncident]:
        """Return the incidents but for that the devices left in good order."""
        with self.lock:
            left_ms = self.gone_us / 1000 if self.gone else float("inf")
            found = list(self.told.incidents.values())
        return [each for each in found if each.rule != "silence" or each.start_ms < left_ms]

    def sealed_by_origin(self, log_name: str) -> dict[str, int]:
        """How many leaves each shard must have, by origin; the epoch log grows with them and is left out."""
        with self.lock:
            return {
                f"{log_name}/{topic}/{partition}": count
                for (topic, partition), count in self.sealed_records.items()
                if topic != CHECKPOINTS
            }

    def epoch_size_covering(self, sizes: Mapping[str, int]) -> int | None:
        """The smallest epoch log that holds, of each origin, a checkpoint of at least that size."""
        with self.lock:
            first: dict[str, int] = {}
            for entry in self.epoch:
                if entry.size >= sizes.get(entry.origin, entry.size + 1):
                    first.setdefault(entry.origin, entry.index + 1)
        return max(first.values(), default=0) if len(first) == len(sizes) else None

    def confirmed_size(self) -> int:
        """The largest epoch log that was confirmed on the ledger since the demo began; 0 for none."""
        with self.lock:
            return max((a.tree_size for a in self.anchors if a.status == "CONFIRMED"), default=0)

    def anchor_counts(self) -> tuple[int, int]:
        """How many anchors were submitted and confirmed, each tree size once."""
        with self.lock:
            submitted = {a.tree_size for a in self.anchors}
            confirmed = {a.tree_size for a in self.anchors if a.status == "CONFIRMED"}
        return len(submitted), len(confirmed)

    def last_lag_s(self) -> float | None:
        """From the newest leaf of the last confirmed epoch log to its confirmation, by the broker's clock."""
        with self.lock:
            confirmed = [a for a in self.anchors if a.status == "CONFIRMED"]
            if not confirmed:
                return None
            last = max(confirmed, key=lambda a: a.tree_size)
            covered = [e.append_ms for e in self.epoch if e.index < last.tree_size]
        return round((last.append_ms - max(covered)) / 1000, 3) if covered else None


class Watcher:
    """A thread that reads all topics from their beginnings on and tells `Observed`."""

    def __init__(self, settings: Settings, observed: Observed, topics: Iterable[str] = WATCHED) -> None:
        self._observed = observed
        self._reader = kafka.consumer(settings, f"{settings.log_name}.watcher", **kafka.STREAM)
        metadata = self._reader.list_topics(timeout=kafka.CALL_TIMEOUT_S).topics
        self._reader.assign(
            [TopicPartition(t, p, OFFSET_BEGINNING) for t in topics for p in metadata[t].partitions]
        )
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._reader.close()

    def check(self) -> None:
        """Raise WatchError when the thread has failed: what it would have seen was not seen."""
        if self._failure is not None:
            raise WatchError(f"the watcher stopped: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                # poll, not consume: a batch would hold the first record back until the last one arrives.
                message = self._reader.poll(0.1)
                if message is None:
                    continue
                error = message.error()
                if error is not None and not _ends_sight(error):
                    continue  # a broker that restarts: librdkafka goes on by itself
                self._observed.take(kafka.to_record(message), time.monotonic())
        except (PipelineError, FormatError, KafkaException, ValueError, KeyError) as error:
            self._failure = error


def _ends_sight(error: KafkaError) -> bool:
    lost = error.code() == KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001 - the public name of the code
    return lost or error.fatal()


def ends(settings: Settings, topics: Iterable[str] = WATCHED) -> dict[Partition, int]:
    """The next offset of every partition of these topics, as of now."""
    client = kafka.admin(settings)
    metadata = client.list_topics(timeout=kafka.CALL_TIMEOUT_S).topics
    partitions = [(t, p) for t in topics for p in metadata[t].partitions]
    found: defaultdict[Partition, int] = defaultdict(int)
    found.update(kafka.end_offsets(client, partitions))
    return found

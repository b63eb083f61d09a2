"""FSCK against the topic: every leaf is the digest of the record at its offset, and no record was left out.

A record that retention has taken is not checkable, and is counted. One that was changed, that is gone from
behind the topic's start, or that stands in the topic and not in the tree, is a fault. Only what the
checkpoint covers is compared.
"""

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipeline import kafka
from pipeline.believed import Believed
from pipeline.fsck import LEAVES_A_WORKER, Progress, Report, bundle_path
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.logsource import LogSource, LogSourceError, open_source
from pipeline.settings import Settings
from pipeline.shard import leaf_of
from pipeline.statestore import Partition
from pipeline.topics import CHECKPOINTS
from pipeline.workers import in_order
from processors.logentries import leaf_offset
from processors.merkle.fsck import MAX_FAULTS, Fault, FaultKind
from processors.model import UNREADABLE_HEADERS, RawRecord
from schemas.errors import FormatError
from schemas.tile import ENTRIES, TILE_WIDTH, Tile, decode_bundle

BATCH = 2000
_NO_TOPIC = (
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - the public names of the codes
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
_numbers = itertools.count()

Entry = tuple[int, int, bytes]
"""Index, offset, and the leaf."""


@dataclass(frozen=True, slots=True)
class TopicTask:
    """One shard for one process: where it is published, how large, and how to reach its records."""

    settings: Settings
    place: str
    path: str
    topic_partition: Partition
    size: int


@dataclass(slots=True)
class TopicResult:
    """How many leaves were held against their records, how many could not be, and what was found."""

    path: str
    checked: int = 0
    gone: int = 0
    faults: list[Fault] = field(default_factory=list)


def check_topics(
    report: Report, place: str, believed: Believed, settings: Settings, *, jobs: int, on_progress: Progress
) -> None:
    """Hold each shard whose tree holds against its topic; what is found is added to the report."""
    logs = {log.path: log for log in report.logs if log.size and not log.faults and not log.is_closed}
    tasks = [
        TopicTask(settings, place, log.path, believed.partition_of(log.origin), log.size)
        for log in logs.values()
    ]
    known, done = sum(log.size for log in logs.values()), 0
    for result in in_order(check_topic, tasks, min(jobs, known // LEAVES_A_WORKER)):
        log = logs[result.path]
        log.records_checked, log.records_gone = result.checked, result.gone
        log.faults += result.faults
        done += log.size
        on_progress(done, known)


def check_topic(task: TopicTask) -> TopicResult:
    """Hold a shard whose tree holds against its topic-partition, leaf by leaf; stops after 100 faults.

    Raises LogSourceError or KafkaReadError where either cannot be read to its end.
    """
    result = TopicResult(task.path)
    group = f"{task.settings.log_name}.fsck.{os.getpid()}.{next(_numbers)}"
    reader = kafka.consumer(task.settings, group, **{"enable.partition.eof": True})
    try:
        start, end = reader.get_watermark_offsets(TopicPartition(*task.topic_partition), CALL_TIMEOUT_S)
        records = _records(reader, task.topic_partition, start, end)
        _merge(_kept(task, start, result), records, task, result)
    except KafkaException as error:
        if error.args[0].code() not in _NO_TOPIC:
            raise
        _blame(task, result, 0, "this Kafka has no such topic")
    finally:
        reader.close()
    return result


def _merge(
    entries: Iterator[Entry], records: Iterator[RawRecord], task: TopicTask, result: TopicResult
) -> None:
    """Walk leaves and records side by side, by offset."""
    record: RawRecord | None = None
    for index, offset, leaf in entries:
        if record is None:
            record = next(records, None)
        while record is not None and record.offset < offset:
            _blame(task, result, index, f"the record at offset {record.offset} is not in the tree")
            record = next(records, None)
        if record is None or record.offset > offset:
            _blame(task, result, index, f"no record is at offset {offset}, where one was sealed")
        else:
            result.checked += 1
            if record.headers is UNREADABLE_HEADERS or leaf_of(record) != leaf:
                _blame(task, result, index, f"the record at offset {offset} is not the one that was sealed")
            record = None
        if len(result.faults) >= MAX_FAULTS:
            return


def _blame(task: TopicTask, result: TopicResult, index: int, reason: str) -> None:
    topic, partition = task.topic_partition
    fault = Fault(index, bundle_path(index, task.size), FaultKind.TOPIC, f"{topic}[{partition}]: {reason}")
    result.faults.append(fault)


def _kept(task: TopicTask, start: int, result: TopicResult) -> Iterator[Entry]:
    """The leaves whose records retention has not taken yet."""
    source = open_source(task.place).at(task.path)
    for number in range(-(-task.size // TILE_WIDTH)):
        tile = Tile(ENTRIES, number, min(TILE_WIDTH, task.size - number * TILE_WIDTH))
        for entry in _bundle(source, tile, task):
            if entry[1] < start:
                result.gone += 1
            else:
                yield entry


def _bundle(source: LogSource, tile: Tile, task: TopicTask) -> Iterator[Entry]:
    try:
        for stored in dict.fromkeys((tile, tile.full)):
            data = source.read(stored.path)
            if data is None:
                continue
            entries = decode_bundle(data, stored.width)[: tile.width]
            for index, entry in enumerate(entries, start=tile.index * TILE_WIDTH):
                # In the epoch log the record's value is the leaf, and offset and index are one.
                yield index, index if task.topic_partition[0] == CHECKPOINTS else leaf_offset(entry), entry
            return
    except FormatError as error:
        raise LogSourceError(f"{task.path}/{tile.path} has changed while it was checked: {error}") from error
    raise LogSourceError(f"{task.path}/{tile.path} has vanished while the log was checked")


def _records(reader: Consumer, partition: Partition, start: int, end: int) -> Iterator[RawRecord]:
    """The committed records of a topic-partition, up to its end as of now."""
    reader.assign([TopicPartition(*partition, start)])
    moved_s = time.monotonic()
    while start < end:
        messages = reader.consume(BATCH, 0.1)
        if messages:
            moved_s = time.monotonic()
        elif time.monotonic() - moved_s > CALL_TIMEOUT_S:
            raise kafka.KafkaReadError(f"{partition[0]}[{partition[1]}]: nothing arrives")
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                return
            record = kafka.to_record(message)
            start = record.offset + 1
            yield record

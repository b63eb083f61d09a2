"""PROFILE: what shows only across devices, of one person or of two devices, exactly once.

The story of one step:

    consume    a batch of `access.decisions`, whose partition is the subject's: all of a person comes here;
               and of `device.prints`, whose one partition has the prints of noise of all devices
    decide     in memory; of a person: denied at many doors, off shift, at two places at once, ...
               and per two devices: how many changes of their readings went alike
    write      in one transaction: findings beside those of their devices, one changelog record per person
               and pair, source offsets
    commit     then state and changelog position into RocksDB, in one WriteBatch

Findings follow from committed records and what is remembered alone, and both change only with the offset. So
a kill, a rebalance or a commit in doubt loses no finding and tells none twice; ingest's recovery sees to it
(pipeline/recovery.py).
"""

import time
from collections import Counter

import structlog

from pipeline import metrics, outputs
from pipeline.changelogged import ChangelogWrites
from pipeline.noisestate import restore_noise
from pipeline.settings import Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from pipeline.statestore import Partition, StateStore
from pipeline.subjects import SubjectProfiles
from pipeline.topics import DECISIONS, PRINTS
from pipeline.transaction import TransactionalProducer
from pipeline.transactional import CONSUME_WAIT_S, TransactionalSession
from processors.access.profile import ProfileConfig, Profiled, Profiler
from processors.detect import DetectConfig
from processors.samenoise import NoiseMemory, Noticed, SameNoise
from schemas.partition import partition_of

log = structlog.get_logger()


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "profile", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    """Run session after session."""
    ProfileSession.work(settings, slot, health, stop)


class ProfileSession(TransactionalSession):
    """One worker slot: a member of the group, a fenced producer, what is remembered for its partitions."""

    stage, topics = "profile", (DECISIONS, PRINTS)
    with_headers = False

    def __init__(self, settings: Settings, slot: int, health: Health, store: StateStore) -> None:
        super().__init__(settings, slot, health, store)
        self._profiler = Profiler(ProfileConfig.default())
        self._same_noise = SameNoise(DetectConfig.default())
        self._profiles: dict[Partition, SubjectProfiles] = {}
        self._noise: dict[Partition, NoiseMemory] = {}
        self._found = 0

    # ---- the story -------------------------------------------------------------------------------------

    def step(self) -> None:
        """Consume, decide, write, commit."""
        batches = self._member.consume(self._batch_size.next, CONSUME_WAIT_S)
        self._beat()
        if self._member.changed or self._producer is None or not batches:
            return
        started = time.monotonic()
        came: dict[Partition, Profiled | Noticed] = {}
        for partition, batch in batches.items():
            if partition[0] == PRINTS:
                came[partition] = self._same_noise.process(batch, self._noise[partition])
            else:
                came[partition] = self._profiler.process(batch, self._profiles[partition])
            self._next_offsets[partition] = batch[-1].offset + 1
        self._write(self._producer, came)
        self._batch_size.learn(sum(map(len, batches.values())), time.monotonic() - started)
        self._health.progressed()

    def _write(self, producer: TransactionalProducer, came: dict[Partition, Profiled | Noticed]) -> None:
        """Commit a batch: findings, changelog and source offsets in one transaction, then RocksDB."""
        producer.begin()
        writes = ChangelogWrites(producer, self._marks)
        for partition, outcome in came.items():
            for finding in outcome.findings:
                place = partition_of(finding.device_id.encode(), self._settings.partitions)
                outputs.report(producer.produce, place, finding)
            writes.add(partition, self._memory_of(partition).changes())
        next_offsets = {partition: self._next_offsets[partition] for partition in came}
        producer.commit(self._member.membership, next_offsets, writes.note)
        self._marks = writes.marks
        writes.keep(self._store)
        for partition, outcome in came.items():
            self._memory_of(partition).committed()
            self._found += len(outcome.findings)
            _count(outcome)

    def _memory_of(self, partition: Partition) -> SubjectProfiles | NoiseMemory:
        return self._noise[partition] if partition[0] == PRINTS else self._profiles[partition]

    def _recover(self) -> None:
        """Forget memory; bring producer, what is remembered and positions to the last commit."""
        self._drop_producer()
        self._profiles, self._noise, self._next_offsets = {}, {}, {}
        if not self._member.assigned:
            self._member.start_at({})
            return
        recovered = self._recovery.run(self._member)
        self._producer, self._next_offsets = recovered.producer, recovered.next_offsets
        self._marks = recovered.marks
        for place in self._next_offsets:
            if place[0] == PRINTS:
                restored = restore_noise(
                    self._settings, place, self._store, self._same_noise, self._restoring
                )
                self._noise[place] = restored
            else:
                self._profiles[place] = SubjectProfiles(place, self._store)
        log.info(
            "recovered",
            partitions=len(self._next_offsets),
            next_offsets=sum(self._next_offsets.values()),
            seconds=recovered.seconds,
        )

    # ---- around it -------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if self._is_at_work():
            detail = f"{len(self._member.assigned)} partitions, {self._found} findings"
            self._health.beat(StageState.RUNNING, detail)


def _count(outcome: Profiled | Noticed) -> None:
    if isinstance(outcome, Profiled):
        metrics.PROFILED.inc(outcome.judged)
        metrics.PROFILE_STRANGERS.inc(outcome.strangers)
        metrics.PROFILE_UNREADABLE.inc(len(outcome.unreadable))
    else:
        metrics.NOISE_PRINTS.inc(outcome.prints)
        metrics.NOISE_MEETINGS.inc(outcome.meetings)
        metrics.NOISE_UNREADABLE.inc(len(outcome.unreadable))
    for rule, number in Counter(finding.rule for finding in outcome.findings).items():
        metrics.FINDINGS.labels(rule).inc(number)
    for record, why in outcome.unreadable:
        log.warning(
            "a record cannot be read",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=why,
        )

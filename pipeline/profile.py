"""PROFILE: what one person does across devices, judged from the decisions on his requests, exactly once.

The story of one step:

    consume    a batch of `access.decisions`, whose partition is the subject's: all of a person comes here
    decide     per partition and person: denied at many doors, off shift, at two places at once, ... in memory
    write      in one transaction: findings beside those of their devices, one changelog record per person,
               source offsets
    commit     then state and changelog position into RocksDB, in one WriteBatch

Findings follow from committed decisions and the profiles alone, and both change only with the offset. So a
kill, a rebalance or a commit in doubt loses no finding and tells none twice; ingest's recovery sees to it
(pipeline/recovery.py).
"""

from collections import Counter

import structlog

from pipeline import metrics, outputs
from pipeline.changelogged import ChangelogWrites
from pipeline.settings import Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from pipeline.statestore import Partition, StateStore
from pipeline.subjects import SubjectProfiles
from pipeline.topics import DECISIONS
from pipeline.transaction import TransactionalProducer
from pipeline.transactional import CONSUME_WAIT_S, TransactionalSession
from processors.access.profile import ProfileConfig, Profiled, Profiler
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
    """One worker slot: a member of the group, a fenced producer, the profiles of its partitions."""

    stage, topics = "profile", (DECISIONS,)
    with_headers = False

    def __init__(self, settings: Settings, slot: int, health: Health, store: StateStore) -> None:
        super().__init__(settings, slot, health, store)
        self._profiler = Profiler(ProfileConfig.default())
        self._profiles: dict[Partition, SubjectProfiles] = {}
        self._found = 0

    # ---- the story -------------------------------------------------------------------------------------

    def step(self) -> None:
        """Consume, decide, write, commit."""
        batches = self._member.consume(self._settings.batch_records, CONSUME_WAIT_S)
        self._beat()
        if self._member.changed or self._producer is None or not batches:
            return
        came = {}
        for partition, batch in batches.items():
            came[partition] = self._profiler.process(batch, self._profiles[partition])
            self._next_offsets[partition] = batch[-1].offset + 1
        self._write(self._producer, came)
        self._health.progressed()

    def _write(self, producer: TransactionalProducer, came: dict[Partition, Profiled]) -> None:
        """Commit a batch: findings, changelog and source offsets in one transaction, then RocksDB."""
        producer.begin()
        writes = ChangelogWrites(producer, self._marks)
        for partition, profiled in came.items():
            for finding in profiled.findings:
                place = partition_of(finding.device_id.encode(), self._settings.partitions)
                outputs.report(producer.produce, place, finding)
            writes.add(partition, self._profiles[partition].changes())
        next_offsets = {partition: self._next_offsets[partition] for partition in came}
        producer.commit(self._member.consumer, next_offsets, writes.note)
        self._marks = writes.marks
        writes.keep(self._store)
        for partition, profiled in came.items():
            self._profiles[partition].committed()
            self._found += len(profiled.findings)
            _count(profiled)

    def _recover(self) -> None:
        """Forget memory; bring producer, profiles and positions to the last commit."""
        self._drop_producer()
        self._profiles, self._next_offsets = {}, {}
        if not self._member.assigned:
            self._member.start_at({})
            return
        recovered = self._recovery.run(self._member)
        self._producer, self._next_offsets = recovered.producer, recovered.next_offsets
        self._marks = recovered.marks
        self._profiles = {place: SubjectProfiles(place, self._store) for place in self._next_offsets}
        log.info(
            "recovered",
            partitions=len(self._profiles),
            next_offsets=sum(self._next_offsets.values()),
            seconds=recovered.seconds,
        )

    # ---- around it -------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if self._is_at_work():
            detail = f"{len(self._member.assigned)} partitions, {self._found} findings"
            self._health.beat(StageState.RUNNING, detail)


def _count(profiled: Profiled) -> None:
    metrics.PROFILED.inc(profiled.judged)
    metrics.PROFILE_STRANGERS.inc(profiled.strangers)
    metrics.PROFILE_UNREADABLE.inc(len(profiled.unreadable))
    for rule, number in Counter(finding.rule for finding in profiled.findings).items():
        metrics.FINDINGS.labels(rule).inc(number)
    for record, why in profiled.unreadable:
        log.warning("a decision cannot be read", partition=record.partition, offset=record.offset, error=why)

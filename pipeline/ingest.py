"""INGEST: raw records become accepted events, rejections and findings, exactly once.

The story of one step:

    consume    a batch from the raw topics
    decide     per topic-partition: authenticate -> admit -> detect, in memory
    write      in one transaction: outputs, one changelog record per touched device, source offsets
    commit     then state and changelog position into RocksDB, in one WriteBatch

Whatever goes wrong between two commits has one answer: forget what is in memory and recover. No topic waits
for another: state belongs to the source topic-partition.
"""

import time
from collections import Counter

import structlog

from pipeline import kafka, metrics, outputs, registry_report
from pipeline.changelogged import ChangelogWrites
from pipeline.changelogmark import ChangelogMark
from pipeline.clock import FleetClock
from pipeline.devices import PartitionStates
from pipeline.judging import judges
from pipeline.lag import Lag
from pipeline.membership import GroupMember
from pipeline.patience import LeavingError
from pipeline.recovery import Gone, Recovery, RecoveryError
from pipeline.registry import RegistryFollower
from pipeline.sessions import run_sessions
from pipeline.settings import Settings
from pipeline.stage import Health, StageState, Stop, running_stage, state_dir
from pipeline.statestore import Partition, StateStore
from pipeline.topics import RAW_TOPICS, REGISTRY
from pipeline.topicwatch import TopicWatch
from pipeline.transaction import TransactionalProducer
from pipeline.trust import load_trust, trust_path
from processors.model import Outcome

log = structlog.get_logger()

CONSUME_WAIT_S = 0.1
TICK_WAIT_S = 2.0


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "ingest", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    """Run session after session; the working copy on disk outlives them."""
    store = StateStore(state_dir(settings, "ingest", slot) / "rocksdb")
    try:
        run_sessions("ingest", lambda: IngestSession(settings, slot, health, store), health, stop)
    finally:
        store.close()


class IngestSession:
    """One worker slot: a member of the group, a fenced producer, the states of its partitions."""

    def __init__(self, settings: Settings, slot: int, health: Health, store: StateStore) -> None:
        self._settings, self._health, self._store = settings, health, store
        self._admin = kafka.admin(settings)
        self._registry = RegistryFollower(settings, load_trust(trust_path(settings)))
        self._judges = judges(settings, self._registry)
        self._member = GroupMember(
            settings, self._admin, "ingest", slot, list(RAW_TOPICS), with_headers=False
        )
        self._recovery = Recovery(
            settings,
            self._admin,
            store,
            transactional_id=f"{settings.log_name}.ingest.{slot}",
            on_progress=self._restoring,
            stops_alone=True,
        )
        self._stop = Stop()
        self._producer: TransactionalProducer | None = None
        self._states: dict[Partition, PartitionStates] = {}
        self._next_offsets: dict[Partition, int] = {}
        self._stopped: dict[Partition, Gone] = {}
        self._marks: dict[Partition, ChangelogMark] = {}
        self._watch = TopicWatch(self._admin, settings.topic_check_s)
        self._registry_id = ""
        self._clock = self._new_clock([])
        self._ticked_at = 0.0
        self._lag = Lag("ingest")

    # ---- the story -------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Step until asked to stop; an assignment leads through recovery, a failure ends the session."""
        self._stop = stop
        self._store.mend()
        while not stop.requested:
            self.step()
            if self._member.changed:
                self._recover()

    def step(self) -> None:
        """Consume, decide, write, commit."""
        batches = self._member.consume(self._settings.batch_records, CONSUME_WAIT_S)
        self._beat()
        if self._member.changed or self._producer is None:
            return
        started = time.monotonic()
        if batches:
            self._registry.poll()
        outcomes = {p: self._judges[p[0]].process(batch, self._states[p]) for p, batch in batches.items()}
        for partition, batch in batches.items():
            self._next_offsets[partition] = batch[-1].offset + 1
            self._clock.heard(batch[-1].append_us)
        self._tick(outcomes)
        if outcomes:
            self._write(self._producer, outcomes)
            metrics.BATCH_SECONDS.observe(time.monotonic() - started)
            self._health.progressed()

    def _tick(self, outcomes: dict[Partition, Outcome]) -> None:
        """Let time alone speak, twice a second: silence, and entries that the registry ignored."""
        if time.monotonic() - self._ticked_at < self._settings.tick_interval_s:
            return
        self._ticked_at = time.monotonic()
        for topic, why in self._watch.look().items():
            if topic != REGISTRY:
                raise RecoveryError(f"{topic}: {why}")
            self._registry.distrust(why)
        self._registry.try_catch_up(TICK_WAIT_S)
        # A partition may end in markers that are no records: to have met its end is to have judged all of it.
        ends = self._member.ends
        self._clock.reached({p: max(at, ends.get(p, 0)) for p, at in self._next_offsets.items()})
        self._clock.ask(self._admin)
        for partition, states in self._states.items():
            horizon_us = self._clock.horizon_us(partition)
            findings = []
            if horizon_us is not None:
                known_us = self._clock.complete_until_us(partition)
                findings += self._judges[partition[0]].silence(states, partition, horizon_us, known_us)
            if partition == registry_report.REPORTER:
                findings += registry_report.findings(self._registry.table, states)
            if findings:
                outcomes.setdefault(partition, Outcome()).findings.extend(findings)

    def _write(self, producer: TransactionalProducer, outcomes: dict[Partition, Outcome]) -> None:
        """Commit a batch: outputs, changelog and source offsets in one transaction, then RocksDB."""
        producer.begin()
        writes = ChangelogWrites(producer, self._marks)
        for partition, outcome in outcomes.items():
            for item in outcome.accepted:
                outputs.accept(producer.produce, item)
            for rejection in outcome.rejected:
                outputs.reject(producer.produce, rejection)
            for finding in outcome.findings:
                outputs.report(producer.produce, partition[1], finding)
            writes.add(partition, self._states[partition].changes())
        # Also a tick's transaction sends the offsets of each partition that it touches: that is what
        # fences a resumed zombie.
        next_offsets = {partition: self._next_offsets[partition] for partition in outcomes}
        producer.commit(self._member.consumer, next_offsets, writes.note)
        self._marks = writes.marks
        writes.keep(self._store)
        for partition, outcome in outcomes.items():
            self._states[partition].committed()
            _count(partition[0], outcome)

    def _recover(self) -> None:
        """Forget memory; bring producer, state and positions to the last commit (pipeline/recovery.py)."""
        self._drop_producer()
        self._states, self._next_offsets, self._stopped = {}, {}, {}
        if not self._member.assigned:
            self._member.start_at({})
            return
        recovered = self._recovery.run(self._member)
        # The table outlives an assignment, so its topic is the one that it was read from first.
        self._registry_id = self._registry_id or recovered.topic_ids[REGISTRY]
        self._watch.begin({**recovered.topic_ids, REGISTRY: self._registry_id})
        self._registry.catch_up(self._restoring)
        self._marks, self._stopped = recovered.marks, recovered.stopped
        for gone in self._stopped.values():
            log.error("raw partition stopped", why=gone.why)
        for number, partition in enumerate(recovered.next_offsets):
            where = f"loading states, partition {number + 1} of {len(recovered.next_offsets)}"
            self._states[partition] = PartitionStates(
                partition,
                self._store,
                self._judges[partition[0]].detectors,
                lambda devices, where=where: self._restoring(f"{where}: {devices:,} devices"),  # type: ignore[misc]
            )
        self._clock = self._new_clock(list(self._states))
        self._producer, self._next_offsets = recovered.producer, recovered.next_offsets
        log.info(
            "recovered",
            partitions=len(self._states),
            next_offsets=sum(self._next_offsets.values()),
            seconds=recovered.seconds,
        )

    # ---- around it -------------------------------------------------------------------------------------

    @property
    def assigned(self) -> list[Partition]:
        """The source partitions of this worker."""
        return self._member.assigned

    def close(self) -> None:
        """Leave off; what was not committed is nobody's."""
        self._drop_producer()
        self._member.close()
        self._registry.close()

    def _new_clock(self, partitions: list[Partition]) -> FleetClock:
        return FleetClock(partitions, self._settings.silence_after_s, self._settings.tick_interval_s)

    def _restoring(self, detail: str) -> None:
        """Say how far a recovery is; raises LeavingError when asked to leave: there is nothing to commit."""
        self._health.beat(StageState.RESTORING, detail)
        if self._stop.requested:
            raise LeavingError("left before the recovery was done")

    def _drop_producer(self) -> None:
        if self._producer is not None:
            self._producer.close()
        self._producer = None

    def _beat(self) -> None:
        fresh = self._registry.is_fresh()
        metrics.REGISTRY_FRESH.set(fresh or self._producer is None)  # who judges nothing needs no view
        metrics.REGISTRY_OFFSET.set(self._registry.table.offset)
        metrics.RAW_STOPPED.set(len(self._stopped))
        metrics.RAW_GONE.set(sum(gone.records for gone in self._stopped.values()))
        if not self._member.has_joined:
            self._health.beat(StageState.STARTING, "waiting for an assignment")
            return
        if self._member.changed:
            # An assignment without its states is not yet work.
            self._health.beat(StageState.RESTORING, f"assigned {len(self._member.assigned)} partitions")
            return
        self._lag.look(self._member, self._next_offsets)
        stale = "" if fresh or self._producer is None else "; the registry view is STALE"
        if stale and self._registry.distrusted:
            stale += f": {self._registry.distrusted}"
        alarm = "the registry is another one" if self._registry.distrusted else ""
        stopped = ""
        if self._stopped:
            alarm = f"{len(self._stopped)} partitions STOPPED"
            stopped = f"; {alarm}: {next(iter(self._stopped.values())).why}"
        detail = f"{len(self._member.assigned)} partitions{stale}{stopped}"
        self._health.beat(StageState.RUNNING, detail, alarm=alarm)


def _count(topic: str, outcome: Outcome) -> None:
    metrics.ACCEPTED.labels(topic).inc(len(outcome.accepted))
    for reason, number in Counter(r.reason.value for r in outcome.rejected).items():
        metrics.REJECTED.labels(topic, reason).inc(number)
    for rule, number in Counter(f.rule for f in outcome.findings).items():
        metrics.FINDINGS.labels(rule).inc(number)

"""INGEST: raw records become accepted events, rejections, decisions and findings, exactly once.

The story of one step:

    consume    a batch from the raw topics
    decide     per topic-partition: authenticate -> admit -> detect, and who may have access, in memory
    write      in one transaction: outputs, one changelog record per touched device, source offsets
    commit     then state and changelog position into RocksDB, in one WriteBatch

A commit waits for brokers and hardly needs the processor: while it is under way the next batch is consumed
and decided. It is written once the one before has committed; until then nothing of either counts.

Whatever goes wrong between two commits has one answer: forget what is in memory and recover. No topic waits
for another: state belongs to the source topic-partition.
"""

import gc
import time
from typing import NamedTuple

import structlog
from confluent_kafka import KafkaException

from pipeline import kafka, metrics, outputs, registry_report
from pipeline.changelogged import ChangelogWrites
from pipeline.clock import FleetClock
from pipeline.counts import Counts
from pipeline.devices import PartitionStates, keep_most
from pipeline.judging import guard_of, judges
from pipeline.permits import Permits
from pipeline.policies import PolicyFollower
from pipeline.recovery import Gone, RecoveryError
from pipeline.registry import RegistryFollower
from pipeline.settings import PipelineError, Settings
from pipeline.stage import Health, StageState, Stop, running_stage
from pipeline.statestore import Partition, StateStore
from pipeline.topics import ACCESS_RAW, FOLLOWED, RAW_TOPICS
from pipeline.topicwatch import TopicWatch
from pipeline.transaction import TransactionalProducer
from pipeline.transactional import TransactionalSession
from pipeline.trust import load_trust, trust_path
from processors.access.memory import next_expiry_us
from processors.model import Outcome
from schemas.ed25519 import VERIFIER

log = structlog.get_logger()

CONSUME_WAIT_S = 0.02
"""So long records gather at least; while the commit before is under way they gather longer by themselves."""
TICK_WAIT_S = 2.0


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "ingest", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    """Run session after session."""
    log.info("signatures are verified in batches", by=VERIFIER)
    IngestSession.work(settings, slot, health, stop)


class _Written(NamedTuple):
    """A batch whose commit is under way."""

    began_at: float
    writes: ChangelogWrites
    counts: dict[Partition, Counts]
    """Of what it came to, which itself is let go: the collector would look at it again and again."""


class IngestSession(TransactionalSession):
    """One worker slot: a member of the group, a fenced producer, the states of its partitions."""

    stage, topics = "ingest", tuple(RAW_TOPICS)
    with_headers = False
    stops_alone = True

    def __init__(self, settings: Settings, slot: int, health: Health, store: StateStore) -> None:
        super().__init__(settings, slot, health, store)
        trust = load_trust(trust_path(settings))
        self._registry = RegistryFollower(settings, trust)
        self._policies = PolicyFollower(settings, trust)
        self._tables = {each.topic: each for each in (self._registry, self._policies)}
        guard = guard_of(settings, self._registry, self._policies)
        self._judges = judges(settings, self._registry, self._policies, guard)
        self._permits = Permits(guard, self._registry, self._policies)
        self._states: dict[Partition, PartitionStates] = {}
        self._stopped: dict[Partition, Gone] = {}
        self._watch = TopicWatch(self._admin, settings.topic_check_s)
        self._table_ids: dict[str, str] = {}
        self._clock = self._new_clock([])
        self._ticked_at = 0.0
        self._written: _Written | None = None

    # ---- the story -------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Step until asked to stop, then see the last commit out."""
        super().run(stop)
        self._settle()

    def step(self) -> None:
        """Consume, decide, write, commit."""
        batches = self._member.consume(self._batch_size.next, CONSUME_WAIT_S)
        self._beat()
        if self._member.changed or self._producer is None:
            return
        if not batches:
            self._settle()
        started = time.monotonic()
        for follower in self._tables.values():
            follower.poll()
        # What a change of the tables ends is said before anything that was asked after it.
        outcomes = self._permits.sweep(self._states, self._clock.now_us())
        for topic, judge in self._judges.items():
            places = [partition for partition in batches if partition[0] == topic]
            if not places:
                continue
            judged = judge.process_all([(batches[place], self._states[place]) for place in places])
            for partition, outcome in zip(places, judged, strict=True):
                if partition in outcomes:
                    outcome.decisions[:0] = outcomes[partition].decisions
                outcomes[partition] = outcome
                self._next_offsets[partition] = batches[partition][-1].offset + 1
                self._clock.heard(batches[partition][-1].append_us)
        self._tick(outcomes)
        if outcomes:
            self._settle()
            self._write(self._producer, outcomes, started)
        # With what the commit of the batch before, which was no larger, has kept it waiting.
        self._batch_size.learn(sum(map(len, batches.values())), time.monotonic() - started)

    def _tick(self, outcomes: dict[Partition, Outcome]) -> None:
        """Let time alone speak, twice a second: silence, and entries that the registry ignored."""
        if time.monotonic() - self._ticked_at < self._settings.tick_interval_s:
            return
        self._ticked_at = time.monotonic()
        for topic, why in self._watch.look().items():
            if topic not in self._tables:
                raise RecoveryError(f"{topic}: {why}")
            self._tables[topic].distrust(why)
        for follower in self._tables.values():
            follower.keep_up(self._admin)
        # A partition may end in markers that are no records: to have met its end is to have judged all of it.
        ends = self._member.ends
        self._clock.reached({p: max(at, ends.get(p, 0)) for p, at in self._next_offsets.items()})
        self._clock.ask(self._admin)
        for partition, states in self._states.items():
            horizon_us, known_us = self._clock.horizon_us(partition), self._clock.complete_until_us(partition)
            told = Outcome()
            self._permits.expire(states, known_us, told)
            if horizon_us is not None:
                judge = self._judges[partition[0]]
                told.findings += judge.silence(states, partition, horizon_us, known_us)
            if partition == registry_report.REPORTER:
                for what in registry_report.REPORTED:
                    told.findings += registry_report.findings(self._tables[what.topic].table, states, what)
            if told.findings or told.decisions:
                outcome = outcomes.setdefault(partition, Outcome())
                outcome.findings += told.findings
                outcome.decisions += told.decisions

    def _write(
        self, producer: TransactionalProducer, outcomes: dict[Partition, Outcome], began_at: float
    ) -> None:
        """Begin to commit a batch: outputs, changelog and source offsets in one transaction."""
        producer.begin()
        writes = ChangelogWrites(producer, self._marks)
        for partition, outcome in outcomes.items():
            outputs.accept(producer.produce, outcome.accepted)
            for rejection in outcome.rejected:
                outputs.reject(producer.produce, rejection)
            for finding in outcome.findings:
                outputs.report(producer.produce, partition[1], finding)
            for decision in outcome.decisions:
                outputs.decide(producer.produce, decision, self._settings.partitions)
            outputs.tell_noise(producer.produce, partition, outcome.noise)
            writes.add(partition, self._states[partition].changes())
        # Also a tick's transaction sends the offsets of each partition that it touches: that is what
        # fences a resumed zombie.
        next_offsets = {partition: self._next_offsets[partition] for partition in outcomes}
        producer.start_commit(self._member.membership, next_offsets, writes.note)
        counts = {partition: Counts.of(outcome) for partition, outcome in outcomes.items()}
        self._written = _Written(began_at, writes, counts)

    def _settle(self) -> None:
        """See the end of the commit that is under way, if one is, and keep what it committed."""
        if self._written is None or self._producer is None:
            return
        written, self._written = self._written, None
        self._producer.finish_commit()
        self._marks = written.writes.marks
        written.writes.keep(self._store)
        for partition, counts in written.counts.items():
            counts.tell(partition[0])
        keep_most(self._states.values(), self._settings.cached_devices)
        metrics.BATCH_SECONDS.observe(time.monotonic() - written.began_at)
        self._health.progressed()

    def _recover(self) -> None:
        """Forget memory; bring producer, state and positions to the last commit (pipeline/recovery.py)."""
        self._let_go()
        self._states, self._next_offsets, self._stopped = {}, {}, {}
        gc.collect()  # the collector looks seldom (pipeline/cli/run.py), and this was all that there is
        if not self._member.assigned:
            self._member.start_at({})
            return
        recovered = self._recovery.run(self._member)
        # The tables outlive an assignment, so their topics are the ones that they were read from first.
        self._table_ids = self._table_ids or {topic: recovered.topic_ids[topic] for topic in FOLLOWED}
        self._watch.begin({**recovered.topic_ids, **self._table_ids})
        self._registry.catch_up(self._restoring)
        # Telemetry does not wait for policies; until they are read nobody has access.
        self._policies.try_catch_up(TICK_WAIT_S)
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
                next_expiry_us if partition[0] == ACCESS_RAW else None,
            )
        self._permits.begin()
        self._clock = self._new_clock(list(self._states))
        self._producer, self._next_offsets = recovered.producer, recovered.next_offsets
        log.info(
            "recovered",
            partitions=len(self._states),
            next_offsets=sum(self._next_offsets.values()),
            seconds=recovered.seconds,
        )

    def _let_go(self) -> None:
        """See what comes of a commit that is under way while partitions move, and drop the producer.

        The broker refuses it once the group has gone on without it; recovery finds out either way.
        """
        try:
            self._settle()
        except (KafkaException, PipelineError) as error:
            if isinstance(error, KafkaException) and kafka.is_fatal(error):
                raise
            log.info("a commit met a new assignment", error=str(error))
        self._drop_producer()

    # ---- around it -------------------------------------------------------------------------------------

    @property
    def assigned(self) -> list[Partition]:
        """The source partitions of this worker."""
        return self._member.assigned

    def close(self) -> None:
        """Leave off; what was not committed is nobody's."""
        super().close()
        for follower in self._tables.values():
            follower.close()

    def _new_clock(self, partitions: list[Partition]) -> FleetClock:
        return FleetClock(partitions, self._settings.silence_after_s, self._settings.tick_interval_s)

    def _beat(self) -> None:
        idle = self._producer is None  # who judges nothing needs no view
        metrics.REGISTRY_FRESH.set(idle or self._registry.is_fresh())
        metrics.REGISTRY_OFFSET.set(self._registry.table.offset)
        metrics.POLICY_FRESH.set(idle or self._policies.is_fresh())
        metrics.POLICY_OFFSET.set(self._policies.table.offset)
        metrics.RAW_STOPPED.set(len(self._stopped))
        metrics.RAW_GONE.set(sum(gone.records for gone in self._stopped.values()))
        if not self._is_at_work():
            return
        stale = "" if idle else "".join(each.staleness() for each in self._tables.values())
        alarm = "the registry is another one" if self._registry.distrusted else ""
        stopped = ""
        if self._stopped:
            alarm = f"{len(self._stopped)} partitions STOPPED"
            stopped = f"; {alarm}: {next(iter(self._stopped.values())).why}"
        detail = f"{len(self._member.assigned)} partitions{stale}{stopped}"
        self._health.beat(StageState.RUNNING, detail, alarm=alarm)

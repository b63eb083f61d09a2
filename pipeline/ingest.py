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
from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline import kafka, metrics, outputs, registry_report
from pipeline.clock import FleetClock
from pipeline.devices import PartitionStates
from pipeline.judging import judges
from pipeline.recovery import Recovery
from pipeline.registry import RegistryFollower
from pipeline.settings import PipelineError, Settings
from pipeline.stage import Health, StageState, Stop, running_stage, state_dir
from pipeline.statestore import ChangelogPosition, Partition, StateStore
from pipeline.topics import RAW_TOPICS, changelog_of
from pipeline.transaction import Delivered, TransactionalProducer, is_fatal
from pipeline.trust import load_trust, trust_path
from processors.judge import Judge
from processors.model import Outcome, RawRecord

log = structlog.get_logger()

CONSUME_WAIT_S = 0.1
RETRY_PAUSE_S = 0.5
TICK_WAIT_S = 2.0


def run(settings: Settings, slot: int) -> None:
    """Run one worker until it is asked to stop."""
    with running_stage(settings, "ingest", slot) as (health, stop):
        worker = IngestWorker(settings, slot, health)
        try:
            worker.run(stop)
        finally:
            worker.close()


class IngestWorker:
    """One worker slot: a consumer in the group, a fenced producer, the states of its partitions."""

    def __init__(self, settings: Settings, slot: int, health: Health) -> None:
        self._settings, self._health = settings, health
        self._admin = kafka.admin(settings)
        self._registry = RegistryFollower(settings, load_trust(trust_path(settings)))
        self._store = StateStore(state_dir(settings, "ingest", slot) / "rocksdb")
        self._judges: dict[str, Judge] = judges(settings, self._registry)
        name = f"{settings.log_name}.ingest"
        self._recovery = Recovery(
            settings,
            self._admin,
            self._store,
            transactional_id=f"{name}.{slot}",
            on_progress=lambda text: health.beat(StageState.RESTORING, text),
        )
        # Static membership: a worker that restarts takes its partitions back at once.
        self._consumer: Consumer = kafka.consumer(settings, name, **{"group.instance.id": f"{name}.{slot}"})
        self._producer: TransactionalProducer | None = None
        self._assigned: list[Partition] = []
        self._states: dict[Partition, PartitionStates] = {}
        self._next_offsets: dict[Partition, int] = {}
        self._clock = FleetClock([])
        self._topic_ids: dict[str, str] = {}
        self._must_recover: str | None = None
        self._joined = False
        self._ticked_at = 0.0

    # ---- the story -------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Step until asked to stop; every failure between two commits leads to recovery."""
        self._consumer.subscribe(
            list(RAW_TOPICS), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )
        while not stop.requested:
            try:
                if self._must_recover is not None:
                    self._recover()
                self.step()
            except (KafkaException, PipelineError) as error:
                if isinstance(error, KafkaException) and is_fatal(error):
                    raise
                log.warning("step failed, recovering", error=str(error))
                self._must_recover = "error"
                self._health.beat(StageState.RESTORING, str(error))
                stop.wait(RETRY_PAUSE_S)

    def step(self) -> None:
        """Consume, decide, write, commit."""
        messages = self._consumer.consume(self._settings.batch_records, CONSUME_WAIT_S)
        if self._must_recover is not None:
            return  # the assignment changed while consuming: what came belongs to nobody's state
        self._beat()
        started = time.monotonic()
        batches: dict[Partition, list[RawRecord]] = {}
        for message in messages:
            record = kafka.to_record(message)
            batches.setdefault((record.topic, record.partition), []).append(record)
        if batches:
            self._registry.poll()
        outcomes = {p: self._judges[p[0]].process(batch, self._states[p]) for p, batch in batches.items()}
        for partition, batch in batches.items():
            self._next_offsets[partition] = batch[-1].offset + 1
        self._tick(outcomes)
        if outcomes:
            self._write(outcomes)
            metrics.BATCH_SECONDS.observe(time.monotonic() - started)

    def _tick(self, outcomes: dict[Partition, Outcome]) -> None:
        """Let time alone speak, twice a second: silence, and entries that the registry ignored."""
        if time.monotonic() - self._ticked_at < self._settings.tick_interval_s or not self._assigned:
            return
        self._ticked_at = time.monotonic()
        self._registry.try_catch_up(TICK_WAIT_S)
        self._clock.reached(self._next_offsets)
        self._clock.ask(self._admin)
        for partition, states in self._states.items():
            horizon_us = self._clock.horizon_us(partition, self._settings.silence_after_s)
            findings = []
            if horizon_us is not None:
                known_us = self._clock.complete_until_us(partition)
                findings += self._judges[partition[0]].silence(states, partition, horizon_us, known_us)
            if partition == registry_report.REPORTER:
                findings += registry_report.findings(self._registry.table, states)
            if findings:
                outcomes.setdefault(partition, Outcome()).findings.extend(findings)

    def _write(self, outcomes: dict[Partition, Outcome]) -> None:
        """Commit a batch: outputs, changelog and source offsets in one transaction, then RocksDB."""
        producer = self._producer
        if producer is None:
            message = "no producer: recovery has not run"
            raise PipelineError(message)
        producer.begin()
        changes: list[tuple[Partition, bytes, bytes]] = []
        delivered: dict[Partition, Delivered] = {}
        for partition, outcome in outcomes.items():
            for item in outcome.accepted:
                outputs.accept(producer.produce, item)
            for rejection in outcome.rejected:
                outputs.reject(producer.produce, rejection)
            for finding in outcome.findings:
                outputs.report(producer.produce, partition[1], finding)
            changelog = changelog_of(partition[0])
            for key, value in self._states[partition].changes():
                callback = delivered.setdefault(partition, Delivered())
                producer.produce(
                    changelog, value=value, key=key, partition=partition[1], on_delivery=callback
                )
                changes.append((partition, key, value))
        # Also a tick's transaction sends the offsets of each partition that it touches: that is what
        # fences a resumed zombie.
        producer.commit(self._consumer, {partition: self._next_offsets[partition] for partition in outcomes})
        # A crash here leaves RocksDB one commit behind its changelog; the next restore reads it.
        self._store.write(changes, self._positions(delivered))
        for partition, outcome in outcomes.items():
            self._states[partition].committed()
            _count(partition[0], outcome)

    def _recover(self) -> None:
        """Forget memory; bring producer, state and positions back to the last commit."""
        metrics.RECOVERIES.labels(self._must_recover).inc()
        self._health.beat(StageState.RESTORING, f"recovering after: {self._must_recover}")
        if self._producer is not None:
            self._producer.discard()
        self._producer, self._states = None, {}
        recovered = self._recovery.run(self._consumer, self._assigned)
        self._producer, self._next_offsets = recovered.producer, recovered.next_offsets
        self._registry.catch_up()
        self._states = {
            p: PartitionStates(p, self._store, self._judges[p[0]].detectors) for p in self._assigned
        }
        self._topic_ids = {topic: kafka.topic_id(self._admin, changelog_of(topic)) for topic in RAW_TOPICS}
        self._clock = FleetClock(self._assigned)
        self._must_recover = None
        log.info("recovered", partitions=len(self._assigned), next_offsets=sum(self._next_offsets.values()))

    # ---- around it -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the group and release what is open."""
        self._consumer.close()
        self._registry.close()
        self._store.close()

    def _positions(self, delivered: dict[Partition, Delivered]) -> dict[Partition, ChangelogPosition]:
        return {
            partition: ChangelogPosition(self._topic_ids[partition[0]], last.next_offset)
            for partition, last in delivered.items()
            if last.next_offset is not None
        }

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = sorted((tp.topic, tp.partition) for tp in partitions)
        self._must_recover, self._joined = "assignment", True
        # Nothing is fetched before recovery has said from where.
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in self._assigned])
        if partitions:
            consumer.pause(partitions)

    def _on_revoke(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._assigned, self._must_recover = [], "revocation"
        consumer.unassign()

    def _beat(self) -> None:
        fresh = self._registry.is_fresh()
        metrics.REGISTRY_FRESH.set(fresh)
        metrics.REGISTRY_OFFSET.set(self._registry.table.offset)
        detail = f"{len(self._assigned)} partitions" + ("" if fresh else "; the registry view is STALE")
        self._health.beat(StageState.RUNNING if self._joined else StageState.STARTING, detail)


def _count(topic: str, outcome: Outcome) -> None:
    metrics.ACCEPTED.labels(topic).inc(len(outcome.accepted))
    for reason, number in Counter(r.reason.value for r in outcome.rejected).items():
        metrics.REJECTED.labels(topic, reason).inc(number)
    for rule, number in Counter(f.rule for f in outcome.findings).items():
        metrics.FINDINGS.labels(rule).inc(number)

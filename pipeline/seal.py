"""SEAL: every sealed topic-partition becomes a tree of leaves, published as tiles with a signed checkpoint.

The story:

    consume    committed records of the sealed topics
    append     leaves, touched tiles and next offset, one WriteBatch per shard and batch
    publish    at most once per checkpoint interval, and only on change:
               write tiles of all changed shards -> one sync -> sign each -> replace its checkpoint
    record     once per anchor interval each changed shard's checkpoint goes to `log.checkpoints`,
               which the same code seals: that shard is the epoch log

No offset is committed to Kafka: what is published says how far we are. A shard that disagrees with its topic
stops loudly and alone.
"""

import time
from pathlib import Path

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from pipeline import kafka, metrics
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.sealstore import SealStore
from pipeline.settings import PipelineError, Settings
from pipeline.shard import Shard, ShardStoppedError, origin_of
from pipeline.shardlist import shard_list
from pipeline.stage import Health, StageState, Stop, running_stage, state_dir
from pipeline.statestore import Partition
from pipeline.tilestore import CheckpointConflictError, sync_stores
from pipeline.topics import CHECKPOINTS, SEALED_TOPICS
from pipeline.transaction import is_fatal
from pipeline.trust import log_identity
from processors.merkle.errors import MerkleError
from processors.model import RawRecord
from schemas.errors import FormatError
from schemas.note import Ed25519Signer

log = structlog.get_logger()

BATCH_RECORDS = 4000
CONSUME_WAIT_S = 0.05
RETRY_PAUSE_S = 0.5
CLEAN_EVERY_S = 60.0


def run(settings: Settings, slot: int) -> None:
    """Run one sealer until it is asked to stop."""
    with running_stage(settings, "seal", slot) as (health, stop):
        sealer = Sealer(settings, slot, health)
        try:
            sealer.run(stop)
        finally:
            sealer.close()


class Sealer:
    """One worker slot: the shards of its assigned partitions."""

    def __init__(self, settings: Settings, slot: int, health: Health) -> None:
        self._settings, self._health = settings, health
        self._seed = log_identity(settings).seed
        self._admin = kafka.admin(settings)
        self._store = SealStore(_database(settings, slot))
        self._producer = kafka.producer(settings)
        name = f"{settings.log_name}.seal"
        self._consumer: Consumer = kafka.consumer(settings, name, **{"group.instance.id": f"{name}.{slot}"})
        self._assigned: list[Partition] = []
        self._must_open = False
        self._joined = False
        self._shards: dict[Partition, Shard] = {}
        self._stopped: dict[Partition, str] = {}
        self._published_at = self._recorded_at = self._cleaned_at = time.monotonic()
        self._listed: bytes | None = None

    # ---- the story -------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Step until asked to stop; then publish what is there."""
        self._consumer.subscribe(
            list(SEALED_TOPICS),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )
        while not stop.requested:
            try:
                if self._must_open:
                    self._open_shards()
                self.step()
            except (KafkaException, PipelineError) as error:
                if isinstance(error, KafkaException) and is_fatal(error):
                    raise
                log.warning("step failed, opening the shards anew", error=str(error))
                self._must_open = True
                self._health.beat(StageState.RESTORING, str(error))
                stop.wait(RETRY_PAUSE_S)
        self._health.beat(StageState.DRAINING)
        if not self._must_open:
            self._publish()

    def step(self) -> None:
        """Consume and append; publish and record when their time has come."""
        messages = self._consumer.consume(BATCH_RECORDS, CONSUME_WAIT_S)
        if self._must_open:
            return
        batches: dict[Partition, list[RawRecord]] = {}
        for message in messages:
            record = kafka.to_record(message)
            batches.setdefault((record.topic, record.partition), []).append(record)
        for partition, batch in batches.items():
            if partition in self._shards:
                self._append(partition, batch)
        now = time.monotonic()
        if now - self._published_at >= self._settings.checkpoint_interval_s:
            self._published_at = now
            self._publish()
        if now - self._recorded_at >= self._settings.anchor_interval_s:
            self._recorded_at = now
            self._record()
        if now - self._cleaned_at >= CLEAN_EVERY_S:
            self._cleaned_at = now
            for shard in self._shards.values():
                shard.published.delete_partial_tiles(time.time(), self._settings.partial_tile_grace_s)
        self._beat()

    def _append(self, partition: Partition, batch: list[RawRecord]) -> None:
        try:
            self._shards[partition].append(batch)
        except (ShardStoppedError, MerkleError) as error:
            self._stop_shard(partition, error)
        else:
            metrics.LEAVES.labels(partition[0]).inc(len(batch))

    def _publish(self) -> None:
        """Tiles of all changed shards, one sync, then a signature each: never the other way round."""
        dirty = [shard for shard in self._shards.values() if shard.is_dirty]
        for shard in dirty:
            shard.stage()
        sync_stores(shard.published for shard in dirty)
        for shard in dirty:
            try:
                shard.sign()
            except CheckpointConflictError as error:
                # Another sealer published: one of us is a zombie. Whoever is assigned goes on from there.
                log.warning("checkpoint conflict, opening the shards anew", error=str(error))
                self._must_open = True
            else:
                metrics.CHECKPOINTS.labels(shard.partition[0]).inc()

    def _record(self) -> None:
        """Append each changed shard's checkpoint to `log.checkpoints`; a repeat there harms nobody."""
        changed = [
            s for s in self._shards.values() if s.partition[0] != CHECKPOINTS and s.record() is not None
        ]
        for shard in changed:
            self._producer.produce(
                CHECKPOINTS, key=shard.signer.name.encode(), value=shard.record(), partition=0
            )
        if (CHECKPOINTS, 0) in self._shards:
            self._record_shard_list()
        if self._producer.flush(CALL_TIMEOUT_S):
            raise PipelineError(f"{CHECKPOINTS} did not acknowledge within {CALL_TIMEOUT_S:.0f} s")
        for shard in changed:
            shard.recorded()

    def _record_shard_list(self) -> None:
        """Once per run, and whenever it changes: the owner of the epoch log lists all shards."""
        counts = self._admin.list_topics(timeout=CALL_TIMEOUT_S).topics
        topic_ids = {topic: kafka.topic_id(self._admin, topic) for topic in SEALED_TOPICS}
        origins = {
            (topic, number): origin_of(self._settings.log_name, (topic, number))
            for topic in SEALED_TOPICS
            for number in counts[topic].partitions
        }
        listed = shard_list(self._settings.log_name, self._seed, topic_ids, origins)
        if listed != self._listed:
            self._listed = listed
            self._producer.produce(CHECKPOINTS, key=b"shards", value=listed, partition=0)

    def _open_shards(self) -> None:
        """Take each assigned shard up from what is published; one that disagrees stops, alone."""
        self._health.beat(StageState.RESTORING, f"opening {len(self._assigned)} shards")
        self._shards, self._stopped = {}, {}
        topic_ids = {topic: kafka.topic_id(self._admin, topic) for topic in {t for t, _ in self._assigned}}
        for partition in self._assigned:
            signer = Ed25519Signer.from_seed(origin_of(self._settings.log_name, partition), self._seed)
            shard = Shard(self._settings, partition, self._store, signer, topic_ids[partition[0]])
            try:
                shard.open(self._settings, self._admin)
            except (ShardStoppedError, MerkleError, FormatError) as error:
                self._stop_shard(partition, error)
            else:
                self._shards[partition] = shard
            self._health.beat(
                StageState.RESTORING, f"opened {len(self._shards)} of {len(self._assigned)} shards"
            )
        places = [TopicPartition(topic, n, s.next_offset) for (topic, n), s in self._shards.items()]
        self._consumer.assign(places)
        self._consumer.resume(places)
        self._must_open = False
        leaves = sum(shard.size for shard in self._shards.values())
        log.info("shards opened", shards=len(self._shards), leaves=leaves, stopped=len(self._stopped))

    # ---- around it -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave the group and release what is open."""
        self._consumer.close()
        self._producer.flush(CALL_TIMEOUT_S)
        self._store.close()

    def _stop_shard(self, partition: Partition, error: Exception) -> None:
        log.error("shard stopped", topic=partition[0], partition=partition[1], why=str(error))
        self._stopped[partition] = str(error)
        self._shards.pop(partition, None)
        self._consumer.pause([TopicPartition(*partition)])

    def _beat(self) -> None:
        metrics.SHARDS_STOPPED.set(len(self._stopped))
        detail = f"{len(self._shards)} shards"
        if self._stopped:
            detail = f"{len(self._stopped)} shards STOPPED: {next(iter(self._stopped.values()))}"
        self._health.beat(StageState.RUNNING if self._joined else StageState.STARTING, detail)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._assigned = sorted((tp.topic, tp.partition) for tp in partitions)
        self._must_open = self._joined = True
        # Nothing is fetched before the shards have said from where.
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in self._assigned])
        if partitions:
            consumer.pause(partitions)

    def _on_revoke(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._assigned, self._shards, self._must_open = [], {}, True
        consumer.unassign()


def _database(settings: Settings, slot: int) -> Path:
    return state_dir(settings, "seal", slot) / "rocksdb"

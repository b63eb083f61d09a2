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
from collections.abc import Mapping

import structlog

from pipeline import kafka, metrics
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.lag import Lag
from pipeline.membership import GroupMember
from pipeline.sealstore import SealStore
from pipeline.sessions import SupersededError, run_sessions
from pipeline.settings import PipelineError, Settings
from pipeline.shard import Shard, ShardStoppedError, origin_of, store_of
from pipeline.shardabout import ShardAboutError, read_about
from pipeline.shardlist import shard_list, shard_list_name
from pipeline.stage import Health, StageState, Stop, running_stage, state_dir
from pipeline.statestore import Partition
from pipeline.tilestore import CheckpointConflictError, sync_stores
from pipeline.topics import CHECKPOINTS, SEALED_TOPICS
from pipeline.topicwatch import TopicWatch
from pipeline.trust import log_signers
from processors.merkle.errors import MerkleError
from processors.model import RawRecord
from schemas.errors import FormatError

log = structlog.get_logger()

BATCH_RECORDS = 4000
CONSUME_WAIT_S = 0.05
CLEAN_EVERY_S = 60.0


def run(settings: Settings, slot: int) -> None:
    """Run one sealer until it is asked to stop."""
    with running_stage(settings, "seal", slot) as (health, stop):
        work(settings, slot, health, stop)


def work(settings: Settings, slot: int, health: Health, stop: Stop) -> None:
    """Run session after session; the working copy on disk outlives them."""
    store = SealStore(state_dir(settings, "seal", slot) / "rocksdb")
    try:
        run_sessions("seal", lambda: SealSession(settings, slot, health, store), health, stop)
    finally:
        store.close()


class SealSession:
    """One worker slot: the shards of its assigned partitions."""

    def __init__(self, settings: Settings, slot: int, health: Health, store: SealStore) -> None:
        self._settings, self._health, self._store = settings, health, store
        self._signer = log_signers(settings)
        self._admin = kafka.admin(settings)
        self._producer = kafka.producer(settings, **kafka.FOLLOW_LEADERS)
        self._member = GroupMember(settings, self._admin, "seal", slot, list(SEALED_TOPICS))
        self._watch = TopicWatch(self._admin, settings.topic_check_s)
        self._shards: dict[Partition, Shard] = {}
        self.stopped: dict[Partition, str] = {}
        """Shards that disagree with their topic, and why."""
        self._published_at = self._recorded_at = self._cleaned_at = time.monotonic()
        self._listed: bytes | None = None
        self._lag = Lag("seal")

    # ---- the story -------------------------------------------------------------------------------------

    def run(self, stop: Stop) -> None:
        """Step until asked to stop, then publish what is there; a failure ends the session."""
        self._store.mend()
        while not stop.requested:
            self.step()
            if self._member.changed:
                self._open_shards()
        self._health.beat(StageState.DRAINING)
        self._publish()

    def step(self) -> None:
        """Consume and append; publish and record when their time has come."""
        batches = self._member.consume(BATCH_RECORDS, CONSUME_WAIT_S)
        self._beat()
        if self._member.changed:
            return
        for topic, why in self._watch.look().items():
            for partition in [place for place in self._shards if place[0] == topic]:
                self._stop_shard(
                    partition, ShardStoppedError(f"shard {topic}[{partition[1]}] stopped: {why}")
                )
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
                # Another sealer published: one of us is a zombie, and whoever is assigned goes on from there.
                raise SupersededError(str(error)) from error
            metrics.CHECKPOINTS.labels(shard.partition[0]).inc()
        if dirty:
            self._health.progressed()

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
        counts = kafka.asked(lambda within_s: self._admin.list_topics(timeout=within_s)).topics
        topic_ids = kafka.topic_ids(self._admin, SEALED_TOPICS)
        origins = {
            (topic, number): origin_of(self._settings.log_name, (topic, number))
            for topic in SEALED_TOPICS
            for number in counts[topic].partitions
        }
        signer = self._signer(shard_list_name(self._settings.log_name))
        listed = shard_list(signer, topic_ids, origins, self._successors(topic_ids, origins))
        if listed != self._listed:
            self._listed = listed
            self._producer.produce(CHECKPOINTS, key=b"shards", value=listed, partition=0)

    def _successors(
        self, topic_ids: Mapping[str, str], origins: Mapping[Partition, str]
    ) -> dict[Partition, str]:
        """Name the shards that follow another one on their topic, as `log accept-shard` has left them."""
        found = {}
        for place in origins:
            try:
                about = read_about(store_of(self._settings, place))
            except ShardAboutError:
                continue  # its own shard stops because of it
            if about is not None and about.generation and about.topic_id == topic_ids[place[0]]:
                found[place] = about.shard_id
        return found

    def _open_shards(self) -> None:
        """Take each assigned shard up from what is published; one that disagrees stops, alone."""
        assigned = self._member.assigned
        self._shards, self.stopped = {}, {}
        topic_ids = kafka.topic_ids(self._admin, sorted({topic for topic, _ in assigned}))
        for number, partition in enumerate(assigned):
            self._health.beat(StageState.RESTORING, f"opening shard {number + 1} of {len(assigned)}")
            signer = self._signer(origin_of(self._settings.log_name, partition))
            shard = Shard(self._settings, partition, self._store, signer, topic_ids[partition[0]])
            try:
                shard.open(self._settings, self._admin)
            except (ShardStoppedError, MerkleError, FormatError) as error:
                self._stop_shard(partition, error)
            else:
                self._shards[partition] = shard
        self._watch.begin(topic_ids)
        self._member.start_at({partition: shard.next_offset for partition, shard in self._shards.items()})
        leaves = sum(shard.size for shard in self._shards.values())
        log.info("shards opened", shards=len(self._shards), leaves=leaves, stopped=len(self.stopped))

    # ---- around it -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Leave off; what is not published is read again."""
        self._member.close()

    def _stop_shard(self, partition: Partition, error: Exception) -> None:
        log.error("shard stopped", topic=partition[0], partition=partition[1], why=str(error))
        self.stopped[partition] = str(error)
        if self._shards.pop(partition, None) is not None:
            self._member.pause(partition)

    def _beat(self) -> None:
        metrics.SHARDS_STOPPED.set(len(self.stopped))
        if not self._member.has_joined:
            self._health.beat(StageState.STARTING, "waiting for an assignment")
            return
        if self._member.changed:
            self._health.beat(StageState.RESTORING, f"assigned {len(self._member.assigned)} shards")
            return
        self._lag.look(self._member, {place: shard.next_offset for place, shard in self._shards.items()})
        detail, alarm = f"{len(self._shards)} shards", ""
        if self.stopped:
            alarm = f"{len(self.stopped)} shards STOPPED"
            detail = f"{alarm}: {next(iter(self.stopped.values()))}"
        self._health.beat(StageState.RUNNING, detail, alarm=alarm)

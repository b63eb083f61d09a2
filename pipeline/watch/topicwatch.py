"""The cluster's topics beside the logs: what exists is listed, what was sealed is kept, and each is followed.

Retention may take records from the beginning of a topic; their leaves stay. Nothing may take them from its
end, and a topic of the same name but another id is another topic.
"""

import json

import structlog

from pipeline.shard import ABOUT, origin_of
from pipeline.statestore import Partition
from pipeline.topics import CHECKPOINTS
from pipeline.watch.claims import Claims
from pipeline.watch.cluster import ClusterFacts
from pipeline.watch.context import Watch
from pipeline.watch.memory import KnownShard
from pipeline.watch.shardwatch import ShardWatch
from processors.integrity import findings

log = structlog.get_logger()

EPOCH: Partition = (CHECKPOINTS, 0)


class TopicWatch:
    """Every sealed partition, and the watch over its log."""

    def __init__(self, watch: Watch, claims: Claims) -> None:
        self._watch, self._claims = watch, claims
        self.shards = {place: ShardWatch(watch, known) for place, known in watch.memory.shards().items()}
        self._since_s: dict[Partition, float] = {}

    @property
    def by_origin(self) -> dict[str, ShardWatch]:
        """The watches by the names of their logs."""
        return {shard.origin: shard for shard in self.shards.values()}

    def check(self) -> None:
        """Hold the newest look at the cluster to what is known; nothing to do while there is none."""
        facts = self._watch.facts
        if facts is None:
            return
        for place in facts.partitions:
            if place not in self.shards:
                known = KnownShard(
                    origin_of(self._watch.trust.log_name, place), *place, facts.topic_ids[place[0]]
                )
                self.shards[place] = ShardWatch(self._watch, known)
                self._watch.memory.save(known)
            self._since_s.setdefault(place, self._watch.now_s)
        for place, shard in list(self.shards.items()):
            self._check_topic(place, shard, facts)
        self._check_list(facts)

    def _check_topic(self, place: Partition, shard: ShardWatch, facts: ClusterFacts) -> None:
        known, watch = shard.known, self._watch
        found, end = facts.topic_ids.get(place[0]), facts.ends.get(place, 0)
        is_sealed = known.checked_size > 0
        if found is not None and not known.topic_id:
            known.topic_id = found
            watch.memory.save(known)
        if found is not None and found != known.topic_id:
            watch.tail.drop(place)
            if not known.size:
                known.topic_id, known.next_offset = found, 0
                watch.memory.save(known)
            elif self._is_replaced(shard, found):
                self._replace(shard, found)
            else:
                watch.book.open(
                    findings.topic_recreated(known.origin, place, known.topic_id, found, time_us=watch.now_us)
                )
            return
        sealed_to = facts.sealed_to.get(place, 0)
        if is_sealed and end < sealed_to:
            # Two looks: the end of a partition that is just finding its leader is not to accuse anybody.
            if watch.standing.held_s(("end", known.origin), facts.asked_at_s) > 0:
                watch.tail.drop(place)
                watch.book.open(
                    findings.topic_truncated(known.origin, place, end, sealed_to, time_us=watch.now_us)
                )
            return
        watch.standing.end(("end", known.origin))
        watch.book.clear("log_truncated", known.origin, watch.now_us, "topic")
        if found is not None and not watch.tail.follows(place):
            start = facts.starts.get(place, 0)
            if start > known.next_offset and is_sealed:
                log.warning("records are gone that were not compared", log=known.origin, kept_from=start)
            at = max(start, known.next_offset)
            watch.tail.place({place: (at, at)})

    def _is_replaced(self, shard: ShardWatch, topic_id: str) -> bool:
        """Tell whether the operator says so, in the signed list and beside the new log."""
        about = shard.source.read(ABOUT)
        try:
            published = json.loads(about or b"{}").get("topic_id")
        except (ValueError, AttributeError):
            return False
        return bool(published == topic_id == self._claims.listed.get(shard.origin))

    def _replace(self, shard: ShardWatch, topic_id: str) -> None:
        known, watch = shard.known, self._watch
        watch.book.open(
            findings.shard_replaced(
                known.checkpoint, known.note, known.topic_id, topic_id, time_us=watch.now_us
            )
        )
        watch.book.clear("log_truncated", known.origin, watch.now_us, "topic")
        watch.memory.retire(known)
        successor = KnownShard(known.origin, known.topic, known.partition, topic_id)
        watch.memory.save(successor)
        self.shards[known.place] = ShardWatch(watch, successor)

    def _check_list(self, facts: ClusterFacts) -> None:
        """Every sealed partition that has been there for a while is in the signed list of shards."""
        watch, listed = self._watch, self._claims.listed
        epoch = self.shards.get(EPOCH)
        if epoch is None or not epoch.known.size or epoch.known.checked_size < epoch.known.size:
            return
        settings = watch.settings
        grace_s = settings.anchor_interval_s + settings.monitor_patience_s
        for place in facts.partitions:
            origin = self.shards[place].origin
            if origin in listed:
                watch.book.clear("shard_missing", origin, watch.now_us, "list")
            elif watch.now_s - self._since_s[place] >= grace_s and self._epoch_lasts(grace_s):
                watch.book.open(findings.shard_unlisted(origin, place, time_us=watch.now_us))

    def _epoch_lasts(self, grace_s: float) -> bool:
        """Tell whether there has been an epoch log for so long: a new one has no list yet."""
        return bool(self._claims.listed) or (
            self._watch.standing.held_s("no list", self._watch.now_s) >= 2 * grace_s
        )

"""The cluster's topics beside the logs: what exists is listed, what was sealed is kept, and each is followed.

Retention may take records from the beginning of a topic; their leaves stay. Nothing may take them from its
end, and a topic of the same name but another id is another topic.
"""

import structlog

from pipeline.shard import origin_of
from pipeline.shardabout import ShardAbout
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
                self._add(place, facts.topic_ids[place[0]])
            self._since_s.setdefault(place, self._watch.now_s)
        for place, shard in list(self.shards.items()):
            self._check_topic(place, shard, facts)
        self._check_list(facts)

    def _add(self, place: Partition, topic_id: str) -> None:
        known = KnownShard(origin_of(self._watch.trust.log_name, place), *place, topic_id)
        shard = self.shards[place] = ShardWatch(self._watch, known)
        about = shard.about()
        if about is not None and about.topic_id == topic_id:
            known.topic_id, known.next_offset = about.shard_id, max(0, about.from_offset)
        self._watch.memory.save(known)

    def _check_topic(self, place: Partition, shard: ShardWatch, facts: ClusterFacts) -> None:
        known, watch = shard.known, self._watch
        found, end = facts.topic_ids.get(place[0]), facts.ends.get(place, 0)
        is_sealed = known.checked_size > 0
        if found is not None and not known.topic_id:
            known.topic_id = found
            watch.memory.save(known)
        successor = self._successor(shard)
        if successor is not None:
            self._replace(shard, successor)
            return
        if found is not None and found != known.topic_id.partition(".")[0]:
            watch.tail.drop(place)
            if known.size:
                watch.book.open(
                    findings.topic_recreated(known.origin, place, known.topic_id, found, time_us=watch.now_us)
                )
            else:
                known.topic_id, known.next_offset = found, 0
                watch.memory.save(known)
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

    def _successor(self, shard: ShardWatch) -> ShardAbout | None:
        """Return the shard's successor once the signed list names it and the log says the same of itself."""
        known, listed = shard.known, self._claims.listed.get(shard.origin)
        if listed is None or listed == known.topic_id or not known.size:
            return None
        about = shard.about()
        return about if about is not None and about.shard_id == listed and about.predecessor else None

    def _replace(self, shard: ShardWatch, about: ShardAbout) -> None:
        known, watch = shard.known, self._watch
        shard.tell_of_successor(about)
        for rule, cause in watch.book.open_causes(known.origin, "log_truncated"):
            watch.book.clear(rule, known.origin, watch.now_us, cause)
        watch.tail.drop(known.place)
        watch.memory.retire(known)
        successor = KnownShard(
            known.origin, *known.place, about.shard_id, next_offset=max(0, about.from_offset)
        )
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

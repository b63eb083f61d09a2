"""When to look again: the newest leaves every few seconds, all of them in one pass after another.

The pass goes at the pace at which everything is read within the configured time, never faster than its bound;
a small log is passed over again and again. What failed is looked at again until it is told or has healed.
"""

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline import metrics
from pipeline.settings import PipelineError
from pipeline.statestore import Partition
from pipeline.watch.context import Watch
from pipeline.watch.errand import Errand
from pipeline.watch.looks import Look, SecondLooks, Seen
from pipeline.watch.shardwatch import GONE_S, SECOND_LOOK_S, ShardWatch
from processors.integrity import findings
from processors.integrity.leaves import LeafFault
from processors.merkle.errors import TileTamperedError
from schemas.tile import TILE_WIDTH

YOUNG_S = 15.0
"""So long after a log has grown its newest records are read again with its newest tiles."""
NEWEST = 2 * TILE_WIDTH
SLOWEST_LEAVES_PER_S = 1000.0
LEAST_AT_ONCE, MOST_AT_ONCE = 3000, 4096
REASON_TO_HURRY = 1.2

Key = tuple[Partition, int]


class LaterLooks:
    """Sends looks on their errand, one batch at a time, and judges what they found."""

    def __init__(self, watch: Watch, admin: AdminClient) -> None:
        self._watch = watch
        self._looks = SecondLooks(watch.settings, admin)
        self._errand: Errand[list[Seen]] = Errand("looks")
        self._rechecked_s = 0.0
        self._scrub_credit, self._scrub_at_s = 0.0, watch.now_s
        self._pass_begun_s = watch.now_s
        self._order: list[Partition] = []
        self._grown_s: dict[Partition, tuple[int, float]] = {}
        self._suspects: dict[Key, float] = {}
        """Looks that failed, since when."""
        self.pass_s = 0.0
        """What the last pass over everything took."""
        self.trouble = ""

    def step(self, shards: dict[Partition, ShardWatch]) -> None:
        """Judge what came back, and send the next batch; never waits."""
        if not self._errand.is_free:
            try:
                found = self._errand.collect()
            except (KafkaException, PipelineError, OSError) as error:
                self.trouble = str(error) or type(error).__name__
                return
            if found is None:
                return
            self.trouble = ""
            for seen in found:
                self._judge(seen, shards)
        self._note_growth(shards)
        looks = [*self._suspected(shards), *self._rechecks(shards), *self._scrub(shards)]
        if looks:
            self._errand.send(self._looks.take, looks)

    # ---- which -----------------------------------------------------------------------------------------

    def _note_growth(self, shards: dict[Partition, ShardWatch]) -> None:
        for place, shard in shards.items():
            if self._grown_s.get(place, (-1, 0.0))[0] != shard.known.checked_size:
                self._grown_s[place] = (shard.known.checked_size, self._watch.now_s)

    def _suspected(self, shards: dict[Partition, ShardWatch]) -> list[Look]:
        """What failed just now, and what was told and may have healed."""
        looks = []
        for place, leaf in self._suspects:
            if place in shards:
                looks += self._look(shards[place], leaf, leaf + 1, with_records=False, kind="recheck")
        return looks

    def _rechecks(self, shards: dict[Partition, ShardWatch]) -> list[Look]:
        now_s = self._watch.now_s
        if now_s - self._rechecked_s < self._watch.settings.monitor_recheck_s:
            return []
        self._rechecked_s = now_s
        looks = []
        for place, shard in shards.items():
            size = shard.known.checked_size
            is_young = now_s - self._grown_s[place][1] < YOUNG_S
            first = max(0, size - NEWEST) // TILE_WIDTH * TILE_WIDTH
            looks += self._look(shard, first, size, with_records=is_young, kind="recheck")
            for _rule, cause in self._watch.book.open_causes(
                shard.origin, "tile_rewritten", "entry_rewritten", "log_truncated"
            ):
                kind, _, leaf = cause.partition("/")
                if kind in ("tile", "tiles"):
                    number = min(int(leaf), size - 1)
                    looks += self._look(shard, number, number + 1, with_records=False, kind=cause)
        return looks

    def _scrub(self, shards: dict[Partition, ShardWatch]) -> list[Look]:
        watch, now_s = self._watch, self._watch.now_s
        total = sum(shard.known.checked_size for shard in shards.values())
        pace = max(SLOWEST_LEAVES_PER_S, REASON_TO_HURRY * total / watch.settings.monitor_scrub_s)
        pace = min(pace, watch.settings.monitor_scrub_leaves_per_s)
        credit = self._scrub_credit + pace * (now_s - self._scrub_at_s)
        self._scrub_credit, self._scrub_at_s = min(credit, max(2 * pace, LEAST_AT_ONCE)), now_s
        looks: list[Look] = []
        # Many at a time: each batch of looks has a consumer of its own.
        if self._scrub_credit < LEAST_AT_ONCE:
            return looks
        while self._scrub_credit >= TILE_WIDTH and len(looks) < len(shards):
            shard = self._next_to_scrub(shards)
            if shard is None:
                break
            known = shard.known
            end = min(known.checked_size, known.scrubbed + min(MOST_AT_ONCE, int(self._scrub_credit)))
            # Whole bundles, so that each is read once a pass.
            end = (
                end if end == known.checked_size else max(end // TILE_WIDTH * TILE_WIDTH, known.scrubbed + 1)
            )
            looks += self._look(shard, known.scrubbed, end, with_records=True, kind="scrub")
            self._scrub_credit -= max(end - known.scrubbed, TILE_WIDTH // 4)
            known.scrubbed = end
            watch.memory.save(known)
        return looks

    def _next_to_scrub(self, shards: dict[Partition, ShardWatch]) -> ShardWatch | None:
        """Return the log that the pass is at; None at its end, when the next one begins."""
        while self._order:
            shard = shards.get(self._order[0])
            if shard is not None and shard.known.scrubbed < shard.known.checked_size:
                return shard
            self._order.pop(0)
        self.pass_s = time.monotonic() - self._pass_begun_s
        metrics.MONITOR_PASS_SECONDS.set(self.pass_s)
        self._pass_begun_s = time.monotonic()
        self._order = [place for place, shard in shards.items() if shard.known.checked_size]
        for shard in shards.values():
            shard.known.scrubbed = 0
        return None

    def _look(self, shard: ShardWatch, first: int, end: int, *, with_records: bool, kind: str) -> list[Look]:
        """One look, unless the log is not as it was proven: what is wrong there is told otherwise."""
        if not shard.is_current or not 0 <= first < end:
            return []
        known = shard.known
        return [Look(known.place, shard.source, known.checkpoint, first, end, with_records, kind)]

    # ---- what they found -------------------------------------------------------------------------------

    def _judge(self, seen: Seen, shards: dict[Partition, ShardWatch]) -> None:
        watch, look = self._watch, seen.look
        shard = shards.get(look.place)
        if shard is None or shard.known.size < look.checkpoint.size:
            return  # another log by now
        key = (look.place, seen.leaf)
        if seen.error is not None:
            since_s = self._suspects.setdefault(key, watch.now_s)
            is_changed = isinstance(seen.error, TileTamperedError)
            if watch.now_s - since_s >= (SECOND_LOOK_S if is_changed else GONE_S):
                shard.tell_of_tiles(seen.error, look.checkpoint, seen.leaf)
                self._suspects.pop(key, None)
            return
        self._suspects.pop(key, None)
        rules = ("tile_rewritten", "entry_rewritten", "log_truncated")
        for rule, cause in watch.book.open_causes(shard.origin, *rules):
            if cause == look.kind:
                watch.book.clear(rule, shard.origin, watch.now_us, cause)
        if not look.with_records:
            return
        metrics.MONITOR_LEAVES.labels(look.kind).inc(look.end - look.first)
        told = [m for m in seen.mismatches if not watch.memory.is_unsound(shard.origin, m.index)]
        if told and told[0].fault is not LeafFault.UNREADABLE:
            watch.book.open(findings.record_rewritten(shard.origin, look.place, told, time_us=watch.now_us))

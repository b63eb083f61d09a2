"""One published log, followed: its checkpoint, proven from tiles, and its new leaves beside their records.

    signature    under a key of the trust file
    history      the last proven tree is a prefix of this one, by a proof from the tiles
    leaves       every new leaf is its record's, and every committed record has one
    growth       records do not wait for their leaves while the rest of the log goes on

A finding needs a proof or time. What a restart or a rebuilt folder shows for a moment (no checkpoint, a
smaller one whose larger tiles are gone) is a finding only when nobody goes on rebuilding it.
"""

from pipeline import metrics
from pipeline.shardabout import ABOUT, ShardAbout, ShardAboutError, parse_about
from pipeline.statestore import Partition
from pipeline.topics import CHECKPOINTS
from pipeline.watch.context import Watch
from pipeline.watch.memory import KnownShard
from processors.integrity import findings
from processors.integrity.history import Relation, relate
from processors.integrity.leaves import compare_leaves
from processors.logentries import leaf_offset
from processors.merkle.errors import MerkleError, TileMissingError, TileTamperedError
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint
from schemas.errors import FormatError
from schemas.tile import TILE_WIDTH
from schemas.trust import TrustRoot, open_trusted_checkpoint

CHECKPOINT = "checkpoint"
COMPARED_AT_ONCE = 16 * TILE_WIDTH
SECOND_LOOK_S = 0.2
"""A file is replaced as a whole, and a smaller checkpoint stays for longer than it takes to sign one."""
GONE_S = 2.0
"""Tiles of a log whose checkpoint stands: a folder that is being deleted as a whole is not there so long."""
WRONG_KEY_S = 2.0


class ShardWatch:
    """The log of one topic-partition. `is_uneasy`: something is to be looked at again soon."""

    def __init__(self, watch: Watch, known: KnownShard) -> None:
        self._watch, self.known = watch, known
        self.source = watch.source.at(f"{known.topic}/{known.partition}")
        self.is_uneasy = False
        self.is_current = False
        """What is published is what was proven last."""
        self._behind_size = -1
        self._opened: tuple[bytes, TrustRoot] | None = None
        """What was opened last, and by whose keys."""

    @property
    def place(self) -> Partition:
        """Topic and partition."""
        return self.known.place

    @property
    def origin(self) -> str:
        """Name of the log."""
        return self.known.origin

    def about(self) -> ShardAbout | None:
        """Return what the log says of itself; None where that is nothing, or nonsense."""
        data = self.source.read(ABOUT)
        try:
            return None if data is None else parse_about(data)
        except ShardAboutError:
            return None

    # ---- the checkpoint --------------------------------------------------------------------------------

    def follow(self) -> None:
        """Look at the published checkpoint. Raises LogSourceError when nothing can be read at all."""
        self.is_uneasy = self.is_current = False
        data = self.source.read(CHECKPOINT)
        if data is None:
            if not self._is_succeeded():
                self._absent("there is no checkpoint")
            return
        if (data, self._watch.trust) == self._opened and data == self.known.note:
            self._proven(self.known.checkpoint, data)
            return
        try:
            seen = open_trusted_checkpoint(data, self.origin, self._watch.trust).checkpoint
        except FormatError as error:
            if self._lasts("invalid", WRONG_KEY_S):
                self._watch.book.open(
                    findings.checkpoint_invalid(self.origin, str(error), time_us=self._watch.now_us)
                )
            return
        self._well("invalid", "checkpoint_invalid", "checkpoint")
        self._opened = data, self._watch.trust
        if (seen.size, seen.root) == (self.known.size, self.known.root):
            self._proven(seen, data)
            return
        try:
            relation = relate(self.known.checkpoint, seen, self.source)
        except MerkleError as error:
            if not self._is_succeeded():
                self._unproven(seen, data, error)
            return
        if relation is Relation.GROWN:
            self._proven(seen, data)
        elif self._is_succeeded():
            return
        elif relation is Relation.FORKED:
            self._forked(seen, data)
        else:
            self._rolled_back(seen)

    def _proven(self, seen: Checkpoint, note: bytes) -> None:
        known, watch = self.known, self._watch
        has_grown = seen.size > known.size
        if has_grown:
            watch.growth.grew(self.place, watch.now_s)
        if has_grown or note != known.note:
            known.size, known.root, known.note = seen.size, seen.root, note
            watch.memory.save(known)
        self.is_current = True
        self._behind_size = -1
        watch.standing.end(("behind", self.origin))
        watch.standing.end(("tiles", self.origin))
        watch.book.clear("checkpoint_rollback", self.origin, watch.now_us, "published")
        self._well("absent", "log_truncated", "checkpoint")

    def _forked(self, seen: Checkpoint, note: bytes) -> None:
        known, watch = self.known, self._watch
        watch.memory.keep_proof(self.origin, known.note, note, watch.now_us)
        watch.book.open(findings.fork(known.checkpoint, known.note, seen, note, time_us=watch.now_us))

    def _rolled_back(self, seen: Checkpoint) -> None:
        """Smaller and true, with the tiles of what was larger still there: nobody lost them."""
        known, watch = self.known, self._watch
        if self._lasts("behind", SECOND_LOOK_S):
            watch.book.open(
                findings.checkpoint_rollback(
                    known.checkpoint, known.note, seen.size, "published", "before", time_us=watch.now_us
                )
            )

    def _is_succeeded(self) -> bool:
        """Tell whether another shard says to follow this one: told at once, and believed while it lasts.

        The signed list must name it soon; then `TopicWatch` lets go of this one.
        """
        about, settings = self.about(), self._watch.settings
        if not self.known.size or about is None:
            return False
        if about.shard_id == self.known.topic_id or not about.predecessor:
            return False
        self.tell_of_successor(about)
        return not self._lasts("successor", 2 * settings.anchor_interval_s + settings.monitor_patience_s)

    def tell_of_successor(self, about: ShardAbout) -> None:
        """Tell that the operator has closed this shard and begun another."""
        known, watch = self.known, self._watch
        watch.book.open(
            findings.shard_replaced(
                known.checkpoint, known.note, known.topic_id, about.shard_id, time_us=watch.now_us
            )
        )

    def _absent(self, why: str) -> None:
        if self.known.size and self._lasts("absent", self._watch.settings.monitor_patience_s):
            self._watch.book.open(
                findings.checkpoint_gone(self.known.checkpoint, why, time_us=self._watch.now_us)
            )

    def _unproven(self, seen: Checkpoint, note: bytes, error: MerkleError) -> None:
        """The tiles do not lead to the roots: they are gone, they were changed, or no tiles ever did."""
        watch = self._watch
        if seen.size < self.known.size:
            if seen.size != self._behind_size:
                self._behind_size = seen.size
                watch.standing.end(("absent", self.origin))  # somebody is rebuilding it
            self._absent(f"{seen.size} leaves are published, and tiles above are missing")
            return
        if isinstance(error, TileTamperedError):
            if not self._lasts("tiles", SECOND_LOOK_S):
                return
            true_root = self._true_root(seen.size)
            if true_root is None and not self._lasts("tiles", watch.settings.monitor_patience_s):
                return
            if true_root not in (None, seen.root):
                self._forked(seen, note)
                return
        elif not self._lasts("tiles", watch.settings.monitor_patience_s):
            return
        self.tell_of_tiles(error, seen, leaf=seen.size - 1)

    def _true_root(self, size: int) -> bytes | None:
        """Recompute the root of `size` leaves from the proven tree and the topic; None while that is open."""
        known = self.known
        leaves = self._watch.tail.waiting(self.place)[: size - known.size]
        if known.checked_size != known.size or len(leaves) < size - known.size:
            return None
        try:
            builder = (
                TiledTree(self.source, known.size, known.root).builder() if known.size else TreeBuilder()
            )
            builder.append([leaf.entry for leaf in leaves])
        except MerkleError:
            return None
        return builder.root()

    # ---- the new leaves --------------------------------------------------------------------------------

    def compare(self) -> list[tuple[int, bytes]]:
        """Compare the next new leaves with their records; returns them (index, entry) once that is done."""
        known, watch = self.known, self._watch
        if known.checked_size == known.size:
            self._look_for_waiting()
            return []
        first, end = known.checked_size, min(known.size, known.checked_size + COMPARED_AT_ONCE)
        entries = self._entries(first, end)
        if entries is None:
            return []
        sealed_to = self._sealed_to(first, entries)
        if watch.tail.seen_to(self.place) < sealed_to and not self._records_are_overdue(sealed_to):
            return []
        mismatches = compare_leaves(
            first,
            entries,
            watch.tail.waiting(self.place, sealed_to),
            after_offset=known.next_offset - 1,
            kept_from=watch.tail.begins_at(self.place),
            by_index=self.place[0] == CHECKPOINTS,
        )
        if mismatches:
            watch.memory.add_unsound(self.origin, first, end)
            watch.book.open(
                findings.entry_rewritten(self.origin, self.place, mismatches, time_us=watch.now_us)
            )
        known.checked_size = end
        # A forged leaf may name any offset: what was not read is not passed over.
        known.next_offset = max(known.next_offset, min(sealed_to, watch.tail.seen_to(self.place)))
        watch.tail.compared(self.place, known.next_offset, watch.now_s)
        watch.standing.end(("records", self.origin))
        watch.memory.save(known)
        metrics.MONITOR_LEAVES.labels("first").inc(end - first)
        self.is_uneasy |= known.checked_size < known.size
        return list(enumerate(entries, first))

    def _entries(self, first: int, end: int) -> list[bytes] | None:
        known = self.known
        try:
            tree = TiledTree(self.source, known.size, known.root)
            entries: list[bytes] = []
            for index in range(first // TILE_WIDTH, -(-end // TILE_WIDTH)):
                entries += tree.bundle(index)
        except MerkleError as error:
            if self._lasts("entries", GONE_S if isinstance(error, TileMissingError) else SECOND_LOOK_S):
                self.tell_of_tiles(error, known.checkpoint, leaf=first)
            return None
        self._watch.standing.end(("entries", self.origin))
        skipped = first - first // TILE_WIDTH * TILE_WIDTH
        return entries[skipped : skipped + end - first]

    def _sealed_to(self, first: int, entries: list[bytes]) -> int:
        """The offset after that of the last leaf that names one."""
        if self.place[0] == CHECKPOINTS:
            return first + len(entries)
        for entry in reversed(entries):
            try:
                return leaf_offset(entry) + 1
            except FormatError:
                continue
        return self.known.next_offset

    def _records_are_overdue(self, sealed_to: int) -> bool:
        """Tell whether the topic ends before the leaves do, and has done so for a while."""
        facts, watch = self._watch.facts, self._watch
        end = facts.ends.get(self.place) if facts else None
        if facts is None or end is None or not watch.tail.follows(self.place) or watch.tail.trouble:
            watch.standing.end(("records", self.origin))
            return False
        if end >= sealed_to or watch.tail.seen_to(self.place) < end:
            watch.standing.end(("records", self.origin))  # they are on their way to us
            return False
        self.is_uneasy = True
        # By when it said so: of a cluster that is away the last word only grows old.
        held_s = watch.standing.held_s(("records", self.origin), facts.asked_at_s)
        return held_s >= watch.settings.monitor_patience_s / 2

    def _look_for_waiting(self) -> None:
        """All that is published is compared: what still waits was passed over, if others go on."""
        watch, settings = self._watch, self._watch.settings
        since_s = watch.tail.waits_since_s(self.place)
        if since_s is None or watch.now_s - since_s < settings.monitor_patience_s / 2:
            watch.book.clear("shard_missing", self.origin, watch.now_us, "behind")
            return
        if not self.is_current and self.known.size:
            return  # what is wrong with it is told otherwise
        if watch.growth.is_left_out(
            self.place, since_s, watch.now_s, settings.monitor_patience_s, settings.monitor_outage_s
        ):
            oldest = watch.tail.waiting(self.place)[0].offset
            waited_s = watch.now_s - since_s
            watch.book.open(
                findings.shard_behind(self.origin, self.place, oldest, waited_s, time_us=watch.now_us)
            )

    # ---- telling ---------------------------------------------------------------------------------------

    def tell_of_tiles(self, error: MerkleError, checkpoint: Checkpoint, leaf: int) -> None:
        """Tell what is wrong with published files, found when `leaf` was asked for."""
        now_us, book = self._watch.now_us, self._watch.book
        if isinstance(error, TileTamperedError):
            book.open(
                findings.tile_rewritten(self.origin, error.path, str(error), checkpoint, leaf, time_us=now_us)
            )
        else:
            book.open(findings.tiles_gone(self.origin, str(error), checkpoint, leaf, time_us=now_us))

    def _lasts(self, what: str, for_s: float) -> bool:
        self.is_uneasy = True
        return self._watch.standing.held_s((what, self.origin), self._watch.now_s) >= for_s

    def _well(self, what: str, rule: str, cause: str) -> None:
        self._watch.standing.end((what, self.origin))
        self._watch.book.clear(rule, self.origin, self._watch.now_us, cause)

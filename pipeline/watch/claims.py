"""Tree heads seen elsewhere, held to the published logs: entries of the epoch log, anchors, cosigned notes.

An operator who shows different logs to different people has to sign both. Each head is kept until its log has
been proven as large, and then its root must be that log's root at its size. A head larger than anything that
is published within the patience was never published, or the published log went back.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from pipeline.shardlist import shard_list_name
from pipeline.watch.context import Watch
from pipeline.watch.memory import Claim
from pipeline.watch.shardwatch import ShardWatch
from processors.integrity import findings
from processors.integrity.shardlist import parse_shard_list
from processors.merkle.errors import MerkleError
from processors.merkle.reader import TiledTree
from schemas.checkpoint import log_key
from schemas.errors import FormatError
from schemas.note import parse_note, verify_note
from schemas.trust import open_trusted_checkpoint

log = structlog.get_logger()

EPOCH, ANCHOR, NOTE = "epoch", "anchor", "note"
JUDGED_AT_ONCE = 2000


class Claims:
    """What was seen elsewhere, waiting for its log."""

    def __init__(self, watch: Watch, on_anchor: Callable[[int], None]) -> None:
        self._watch, self._on_anchor = watch, on_anchor
        self.listed = watch.memory.listed()
        """The newest signed list of shards: topic ids by origin."""
        self._waiting = watch.memory.claims()
        self._sizes: dict[str, int] = {}

    def take_epoch_entries(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Read new leaves of the epoch log: checkpoints of shards, and the signed list of all shards."""
        for index, entry in entries:
            name = entry[: entry.find(b"\n")].decode("utf-8", "replace")
            try:
                if name == shard_list_name(self._watch.trust.log_name):
                    self._take_list(entry)
                else:
                    self.add(EPOCH, name, str(index), entry)
            except FormatError as error:
                # Whoever may write to that topic may write nonsense; unsigned, it accuses nobody.
                log.warning("an entry of the epoch log is not ours", index=index, why=str(error))

    def add(self, kind: str, origin: str, place: str, note: bytes) -> None:
        """Keep a signed checkpoint; raises FormatError when no trusted key has signed it."""
        seen = open_trusted_checkpoint(note, origin, self._watch.trust).checkpoint
        topic_id = self.listed.get(origin, "")
        self._keep(Claim(kind, origin, place, topic_id, seen.size, seen.root, note))

    def add_anchor(self, sequence: int, tree_size: int, root: bytes, message: bytes) -> None:
        """Keep what a ledger message says about the epoch log."""
        origin = self._watch.trust.log_name
        self._keep(Claim(ANCHOR, origin, str(sequence), "", tree_size, root, message))

    def _keep(self, claim: Claim) -> None:
        self._watch.memory.add_claim(claim)
        self._waiting.append(claim)

    def _take_list(self, entry: bytes) -> None:
        trust, name = self._watch.trust, shard_list_name(self._watch.trust.log_name)
        note = parse_note(entry)
        verify_note(note, [log_key(name, key) for key in trust.log_keys])
        is_first = not self.listed
        self.listed = parse_shard_list(note.text, name)
        self._watch.memory.set_listed(self.listed)
        if is_first:
            self._waiting = [replace(c, topic_id=self.listed.get(c.origin, "")) for c in self._waiting]
            for claim in self._waiting:
                self._watch.memory.add_claim(claim)

    # ---- judging ---------------------------------------------------------------------------------------

    def judge(self, shards: dict[str, ShardWatch]) -> None:
        """Hold what waits to its log, by one tree of proven tiles a log."""
        trees: dict[str, TiledTree | None] = {}
        waiting: list[Claim] = []
        left = JUDGED_AT_ONCE
        for claim in self._waiting:
            shard = shards.get(claim.origin)
            if shard is not None and self._sizes.get(claim.origin) != shard.known.size:
                # While the log grows, it may still come to that size.
                self._watch.standing.end((claim.kind, claim.origin, claim.place))
            if shard is not None and claim.size <= shard.known.size:
                left -= 1
            # A log of ours that nobody knows is of a topic that is no longer sealed, or not known yet.
            is_unknown = shard is None and self._watch.facts is not None
            if left < 0 or not (is_unknown or (shard and self._is_judged(claim, shard, trees))):
                waiting.append(claim)
            else:
                self._watch.memory.drop_claim(claim)
                self._watch.standing.end((claim.kind, claim.origin, claim.place))
        self._waiting = waiting
        self._sizes = {origin: shard.known.size for origin, shard in shards.items()}

    def _is_judged(self, claim: Claim, shard: ShardWatch, trees: dict[str, TiledTree | None]) -> bool:
        known = shard.known
        if claim.kind == EPOCH and not self.listed:
            return False  # which shard of that name it is of, only the list can tell
        if claim.topic_id and known.topic_id and claim.topic_id != known.topic_id:
            return True  # of a shard that was closed
        if claim.size > known.size:
            self._judge_larger(claim, shard)
            return False
        if claim.origin not in trees:
            trees[claim.origin] = self._tree(shard)
        tree = trees[claim.origin]
        if tree is None:
            return False
        try:
            root = tree.root_at(claim.size)
        except MerkleError:
            return False  # the look at that tile tells what is wrong with it
        self._judge_equal(claim, shard, root)
        return True

    def _judge_equal(self, claim: Claim, shard: ShardWatch, root: bytes) -> None:
        watch, known = self._watch, shard.known
        topic = watch.trust.ledger.topic
        if claim.root == root:
            watch.book.clear("checkpoint_rollback", claim.origin, watch.now_us, f"{claim.kind}/{claim.place}")
            if claim.kind == ANCHOR:
                watch.memory.anchored(claim.size)
                self._on_anchor(claim.size)
                watch.book.clear("anchor_wrong_root", claim.origin, watch.now_us, f"{topic}/{claim.place}")
            return
        if claim.kind == ANCHOR:
            why = "and the root of the published log at that size is another"
            watch.book.open(
                findings.anchor_wrong_root(
                    claim.origin, topic, int(claim.place), claim.size, why, time_us=watch.now_us
                )
            )
            return
        watch.memory.keep_proof(claim.origin, known.note, claim.note, watch.now_us)
        watch.book.open(
            findings.fork(known.checkpoint, known.note, claim.checkpoint, claim.note, time_us=watch.now_us)
        )

    def _judge_larger(self, claim: Claim, shard: ShardWatch) -> None:
        watch, known = self._watch, shard.known
        key = (claim.kind, claim.origin, claim.place)
        if watch.standing.held_s(key, watch.now_s) < watch.settings.monitor_patience_s:
            return
        if claim.kind == ANCHOR:
            why = f"and no more than {known.size} are published"
            watch.book.open(
                findings.anchor_wrong_root(
                    claim.origin,
                    watch.trust.ledger.topic,
                    int(claim.place),
                    claim.size,
                    why,
                    time_us=watch.now_us,
                )
            )
            return
        watch.book.open(
            findings.checkpoint_rollback(
                claim.checkpoint, claim.note, known.size, claim.kind, claim.place, time_us=watch.now_us
            )
        )

    def _tree(self, shard: ShardWatch) -> TiledTree | None:
        known = shard.known
        try:
            return TiledTree(shard.source, known.size, known.root)
        except MerkleError:
            return None

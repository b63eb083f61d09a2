"""Every sealed topic-partition as the tree it must be, and whatever was said of one in the log's name.

Invariants 4 and 5 of docs/architecture.md; sections 8 to 10 and 12 of docs/formats.md. The trees are computed
from the committed records alone. A claim is a root that somebody was shown: a published checkpoint, an entry
of the epoch log, an anchor. One that is larger than the tree waits until the topic was read again: whatever
was signed was committed before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.faults.machine.oracle.formats import (
    EPOCH_TOPIC,
    Partition,
    Record,
    UntrueError,
    decode_as,
    leaf_of,
    open_checkpoint,
    open_note,
    origin_of,
    spell,
)
from tests.faults.machine.oracle.found import Found
from tests.faults.machine.oracle.tree import Tree, leaf_hash

EPOCH: Partition = (EPOCH_TOPIC, 0)
ANCHORS = "log.anchors"
LIST_KEY = b"shards"
Head = tuple[str, int, bytes]
"""Origin, size, root."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """An anchor that was said to be on the ledger."""

    tree_size: int
    root: bytes
    ledger_topic: str
    sequence: int
    consensus_timestamp_ns: int
    running_hash: bytes
    payer: str


@dataclass(frozen=True, slots=True)
class _Claim:
    partition: Partition
    size: int
    root: bytes
    where: str
    since_pass: int
    """Number of the pass of reading that began after the claim was seen."""


class Shards:
    """Takes records of sealed topics and of `log.anchors`, and what is published."""

    def __init__(self, found: Found, log_name: str, log_key: bytes, sealed: Iterable[Partition]) -> None:
        self._found, self._log_name, self._log_key = found, log_name, log_key
        self.trees = {partition: Tree() for partition in sealed}
        self._of_origin = {origin_of(log_name, partition): partition for partition in self.trees}
        self._retired: set[Partition] = set()
        self._claims: list[_Claim] = []
        self._published: dict[Partition, bytes] = {}
        self._observed: set[Head] = set()
        self._pass = 0
        self._confirmed: dict[int, Confirmed] = {}
        self._size_of_message: dict[int, int] = {}

    def confirmed(self) -> list[Confirmed]:
        """The anchors said to be confirmed, one for each tree size."""
        return list(self._confirmed.values())

    def retire(self, partition: Partition) -> None:
        """Expect no more of this shard than that what is published stays what it is."""
        self._retired.add(partition)

    # ---- records ---------------------------------------------------------------------------------------

    def take(self, record: Record) -> None:
        """Take the next committed record of a sealed topic-partition."""
        partition = (record.topic, record.partition)
        self.trees[partition].append(leaf_hash(leaf_of(record)))
        if partition == EPOCH:
            try:
                self._entry(record)
            except UntrueError as error:
                self._found.add("signature", f"{spell(record.place)}: {error}")

    def _entry(self, record: Record) -> None:
        key, value = record.key or b"", record.value or b""
        if key == LIST_KEY:
            self._shard_list(open_note(value, f"{self._log_name}/shards", self._log_key))
            return
        partition = self._of_origin.get(key.decode(errors="replace"))
        if partition is None or partition == EPOCH:
            raise UntrueError(f"{key!a} is no shard of the log")
        size, root = open_checkpoint(value, key.decode(), self._log_key)
        self._claim(partition, size, root, spell(record.place))

    def _shard_list(self, text: str) -> None:
        _name, count, *lines = text.splitlines()
        listed = [line.split(" ")[0] for line in lines]
        if count != str(len(lines)) or lines != sorted(lines) or sorted(listed) != sorted(self._of_origin):
            raise UntrueError(f"the list of shards names {listed}")

    def anchor(self, record: Record) -> None:
        """Take a record of `log.anchors`: its root is the epoch log's, confirmed in one place only."""
        where = spell(record.place)
        try:
            said = decode_as("anchor", record.value)
            size, root = open_checkpoint_of_anchor(said, self._log_name, self._log_key)
        except UntrueError as error:
            self._found.add("anchor", f"{where}: {error}")
            return
        if (size, root) != (said["tree_size"], said["root"]) or record.key != b"%d" % size:
            self._found.add("anchor", f"{where}: size, root and key are not those of its checkpoint")
        self._claim(EPOCH, said["tree_size"], said["root"], f"anchor {where} ({said['status']})")
        if said["status"] == "CONFIRMED":
            self._confirm(where, said)

    def _confirm(self, where: str, said: Mapping[str, object]) -> None:
        names = Confirmed.__dataclass_fields__
        if any(said[name] is None for name in names) or not said["sequence"] or not said["running_hash"]:
            self._found.add("early_claim", f"{where}: CONFIRMED without place or running hash")
            return
        confirmed = Confirmed(**{name: said[name] for name in names})  # type: ignore[arg-type]
        before = self._confirmed.setdefault(confirmed.tree_size, confirmed)
        if before != confirmed:
            self._found.add("early_claim", f"{where}: {confirmed.tree_size} leaves confirmed in two places")
        if self._size_of_message.setdefault(confirmed.sequence, confirmed.tree_size) != confirmed.tree_size:
            self._found.add("early_claim", f"{where}: message {confirmed.sequence} anchors two sizes")

    # ---- what is published -----------------------------------------------------------------------------

    def begin_pass(self) -> None:
        """Say that topics are about to be read to ends that are asked for from now on."""
        self._pass += 1

    def published(self, partition: Partition, checkpoint: bytes) -> None:
        """Take a published checkpoint's bytes."""
        if self._published.get(partition) == checkpoint:
            return
        self._published[partition] = checkpoint
        origin = origin_of(self._log_name, partition)
        try:
            size, root = open_checkpoint(checkpoint, origin, self._log_key)
        except UntrueError as error:
            self._found.add("signature", f"published {origin}: {error}")
            return
        if partition in self._retired and size > self.trees[partition].size:
            self._found.add("resealed", f"{origin} grew to {size} after it had to stop")
            return
        self._claim(partition, size, root, f"published {origin}")

    def observed(self, heads: Iterable[Head]) -> None:
        """Take heads that somebody saw published earlier."""
        for origin, size, root in set(heads) - self._observed:
            self._observed.add((origin, size, root))
            partition = self._of_origin.get(origin)
            if partition is None:
                self._found.add("signature", f"{origin} was published and is no shard of the log")
            else:
                self._claim(partition, size, root, f"seen {origin}")

    def unpublished(self, sizes: Mapping[Partition, int]) -> list[str]:
        """Shards whose published size is below what their topic holds, in words."""
        return [
            f"{partition[0]}/{partition[1]}: {sizes.get(partition, 0)} of {tree.size} leaves published"
            for partition, tree in self.trees.items()
            if sizes.get(partition, 0) < tree.size and partition not in self._retired
        ]

    # ---- judging ---------------------------------------------------------------------------------------

    def judge_claims(self) -> None:
        """Judge what can be judged by now; call at the end of a pass."""
        self._claims = [claim for claim in self._claims if not self._is_judged(claim)]

    @property
    def waiting(self) -> bool:
        """Whether claims wait for records that were not read yet."""
        return bool(self._claims)

    def _claim(self, partition: Partition, size: int, root: bytes, where: str) -> None:
        self._claims.append(_Claim(partition, size, root, where, self._pass + 1))

    def _is_judged(self, claim: _Claim) -> bool:
        tree = self.trees[claim.partition]
        if claim.size <= tree.size:
            if tree.root(claim.size) != claim.root:
                name = "anchor" if claim.where.startswith("anchor") else "append_only"
                what = f"{claim.where}: not the root of the first {claim.size} records"
                self._found.add(name, what)
            return True
        if claim.since_pass > self._pass:
            return False
        if claim.partition not in self._retired:
            what = f"{claim.where}: {claim.size} leaves of {tree.size} records that are committed"
            self._found.add("early_claim", what)
        return True


def open_checkpoint_of_anchor(said: Mapping[str, object], log_name: str, log_key: bytes) -> tuple[int, bytes]:
    """Size and root of the signed note that an anchor record holds; raises UntrueError."""
    checkpoint = said["checkpoint"]
    if said["origin"] != log_name or not isinstance(checkpoint, bytes):
        raise UntrueError(f"an anchor of {said['origin']!r}")
    return open_checkpoint(checkpoint, log_name, log_key)

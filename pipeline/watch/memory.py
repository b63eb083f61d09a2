"""What the monitor remembers: the last proof of each log, and what it has told. SQLite, `synchronous=FULL`.

Beside the trust file this is all that the monitor believes. A round is one transaction: a crash takes it back
whole, and the next one finds the same again. A memory that is lost is not replaced by anybody's word: the
monitor begins anew with what is published then, and says so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from anchors.ledger import ChainPosition
from pipeline.sqlitefile import SqliteFile
from pipeline.statestore import Partition
from schemas.checkpoint import EMPTY_ROOT, Checkpoint

SCHEMA = """
CREATE TABLE IF NOT EXISTS shards (
    origin TEXT PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, topic_id TEXT NOT NULL,
    size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL, checked_size INTEGER NOT NULL,
    next_offset INTEGER NOT NULL, scrubbed INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS retired (
    origin TEXT NOT NULL, topic_id TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL,
    note BLOB NOT NULL, PRIMARY KEY (origin, topic_id));
CREATE TABLE IF NOT EXISTS listed (origin TEXT PRIMARY KEY, topic_id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS claims (
    kind TEXT NOT NULL, origin TEXT NOT NULL, place TEXT NOT NULL, topic_id TEXT NOT NULL,
    size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL, PRIMARY KEY (kind, origin, place));
CREATE TABLE IF NOT EXISTS unsound (
    origin TEXT NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL, PRIMARY KEY (origin, first));
CREATE TABLE IF NOT EXISTS proofs (
    origin TEXT NOT NULL, first_note BLOB NOT NULL, second_note BLOB NOT NULL, time_us INTEGER NOT NULL,
    PRIMARY KEY (origin, second_note));
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1), kind TEXT NOT NULL, topic TEXT NOT NULL,
    anchored_size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS chain (sequence INTEGER PRIMARY KEY, running_hash BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS findings (
    id BLOB PRIMARY KEY, rule TEXT NOT NULL, origin TEXT NOT NULL, cause TEXT NOT NULL,
    is_open INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, value BLOB NOT NULL);
"""
CHAIN_KEPT = 256
"""So many last positions of the ledger are kept, and every hundredth for ever."""


@dataclass(slots=True)
class KnownShard:
    """What was last proven about one log. Changes count only once `Memory.save` was called in a round."""

    origin: str
    topic: str
    partition: int
    topic_id: str = ""
    size: int = 0
    root: bytes = EMPTY_ROOT
    note: bytes = b""
    checked_size: int = 0
    """Leaves below were compared with their records."""
    next_offset: int = 0
    """The offset after that of the last leaf compared."""
    scrubbed: int = 0
    """Where the pass over everything stands: the next leaf to look at again."""

    @property
    def place(self) -> Partition:
        """Topic and partition."""
        return self.topic, self.partition

    @property
    def checkpoint(self) -> Checkpoint:
        """Size and root as a checkpoint."""
        return Checkpoint(self.origin, self.size, self.root)


@dataclass(frozen=True, slots=True)
class Claim:
    """A tree head of one of our logs, seen elsewhere than in its published folder; to be held to it."""

    kind: str
    """`epoch`: an entry of the epoch log; `anchor`: a ledger message; `note`: beside a record of ours."""
    origin: str
    place: str
    """Where it was seen: the entry's index, the message's sequence number."""
    topic_id: str
    size: int
    root: bytes
    note: bytes

    @property
    def checkpoint(self) -> Checkpoint:
        """Size and root as a checkpoint."""
        return Checkpoint(self.origin, self.size, self.root)


@dataclass(frozen=True, slots=True)
class KeptFinding:
    """A finding that was told; `value` is the record of its opening."""

    rule: str
    origin: str
    cause: str
    is_open: bool
    value: bytes


class Memory:
    """The database of one slot, held alone until `close` or the end of the process, however it ends."""

    def __init__(self, path: Path) -> None:
        self._db = SqliteFile(path, SCHEMA, "the monitor's memory")

    @property
    def was_lost(self) -> bool:
        """There was nothing to remember: a first start, or somebody took it away."""
        return self._db.was_lost

    @contextmanager
    def round(self) -> Iterator[None]:
        """All changes within are durable together, also when the block fails: each stands by itself."""
        self._db.begin()
        try:
            yield
        finally:
            self._db.commit()

    # ---- logs ------------------------------------------------------------------------------------------

    def shards(self) -> dict[Partition, KnownShard]:
        """Return every log that is known."""
        columns = "origin, topic, partition, topic_id, size, root, note, checked_size, next_offset, scrubbed"
        known = [KnownShard(*row) for row in self._db.rows(f"SELECT {columns} FROM shards")]  # noqa: S608
        return {each.place: each for each in known}

    def save(self, shard: KnownShard) -> None:
        """Keep what is known now."""
        self._db.do("REPLACE INTO shards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(shard))

    def retire(self, shard: KnownShard) -> None:
        """Keep the last proof of a shard that was closed."""
        values = (shard.origin, shard.topic_id, shard.size, shard.root, shard.note)
        self._db.do("REPLACE INTO retired VALUES (?, ?, ?, ?, ?)", values)
        self._db.do("DELETE FROM unsound WHERE origin = ?", (shard.origin,))

    def retired(self) -> list[tuple[str, str, int, bytes]]:
        """Return origin, topic id, size and root of every closed shard."""
        return [tuple(row) for row in self._db.rows("SELECT origin, topic_id, size, root FROM retired")]

    def listed(self) -> dict[str, str]:
        """Return the newest signed list of shards: topic ids by origin."""
        return dict(self._db.rows("SELECT origin, topic_id FROM listed"))

    def set_listed(self, listed: dict[str, str]) -> None:
        """Replace the list of shards."""
        self._db.do("DELETE FROM listed")
        for origin, topic_id in listed.items():
            self._db.do("INSERT INTO listed VALUES (?, ?)", (origin, topic_id))

    def add_claim(self, claim: Claim) -> None:
        """Keep a tree head until it was held to its log."""
        self._db.do("REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(claim))

    def claims(self) -> list[Claim]:
        """Return the tree heads that were not yet held to their logs."""
        return [Claim(*row) for row in self._db.rows("SELECT * FROM claims ORDER BY size")]

    def drop_claim(self, claim: Claim) -> None:
        """Forget one that was."""
        self._db.do(
            "DELETE FROM claims WHERE kind = ? AND origin = ? AND place = ?",
            (claim.kind, claim.origin, claim.place),
        )

    def add_unsound(self, origin: str, first: int, end: int) -> None:
        """Remember leaves among which the first look found faults: a later look does not tell them anew."""
        self._db.do("REPLACE INTO unsound VALUES (?, ?, ?)", (origin, first, end))

    def is_unsound(self, origin: str, leaf: int) -> bool:
        """Tell whether a leaf is among those."""
        query = "SELECT 1 FROM unsound WHERE origin = ? AND first <= ? AND end > ?"
        return bool(self._db.rows(query, (origin, leaf, leaf)))

    def keep_proof(self, origin: str, first_note: bytes, second_note: bytes, time_us: int) -> None:
        """Keep two signed checkpoints that contradict each other."""
        self._db.do(
            "INSERT OR IGNORE INTO proofs VALUES (?, ?, ?, ?)", (origin, first_note, second_note, time_us)
        )

    def proofs(self) -> list[tuple[str, bytes, bytes]]:
        """Return every pair of contradicting checkpoints."""
        return [tuple(row) for row in self._db.rows("SELECT origin, first_note, second_note FROM proofs")]

    # ---- the ledger ------------------------------------------------------------------------------------

    def use_ledger(self, kind: str, topic: str) -> None:
        """Follow this topic; what was known about another one is forgotten."""
        if self._db.rows("SELECT 1 FROM ledger WHERE kind = ? AND topic = ?", (kind, topic)):
            return
        self._db.do("DELETE FROM chain")
        self._db.do("DELETE FROM claims WHERE kind = 'anchor'")
        self._db.do("REPLACE INTO ledger VALUES (1, ?, ?, 0)", (kind, topic))

    def anchored_size(self) -> int:
        """Return the largest size of the epoch log that an anchor was proven to be of."""
        rows = self._db.rows("SELECT anchored_size FROM ledger")
        return int(rows[0][0]) if rows else 0

    def anchored(self, size: int) -> None:
        """Note an anchor that was proven."""
        self._db.do("UPDATE ledger SET anchored_size = max(anchored_size, ?)", (size,))

    def positions(self) -> dict[int, bytes]:
        """Return the running hash after each message that is remembered."""
        return dict(self._db.rows("SELECT sequence, running_hash FROM chain ORDER BY sequence"))

    def extend_chain(self, positions: list[ChainPosition]) -> None:
        """Remember how the ledger's history went on."""
        for each in positions:
            self._db.do("INSERT OR IGNORE INTO chain VALUES (?, ?)", (each.sequence, each.running_hash))
        if positions:
            bound = positions[-1].sequence - CHAIN_KEPT
            self._db.do("DELETE FROM chain WHERE sequence < ? AND sequence % 100 != 0", (bound,))

    # ---- findings --------------------------------------------------------------------------------------

    def findings(self) -> dict[bytes, KeptFinding]:
        """Return every finding that was told, by its id."""
        rows = self._db.rows("SELECT id, rule, origin, cause, is_open, value FROM findings")
        return {row[0]: KeptFinding(row[1], row[2], row[3], bool(row[4]), row[5]) for row in rows}

    def tell(self, identity: bytes, finding: KeptFinding, value: bytes) -> None:
        """Keep a finding as opened or cleared, and put the record that says so out."""
        self._db.do(
            "REPLACE INTO findings VALUES (?, ?, ?, ?, ?, ?)",
            (identity, finding.rule, finding.origin, finding.cause, finding.is_open, finding.value),
        )
        self._db.do("INSERT INTO outbox (origin, value) VALUES (?, ?)", (finding.origin, value))

    def outbox(self, after: int = 0) -> list[tuple[int, str, bytes]]:
        """Return number, origin and value of what Kafka has not acknowledged, in order."""
        query = "SELECT number, origin, value FROM outbox WHERE number > ? ORDER BY number"
        return [tuple(row) for row in self._db.rows(query, (after,))]

    def acknowledged(self, numbers: list[int]) -> None:
        """Forget records that Kafka has."""
        for number in numbers:
            self._db.do("DELETE FROM outbox WHERE number = ?", (number,))

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

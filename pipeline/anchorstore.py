"""What the anchor stage must not forget: SQLite, each change synced before it counts (`synchronous=FULL`).

Nothing is cached in memory, so what a caller reads is what a crash would leave. The database is a working
copy all the same: lost or damaged, it is begun anew and filled from the ledger's own history.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import structlog

from anchors.ledger import ChainPosition, PreparedTransaction
from pipeline.anchorrecords import Anchored, Outgoing
from pipeline.sqlitefile import SqliteFile

log = structlog.get_logger()

SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY CHECK (id = 1), kind TEXT NOT NULL, topic TEXT NOT NULL,
    sequence INTEGER, running_hash BLOB, announced_size INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS anchored (
    id INTEGER PRIMARY KEY CHECK (id = 1), tree_size INTEGER NOT NULL, root BLOB NOT NULL,
    sequence INTEGER NOT NULL, consensus_time_ns INTEGER NOT NULL, running_hash BLOB NOT NULL,
    payer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS in_flight (
    id INTEGER PRIMARY KEY CHECK (id = 1), checkpoint BLOB NOT NULL, submitted INTEGER NOT NULL DEFAULT 0,
    transaction_id TEXT NOT NULL, message BLOB NOT NULL, signed BLOB NOT NULL,
    valid_start_ns INTEGER NOT NULL, valid_until_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS outgoing (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tree_size INTEGER NOT NULL, value BLOB NOT NULL,
    digest BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS witness (vkey TEXT PRIMARY KEY, size INTEGER NOT NULL);
"""
OUTBOX_AT_ONCE = 500
SEALED = ("ledger", "anchored", "in_flight", "witness")
"""Few rows, each of which is acted upon. The outbox may be long; its rows have digests of their own."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The one transaction that may be on its way, with the signed checkpoint that it anchors."""

    prepared: PreparedTransaction
    checkpoint: bytes
    submitted: bool
    """A node was seen to have taken it, and the SUBMITTED record stands in the outbox."""


class AnchorStore:
    """The database of one slot, held alone until `close` or the end of the process, however it ends.

    Every method raises DatabaseError when the disk does not do as told.
    """

    def __init__(self, path: Path) -> None:
        self._db = SqliteFile(path, SCHEMA, "the anchor database", SEALED)

    # ---- the ledger's topic and what is anchored there -------------------------------------------------

    def topic(self) -> tuple[str, str] | None:
        """Return kind of ledger and topic; None before the first."""
        row = self._db.row("SELECT kind, topic FROM ledger")
        return (row[0], row[1]) if row else None

    def use_topic(self, kind: str, topic: str) -> None:
        """Remember the topic. What was known about another one is forgotten, save what is to be announced."""
        if self.topic() == (kind, topic):
            return
        with self._db.change():
            self._db.do("DELETE FROM anchored")
            self._db.do("DELETE FROM in_flight")
            self._db.do("REPLACE INTO ledger (id, kind, topic) VALUES (1, ?, ?)", (kind, topic))

    def position(self) -> ChainPosition | None:
        """Return how far the ledger's history has been recomputed; None: not at all."""
        row = self._db.row("SELECT sequence, running_hash FROM ledger WHERE sequence IS NOT NULL")
        return ChainPosition(*row) if row else None

    def anchored(self) -> Anchored | None:
        """Return the anchor of the largest tree up to `position`."""
        row = self._db.row(
            "SELECT tree_size, root, sequence, consensus_time_ns, running_hash, payer FROM anchored"
        )
        return Anchored(*row) if row else None

    def announced_size(self) -> int:
        """Return up to which tree size CONFIRMED records were put into the outbox; 0: none."""
        row = self._db.row("SELECT announced_size FROM ledger")
        return int(row[0]) if row else 0

    def step_back(self, position: ChainPosition | None) -> None:
        """Go on from an earlier point of the history."""
        sequence, running_hash = astuple(position) if position else (None, None)
        with self._db.change():
            self._db.do("UPDATE ledger SET sequence = ?, running_hash = ?", (sequence, running_hash))

    def advance(self, position: ChainPosition, anchored: Anchored | None) -> None:
        """Move on along the history."""
        with self._db.change():
            self._advance(position, anchored)

    # ---- one anchor's way ------------------------------------------------------------------------------

    def in_flight(self) -> InFlight | None:
        """Return the transaction that may be on its way."""
        row = self._db.row(
            "SELECT transaction_id, message, signed, valid_start_ns, valid_until_ns, checkpoint, submitted"
            " FROM in_flight"
        )
        return InFlight(PreparedTransaction(*row[:5]), row[5], bool(row[6])) if row else None

    def put_in_flight(self, prepared: PreparedTransaction, checkpoint: bytes) -> None:
        """Keep a signed transaction, before anybody has seen it."""
        with self._db.change():
            # Never a second one beside the first: the primary key refuses it.
            self._db.do(
                "INSERT INTO in_flight (id, transaction_id, message, signed, valid_start_ns, valid_until_ns,"
                " checkpoint) VALUES (1, ?, ?, ?, ?, ?, ?)",
                (*astuple(prepared), checkpoint),
            )

    def submitted(self, record: Outgoing) -> None:
        """Note that a node has taken it."""
        with self._db.change():
            self._db.do("UPDATE in_flight SET submitted = 1")
            self._put_out(record)

    def confirmed(
        self, records: Iterable[Outgoing], position: ChainPosition, anchored: Anchored | None, tree_size: int
    ) -> None:
        """End what is in flight, move on along the history, put the records out; all or nothing."""
        with self._db.change():
            self._db.do("DELETE FROM in_flight")
            self._advance(position, anchored)
            self._announce(records, tree_size)

    def drop_in_flight(self) -> None:
        """Forget a transaction that the ledger will never place."""
        with self._db.change():
            self._db.do("DELETE FROM in_flight")

    # ---- witnesses -------------------------------------------------------------------------------------

    def witness_sizes(self) -> dict[str, int]:
        """Return the size that each witness cosigned last, by its vkey."""
        return dict(self._db.rows("SELECT vkey, size FROM witness"))

    def put_witness_sizes(self, sizes: Mapping[str, int]) -> None:
        """Remember them instead of what was known."""
        if self.witness_sizes() == sizes:
            return
        with self._db.change():
            self._db.do("DELETE FROM witness")
            for vkey, size in sizes.items():
                self._db.do("INSERT INTO witness VALUES (?, ?)", (vkey, size))

    # ---- the outbox ------------------------------------------------------------------------------------

    def announce(self, records: Iterable[Outgoing], tree_size: int) -> None:
        """Put out what is to be said of an anchor that was found on the ledger."""
        with self._db.change():
            self._announce(records, tree_size)

    def outbox(self, after: int = 0) -> list[tuple[int, Outgoing]]:
        """Return what Kafka has not acknowledged, in order, with numbers above `after`; few at once."""
        query = "SELECT id, tree_size, value, digest FROM outgoing WHERE id > ? ORDER BY id LIMIT ?"
        found = []
        for number, size, value, digest in self._db.rows(query, (after, OUTBOX_AT_ONCE)):
            if _digest(size, value) == digest:
                found.append((number, Outgoing(size, value)))
            else:
                # Never said rather than said wrongly: the next anchor covers what this one does.
                log.error("a record in the outbox is damaged and dropped", number=number)
                self.acknowledged(number)
        return found

    def acknowledged(self, number: int) -> None:
        """Forget a record that Kafka has."""
        with self._db.change():
            self._db.do("DELETE FROM outgoing WHERE id = ?", (number,))

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    # ---- statements, within a change -------------------------------------------------------------------

    def _advance(self, position: ChainPosition, anchored: Anchored | None) -> None:
        self._db.do("UPDATE ledger SET sequence = ?, running_hash = ?", astuple(position))
        if anchored is not None:
            self._db.do("REPLACE INTO anchored VALUES (1, ?, ?, ?, ?, ?, ?)", astuple(anchored))

    def _announce(self, records: Iterable[Outgoing], tree_size: int) -> None:
        for record in records:
            self._put_out(record)
        self._db.do("UPDATE ledger SET announced_size = max(announced_size, ?)", (tree_size,))

    def _put_out(self, record: Outgoing) -> None:
        self._db.do(
            "INSERT INTO outgoing (tree_size, value, digest) VALUES (?, ?, ?)",
            (record.tree_size, record.value, _digest(record.tree_size, record.value)),
        )


def _digest(tree_size: int, value: bytes) -> bytes:
    return hashlib.blake2b(b"%d " % tree_size + value, digest_size=16).digest()

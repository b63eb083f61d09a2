"""What the anchor stage must not forget: SQLite, each change synced before it counts (`synchronous=FULL`).

Nothing is cached in memory, so what a caller reads is what a crash would leave. The database is a working
copy all the same: lost or damaged, it is begun anew and filled from the ledger's own history.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import structlog

from anchors.ledger import ChainPosition, PreparedTransaction
from pipeline.anchorrecords import Anchored, Outgoing
from pipeline.settings import PipelineError

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
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, tree_size INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS witness (vkey TEXT PRIMARY KEY, size INTEGER NOT NULL);
"""
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_BUSY = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})


class AnchorStoreError(PipelineError):
    """The database cannot be read or written: a full disk, a folder that is not ours."""


class AnchorStoreBusyError(AnchorStoreError):
    """Another anchor process holds the database; it ends, or it is the one that works."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The one transaction that may be on its way, with the signed checkpoint that it anchors."""

    prepared: PreparedTransaction
    checkpoint: bytes
    submitted: bool
    """A node was seen to have taken it, and the SUBMITTED record stands in the outbox."""


class AnchorStore:
    """The database of one slot, held alone until `close` or the end of the process, however it ends.

    Every method raises AnchorStoreError when the disk does not do as told.
    """

    def __init__(self, path: Path) -> None:
        self._db = _open(path)

    # ---- the ledger's topic and what is anchored there -------------------------------------------------

    def topic(self) -> tuple[str, str] | None:
        """Return kind of ledger and topic; None before the first."""
        row = self._one("SELECT kind, topic FROM ledger")
        return (row[0], row[1]) if row else None

    def use_topic(self, kind: str, topic: str) -> None:
        """Remember the topic. What was known about another one is forgotten, save what is to be announced."""
        if self.topic() == (kind, topic):
            return
        with self._change() as db:
            db.execute("DELETE FROM anchored")
            db.execute("DELETE FROM in_flight")
            db.execute("REPLACE INTO ledger (id, kind, topic) VALUES (1, ?, ?)", (kind, topic))

    def position(self) -> ChainPosition | None:
        """Return how far the ledger's history has been recomputed; None: not at all."""
        row = self._one("SELECT sequence, running_hash FROM ledger WHERE sequence IS NOT NULL")
        return ChainPosition(*row) if row else None

    def anchored(self) -> Anchored | None:
        """Return the anchor of the largest tree up to `position`."""
        row = self._one(
            "SELECT tree_size, root, sequence, consensus_time_ns, running_hash, payer FROM anchored"
        )
        return Anchored(*row) if row else None

    def announced_size(self) -> int:
        """Return up to which tree size CONFIRMED records were put into the outbox; 0: none."""
        row = self._one("SELECT announced_size FROM ledger")
        return int(row[0]) if row else 0

    def advance(self, position: ChainPosition, anchored: Anchored | None) -> None:
        """Move on along the history."""
        with self._change() as db:
            _advance(db, position, anchored)

    # ---- one anchor's way ------------------------------------------------------------------------------

    def in_flight(self) -> InFlight | None:
        """Return the transaction that may be on its way."""
        row = self._one(
            "SELECT transaction_id, message, signed, valid_start_ns, valid_until_ns, checkpoint, submitted"
            " FROM in_flight"
        )
        return InFlight(PreparedTransaction(*row[:5]), row[5], bool(row[6])) if row else None

    def put_in_flight(self, prepared: PreparedTransaction, checkpoint: bytes) -> None:
        """Keep a signed transaction, before anybody has seen it."""
        with self._change() as db:
            # Never a second one beside the first: the primary key refuses it.
            db.execute(
                "INSERT INTO in_flight (id, transaction_id, message, signed, valid_start_ns, valid_until_ns,"
                " checkpoint) VALUES (1, ?, ?, ?, ?, ?, ?)",
                (*astuple(prepared), checkpoint),
            )

    def submitted(self, record: Outgoing) -> None:
        """Note that a node has taken it."""
        with self._change() as db:
            db.execute("UPDATE in_flight SET submitted = 1")
            _put_out(db, record)

    def confirmed(
        self, records: Iterable[Outgoing], position: ChainPosition, anchored: Anchored | None, tree_size: int
    ) -> None:
        """End what is in flight, move on along the history, put the records out; all or nothing."""
        with self._change() as db:
            db.execute("DELETE FROM in_flight")
            _advance(db, position, anchored)
            _announce(db, records, tree_size)

    def drop_in_flight(self) -> None:
        """Forget a transaction that the ledger will never place."""
        with self._change() as db:
            db.execute("DELETE FROM in_flight")

    # ---- witnesses -------------------------------------------------------------------------------------

    def witness_sizes(self) -> dict[str, int]:
        """Return the size that each witness cosigned last, by its vkey."""
        return dict(self._all("SELECT vkey, size FROM witness"))

    def put_witness_sizes(self, sizes: Mapping[str, int]) -> None:
        """Remember them instead of what was known."""
        if self.witness_sizes() == sizes:
            return
        with self._change() as db:
            db.execute("DELETE FROM witness")
            db.executemany("INSERT INTO witness VALUES (?, ?)", sizes.items())

    # ---- the outbox ------------------------------------------------------------------------------------

    def announce(self, records: Iterable[Outgoing], tree_size: int) -> None:
        """Put out what is to be said of an anchor that was found on the ledger."""
        with self._change() as db:
            _announce(db, records, tree_size)

    def outbox(self, after: int = 0) -> list[tuple[int, Outgoing]]:
        """Return what Kafka has not acknowledged, in order, with numbers above `after`."""
        rows = self._all("SELECT id, tree_size, value FROM outbox WHERE id > ? ORDER BY id", (after,))
        return [(number, Outgoing(size, value)) for number, size, value in rows]

    def acknowledged(self, number: int) -> None:
        """Forget a record that Kafka has."""
        with self._change() as db:
            db.execute("DELETE FROM outbox WHERE id = ?", (number,))

    def close(self) -> None:
        """Let go of the database."""
        self._db.close()

    def _one(self, query: str) -> tuple[Any, ...] | None:
        rows = self._all(query)
        return rows[0] if rows else None

    def _all(self, query: str, values: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
        with _told():
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One synced transaction: a crash before its end leaves what was, one after it what is now."""
        with _told(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db


def _advance(db: sqlite3.Connection, position: ChainPosition, anchored: Anchored | None) -> None:
    db.execute("UPDATE ledger SET sequence = ?, running_hash = ?", astuple(position))
    if anchored is not None:
        db.execute("REPLACE INTO anchored VALUES (1, ?, ?, ?, ?, ?, ?)", astuple(anchored))


def _announce(db: sqlite3.Connection, records: Iterable[Outgoing], tree_size: int) -> None:
    for record in records:
        _put_out(db, record)
    db.execute("UPDATE ledger SET announced_size = max(announced_size, ?)", (tree_size,))


def _put_out(db: sqlite3.Connection, record: Outgoing) -> None:
    db.execute("INSERT INTO outbox (tree_size, value) VALUES (?, ?)", (record.tree_size, record.value))


def _open(path: Path) -> sqlite3.Connection:
    """Open and lock the database; one that is damaged is put aside for a look and begun anew."""
    try:
        return _connect(path)
    except sqlite3.Error as error:
        if _name(error) not in _DAMAGED:
            raise _as_ours(error) from error
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        log.error("the anchor database is damaged and begun anew", put_aside=str(aside), error=str(error))
        # A crash between these leaves the write-ahead log of a database that is gone: SQLite drops it.
        path.replace(aside)
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    with _told():
        return _connect(path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # The lock goes with the process: a stopped one keeps it, a killed one does not.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise _damaged("quick_check fails")
        db.executescript(SCHEMA)
        # Takes the lock also where all tables were there.
        db.execute("BEGIN IMMEDIATE")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _as_ours(error) from error


def _as_ours(error: sqlite3.Error) -> AnchorStoreError:
    if _name(error) in _BUSY:
        return AnchorStoreBusyError("another anchor process holds the database")
    return AnchorStoreError(f"the anchor database: {_name(error)}: {error}")


def _name(error: sqlite3.Error) -> str:
    return str(getattr(error, "sqlite_errorname", ""))


def _damaged(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error

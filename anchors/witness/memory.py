"""What a witness must never forget: of each log the newest checkpoint that it cosigned.

SQLite with `synchronous=FULL`: a transaction holds the write lock from its first read to its end, in whatever
thread or process it runs, so comparing with what is known and replacing it are one step.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from anchors.errors import WitnessStoreError

APPLICATION_ID = 0x41575453
BUSY_S = 5.0
_TABLE = """
CREATE TABLE log (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, time_s INTEGER NOT NULL,
    note BLOB NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The newest checkpoint of a log that this witness cosigned."""

    size: int
    root: bytes
    time_s: int
    """Of the cosignature, Unix."""
    note: bytes
    """With the log's signature and the cosignature."""


class Memory:
    """The database; threads of one process share it, and other processes may have it open as well.

    Every method raises WitnessStoreError when the disk does not do as told.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self.is_new = not path.exists()
        """Nothing is remembered, so the first checkpoint of any log is taken as it comes."""
        with _told(path, (sqlite3.Error, OSError, WitnessStoreError)):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                _sync_folder(path.parent)
            except BaseException:
                self._db.close()
                raise
        self._path = path

    @contextmanager
    def transaction(self) -> Iterator["Transaction"]:
        """Hold the write lock. What was put is durable at the end, and undone when the block raises."""
        with self._lock, _told(self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield Transaction(self._db)

    def all(self) -> dict[str, Cosigned]:
        """Return what is remembered, by origin."""
        with self._lock, _told(self._path):
            rows = self._db.execute("SELECT origin, size, root, time_s, note FROM log").fetchall()
        return {origin: Cosigned(*rest) for origin, *rest in rows}

    def close(self) -> None:
        """Let go of the database, once nobody is within a transaction."""
        with self._lock:
            self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")  # two processes may start at once
            if not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._db.execute(_TABLE)
                self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise WitnessStoreError("it is no witness's database")
        if self._db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise WitnessStoreError("it is damaged")


class Transaction:
    """Reads and writes under the write lock."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def get(self, origin: str) -> Cosigned | None:
        """Return the newest cosigned checkpoint of a log."""
        query = "SELECT size, root, time_s, note FROM log WHERE origin = ?"
        row = self._db.execute(query, (origin,)).fetchone()
        return Cosigned(*row) if row else None

    def put(self, origin: str, cosigned: Cosigned) -> None:
        """Replace it."""
        self._db.execute("REPLACE INTO log VALUES (?, ?, ?, ?, ?)", (origin, *astuple(cosigned)))


@contextmanager
def _told(path: Path, errors: tuple[type[Exception], ...] = (sqlite3.Error,)) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise WitnessStoreError(f"the witness's database {path}: {error}") from error


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

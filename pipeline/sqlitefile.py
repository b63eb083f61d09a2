"""A small database of one process: SQLite, locked, checked when opened, each change synced before it counts.

The lock goes with the process: a stopped one keeps it, a killed one does not. A database that is damaged is
put aside for a look and begun anew, so whatever is kept in one must be found again elsewhere or be told as
lost. SQLite's own check sees torn structure, not a flipped bit in a value: the tables are compared with those
that the schema makes, and small ones may be named as `sealed`: a digest of their rows is kept beside them.
"""

import errno
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import structlog

from pipeline.settings import PipelineError

log = structlog.get_logger()

PUT_ASIDE_KEPT = 3
"""So many damaged databases are kept for a look, the newest ones."""
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_BUSY = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})
_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_SEAL = "CREATE TABLE IF NOT EXISTS seal (id INTEGER PRIMARY KEY CHECK (id = 1), digest BLOB NOT NULL);"


class DatabaseError(PipelineError):
    """The database cannot be read or written: a full disk, a folder that is not ours."""


class DatabaseBusyError(DatabaseError):
    """Another process holds the database; it ends, or it is the one that works."""


class DatabaseDamagedError(DatabaseError):
    """What is read is not what was written; opened again, it is put aside and begun anew."""


class SqliteFile:
    """One file, held alone until `close` or the end of the process, however it ends.

    `name` is what messages call it. Calls come one at a time, from whatever thread. Every method raises
    DatabaseError when the disk does not do as told.
    """

    def __init__(self, path: Path, schema: str, name: str, sealed: Sequence[str] = ()) -> None:
        self._name, self._sealed = name, tuple(sealed)
        self._schema = schema + (_SEAL if sealed else "")
        with closing(sqlite3.connect(":memory:")) as fresh:
            fresh.executescript(self._schema)
            self._tables = _tables(fresh)
        self.was_lost = False
        """There was nothing to remember: a first start, somebody took it away, or it was damaged."""
        self._db = self._open(path)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._told():
            return self._db.execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row, None for none."""
        rows = self.rows(query, values)
        return rows[0] if rows else None

    def do(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Execute one statement; within `change`, where there are sealed tables."""
        with self._told():
            self._db.execute(statement, values)

    @contextmanager
    def change(self) -> Iterator[None]:
        """One synced transaction: a crash before its end leaves what was, one after it what is now."""
        self.begin()
        try:
            yield
        except BaseException:
            with self._told():
                self._db.rollback()
            raise
        self.commit()

    def begin(self) -> None:
        """Begin a transaction; one that could not be ended before is taken back."""
        with self._told():
            self._db.rollback()
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make the transaction durable, or take it back whole."""
        with self._told():
            try:
                if self._sealed:
                    self._db.execute("REPLACE INTO seal VALUES (1, ?)", (self._digest(self._db),))
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()
                raise

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # ---- opening ---------------------------------------------------------------------------------------

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            return self._connect(path)
        except _ERRORS as error:
            if _code(error) not in _DAMAGED:
                raise self._as_ours(error) from error
            put_aside(path, f"{self._name} is damaged and begun anew", str(error))
        with self._told():
            return self._connect(path)

    def _connect(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise _damaged("quick_check fails")
            tables = _tables(db)
            if not tables <= self._tables:
                raise _damaged("its tables are not those that were made")
            self.was_lost |= not tables
            db.executescript(self._schema)
            # Takes the lock also where all tables were there.
            db.execute("BEGIN IMMEDIATE")
            db.execute("COMMIT")
            if self._sealed and not self._is_whole(db):
                raise _damaged("rows are not those that were written")
            _sync_folders(path)
        except BaseException:
            db.close()
            raise
        return db

    def _is_whole(self, db: sqlite3.Connection) -> bool:
        kept = db.execute("SELECT digest FROM seal").fetchone()
        if kept is None:  # nothing was ever changed
            return not any(db.execute(f"SELECT 1 FROM {table}").fetchone() for table in self._sealed)  # noqa: S608
        return bool(kept[0] == self._digest(db))

    def _digest(self, db: sqlite3.Connection) -> bytes:
        digest = hashlib.blake2b(digest_size=16)
        for table in self._sealed:
            # The names of tables are our own, and rows of integers, texts and bytes have one spelling.
            digest.update(repr(db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()).encode())  # noqa: S608
        return digest.digest()

    # ---- errors ----------------------------------------------------------------------------------------

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise self._as_ours(error) from error

    def _as_ours(self, error: Exception) -> DatabaseError:
        if _code(error) in _BUSY:
            return DatabaseBusyError(f"another process holds {self._name}")
        kind = DatabaseDamagedError if _code(error) in _DAMAGED else DatabaseError
        return kind(f"{self._name}: {getattr(error, 'sqlite_errorname', '')}: {error}")


def _tables(db: sqlite3.Connection) -> set[tuple[str, str, str, str]]:
    """Tables and indexes with the statements that made them: a flipped bit there renames a column."""
    return set(db.execute("SELECT hex(type), hex(name), hex(tbl_name), hex(sql) FROM sqlite_schema"))


def _sync_folders(path: Path) -> None:
    """Make the file's name durable, and those of the folders above it, which may be as new as it is.

    SQLite syncs the folder that it works in, and none above. Raises DatabaseError.
    """
    for folder in path.absolute().parents:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            return  # nobody made that one for us
        except OSError as error:
            raise DatabaseError(f"{folder}: {error.strerror}") from error
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):  # there is nothing to sync
                raise DatabaseError(f"{folder} cannot be made durable: {error.strerror}") from error
        finally:
            os.close(descriptor)


def put_aside(path: Path, what: str, why: str) -> None:
    """Rename a database for a look, and tell; older ones are deleted beyond PUT_ASIDE_KEPT."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    log.error(what, put_aside=str(aside), error=why)
    # A crash between these leaves the write-ahead log of a database that is gone: SQLite drops it.
    path.replace(aside)
    for suffix in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    known = sorted(path.parent.glob(f"{path.name}.damaged-*"), key=lambda each: each.stat().st_mtime_ns)
    for old in known[:-PUT_ASIDE_KEPT]:
        old.unlink(missing_ok=True)


def _code(error: Exception) -> str:
    """The primary code's name: SQLITE_CORRUPT also for SQLITE_CORRUPT_INDEX and its like."""
    is_own = isinstance(error, sqlite3.OperationalError) and not hasattr(error, "sqlite_errorname")
    if is_own or isinstance(error, UnicodeDecodeError):
        return "SQLITE_CORRUPT"  # Python's own: a text, or a name that SQLite complains of, is not UTF-8
    name = str(getattr(error, "sqlite_errorname", ""))
    return "_".join(name.split("_")[:2])


def _damaged(why: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error

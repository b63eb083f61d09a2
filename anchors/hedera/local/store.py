"""The local service's durable state: one SQLite file in WAL mode with `synchronous=FULL`.

A transaction is acknowledged only after the commit that holds it has been synced, so that a crash at
any moment keeps every acknowledged one. Nothing is kept in memory that this file does not hold. There
is one writing connection; readers take their own from a pool and see the last commit.
"""

import fcntl
import queue
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from anchors.errors import LedgerStoreError
from anchors.hedera.running_hash import ZERO_RUNNING_HASH

APPLICATION_ID = 0x41544853
SCHEMA_VERSION = 1
FIRST_TOPIC_NUMBER = 1_001
"""Networks reserve the numbers up to 1,000 for system entities."""

_SCHEMA = f"""
begin;
create table topic(
  number integer primary key, created_ns integer not null, memo text not null,
  admin_key blob, submit_key blob, auto_renew_s integer not null, auto_renew_account text,
  deleted_ns integer, sequence integer not null, running_hash blob not null);
create table message(
  consensus_ns integer primary key, topic integer not null, sequence integer not null,
  payer text not null, body blob not null, running_hash blob not null, chunk blob,
  unique (topic, sequence));
create index message_by_time on message(topic, consensus_ns);
create table ledger_transaction(
  consensus_ns integer primary key, id text not null unique, name text not null, entity text,
  node text not null, result text not null, signed blob not null, record blob not null);
pragma application_id = {APPLICATION_ID};
pragma user_version = {SCHEMA_VERSION};
commit;
"""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and the state of its chain. Keys are serialised `Key` protobufs."""

    number: int
    created_ns: int
    memo: str
    admin_key: bytes | None
    submit_key: bytes | None
    auto_renew_s: int
    auto_renew_account: str | None
    deleted_ns: int | None = None
    sequence: int = 0
    running_hash: bytes = ZERO_RUNNING_HASH


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `chunk` is a serialised `ConsensusMessageChunkInfo` where the submitter gave one."""

    consensus_ns: int
    topic: int
    sequence: int
    payer: str
    body: bytes
    running_hash: bytes
    chunk: bytes | None


@dataclass(frozen=True, slots=True)
class StoredTransaction:
    """A transaction that reached consensus. `record` is a serialised `TransactionRecord`."""

    consensus_ns: int
    id: str
    name: str
    entity: str | None
    node: str
    result: str
    signed: bytes
    record: bytes


_TOPIC_COLUMNS = ", ".join(Topic.__dataclass_fields__)
_MESSAGE_COLUMNS = ", ".join(Message.__dataclass_fields__)
_TRANSACTION_COLUMNS = ", ".join(StoredTransaction.__dataclass_fields__)


class Store:
    """Opens or creates the file, and holds it alone until `close`.

    Raises LedgerStoreError when another process has it open, it is damaged, or another program's.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock_file = path.with_name(path.name + ".lock").open("ab")
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock_file.close()
            raise LedgerStoreError(f"{path} is in use by another consensus service") from error
        try:
            self._writer = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._writer.close()
                raise
        except BaseException as error:
            self._lock_file.close()
            if isinstance(error, sqlite3.Error):
                raise LedgerStoreError(f"{path} cannot be used: {error}") from error
            raise

    def close(self) -> None:
        """Close the connections and let others open the file."""
        while not self._readers.empty():
            self._readers.get_nowait().close()
        self._writer.close()
        self._lock_file.close()

    def last_consensus_ns(self) -> int:
        """The newest consensus time given to a transaction; 0 for none."""
        with self._reading() as connection:
            row = connection.execute("select max(consensus_ns) from ledger_transaction").fetchone()
        return int(row[0] or 0)

    def next_topic_number(self) -> int:
        """The number that the next created topic gets."""
        with self._reading() as connection:
            row = connection.execute("select max(number) from topic").fetchone()
        return FIRST_TOPIC_NUMBER if row[0] is None else int(row[0]) + 1

    def append(
        self,
        transaction: StoredTransaction,
        *,
        topic: Topic | None = None,
        message: Message | None = None,
    ) -> None:
        """Commit a transaction with its effects, durably. `topic` is the topic's state afterwards."""
        connection = self._writer
        connection.execute("begin immediate")
        try:
            _insert(connection, "ledger_transaction", transaction)
            if topic is not None:
                _insert(connection, "topic", topic, replace=True)
            if message is not None:
                _insert(connection, "message", message)
            connection.execute("commit")
        except BaseException:
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    def topic(self, number: int) -> Topic | None:
        """The topic with this number."""
        with self._reading() as connection:
            row = connection.execute(
                f"select {_TOPIC_COLUMNS} from topic where number = ?",  # noqa: S608 - our own column names
                (number,),
            ).fetchone()
        return Topic(*row) if row else None

    def transaction(self, transaction_id: str) -> StoredTransaction | None:
        """The transaction with this id, `payer@seconds.nanoseconds`."""
        with self._reading() as connection:
            row = connection.execute(
                f"select {_TRANSACTION_COLUMNS} from ledger_transaction where id = ?",  # noqa: S608
                (transaction_id,),
            ).fetchone()
        return StoredTransaction(*row) if row else None

    def messages(
        self,
        topic: int,
        limit: int,
        *,
        sequence_range: tuple[int, int] | None = None,
        time_range_ns: tuple[int, int] | None = None,
        newest_first: bool = False,
    ) -> list[Message]:
        """At most `limit` messages of a topic within ranges whose both ends are included."""
        conditions, arguments = ["topic = ?"], [topic]
        for column, bounds in (("sequence", sequence_range), ("consensus_ns", time_range_ns)):
            if bounds is not None:
                conditions.append(f"{column} between ? and ?")
                arguments.extend(bounds)
        # Both orders are the same one; the index of the filtered column saves a scan from the beginning.
        column = "sequence" if time_range_ns is None else "consensus_ns"
        direction = "desc" if newest_first else "asc"
        with self._reading() as connection:
            rows = connection.execute(
                f"select {_MESSAGE_COLUMNS} from message where {' and '.join(conditions)} "  # noqa: S608
                f"order by {column} {direction} limit ?",
                (*arguments, limit),
            ).fetchall()
        return [Message(*row) for row in rows]

    def _prepare(self) -> None:
        connection = self._writer
        connection.execute("pragma busy_timeout = 5000")
        application_id = connection.execute("pragma application_id").fetchone()[0]
        table_count = connection.execute("select count(*) from sqlite_schema").fetchone()[0]
        if application_id != APPLICATION_ID and table_count:
            raise LedgerStoreError(f"{self._path} is a database of another program")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        if not table_count:
            connection.executescript(_SCHEMA)
        version = connection.execute("pragma user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise LedgerStoreError(f"{self._path} has schema {version}; this program knows {SCHEMA_VERSION}")
        self._check_chains()

    def _check_chains(self) -> None:
        """A topic's state must be that of its last message: a torn or edited file is found at once."""
        with closing(
            self._writer.execute(
                "select t.number from topic t left join message m "
                "on m.topic = t.number and m.sequence = t.sequence "
                "where (t.sequence > 0 and m.running_hash is not t.running_hash) "
                "or (select max(sequence) from message where topic = t.number) > t.sequence"
            )
        ) as damaged:
            row = damaged.fetchone()
        if row is not None:
            raise LedgerStoreError(
                f"{self._path} is damaged: topic {row[0]} does not end in its last message"
            )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._readers.get_nowait()
        except queue.Empty:
            connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            connection.execute("pragma query_only = 1")
            connection.execute("pragma busy_timeout = 5000")
        try:
            yield connection
        finally:
            self._readers.put(connection)


def _insert(
    connection: sqlite3.Connection,
    table: str,
    row: StoredTransaction | Topic | Message,
    *,
    replace: bool = False,
) -> None:
    columns = list(type(row).__dataclass_fields__)
    verb = "insert or replace" if replace else "insert"
    connection.execute(
        f"{verb} into {table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))})",
        [getattr(row, column) for column in columns],
    )

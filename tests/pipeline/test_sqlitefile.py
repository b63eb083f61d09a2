"""The small database: locked by one process, synced, and never believed when it is not what was written."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sqlitefile import (
    PUT_ASIDE_KEPT,
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseError,
    SqliteFile,
)

SCHEMA = "CREATE TABLE IF NOT EXISTS kept (id INTEGER PRIMARY KEY, value BLOB NOT NULL);"


def opened(folder: Path, *sealed: str) -> SqliteFile:
    return SqliteFile(folder / "small.sqlite", SCHEMA, "the small database", sealed)


def put(database: SqliteFile, value: bytes) -> None:
    with database.change():
        database.do("INSERT INTO kept (value) VALUES (?)", (value,))


def values(database: SqliteFile) -> list[bytes]:
    return [row[0] for row in database.rows("SELECT value FROM kept ORDER BY id")]


def test_what_was_changed_is_there_again(tmp_path: Path) -> None:
    database = opened(tmp_path, "kept")
    assert database.was_lost
    put(database, b"one")
    assert database.row("PRAGMA synchronous") == (2,)
    assert database.row("PRAGMA journal_mode") == ("wal",)
    database.close()
    again = opened(tmp_path, "kept")
    assert (again.was_lost, values(again)) == (False, [b"one"])
    assert again.row("SELECT value FROM kept WHERE id = 9") is None
    again.close()


def test_a_change_that_fails_leaves_what_was(tmp_path: Path) -> None:
    database = opened(tmp_path, "kept")
    put(database, b"one")

    def fail() -> None:
        with database.change():
            database.do("DELETE FROM kept")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(DatabaseError), database.change():
        database.do("INSERT INTO kept (value) VALUES (NULL)")
    assert values(database) == [b"one"]
    database.begin()
    database.do("DELETE FROM kept")
    database.begin()  # the one before was never ended
    database.commit()
    assert values(database) == [b"one"]
    database.close()


def test_one_process_holds_it(tmp_path: Path) -> None:
    database = opened(tmp_path)
    with pytest.raises(DatabaseBusyError, match="another process holds the small database"):
        opened(tmp_path)
    database.close()
    opened(tmp_path).close()
    with pytest.raises(DatabaseError):
        opened(tmp_path / "no folder")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_a_value(data: bytes) -> bytes:
    at = data.index(b"a value of its own")
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut, flip_a_value, lambda _: b"not a database at all" * 1000],
    ids=["cut", "a flipped bit", "foreign"],
)
def test_a_damaged_one_is_put_aside_and_begun_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    for _ in range(PUT_ASIDE_KEPT + 2):
        database = opened(tmp_path, "kept")
        for _ in range(100):
            put(database, b"a value of its own" * 10)
        database.close()
        path = tmp_path / "small.sqlite"
        path.write_bytes(damage(path.read_bytes()))
        again = opened(tmp_path, "kept")
        assert (again.was_lost, values(again)) == (True, [])
        again.close()
    assert len(list(tmp_path.glob("*.damaged-*"))) == PUT_ASIDE_KEPT


def test_any_flipped_byte_is_seen_or_harmless(tmp_path: Path) -> None:
    database = opened(tmp_path, "kept")
    for number in range(20):
        put(database, b"%d " % number * 30)
    written = values(database)
    database.close()
    path = tmp_path / "small.sqlite"
    whole, random_ = path.read_bytes(), random.Random(7)
    for _ in range(200):
        at = random_.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << random_.randrange(8))]) + whole[at + 1 :])
        again = opened(tmp_path, "kept")
        assert values(again) == ([] if again.was_lost else written)
        again.close()


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80], ids=["another name", "another case", "not UTF-8"])
@pytest.mark.parametrize("word", [b"kept", b"value", b"BLOB"])
def test_a_flipped_bit_in_the_schema_is_seen(tmp_path: Path, word: bytes, flip: int) -> None:
    path = tmp_path / "small.sqlite"
    for place in range(3):
        database = opened(tmp_path)
        put(database, b"one")
        database.close()
        data = bytearray(path.read_bytes())
        at = -1
        for _ in range(place + 1):
            at = data.find(word, at + 1)
        if at < 0:
            break
        data[at] ^= flip
        path.write_bytes(data)
        again = opened(tmp_path)
        assert (again.was_lost, values(again)) == (True, [])
        again.close()
    assert list(tmp_path.glob("*.damaged-*"))


def test_a_text_that_is_not_utf8_is_damage(tmp_path: Path) -> None:
    database = SqliteFile(tmp_path / "text.sqlite", "CREATE TABLE IF NOT EXISTS said (what TEXT);", "it")
    database.do("INSERT INTO said VALUES (CAST(x'ff' AS TEXT))")
    with pytest.raises(DatabaseDamagedError, match="UTF-8"):
        database.rows("SELECT what FROM said")
    database.close()


def test_an_emptied_one_is_lost(tmp_path: Path) -> None:
    database = opened(tmp_path)
    put(database, b"one")
    database.close()
    (tmp_path / "small.sqlite").write_bytes(b"")
    again = opened(tmp_path)
    assert again.was_lost
    again.close()


def test_damage_that_is_met_while_running_is_named(tmp_path: Path) -> None:
    database = opened(tmp_path)
    broken = sqlite3.DatabaseError("torn")
    broken.sqlite_errorname = "SQLITE_CORRUPT_INDEX"
    with pytest.raises(DatabaseDamagedError, match="SQLITE_CORRUPT_INDEX"), database._told():
        raise broken
    database.close()

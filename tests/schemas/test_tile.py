"""Tile paths and entry bundles: one spelling each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FormatError
from schemas.tile import (
    ENTRIES,
    MAX_ENTRY_BYTES,
    MAX_INDEX,
    MAX_LEVEL,
    Tile,
    TileError,
    decode_bundle,
    encode_bundle,
    parse_path,
    partial_tiles,
)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(ENTRIES, 0), "tile/entries/000"),
        (Tile(1, 999, 1), "tile/1/999.p/1"),
        (Tile(63, 1000, 255), "tile/63/x001/000.p/255"),
        (Tile(ENTRIES, 1234067), "tile/entries/x001/x234/067"),
        (Tile(0, 1234067, 42), "tile/0/x001/x234/067.p/42"),
        (Tile(0, MAX_INDEX), "tile/0/x009/x223/x372/x036/x854/x775/807"),
    ],
)
def test_paths_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_path(path) == tile


@given(st.integers(ENTRIES, MAX_LEVEL), st.integers(0, MAX_INDEX), st.integers(1, 256))
def test_path_reads_back(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert parse_path(tile.path) == tile
    assert tile.is_full is (width == 256)
    assert tile.full == Tile(level, index)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "tile/0/0",
        "tile/0/0000",
        "/tile/0/000",
        "tile/0/000/",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/entry/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/x01/002",
        "tile/0/X001/002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000\n",
        "tile/0/../000",
        "tile/0/٠٠٠",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "checkpoint",
        "../tile/0/000",
    ],
)
def test_any_other_spelling_is_refused(path: str) -> None:
    with pytest.raises(TileError):
        parse_path(path)


@given(st.text(max_size=60))
def test_hostile_path_is_one_error(path: str) -> None:
    with pytest.raises(TileError):
        parse_path(path)


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_tile_that_cannot_be_is_not_made(level: int, index: int, width: int) -> None:
    with pytest.raises(TileError):
        Tile(level, index, width)


def test_partial_tiles_of_the_specification() -> None:
    assert list(partial_tiles(70_000)) == [
        Tile(ENTRIES, 273, 112),
        Tile(0, 273, 112),
        Tile(1, 1, 17),
        Tile(2, 0, 1),
    ]
    assert list(partial_tiles(256)) == [Tile(1, 0, 1)]
    assert list(partial_tiles(0)) == []
    assert list(partial_tiles(5)) == [Tile(ENTRIES, 0, 5), Tile(0, 0, 5)]


@given(st.lists(st.binary(max_size=40), max_size=300))
def test_bundle_reads_back(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries), len(entries)) == entries


def test_entry_length_is_sixteen_bits_big_endian() -> None:
    assert encode_bundle([b"ab", b""]) == b"\x00\x02ab\x00\x00"
    longest = b"x" * MAX_ENTRY_BYTES
    assert decode_bundle(encode_bundle([longest]), 1) == [longest]
    with pytest.raises(TileError, match="65536"):
        encode_bundle([longest + b"x"])


@pytest.mark.parametrize(
    ("data", "width", "reason"),
    [
        (b"", 1, "before entry 0"),
        (b"\x00", 1, "before entry 0"),
        (b"\x00\x01", 1, "within entry 0"),
        (b"\x00\x01a\x00\x02b", 2, "within entry 1"),
        (b"\x00\x01a", 0, "3 bytes after"),
        (b"\x00\x01a\x00", 1, "1 bytes after"),
    ],
)
def test_malformed_bundle_is_refused(data: bytes, width: int, reason: str) -> None:
    with pytest.raises(TileError, match=reason):
        decode_bundle(data, width)


@given(st.binary(max_size=60), st.integers(0, 10))
def test_hostile_bundle_is_entries_or_one_error(data: bytes, width: int) -> None:
    try:
        entries = decode_bundle(data, width)
    except FormatError:
        return
    assert encode_bundle(entries) == data

"""The growing tree of a shard, as tiles (RFC 6962 and https://c2sp.org/tlog-tiles).

Only the right edge is kept: the partial tile of each level and the partial entry bundle, at most 255 hashes a
level. Appending hands back the tiles that became full, which never change again; the edge itself is written
out as partial tiles whenever a checkpoint is made.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from processors.merkle.errors import MerkleError, TileMissingError, TileTamperedError
from processors.merkle.hashing import (
    EMPTY_ROOT,
    HASH_BYTES,
    fold_right,
    leaf_hashes,
    perfect_pieces,
    perfect_root,
)
from schemas.errors import FormatError
from schemas.tile import ENTRIES, MAX_ENTRY_BYTES, TILE_WIDTH, Tile, decode_bundle, partial_tiles

_TILE_BYTES = TILE_WIDTH * HASH_BYTES
_pack_length = struct.Struct(">H").pack


@dataclass(frozen=True, slots=True)
class TileData:
    """One tile or entry bundle to be stored: which, and its bytes."""

    tile: Tile
    data: bytes


class TreeBuilder:
    """A tree that grows at its right edge. Not safe to use further after an error while storing its tiles."""

    def __init__(self) -> None:
        self._size = 0
        self._bundle: list[bytes] = []
        self._levels: list[bytearray] = []

    @classmethod
    def from_edge(cls, size: int, edge: Mapping[Tile, bytes]) -> Self:
        """Go on from a stored right edge: the data of each of `partial_tiles(size)`.

        Checks that widths and leaf hashes fit; whether the edge is the right one only `root` can tell.
        """
        builder = cls()
        builder._size = size
        for tile in partial_tiles(size):
            if tile not in edge:
                raise TileMissingError(f"{tile.path} of a tree of {size} leaves is missing")
            data = edge[tile]
            if tile.level == ENTRIES:
                builder._bundle = _framed(data, tile)
                continue
            if len(data) != tile.width * HASH_BYTES:
                raise TileTamperedError(tile.path, f"has {len(data)} bytes, not {tile.width} hashes")
            builder._level(tile.level)[:] = data
        entries = [framed[2:] for framed in builder._bundle]
        if b"".join(leaf_hashes(entries)) != builder._level(0):
            path = Tile(ENTRIES, size // TILE_WIDTH, size % TILE_WIDTH).path
            raise TileTamperedError(path, "its entries do not hash to the level 0 tile beside it")
        return builder

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def append(self, entries: Sequence[bytes]) -> list[TileData]:
        """Append leaves (each at most 65,535 bytes) and return what became full, in the order of storing.

        An entry that is too long raises `MerkleError` and leaves the tree as it was.
        """
        lengths = [len(entry) for entry in entries]
        if max(lengths, default=0) > MAX_ENTRY_BYTES:
            number = lengths.index(max(lengths))
            raise MerkleError(
                f"entry {number} of the batch has {max(lengths)} bytes, above {MAX_ENTRY_BYTES}"
            )
        framed = [_pack_length(length) + entry for length, entry in zip(lengths, entries, strict=True)]
        hashes = b"".join(leaf_hashes(entries))
        full: list[TileData] = []
        position = 0
        while position < len(entries):
            end = min(len(entries), position + TILE_WIDTH - self._size % TILE_WIDTH)
            self._bundle += framed[position:end]
            self._level(0).extend(hashes[position * HASH_BYTES : end * HASH_BYTES])
            self._size += end - position
            position = end
            if self._size % TILE_WIDTH == 0:
                full += self._close_tiles()
        return full

    def edge(self) -> Iterator[TileData]:
        """The partial tiles at this size, entry bundle first; with the full ones, all a checkpoint needs."""
        for tile in partial_tiles(self._size):
            data = b"".join(self._bundle) if tile.level == ENTRIES else bytes(self._levels[tile.level])
            yield TileData(tile, data)

    def root(self) -> bytes:
        """The RFC 6962 root at this size."""
        if self._size == 0:
            return EMPTY_ROOT
        # Higher levels stand to the left of lower ones.
        pieces = [piece for level in reversed(self._levels) for piece in perfect_pieces(bytes(level))]
        return fold_right(pieces)

    def _level(self, level: int) -> bytearray:
        while len(self._levels) <= level:
            self._levels.append(bytearray())
        return self._levels[level]

    def _close_tiles(self) -> Iterator[TileData]:
        """Carry a full bundle and each level 0 upwards tile that is full into the level above."""
        yield TileData(Tile(ENTRIES, self._size // TILE_WIDTH - 1), b"".join(self._bundle))
        self._bundle = []
        level, width = 0, self._size
        while len(self._level(level)) == _TILE_BYTES:
            width //= TILE_WIDTH
            data = bytes(self._levels[level])
            yield TileData(Tile(level, width - 1), data)
            self._levels[level].clear()
            level += 1
            self._level(level).extend(perfect_root(data))


def _framed(data: bytes, tile: Tile) -> list[bytes]:
    try:
        entries = decode_bundle(data, tile.width)
    except FormatError as error:
        raise TileTamperedError(tile.path, str(error)) from error
    return [_pack_length(len(entry)) + entry for entry in entries]

"""Reading a published tree (https://c2sp.org/tlog-tiles) without trusting whoever holds the tiles.

Everything follows from one root: the right edge must hash to it, each full tile must hash to its entry in the
tile above, and each bundle's entries to the level 0 tile beside it. So a changed byte is found, and named by
its path, before anything is built on it. Only the tiles a question needs are read.
"""

from collections.abc import Sequence
from typing import Protocol

from processors.merkle import proof
from processors.merkle.errors import MerkleError, TileMissingError, TileTamperedError
from processors.merkle.hashing import HASH_BYTES, leaf_hash, perfect_root
from processors.merkle.tree import TreeBuilder
from schemas.errors import FormatError
from schemas.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, decode_bundle, encode_bundle, partial_tiles

_MAX_CHECKED_TILES = 1024
"""8 MiB: a walk over a large log needs its last tiles again, not all of them."""


class TileReader(Protocol):
    """Where tiles are kept: a folder, a bucket, a working copy, a test's dictionary."""

    def read(self, path: str) -> bytes | None:
        """The bytes at a tile path, or None if there is nothing."""


class TiledTree:
    """The tree `(size, root)`, read from tiles. Tiles once checked are kept (at most 8 MiB)."""

    def __init__(self, reader: TileReader, size: int, root: bytes) -> None:
        self._reader = reader
        self._size = size
        self._checked: dict[tuple[int, int], bytes] = {}
        edge = [tile for tile in partial_tiles(size) if tile.level != ENTRIES]
        self._edge = {(tile.level, tile.index): self._read_hashes(tile) for tile in edge}
        # The root is made of nodes of the edge alone, so nothing unchecked is read to check it.
        if proof.tree_root(size, self.node) != root:
            paths = ", ".join(tile.path for tile in edge)
            raise TileTamperedError(paths, f"the right edge does not hash to the root of {size} leaves")

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    def node(self, height: int, index: int) -> bytes:
        """A `NodeReader`: the root of a perfect subtree that lies wholly within the tree."""
        level, rise = divmod(height, TILE_HEIGHT)
        first = index << rise
        position = first % TILE_WIDTH * HASH_BYTES
        data = self._tile(level, first // TILE_WIDTH)
        return perfect_root(data[position : position + (HASH_BYTES << rise)])

    def root_at(self, size: int) -> bytes:
        """The root that the tree had when it was `size` leaves large."""
        if not 0 <= size <= self._size:
            raise MerkleError(f"a tree of {self._size} leaves has never had {size}")
        return proof.tree_root(size, self.node)

    def leaf_hash(self, index: int) -> bytes:
        """The hash of leaf `index`."""
        self._check_index(index)
        return self.node(0, index)

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The proof of leaf `index` in the first `size` leaves (in all of them by default)."""
        size = self._size if size is None else size
        self._check_index(size - 1)
        return proof.inclusion_proof(index, size, self.node)

    def consistency_proof(self, old_size: int) -> list[bytes]:
        """The proof that the first `old_size` leaves are a prefix of the tree."""
        return proof.consistency_proof(old_size, self._size, self.node)

    def entry(self, index: int) -> bytes:
        """Leaf `index` itself."""
        self._check_index(index)
        return self.bundle(index // TILE_WIDTH)[index % TILE_WIDTH]

    def builder(self) -> TreeBuilder:
        """The same tree, ready to grow: its right edge, entries included, checked against the root."""
        edge = {
            Tile(level, index, len(data) // HASH_BYTES): data for (level, index), data in self._edge.items()
        }
        if width := self._size % TILE_WIDTH:
            index = self._size // TILE_WIDTH
            edge[Tile(ENTRIES, index, width)] = encode_bundle(self.bundle(index))
        return TreeBuilder.from_edge(self._size, edge)

    def bundle(self, index: int) -> Sequence[bytes]:
        """The entries of bundle `index`, which begins with leaf 256 * `index`."""
        tile = self._geometry(ENTRIES, index)
        found, data = self._read(tile)
        try:
            entries = decode_bundle(data, found.width)[: tile.width]
        except FormatError as error:
            raise TileTamperedError(found.path, str(error)) from error
        hashes = self._tile(0, index)
        for position, entry in enumerate(entries):
            start = position * HASH_BYTES
            if leaf_hash(entry) != hashes[start : start + HASH_BYTES]:
                leaf = index * TILE_WIDTH + position
                raise TileTamperedError(found.path, f"entry {leaf} is not the leaf that the tree holds")
        return entries

    def _tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile, authenticated; right edge tiles are so from the beginning."""
        known = self._edge.get((level, index)) or self._checked.get((level, index))
        if known is not None:
            return known
        tile = self._geometry(level, index)
        data = self._read_hashes(tile)
        parent, position = divmod(index, TILE_WIDTH)
        expected = self._tile(level + 1, parent)[position * HASH_BYTES : (position + 1) * HASH_BYTES]
        if perfect_root(data) != expected:
            raise TileTamperedError(tile.path, "does not hash to its entry in the tile above")
        if len(self._checked) >= _MAX_CHECKED_TILES:
            self._checked.clear()
        self._checked[level, index] = data
        return data

    def _geometry(self, level: int, index: int) -> Tile:
        below = max(level, 0) * TILE_HEIGHT
        width = min(TILE_WIDTH, (self._size >> below) - index * TILE_WIDTH)
        if index < 0 or width < 1:
            raise MerkleError(f"a tree of {self._size} leaves has no tile {index} at level {level}")
        return Tile(level, index, width)

    def _read(self, tile: Tile) -> tuple[Tile, bytes]:
        """What is stored for `tile`: itself, or the full tile that a partial one has grown into."""
        # A partial tile may be gone once the full one is there (tlog-tiles, "Partial Tiles").
        for stored in (tile,) if tile.is_full else (tile, tile.full):
            data = self._reader.read(stored.path)
            if data is not None:
                return stored, data
        raise TileMissingError(f"{tile.path} of a tree of {self._size} leaves is missing")

    def _read_hashes(self, tile: Tile) -> bytes:
        found, data = self._read(tile)
        if len(data) != found.width * HASH_BYTES:
            raise TileTamperedError(found.path, f"has {len(data)} bytes, not {found.width} hashes")
        return data[: tile.width * HASH_BYTES]

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self._size:
            raise MerkleError(f"leaf {index} is not in a tree of {self._size} leaves")

"""Seal's working copy of its trees: RocksDB, disposable, restored from published tiles or from the topic.

Keys, below `<topic>/<partition>/`: `state` (topic id, size, next offset, what the epoch log has),
`edge/<level>` for the right edge, and each full tile under its C2SP path. One batch of records is one
WriteBatch, so a reader never sees a tree between two sizes.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.statestore import Partition
from pipeline.workingcopy import WorkingCopy, empty_batch, end_of
from processors.merkle.errors import TileMissingError
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TileData, TreeBuilder
from schemas.tile import ENTRIES, TILE_WIDTH, Tile, partial_tiles

BUFFER_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class TreeState:
    """Where a shard's working copy stands."""

    topic_id: str
    size: int
    next_offset: int
    recorded_size: int = 0
    """Size of the last checkpoint that went into the epoch log."""


class SealStore:
    """Working copies of many shards in one database; one process has it open at a time.

    Whatever RocksDB raises comes as a WorkingCopyError, once and at each call until `mend`.
    """

    def __init__(self, path: Path) -> None:
        self._copy = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
        self.mend = self._copy.mend
        self.close = self._copy.close

    def state(self, partition: Partition) -> TreeState | None:
        """Return where a shard stands; None where nothing is kept."""
        found = self._copy.get(_prefix(partition) + b"state")
        try:
            return TreeState(**json.loads(found)) if found else None
        except (ValueError, TypeError) as error:
            raise self._copy.damaged(f"the state of {partition[0]}[{partition[1]}]: {error}") from error

    def builder(self, partition: Partition, size: int) -> TreeBuilder:
        """Load the right edge of a tree of `size` leaves; raises MerkleError when it does not fit."""
        edge = {}
        for tile in partial_tiles(size):
            data = self._copy.get(_prefix(partition) + _edge_key(tile))
            if data is not None:
                edge[tile] = data
        return TreeBuilder.from_edge(size, edge)

    def tree(self, partition: Partition, builder: TreeBuilder) -> TiledTree:
        """Read the working copy of a tree whose right edge is `builder`, checked from its root."""
        return TiledTree(_WorkingTiles(self, partition, builder), builder.size, builder.root())

    def full_tiles(self, partition: Partition, old_size: int, new_size: int) -> list[TileData]:
        """List the tiles that became full between two sizes, bundles and level 0 first."""
        found = []
        level, old, new = 0, old_size, new_size
        while new:
            for index in range(old // TILE_WIDTH, new // TILE_WIDTH):
                tiles = [Tile(ENTRIES, index), Tile(0, index)] if level == 0 else [Tile(level, index)]
                found += [TileData(tile, self._full(partition, tile)) for tile in tiles]
            level, old, new = level + 1, old // TILE_WIDTH, new // TILE_WIDTH
        return found

    def _full(self, partition: Partition, tile: Tile) -> bytes:
        data = self.read(partition, tile.path)
        if data is None:
            raise TileMissingError(f"{tile.path} is missing in the working copy")
        return data

    def read(self, partition: Partition, path: str) -> bytes | None:
        """Read a full tile by its path."""
        return self._copy.get(_prefix(partition) + path.encode())

    def write(
        self, partition: Partition, state: TreeState, full: Iterable[TileData], edge: Iterable[TileData]
    ) -> None:
        """Store what a batch of leaves touched, and where the shard stands now."""
        prefix = _prefix(partition)
        batch = empty_batch()
        for item in full:
            batch.put(prefix + item.tile.path.encode(), item.data)
        for item in edge:
            batch.put(prefix + _edge_key(item.tile), item.data)
        batch.put(prefix + b"state", json.dumps(asdict(state)).encode())
        self._copy.write(batch)

    def wipe(self, partition: Partition) -> None:
        """Forget a shard's working copy."""
        prefix = _prefix(partition)
        batch = empty_batch()
        batch.delete_range(prefix, end_of(prefix))
        self._copy.write(batch)


class _WorkingTiles:
    """A TileReader over the working copy: full tiles by path, the right edge as its builder holds it."""

    def __init__(self, store: SealStore, partition: Partition, builder: TreeBuilder) -> None:
        self._store, self._partition = store, partition
        self._edge = {item.tile.path: item.data for item in builder.edge()}

    def read(self, path: str) -> bytes | None:
        """Return the bytes at a tile path."""
        return self._edge.get(path) or self._store.read(self._partition, path)


def _prefix(partition: Partition) -> bytes:
    return f"{partition[0]}/{partition[1]}/".encode()


def _edge_key(tile: Tile) -> bytes:
    return b"edge/%d" % tile.level

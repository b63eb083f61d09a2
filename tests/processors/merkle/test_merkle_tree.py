"""The growing tree and its tiles, read back without trust, across the 256 and 65,536 boundaries."""

import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.merkle.errors import MerkleError, ProofError, TileMissingError, TileTamperedError
from processors.merkle.hashing import EMPTY_ROOT, leaf_hash, node_hash
from processors.merkle.proof import verify_consistency, verify_inclusion
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TileData, TreeBuilder
from schemas.tile import ENTRIES, Tile, encode_bundle, parse_path, partial_tiles

ENTRY_COUNT = 66_100
ALL_ENTRIES = [number.to_bytes(3, "big") * (number % 7) for number in range(ENTRY_COUNT)]
SIZES = st.one_of(
    st.integers(0, 1_100),
    st.sampled_from([255, 256, 257, 511, 512, 65_279, 65_280, 65_535, 65_536, 65_537, 65_792, ENTRY_COUNT]),
)


class Tiles(dict[str, bytes]):
    """Tiles in memory, which note what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.paths_read: list[str] = []

    def read(self, path: str) -> bytes | None:
        self.paths_read.append(path)
        return self.get(path)

    def store(self, written: list[TileData]) -> None:
        for item in written:
            assert item.tile.path not in self, "a tile was written twice"
            self[item.tile.path] = item.data


@functools.cache
def _subtree(start: int, end: int) -> bytes:
    """RFC 6962, 2.1: MTH, kept so that many sizes are cheap to check."""
    if end - start == 1:
        return leaf_hash(ALL_ENTRIES[start])
    split = 1
    while split * 2 < end - start:
        split *= 2
    return node_hash(_subtree(start, start + split), _subtree(start + split, end))


def _root(size: int) -> bytes:
    return _subtree(0, size) if size else EMPTY_ROOT


def _publish(size: int, cuts: tuple[int, ...] = ()) -> tuple[Tiles, TreeBuilder]:
    tiles, builder = Tiles(), TreeBuilder()
    bounds = [0, *sorted(cut for cut in cuts if cut < size), size]
    for start, end in itertools.pairwise(bounds):
        tiles.store(builder.append(ALL_ENTRIES[start:end]))
    tiles.store(list(builder.edge()))
    return tiles, builder


@functools.cache
def _published(size: int) -> Tiles:
    return _publish(size)[0]


def _copy(size: int) -> Tiles:
    tiles = Tiles()
    tiles.update(_published(size))
    return tiles


@settings(max_examples=40, deadline=None)
@given(SIZES, st.lists(st.integers(0, ENTRY_COUNT), max_size=5))
def test_any_split_into_batches_gives_the_same_tiles_and_root(size: int, cuts: list[int]) -> None:
    tiles, builder = _publish(size, tuple(cuts))
    assert builder.size == size
    assert builder.root() == _root(size)
    assert tiles == _published(size)


def test_seventy_thousand_leaves_have_the_tiles_of_the_specification() -> None:
    builder, tiles = TreeBuilder(), Tiles()
    tiles.store(builder.append([b""] * 70_000))
    tiles.store(list(builder.edge()))
    found = [parse_path(path) for path in tiles]
    for level, full, partial in ((ENTRIES, 273, [112]), (0, 273, [112]), (1, 1, [17]), (2, 0, [1])):
        assert sum(tile.level == level and tile.is_full for tile in found) == full
        assert [tile.width for tile in found if tile.level == level and not tile.is_full] == partial
    assert len(found) == 273 + 1 + 273 + 1 + 1 + 1 + 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_from_tiles_hold(data: st.DataObject) -> None:
    size = data.draw(SIZES.filter(bool))
    tiles = _copy(size)
    tree = TiledTree(tiles, size, _root(size))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    at = data.draw(st.integers(index + 1, size))
    assert tree.entry(index) == ALL_ENTRIES[index]
    assert tree.leaf_hash(index) == leaf_hash(ALL_ENTRIES[index])
    assert tree.root_at(old) == _root(old)
    verify_inclusion(leaf_hash(ALL_ENTRIES[index]), index, size, tree.inclusion_proof(index), _root(size))
    verify_inclusion(leaf_hash(ALL_ENTRIES[index]), index, at, tree.inclusion_proof(index, at), _root(at))
    verify_consistency(old, _root(old), size, _root(size), tree.consistency_proof(old))


def test_a_proof_reads_only_the_tiles_it_needs() -> None:
    tiles = _copy(ENTRY_COUNT)
    tree = TiledTree(tiles, ENTRY_COUNT, _root(ENTRY_COUNT))
    tree.inclusion_proof(1_000)
    edge = ["tile/0/258.p/52", "tile/1/001.p/2", "tile/2/000.p/1"]
    assert sorted(tiles.paths_read) == sorted([*edge, "tile/0/003", "tile/1/000"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_flipped_byte_in_any_tile_is_found_and_named(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([1, 3, 255, 256, 300, 1_000, 65_537, ENTRY_COUNT]))
    tiles = _copy(size)
    path = data.draw(st.sampled_from(sorted(tiles)))
    position = data.draw(st.integers(0, len(tiles[path]) - 1))
    changed = bytearray(tiles[path])
    changed[position] ^= data.draw(st.integers(1, 255))
    tiles[path] = bytes(changed)
    tile = parse_path(path)
    with pytest.raises(TileTamperedError) as caught:
        _read_tile(tiles, size, tile)
    assert path in caught.value.path


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65_536, ENTRY_COUNT])
def test_a_missing_tile_is_named(size: int) -> None:
    for path in _published(size):
        tile = parse_path(path)
        if tile.level == 0 and tile.index not in (0, size // 256):
            continue
        tiles = _copy(size)
        del tiles[path]
        with pytest.raises(TileMissingError, match=path):
            _read_tile(tiles, size, tile)


def _read_tile(tiles: Tiles, size: int, tile: Tile) -> None:
    tree = TiledTree(tiles, size, _root(size))
    if tile.level == ENTRIES:
        tree.bundle(tile.index)
    else:
        tree.node(tile.level * 8, tile.index * 256)


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(0, 600))
def test_a_tree_goes_on_from_its_published_edge(size: int, more: int) -> None:
    more = min(more, ENTRY_COUNT - size)
    tiles = _copy(size)
    builder = TiledTree(tiles, size, _root(size)).builder()
    full = builder.append(ALL_ENTRIES[size : size + more])
    assert builder.root() == _root(size + more)
    for item in [*full, *builder.edge()]:
        assert _published(size + more)[item.tile.path] == item.data


def test_an_old_tree_is_read_after_its_partial_tiles_were_deleted() -> None:
    old = 300
    tiles = _copy(ENTRY_COUNT)
    assert not any(tile.path in tiles for tile in partial_tiles(old))
    tree = TiledTree(tiles, old, _root(old))
    assert [tree.entry(index) for index in range(old)] == ALL_ENTRIES[:old]
    verify_inclusion(leaf_hash(ALL_ENTRIES[299]), 299, old, tree.inclusion_proof(299), _root(old))


@pytest.mark.parametrize("size", [1, 256, 300])
def test_the_wrong_root_is_refused(size: int) -> None:
    with pytest.raises(TileTamperedError):
        TiledTree(_copy(size), size, _root(size - 1))


def test_an_empty_tree_has_the_empty_root_only() -> None:
    tree = TiledTree(Tiles(), 0, EMPTY_ROOT)
    assert (tree.size, tree.root_at(0), tree.builder().root()) == (0, EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(TileTamperedError):
        TiledTree(Tiles(), 0, _root(1))
    for ask in (tree.entry, tree.leaf_hash, tree.inclusion_proof, tree.bundle, tree.consistency_proof):
        with pytest.raises(MerkleError):
            ask(0)


def test_indexes_outside_the_tree_are_refused() -> None:
    tree = TiledTree(_copy(300), 300, _root(300))
    for index in (-1, 300):
        with pytest.raises(MerkleError):
            tree.entry(index)
        with pytest.raises(MerkleError):
            tree.inclusion_proof(index)
    with pytest.raises(ProofError):
        tree.inclusion_proof(200, 200)
    with pytest.raises(MerkleError):
        tree.inclusion_proof(200, 301)
    with pytest.raises(MerkleError):
        tree.root_at(301)


def test_an_entry_too_long_changes_nothing() -> None:
    builder = TreeBuilder()
    builder.append([b"a"])
    with pytest.raises(MerkleError, match="entry 1 of the batch"):
        builder.append([b"b", b"c" * 65_536])
    assert (builder.size, builder.root()) == (1, leaf_hash(b"a"))
    builder.append([b"d" * 65_535])
    assert builder.root() == node_hash(leaf_hash(b"a"), leaf_hash(b"d" * 65_535))


def test_a_stored_edge_that_does_not_fit_is_refused() -> None:
    size = 300
    edge = {tile: _published(size)[tile.path] for tile in partial_tiles(size)}
    assert TreeBuilder.from_edge(size, edge).root() == _root(size)
    for tile, data in edge.items():
        with pytest.raises(TileMissingError):
            TreeBuilder.from_edge(size, {key: edge[key] for key in edge if key != tile})
        with pytest.raises(TileTamperedError):
            TreeBuilder.from_edge(size, {**edge, tile: data + b"x"})
    bundle = Tile(ENTRIES, 1, 44)
    with pytest.raises(TileTamperedError, match="do not hash"):
        TreeBuilder.from_edge(size, {**edge, bundle: encode_bundle([b"other"] * 44)})

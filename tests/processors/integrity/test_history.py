"""How two checkpoints relate, by nothing but tiles: honest growth, a step back, a fork, and missing tiles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.integrity.history import Relation, relate
from processors.merkle.errors import MerkleError
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import EMPTY_ROOT, Checkpoint

NAME = "log.example"


class Tiles:
    """A published log in a dictionary."""

    def __init__(self, entries: list[bytes], *sizes: int) -> None:
        self.files: dict[str, bytes] = {}
        self.checkpoints: dict[int, Checkpoint] = {0: Checkpoint(NAME, 0, EMPTY_ROOT)}
        builder = TreeBuilder()
        for size in sorted(sizes):
            items = [*builder.append(entries[builder.size : size]), *builder.edge()]
            self.files |= {item.tile.path: item.data for item in items}
            self.checkpoints[size] = Checkpoint(NAME, size, builder.root())

    def read(self, path: str) -> bytes | None:
        return self.files.get(path)


def entries(count: int, text: str = "entry") -> list[bytes]:
    return [f"{text} {number}".encode() for number in range(count)]


sizes = st.lists(st.integers(0, 700), min_size=2, max_size=2, unique=True).map(sorted)


@given(sizes)
def test_a_prefix_is_growth_one_way_and_a_step_back_the_other(pair: list[int]) -> None:
    small, large = pair
    tiles = Tiles(entries(large), small, large)
    known, seen = tiles.checkpoints[small], tiles.checkpoints[large]
    assert relate(known, seen, tiles) is Relation.GROWN
    assert relate(seen, known, tiles) is Relation.BEHIND
    assert relate(seen, seen, tiles) is Relation.SAME


@given(sizes.filter(lambda pair: pair[0] > 0), st.data())
def test_one_other_entry_is_a_fork(pair: list[int], data: st.DataObject) -> None:
    small, large = pair
    honest = Tiles(entries(small), small)
    other = entries(large)
    other[data.draw(st.integers(0, small - 1))] = b"another"
    forked = Tiles(other, small, large)
    assert relate(honest.checkpoints[small], forked.checkpoints[large], forked) is Relation.FORKED
    assert relate(forked.checkpoints[large], honest.checkpoints[small], forked) is Relation.FORKED
    assert relate(honest.checkpoints[small], forked.checkpoints[small], forked) is Relation.FORKED


def test_without_tiles_nothing_is_proven() -> None:
    tiles = Tiles(entries(300), 10, 300)
    known, seen = tiles.checkpoints[10], tiles.checkpoints[300]
    del tiles.files["tile/0/001.p/44"]
    with pytest.raises(MerkleError):
        relate(known, seen, tiles)


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"])
def test_changed_tiles_prove_nothing(path: str) -> None:
    tiles = Tiles(entries(300), 10, 300)
    known, seen = tiles.checkpoints[10], tiles.checkpoints[300]
    tiles.files[path] = bytes([tiles.files[path][0] ^ 1]) + tiles.files[path][1:]
    with pytest.raises(MerkleError):
        relate(known, seen, tiles)

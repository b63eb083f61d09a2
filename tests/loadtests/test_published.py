"""A published log is read as it is, and what is missing or torn is named."""

from pathlib import Path

import pytest

from loadtests.errors import LoadTestError
from loadtests.published import bundles, published_size
from pipeline.tilestore import LocalTileStore, sync_stores
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.errors import FormatError
from schemas.note import Ed25519Signer, format_note
from schemas.tile import TileError, encode_bundle

ENTRIES = [b"entry %d" % number for number in range(600)]


def publish(folder: Path, entries: list[bytes]) -> None:
    builder, store = TreeBuilder(), LocalTileStore(folder)
    full = builder.append(entries)
    store.put_many((item.tile.path, item.data) for item in [*full, *builder.edge()])
    sync_stores([store])
    signer = Ed25519Signer.from_seed("log.example", bytes(32))
    checkpoint = Checkpoint(signer.name, builder.size, builder.root())
    store.compare_and_set_checkpoint(None, format_note(sign_checkpoint(checkpoint, [signer])))


@pytest.mark.parametrize("size", [1, 256, 512, 600])
def test_all_entries_in_their_order(tmp_path: Path, size: int) -> None:
    publish(tmp_path, ENTRIES[:size])
    assert published_size(tmp_path) == size
    assert b"".join(bundles(tmp_path)) == encode_bundle(ENTRIES[:size])


def test_before_the_first_checkpoint_there_is_nothing(tmp_path: Path) -> None:
    assert published_size(tmp_path / "none") == 0
    assert list(bundles(tmp_path)) == []


def test_a_missing_and_a_torn_bundle_are_named(tmp_path: Path) -> None:
    publish(tmp_path, ENTRIES)
    first = tmp_path / "tile" / "entries" / "000"
    data = first.read_bytes()
    first.write_bytes(data[:-1])
    with pytest.raises(TileError, match="ends within entry 255"):
        list(bundles(tmp_path))
    first.unlink()
    with pytest.raises(LoadTestError, match="000 is missing"):
        list(bundles(tmp_path))


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"noise")
    with pytest.raises(FormatError):
        published_size(tmp_path)

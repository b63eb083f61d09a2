"""The published folder: what it refuses, and what is left after a crash at each durable step."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline.tilestore
from pipeline.tilestore import (
    CheckpointConflictError,
    ImmutableTileError,
    LocalTileStore,
    TileStoreError,
    sync_stores,
)
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from schemas.note import Ed25519Signer, format_note

SIGNER = Ed25519Signer.from_seed("ward.example/device.events/0", bytes(32))
ENTRIES = [number.to_bytes(4, "big") for number in range(1_200)]


@pytest.fixture
def store(tmp_path: Path) -> LocalTileStore:
    return LocalTileStore(tmp_path / "log")


def _checkpoint(size: int, root: bytes = bytes(32), signer: Ed25519Signer = SIGNER) -> bytes:
    return format_note(sign_checkpoint(Checkpoint(signer.name, size, root), [signer]))


class Sealer:
    """The seal stage's own order, in miniature."""

    def __init__(self, store: LocalTileStore) -> None:
        self.store = store
        self.builder = TreeBuilder()
        self.published: bytes | None = None

    def seal(self, size: int) -> None:
        full = self.builder.append(ENTRIES[self.builder.size : size])
        self.store.put_many((item.tile.path, item.data) for item in [*full, *self.builder.edge()])
        sync_stores([self.store])
        new = _checkpoint(size, self.builder.root())
        self.store.compare_and_set_checkpoint(self.published, new)
        self.published = new


def _verify(store: LocalTileStore) -> int:
    data = store.read_checkpoint()
    assert data is not None
    checkpoint = open_checkpoint(data, SIGNER.verifier).checkpoint
    tree = TiledTree(store, checkpoint.size, checkpoint.root)
    assert [tree.entry(index) for index in range(checkpoint.size)] == ENTRIES[: checkpoint.size]
    return checkpoint.size


def test_what_was_published_reads_back_and_verifies(store: LocalTileStore) -> None:
    sealer = Sealer(store)
    for size in (1, 200, 256, 300, 1_100):
        sealer.seal(size)
        assert _verify(LocalTileStore(store.root)) == size


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../other/checkpoint",
        "a/../../b",
        "a//b",
        "./a",
        ".checkpoint.lock",
        "tile/0/../000",
        "tile/0/1",
        "tile/0/000/",
        "tile/",
        "a\0b",
        "a\n",
    ],
)
def test_paths_out_of_the_log_or_of_another_spelling_are_refused(store: LocalTileStore, path: str) -> None:
    with pytest.raises(TileStoreError):
        store.read(path)
    with pytest.raises(TileStoreError):
        store.put(path, b"x")
    with pytest.raises(TileStoreError):
        store.put_many([(path, b"x")])


def test_what_is_not_there_reads_as_none(store: LocalTileStore) -> None:
    assert store.read("tile/0/000") is None
    assert store.read_checkpoint() is None
    store.put("tile/0/000", b"x")
    assert store.read("tile/0/000.p/1") is None


def test_a_file_beside_the_tiles_is_replaced(store: LocalTileStore) -> None:
    for data in (b"one", b"two"):
        store.put("shard.json", data)
        assert store.read("shard.json") == data
    with pytest.raises(TileStoreError, match="compare_and_set"):
        store.put("checkpoint", _checkpoint(1))


def test_a_published_tile_takes_equal_bytes_only(store: LocalTileStore) -> None:
    sealer = Sealer(store)
    sealer.seal(300)
    for path in ("tile/0/000", "tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1"):
        data = store.read(path)
        assert data is not None
        store.put(path, data)
        store.put_many([(path, data)])
        for write in (store.put, lambda path, data: store.put_many([(path, data)])):
            with pytest.raises(ImmutableTileError):
                write(path, bytes([data[0] ^ 1]) + data[1:])
        assert store.read(path) == data


def test_a_draft_torn_by_a_power_cut_is_written_again(store: LocalTileStore) -> None:
    sealer = Sealer(store)
    sealer.seal(10)
    torn = store.root / "tile/0/000"
    torn.write_bytes(b"")
    sealer.seal(256)
    assert _verify(store) == 256


def test_checkpoint_is_set_only_from_the_expected_one(store: LocalTileStore) -> None:
    one, two, three = (_checkpoint(size) for size in (1, 2, 3))
    with pytest.raises(CheckpointConflictError):
        store.compare_and_set_checkpoint(one, two)
    store.compare_and_set_checkpoint(None, one)
    store.compare_and_set_checkpoint(one, two)
    for expected in (None, one, three):
        with pytest.raises(CheckpointConflictError):
            store.compare_and_set_checkpoint(expected, three)
    assert store.read_checkpoint() == two


def test_checkpoint_never_goes_back_forks_or_changes_its_log(store: LocalTileStore) -> None:
    """A zombie may even know the published checkpoint: what it signed before must not replace it."""
    current = _checkpoint(5, b"r" * 32)
    store.compare_and_set_checkpoint(None, current)
    stranger = Ed25519Signer.from_seed("ward.example/device.events/1", bytes(32))
    for new, reason in (
        (_checkpoint(4, b"q" * 32), "go back"),
        (_checkpoint(5, b"s" * 32), "fork"),
        (_checkpoint(6, signer=stranger), "is the log"),
        (b"not a checkpoint", "blank line"),
    ):
        with pytest.raises(TileStoreError, match=reason):
            store.compare_and_set_checkpoint(current, new)
    assert store.read_checkpoint() == current


def test_a_damaged_checkpoint_stops_the_log(store: LocalTileStore) -> None:
    (store.root / "checkpoint").write_bytes(b"damaged")
    with pytest.raises(TileStoreError):
        store.compare_and_set_checkpoint(b"damaged", _checkpoint(1))


def test_one_of_many_concurrent_sealers_wins_each_step(store: LocalTileStore) -> None:
    wins: list[int] = []

    def work(number: int) -> None:
        mine = LocalTileStore(store.root)
        for size in range(1, 30):
            current = mine.read_checkpoint()
            try:
                mine.compare_and_set_checkpoint(current, _checkpoint(size, number.to_bytes(32, "big")))
            except TileStoreError:
                continue
            wins.append(size)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(wins) == len(set(wins))
    assert store.read_checkpoint() is not None


def test_unsynced_tiles_are_not_covered_by_a_checkpoint(store: LocalTileStore) -> None:
    store.put_many([("tile/0/000.p/1", bytes(32))])
    with pytest.raises(TileStoreError, match="synced"):
        store.compare_and_set_checkpoint(None, _checkpoint(1))
    sync_stores([store])
    store.compare_and_set_checkpoint(None, _checkpoint(1))


def test_syncfs_runs_once_for_many_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(pipeline.tilestore, "_syncfs", synced.append)
    stores = [LocalTileStore(tmp_path / name) for name in "abc"]
    for one in stores[:2]:
        one.put_many([("tile/0/000.p/1", bytes(32))])
    sync_stores(stores)
    sync_stores(stores)
    assert synced == [stores[0].root]


def test_without_syncfs_each_file_and_folder_is_synced(
    store: LocalTileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(pipeline.tilestore, "_syncfs", None)
    monkeypatch.setattr(pipeline.tilestore, "_fsync", synced.append)
    store.put_many([("tile/0/x001/234", b"x")])
    assert synced == []
    sync_stores([store])
    names = ["tile/0/x001/234", "tile/0/x001", "tile/0", "tile", ""]
    assert set(synced) == {store.root / name for name in names}


def test_put_syncs_the_bytes_before_the_name_and_both_before_it_returns(
    store: LocalTileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("tile/0/000", b"x")
    target = store.root / "tile/0/000"
    synced: list[Path] = []
    held = target.stat().st_ino

    def fsync(path: Path) -> None:
        if path.is_file():
            assert path.read_bytes() == b"x"
            assert target.stat().st_ino == held
        else:
            assert target.stat().st_ino != held
            synced.append(path)

    monkeypatch.setattr(pipeline.tilestore, "_fsync", fsync)
    store.put("tile/0/000", b"x")
    assert synced == [store.root / name for name in ("tile/0", "tile", "")]


def test_after_a_sync_that_failed_equal_drafts_are_written_anew(
    store: LocalTileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_many([("tile/0/000", b"x")])
    first = (store.root / "tile/0/000").stat().st_ino

    def fails(_folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(pipeline.tilestore, "_syncfs", fails)
    with pytest.raises(OSError, match="Input/output"):
        sync_stores([store])
    again = LocalTileStore(store.root)
    again.put_many([("tile/0/000", b"x")])
    # Not the bytes of which the kernel no longer knows that they never reached the disk.
    assert (store.root / "tile/0/000").stat().st_ino != first


def test_a_checkpoint_that_is_built_on_is_made_durable_first(
    store: LocalTileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(pipeline.tilestore, "_fsync", synced.append)
    assert store.settle_checkpoint() is None
    assert synced == []
    store.compare_and_set_checkpoint(None, _checkpoint(1))
    synced.clear()
    assert store.settle_checkpoint() == _checkpoint(1)
    assert synced == [store.root / "checkpoint", store.root]


class PowerCutError(Exception):
    """The process ends here."""


def _crash_at(step: int) -> Callable[..., None]:
    """Run the real function `step` times, then crash instead."""
    calls = iter(range(step))
    real = Path.replace

    def replace(source: Path, target: Path) -> None:
        if next(calls, None) is None:
            raise PowerCutError
        real(source, target)

    return replace


@pytest.mark.parametrize("step", range(8))
def test_crash_before_any_rename_leaves_a_log_that_verifies_and_goes_on(
    store: LocalTileStore, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    sealer = Sealer(store)
    sealer.seal(200)
    # 256 leaves full and 44 more: bundle, level 0, their partial ones, level 1, then the checkpoint.
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _crash_at(step))
        if step < 6:
            with pytest.raises(PowerCutError):
                sealer.seal(300)
        else:
            sealer.seal(300)
    again = LocalTileStore(store.root)
    assert _verify(again) == (200 if step < 6 else 300)
    data = again.read_checkpoint()
    assert data is not None
    checkpoint = open_checkpoint(data, SIGNER.verifier).checkpoint
    successor = Sealer(again)
    successor.builder = TiledTree(again, checkpoint.size, checkpoint.root).builder()
    successor.published = data
    successor.seal(700)
    assert _verify(again) == 700


def test_partial_tiles_go_only_after_the_full_one_has_stood_for_the_grace_period(
    store: LocalTileStore,
) -> None:
    sealer = Sealer(store)
    for size in (10, 200, 300):
        sealer.seal(size)
    stray = store.root / "tile/0/.000.1.1.tmp"
    stray.write_bytes(b"half")
    full_s = (store.root / "tile/0/000").stat().st_mtime
    assert store.delete_partial_tiles(now_s=full_s + 50, grace_s=60) == 0
    assert stray.exists()
    assert store.delete_partial_tiles(now_s=full_s + 3_600, grace_s=60) == 4
    assert not stray.exists()
    kept = sorted(path.relative_to(store.root).as_posix() for path in store.root.glob("tile/**/*.p/*"))
    assert kept == ["tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"]
    assert _verify(store) == 300
    assert store.delete_partial_tiles(now_s=full_s + 3_600, grace_s=60) == 0
    sealer.seal(1_100)
    assert _verify(store) == 1_100


def test_partial_tiles_stay_while_the_full_one_is_a_draft(store: LocalTileStore) -> None:
    sealer = Sealer(store)
    sealer.seal(200)
    full = sealer.builder.append(ENTRIES[200:256])
    store.put_many((item.tile.path, item.data) for item in full)
    sync_stores([store])
    (store.root / "tile/stray.p").mkdir()
    assert store.delete_partial_tiles(now_s=9e9, grace_s=0) == 0
    assert _verify(store) == 200


def test_a_killed_holder_of_the_lock_blocks_nobody(store: LocalTileStore) -> None:
    child = os.fork()
    if child == 0:
        with store._locked():
            os._exit(0)
    os.waitpid(child, 0)
    store.compare_and_set_checkpoint(None, _checkpoint(1))

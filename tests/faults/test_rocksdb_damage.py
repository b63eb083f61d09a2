"""RocksDB deleted, rolled back, corrupted: a working copy is right, or older and right, or set aside."""

import random
import shutil
from pathlib import Path

import pytest
from rocksdict import Rdict

from pipeline.statestore import BUFFER_BYTES, ChangelogPosition, Partition, StateStore
from pipeline.workingcopy import (
    KEPT_DAMAGED,
    CopyBusyError,
    CopyDamagedError,
    NoRoomError,
    WorkingCopy,
    empty_batch,
)
from tests.kit.copywriter import states as states_after
from tests.kit.copywriter import written

A: Partition = ("device.telemetry.raw", 0)
BATCHES = (41, 60)
"""In the middle of a buffer, and at its end."""
KINDS = ("flip", "burst", "cut", "nought", "gone")
State = dict[bytes, bytes]


@pytest.fixture(scope="module", params=[(n, how) for n in BATCHES for how in ("closed", "killed")], ids=str)
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[State]]:
    """A sound copy, as an orderly end or a kill left it, and its states after each batch."""
    batches, how = request.param
    path = tmp_path_factory.mktemp("whole") / "rocksdb"
    written(path, batches, how)
    return path, states_after(batches)


def read(path: Path) -> State:
    copy = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
    try:
        found = dict(copy.items(b"s/"))
        assert {key: copy.get(key) for key in found} == found
        return found
    finally:
        copy.close()


def assert_old_or_damaged(path: Path, states: list[State], what: str) -> str:
    """Nothing but a state that once was, or damage; and after damage an empty copy that works."""
    try:
        found = read(path)
    except CopyDamagedError:
        copy = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
        # What cannot be opened was set aside by the attempt; what cannot be read is, by whoever met it.
        try:
            dict(copy.items(b"s/"))
        except CopyDamagedError:
            copy.mend()
        assert dict(copy.items(b"s/")) == {}, what
        copy.close()
        return "damaged"
    if found == {} and list(path.parent.glob(f"{path.name}.damaged-*")):
        return "damaged"
    assert found in states, f"{what}: a state that never was"
    return "newest" if found == states[-1] else "older"


def files_of(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if each.is_file() and each.stat().st_size)


def damage(path: Path, name: str, kind: str, chance: random.Random) -> None:
    victim = path / name
    data = bytearray(victim.read_bytes())
    match kind:
        case "flip":
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "burst":
            at = chance.randrange(len(data))
            data[at : at + 64] = chance.randbytes(len(data[at : at + 64]))
        case "cut":
            del data[chance.randrange(len(data)) :]
        case "nought":
            at = chance.randrange(len(data))
            data[at:] = bytes(len(data) - at)
        case "gone":
            victim.unlink()
            return
    victim.write_bytes(data)


def hurt(whole: Path, tmp_path: Path) -> Path:
    """A fresh copy to be damaged."""
    path = tmp_path / "hurt" / "rocksdb"
    shutil.rmtree(path.parent, ignore_errors=True)
    shutil.copytree(whole, path)
    return path


def test_a_sound_copy_is_whole(whole: tuple[Path, list[State]], tmp_path: Path) -> None:
    path, states = whole
    assert read(hurt(path, tmp_path)) == states[-1]


@pytest.mark.parametrize("seed", range(2))
def test_any_damage_to_any_file(whole: tuple[Path, list[State]], tmp_path: Path, seed: int) -> None:
    path, states = whole
    chance = random.Random(seed)
    for name in files_of(path):
        for kind in chance.sample(KINDS, 2):
            victim = hurt(path, tmp_path)
            damage(victim, name, kind, chance)
            assert_old_or_damaged(victim, states, f"seed {seed}: {kind} in {name}")


def test_a_manifest_cut_anywhere_leaves_no_hole(whole: tuple[Path, list[State]], tmp_path: Path) -> None:
    """Tables forgotten, and the log of what came after them applied: RocksDB itself opens that."""
    path, states = whole
    (manifest,) = path.glob("MANIFEST-*")
    size = manifest.stat().st_size
    for kept in range(0, size, 23):
        victim = hurt(path, tmp_path)
        with (victim / manifest.name).open("r+b") as file:
            file.truncate(kept)
        assert_old_or_damaged(victim, states, f"a manifest of {kept} bytes instead of {size}")


def damage_a_table(path: Path) -> None:
    """Flip a bit in the middle of the oldest table: it is met by whoever reads there, not on opening."""
    victim = min(path.glob("*.sst"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)


def test_damage_met_while_running_is_told_at_every_call_until_mended(tmp_path: Path) -> None:
    path = tmp_path / "rocksdb"
    written(path, 60, "closed")
    damage_a_table(path)
    copy = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
    with pytest.raises(CopyDamagedError):
        dict(copy.items(b"s/"))
    with pytest.raises(CopyDamagedError):
        copy.get(b"never there")
    with pytest.raises(CopyDamagedError):
        copy.write(empty_batch())
    with pytest.raises(CopyDamagedError):
        list(copy.items(b"p/"))
    copy.mend()
    assert dict(copy.items(b"")) == {}
    batch = empty_batch()
    batch.put(b"s/k", b"v")
    copy.write(batch)
    copy.mend()
    assert dict(copy.items(b"s/")) == {b"s/k": b"v"}
    copy.close()
    assert [each.name for each in tmp_path.glob("rocksdb.damaged-*")] == ["rocksdb.damaged-1"]


def test_an_iteration_does_not_end_at_damage(tmp_path: Path) -> None:
    """RocksDB's iterators do: what came before the damage would pass for all there is."""
    path = tmp_path / "rocksdb"
    written(path, 60, "closed")
    damage_a_table(path)
    with pytest.raises(CopyDamagedError, match="checksum"):
        dict(WorkingCopy(path, buffer_bytes=BUFFER_BYTES).items(b"s/"))


def test_few_damaged_copies_are_kept_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "rocksdb"
    for number in range(1, 6):
        assert read(path) == {}
        (path / "CURRENT").write_bytes(b"nonsense")
        (path / "number").write_text(str(number))
        assert read(path) == {}
        shutil.rmtree(path)
    kept = sorted(tmp_path.glob("rocksdb.damaged-*"))
    assert [(each / "number").read_text() for each in kept] == ["4", "5"]
    assert len(kept) == KEPT_DAMAGED


def test_a_copy_in_use_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "rocksdb"
    holder = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
    assert holder.get(b"k") is None
    second = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
    with pytest.raises(CopyBusyError):
        second.mend()
    holder.close()
    second.mend()
    second.close()
    assert list(tmp_path.glob("*damaged*")) == []


@pytest.mark.parametrize("what", ["a folder", "unreadable", "garbage"])
def test_whatever_a_kill_left_of_the_lock(tmp_path: Path, what: str) -> None:
    path = tmp_path / "rocksdb"
    written(path, 20, "killed")
    lock = path / "LOCK"
    match what:
        case "a folder":
            lock.unlink()
            lock.mkdir()
        case "unreadable":
            lock.chmod(0)
        case "garbage":
            lock.write_bytes(b"\xff" * 100)
    assert assert_old_or_damaged(path, states_after(20), what) in ("newest", "damaged")


def test_a_full_disk_is_not_the_copys_fault(tmp_path: Path) -> None:
    path = tmp_path / "rocksdb"
    copy = WorkingCopy(path, buffer_bytes=BUFFER_BYTES)
    batch = empty_batch()
    batch.put(b"s/k", b"v")
    copy.write(batch)

    class FullDisk:
        """What rocksdict raises then; everything else is the real database."""

        def __init__(self, real: Rdict) -> None:
            self._real = real
            self.close = real.close

        def write(self, *_: object) -> None:
            raise Exception("IO error: No space left on device: While appending to file: 000004.log")

    copy._db = FullDisk(copy._db)
    with pytest.raises(NoRoomError):
        copy.write(empty_batch())
    with pytest.raises(NoRoomError):
        copy.get(b"s/k")
    copy.mend()
    assert dict(copy.items(b"s/")) == {b"s/k": b"v"}
    copy.close()
    assert list(tmp_path.glob("*damaged*")) == []


def test_a_bulk_write_that_is_killed_loses_its_end_alone(tmp_path: Path) -> None:
    """Written without a log: what follows with a log must not survive what came before without."""
    path = tmp_path / "rocksdb"
    written(path, 30, "bulk")
    states = states_after(30)
    found = read(path)
    assert found in states[:21] or found == states[-1]


def test_a_bulk_write_is_kept_once_it_is_over(tmp_path: Path) -> None:
    path = tmp_path / "rocksdb"
    written(path, 30, "after bulk")
    assert read(path) == states_after(30)[-1]


def test_state_and_position_are_lost_together(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "rocksdb")
    store.write([(A, b"k", b"v")], {A: ChangelogPosition("id", 5)})
    store.close()
    (tmp_path / "rocksdb" / "CURRENT").write_bytes(b"MANIFEST-000099\n")
    store = StateStore(tmp_path / "rocksdb")
    assert store.position(A) is None
    assert store.get(A, b"k") is None
    store.close()

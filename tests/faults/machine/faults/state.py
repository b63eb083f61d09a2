"""Faults of the working copies, which are disposable: RocksDB deleted, put back to an old copy, damaged."""

import shutil
import time
from pathlib import Path
from random import Random

from tests.faults.machine.world import World


def lose_rocksdb(world: World, rng: Random) -> None:
    """The folder is deleted while the stage is down."""
    for stage in _some(rng):
        _while_down(world, stage, shutil.rmtree)


def roll_back_rocksdb(world: World, rng: Random) -> None:
    """The folder is put back to a copy that was taken earlier."""
    stage = rng.choice(("ingest", "seal"))
    old = world.folder / "old-copy"
    shutil.rmtree(old, ignore_errors=True)
    _while_down(world, stage, lambda folder: shutil.copytree(folder, old))
    time.sleep(rng.uniform(0.5, 1.5))

    def put_back(folder: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(old, folder)

    _while_down(world, stage, put_back)


def corrupt_rocksdb(world: World, rng: Random) -> None:
    """Bytes of some of its files are changed, or files cut short or missing."""
    for stage in _some(rng):
        _while_down(world, stage, lambda folder: _damage(folder, rng))


def _some(rng: Random) -> list[str]:
    return rng.sample(("ingest", "seal"), rng.randint(1, 2))


def _while_down(world: World, stage: str, change: object) -> None:
    world.hold(stage)
    world.kill(stage)
    folder = world.data_dir / "state" / stage / "0" / "rocksdb"
    if folder.exists():
        change(folder)  # type: ignore[operator]
    world.release(stage)


def _damage(folder: Path, rng: Random) -> None:
    files = sorted(f for f in folder.iterdir() if f.is_file() and f.stat().st_size)
    for file in rng.sample(files, min(len(files), rng.randint(1, 3))):
        match rng.choice(("flip", "cut", "delete")):
            case "flip":
                data = bytearray(file.read_bytes())
                for _ in range(rng.randint(1, 8)):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                file.write_bytes(data)
            case "cut":
                file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])
            case _:
                file.unlink()

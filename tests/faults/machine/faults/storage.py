"""Faults of the disk: full under one part of the data, refused, cut short or deadly at chosen system calls.

A full disk is a real one, a small tmpfs mounted over the folder; where this process may not mount, the shim
of `syscalls` refuses the calls instead. That needs a zygote that was started with `environment()`.
"""

import atexit
import errno
import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.faults.machine.syscalls.shim import ALL_KINDS, FOREVER, SYNCS, TAKES_ROOM, WRITES, Action, Shim
from tests.faults.machine.world import World

Inject = Callable[[World, Random], None]
ROOM_BYTES = 48 << 20
"""What a small disk has free before it is filled: seal and ingest need no more in a schedule."""
BROKER_ROOM_BYTES = 192 << 20
TOLD_WITHIN_S = 15.0
STRUCK_WITHIN_S = 2.0
BALLAST = ".ballast"
STAGE_FOLDERS = {"state/ingest": "ingest", "state/seal": "seal", "log": "seal"}
"""Parts of the data folder that a stage writes to."""


@functools.cache
def _shim() -> Shim:
    """This process's hand on all workers of its zygote."""
    folder = tempfile.mkdtemp(prefix="attestream-shim-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Shim(Path(folder) / "page")


def environment() -> dict[str, str]:
    """What a zygote needs to be started with; raises ToolMissingError where there is no compiler."""
    return _shim().environment


@functools.cache
def can_mount() -> bool:
    """Tell whether this process may mount a tmpfs."""
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        made = _run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", folder)
        return made and _run("umount", folder)


# ---- a full disk -------------------------------------------------------------------------------------------


def full_disk_under_ingest_state(world: World, rng: Random) -> None:
    """No space left under ingest's RocksDB: told, nothing lost, and it goes on when there is room."""
    _full_disk(world, rng, "state/ingest")


def full_disk_under_seal_state(world: World, rng: Random) -> None:
    """No space left under seal's RocksDB."""
    _full_disk(world, rng, "state/seal")


def full_disk_under_tiles(world: World, rng: Random) -> None:
    """No space left under the published logs: nothing is signed that is not there."""
    _full_disk(world, rng, "log")


def full_disk_under_broker(world: World, rng: Random) -> None:
    """No space left under Kafka's log folder: the broker ends or refuses, and begins again with room."""
    folder = world.data_dir / "kafka" / "data"
    if not folder.is_mount():
        world.kill_broker()
        _make_small(world, folder, BROKER_ROOM_BYTES)
        world.start_broker()
    fill_disk(folder)
    time.sleep(rng.uniform(1.0, 3.0))
    release_disk(folder)
    if world.is_broker_gone:
        world.start_broker()


def _full_disk(world: World, rng: Random, part: str) -> None:
    stage, folder = STAGE_FOLDERS[part], world.data_dir / part
    folder.mkdir(parents=True, exist_ok=True)
    if can_mount() and not folder.is_mount():
        with _down(world, stage):
            _make_small(world, folder, ROOM_BYTES)
    # Bad signatures and replays change no state, and a state that does not change asks for no room.
    world.begin_traffic("usual", 200)
    told_before = _said_of_space(world, stage)
    with _without_room(folder):
        until = time.monotonic() + TOLD_WITHIN_S
        while time.monotonic() < until and _said_of_space(world, stage) == told_before:
            time.sleep(0.05)
        if _said_of_space(world, stage) == told_before:
            world.tell(
                "silent", f"{stage} says nothing of a full disk under {part}: {_details(world, stage)}"
            )
        time.sleep(rng.uniform(0.0, 1.5))
        world.watcher.look()


@contextmanager
def _without_room(folder: Path) -> Iterator[None]:
    if folder.is_mount():
        fill_disk(folder)
        try:
            yield
        finally:
            release_disk(folder)
    else:
        with _armed(folder, Action.FAIL, TAKES_ROOM, 1, FOREVER, errno.ENOSPC):
            yield


def fill_disk(folder: Path) -> None:
    """Leave not one free byte on the small disk of this folder."""
    with (folder / BALLAST).open("ab", buffering=0) as ballast:
        piece = 1 << 20
        while piece:
            try:
                ballast.write(bytes(piece))
            except OSError:
                piece //= 2


def release_disk(folder: Path) -> None:
    """Give the room back."""
    (folder / BALLAST).unlink(missing_ok=True)


def _make_small(world: World, folder: Path, room_bytes: int) -> None:
    """Put a tmpfs with the same content over a folder that nobody writes to; until the world ends.

    Readers see either, and both hold the same.
    """
    used = int(subprocess.check_output(["du", "-s", "--block-size=1", folder]).split()[0])
    beside = world.folder / f"disk-{folder.name}"
    beside.mkdir()
    size = f"size={used + room_bytes}"
    if not _run("mount", "-t", "tmpfs", "-o", size, "tmpfs", str(beside)):
        raise OSError(f"no tmpfs at {beside}")
    world.at_end(lambda: _run("umount", "-l", str(folder)))
    subprocess.run(["cp", "-a", "--sparse=always", f"{folder}/.", beside], check=True)
    subprocess.run(["mount", "--bind", beside, folder], check=True)
    subprocess.run(["umount", "-l", beside], check=True)


@contextmanager
def _down(world: World, stage: str) -> Iterator[None]:
    """No worker of a stage runs."""
    slots = [slot for each, slot in world.base if each == stage]
    for slot in slots:
        world.hold(stage, slot)
        world.kill(stage, slot)
    try:
        yield
    finally:
        for slot in slots:
            world.release(stage, slot)


def _said_of_space(world: World, stage: str) -> int:
    """How often the stage's logs speak of it."""
    logs = world.folder.glob(f"{stage}-*.log")
    return sum(log.read_text(errors="replace").count("No space left on device") for log in logs)


def _details(world: World, stage: str) -> str:
    files = sorted((world.data_dir / "run").glob(f"{stage}*.health.json"))
    return "; ".join(str(json.loads(file.read_text())["detail"]) for file in files)


# ---- single calls ------------------------------------------------------------------------------------------


def calls_refused(world: World, rng: Random) -> None:
    """EIO from one to four calls in a row, of any kind or of syncs alone."""
    kinds = rng.choice((ALL_KINDS, WRITES, SYNCS))
    _strike(world, rng, Action.FAIL, kinds, last=rng.randint(0, 3))


def writes_cut_short(world: World, rng: Random) -> None:
    """Writes that take half of their bytes and say so."""
    _strike(world, rng, Action.SHORT, WRITES, last=rng.randint(0, 5))


def killed_at_a_call(world: World, rng: Random) -> None:
    """SIGKILL at one call that changes what the disk holds."""
    _strike(world, rng, Action.KILL, ALL_KINDS)


def killed_within_a_write(world: World, rng: Random) -> None:
    """SIGKILL when half of a write is done."""
    _strike(world, rng, Action.TORN, WRITES)


def _strike(world: World, rng: Random, action: Action, kinds: int, last: int = 0) -> None:
    folder = world.data_dir / rng.choice(list(STAGE_FOLDERS))
    first = rng.randint(1, 60 if kinds == ALL_KINDS else 20)
    with _armed(folder, action, kinds, first, first + last, errno.EIO):
        world.wait_for(lambda: _shim().acted > last, STRUCK_WITHIN_S)
    world.watcher.look()


@contextmanager
def _armed(folder: Path, action: Action, kinds: int, first: int, last: int, error: int) -> Iterator[None]:
    shim = _shim()
    shim.arm(folder, action=action, kinds=kinds, first=first, last=last, error=error)
    try:
        yield
    finally:
        shim.disarm()


def _run(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


STORAGE_FAULTS: dict[str, tuple[Inject, float]] = {
    "full_disk_under_ingest_state": (full_disk_under_ingest_state, 0.5),
    "full_disk_under_seal_state": (full_disk_under_seal_state, 0.5),
    "full_disk_under_tiles": (full_disk_under_tiles, 0.7),
    "full_disk_under_broker": (full_disk_under_broker, 0.3),
    "calls_refused": (calls_refused, 1.5),
    "writes_cut_short": (writes_cut_short, 0.7),
    "killed_at_a_call": (killed_at_a_call, 1.5),
    "killed_within_a_write": (killed_within_a_write, 0.7),
}
"""Each kind with its weight. The one under the broker only where `can_mount`."""

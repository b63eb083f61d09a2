"""Publishing one log into a local folder: tiles, entry bundles and `checkpoint` (https://c2sp.org/tlog-tiles).

The order is what makes a checkpoint worth its signature: `put_many` the tiles, `sync_stores`, only then sign
and `compare_and_set_checkpoint`. Whatever the published checkpoint covers never changes and never goes back.
What it does not cover yet is a draft, which a crash may leave torn and the next run writes again.
"""

import ctypes
import fcntl
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.settings import PipelineError
from schemas.checkpoint import Checkpoint, parse_checkpoint
from schemas.errors import FormatError
from schemas.note import parse_note
from schemas.tile import ENTRIES, TILE_HEIGHT, TILE_WIDTH, Tile, parse_path

CHECKPOINT = "checkpoint"

_LOCK = ".checkpoint.lock"
_TEMPORARY = ".tmp"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_counter = itertools.count()


class TileStoreError(PipelineError):
    """A published log is not as it must be, or was asked for something that would make it so."""


class ImmutableTileError(TileStoreError):
    """Other bytes for a tile that a published checkpoint covers: the tree or the folder was tampered with."""


class CheckpointConflictError(TileStoreError):
    """The published checkpoint is not the expected one: another sealer is, or was, at work on this log."""


class LocalTileStore:
    """One log's folder. Any number of processes may hold it; the checkpoint's lock orders them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)
        self._unsynced: list[Path] = []

    @property
    def root(self) -> Path:
        """The folder that a web server may publish as it is."""
        return self._root

    def read(self, path: str) -> bytes | None:
        """The bytes at a path below the root; None if there are none."""
        return _read(self._resolve(path))

    def put(self, path: str, data: bytes) -> None:
        """Write one file, durable when this returns. For many, `put_many` and `sync_stores` cost less."""
        target = self._write(path, data, is_synced=True)
        for folder in self._folders_of(target):
            _fsync(folder)

    def put_many(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files whole or not at all, each by itself; durable only after `sync_stores`.

        A tile that the checkpoint covers takes equal bytes only, else `ImmutableTileError`.
        """
        for path, data in files:
            self._unsynced.append(self._write(path, data))

    def read_checkpoint(self) -> bytes | None:
        """The published signed checkpoint; None before the first."""
        return _read(self._root / CHECKPOINT)

    def settle_checkpoint(self) -> bytes | None:
        """Return the published checkpoint and make it durable; for a sealer, before it builds on it.

        Whoever put it there may have been killed between the renaming and its sync. Until then a power cut
        may take it back, whatever others were told of it.
        """
        current = self.read_checkpoint()
        if current is not None:
            _fsync(self._root / CHECKPOINT)
            _fsync(self._root)
        return current

    def compare_and_set_checkpoint(self, expected: bytes | None, new: bytes) -> None:
        """Replace the checkpoint `expected` (None: there is none) by `new`, durably.

        Raises `CheckpointConflictError` if another one is published, and `TileStoreError` if `new` is of
        another log, smaller, or equally large with another root: no caller, however stale, can take back what
        was published. Whether `new` is signed, and consistent with the old one, is the caller's to know.
        """
        if self._unsynced:
            raise TileStoreError(f"{self._root}: tiles must be synced before a checkpoint that covers them")
        with self._locked():
            current = self.read_checkpoint()
            if current != expected:
                found, wanted = _describe(current), _describe(expected)
                raise CheckpointConflictError(f"{self._root}: published is {found}, and not {wanted}")
            _check_follows(current, new, self._root)
            # A crash before the rename leaves the old checkpoint, one after it the new one, and either is
            # true: the tiles of both are durable. One before the last fsync may undo the rename: the next
            # run then finds the old checkpoint and signs again.
            temporary = self._write_temporary(self._root / CHECKPOINT, new)
            _fsync(temporary)
            temporary.replace(self._root / CHECKPOINT)
            _fsync(self._root)

    def delete_partial_tiles(self, now_s: float, grace_s: float) -> int:
        """Delete partial tiles whose full tile was published at least `grace_s` ago; returns how many.

        Readers of an older checkpoint fall back to the full tile. A crash in between leaves some for the next
        time, and temporary files that a crash left are taken along.
        """
        covered, latest_s = self._covered_size(), now_s - grace_s
        deleted = 0
        for folder, _, files in os.walk(self._root / "tile", topdown=False):
            here = Path(folder)
            for name in files:
                if name.endswith(_TEMPORARY) and _is_older(here / name, latest_s):
                    (here / name).unlink(missing_ok=True)
            full = here.with_suffix("")
            if here.suffix == ".p" and self._is_covered(full, covered) and _is_older(full, latest_s):
                deleted += _delete_folder(here)
        return deleted

    def _is_covered(self, file: Path, size: int) -> bool:
        try:
            return _end(parse_path(file.relative_to(self._root).as_posix())) <= size
        except FormatError:
            return False

    def _write(self, path: str, data: bytes, *, is_synced: bool = False) -> Path:
        target = self._resolve(path)
        if path == CHECKPOINT:
            raise TileStoreError("a checkpoint is replaced by compare_and_set_checkpoint only")
        found = _read(target)
        if found is not None and path.startswith("tile/") and _end(parse_path(path)) <= self._covered_size():
            if found != data:
                raise ImmutableTileError(f"{target} is published, and other bytes were to replace it")
            return target
        # Also when equal bytes are there. What one reads is in memory: after a sync that failed, the kernel
        # takes those bytes for clean, and a later sync succeeds without them.
        temporary = self._write_temporary(target, data)
        if is_synced:
            _fsync(temporary)
        # A crash before the rename leaves a stray temporary file. A power cut after it and before the sync
        # may leave the name without its bytes: a torn draft, covered by no checkpoint, and written again.
        temporary.replace(target)
        return target

    def _write_temporary(self, target: Path, data: bytes) -> Path:
        # Unique among processes and threads, so that two writers of one file never share a temporary one.
        temporary = target.with_name(f".{target.name}.{os.getpid()}.{next(_counter)}{_TEMPORARY}")
        try:
            temporary.write_bytes(data)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
        return temporary

    def _covered_size(self) -> int:
        current = self.read_checkpoint()
        return 0 if current is None else _parse(current, self._root).size

    def _resolve(self, path: str) -> Path:
        """The file of a path: a tile in its one spelling, or plain names. Nothing leads out of the root."""
        if path.startswith("tile/"):
            try:
                parse_path(path)
            except FormatError as error:
                raise TileStoreError(str(error)) from error
        elif not all(_NAME.fullmatch(part) for part in path.split("/")):
            raise TileStoreError(f"{path[:128]!a} is not a path within a log")
        return self._root / path

    def _folders_of(self, target: Path) -> Iterator[Path]:
        """The folders from the file's up to the root: a new folder is an entry of the one above it."""
        for folder in target.parents:
            yield folder
            if folder == self._root:
                return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The kernel frees the lock with its holder, so a killed sealer blocks nobody.
        descriptor = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sync_each(self) -> None:
        folders = {folder for target in self._unsynced for folder in self._folders_of(target)}
        for path in itertools.chain(self._unsynced, folders):
            # A draft may have been deleted as a partial tile since; then there is nothing to keep.
            with suppress(FileNotFoundError):
                _fsync(path)


def sync_stores(stores: Iterable[LocalTileStore]) -> None:
    """Make everything put into these stores durable: once per file system where the kernel can (syncfs).

    A crash before this returns may lose or tear any of it, so nothing may be signed before.
    """
    waiting = [store for store in stores if store._unsynced]  # noqa: SLF001 - the stores' own other half
    synced_devices = set()
    for store in waiting:
        device = store.root.stat().st_dev
        if _syncfs is None:
            store._sync_each()  # noqa: SLF001
        elif device not in synced_devices:
            _syncfs(store.root)
            synced_devices.add(device)
    for store in waiting:
        store._unsynced.clear()  # noqa: SLF001


def _check_follows(current: bytes | None, new: bytes, root: Path) -> None:
    after = _parse(new, root)
    if current is None:
        return
    before = _parse(current, root)
    if after.origin != before.origin:
        raise TileStoreError(f"{root} is the log {before.origin!r}, not {after.origin!r}")
    if after.size < before.size:
        raise TileStoreError(f"{root}: a checkpoint of {after.size} leaves would go back from {before.size}")
    if after.size == before.size and after.root != before.root:
        raise TileStoreError(f"{root}: a second root for {after.size} leaves would fork the log")


def _parse(checkpoint: bytes, root: Path) -> Checkpoint:
    try:
        return parse_checkpoint(parse_note(checkpoint).text)
    except FormatError as error:
        raise TileStoreError(f"{root}/{CHECKPOINT}: {error}") from error


def _describe(checkpoint: bytes | None) -> str:
    if checkpoint is None:
        return "none"
    return " ".join(checkpoint.decode(errors="replace").splitlines()[:3])


def _end(tile: Tile) -> int:
    """One more than the last leaf under the tile: it is final once a tree is so large."""
    level = 0 if tile.level == ENTRIES else tile.level
    return (tile.index * TILE_WIDTH + tile.width) << (level * TILE_HEIGHT)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_older(path: Path, latest_s: float) -> bool:
    try:
        return path.stat().st_mtime <= latest_s
    except FileNotFoundError:
        return False


def _delete_folder(folder: Path) -> int:
    names = list(folder.iterdir())
    for name in names:
        name.unlink(missing_ok=True)
    # A late writer may have added one; it is the next time's.
    with suppress(OSError):
        folder.rmdir()
    return len(names)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find_syncfs() -> Callable[[Path], None] | None:
    """syncfs(2), which only Linux has and Python does not offer."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        return None

    def syncfs(folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(folder))
        finally:
            os.close(descriptor)

    return syncfs


_syncfs = _find_syncfs()

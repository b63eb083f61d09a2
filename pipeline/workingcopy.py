"""A working copy on disk: RocksDB that may be lost or damaged at any time, and never lies about it.

Whatever is in it can be made again from elsewhere. So a copy that cannot be opened, read or written has one
answer: it is set aside, kept for whoever looks for the cause, and begun anew, empty.

RocksDB's checksums find damaged blocks and log records. Two things it does not tell (measured):

- An iterator ends at a damaged block as it ends at the last key. `items` asks for its status.
- A manifest whose tail is damaged reads as a shorter one. The tables that it named last are forgotten, the
  write-ahead log of what came after them is applied all the same, and the copy has a hole in its middle. So
  is it with one of two logs missing. Therefore batches are counted by *epoch*, the time between two flushes:
  each batch writes how many its own epoch has and how many the one before had. On opening these must fit.
"""

import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import structlog
from rocksdict import DBCompressionType, Options, Rdict, WriteBatch, WriteOptions

from pipeline import metrics
from pipeline.settings import PipelineError

log = structlog.get_logger()
R = TypeVar("R")

KEPT_DAMAGED = 2
"""So many damaged copies are kept for inspection, the newest."""
BULK_BUFFER_BYTES = 64 << 20
_EPOCH = b"\x00epoch/"
_NUMBER = struct.Struct(">Q")
_COUNTS = struct.Struct(">QQ")
_KEPT_EPOCHS = 4
"""RocksDB may hold two memtables and their logs at once, hence the numbers of a few epochs."""
_IN_USE = ("lock hold by current process", "Resource temporarily unavailable")
_MACHINE = (
    "No space left on device", "Disk quota exceeded", "Read-only file system", "Too many open files",
    "Cannot allocate memory", "File too large",
)  # fmt: skip


class WorkingCopyError(PipelineError):
    """The copy cannot be used as it is; `mend` makes it usable again, or tells why not."""


class CopyBusyError(WorkingCopyError):
    """Another process has the folder open."""


class CopyDamagedError(WorkingCopyError):
    """What is on disk is not what was written, or cannot be read."""


class NoRoomError(WorkingCopyError):
    """The machine refuses (disk full, too many files): the copy is not to blame, and is opened again."""


class WorkingCopy:
    """One RocksDB folder, opened at its first use; one process has it open at a time.

    After an error every call raises it again, so that nothing is read from a half of the truth: `mend` is
    for a moment at which nothing that was read before is held on to.
    """

    def __init__(self, path: Path, *, buffer_bytes: int) -> None:
        self.path = path
        self._buffer_bytes = buffer_bytes
        # Typed as the union of all modes; raw mode deals in bytes only.
        self._db: Any = None
        self._trouble: tuple[type[WorkingCopyError], str] | None = None
        self._write_options: Any = None
        self._in_bulk = False
        self._epoch, self._before, self._count, self._unflushed_bytes = 0, 0, 0, 0

    # ---- reading and writing ---------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """Read one value."""
        db = self._use()
        found: bytes | None = self._do(lambda: db.get(key))
        return found

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Walk over all keys with a prefix, in order, and their values."""
        db, last = self._use(), prefix
        pairs = db.items(from_key=prefix)
        try:
            for key, value in pairs:
                if not key.startswith(prefix):
                    return
                yield key, value
                last = key
            _check_end(db, last)
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own for it
            trouble = self._named(error)
        else:
            return
        finally:
            del pairs  # an iterator keeps the database open
        raise self._note(trouble)

    def write(self, batch: WriteBatch) -> None:
        """Apply a batch as a whole."""
        db = self._use()
        if self._count == 0 and self._epoch >= _KEPT_EPOCHS:
            batch.delete(_EPOCH + _NUMBER.pack(self._epoch - _KEPT_EPOCHS))
        self._count += 1
        batch.put(_EPOCH + _NUMBER.pack(self._epoch), _COUNTS.pack(self._before, self._count))
        self._unflushed_bytes += batch.size_in_bytes()
        self._do(lambda: db.write(batch, self._write_options))
        if not self._in_bulk and self._unflushed_bytes >= self._buffer_bytes:
            self._flush(wait=False)

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """Write much at once, without a log: a crash within loses the end of it, never the middle."""
        db = self._use()
        self._configure(db, buffer_bytes=BULK_BUFFER_BYTES, in_bulk=True)
        try:
            yield
        finally:
            if self._trouble is None:
                # What is written with a log afterwards must not outlive what was written here without.
                self._flush(wait=True)
                self._configure(db, buffer_bytes=_ample(self._buffer_bytes), in_bulk=False)

    def _configure(self, db: Any, *, buffer_bytes: int, in_bulk: bool) -> None:
        self._do(lambda: db.set_options({"write_buffer_size": str(buffer_bytes)}))
        self._in_bulk = in_bulk
        self._write_options.disable_wal = in_bulk

    def _flush(self, *, wait: bool) -> None:
        """Begin a new memtable and log, and with them a new epoch."""
        if not self._count:
            return
        db = self._use()
        self._do(lambda: db.flush(wait=wait))
        self._epoch, self._before, self._count, self._unflushed_bytes = self._epoch + 1, self._count, 0, 0

    def damaged(self, why: str) -> WorkingCopyError:
        """Take note that what was read makes no sense; the caller raises what this returns."""
        return self._note(CopyDamagedError(f"{self.path}: {why}"))

    # ---- its life --------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Be open and sound; a damaged copy is set aside and begun anew.

        Raises CopyBusyError and NoRoomError, which time may mend, and CopyDamagedError where not even an
        empty copy can be made.
        """
        if self._db is not None and self._trouble is None:
            return
        kind, text = self._trouble or (None, "")
        try:
            if kind in (CopyDamagedError, WorkingCopyError):
                raise kind(text)
            self._close()
            self._open()
        except CopyDamagedError as error:
            self._set_aside(error)
            self._open()

    def close(self) -> None:
        """Release the folder, for good; one that was found damaged is set aside for whoever opens it next."""
        kind, text = self._trouble or (None, "")
        self._close()
        if kind is CopyDamagedError:
            self._set_aside(CopyDamagedError(text))
        self._note(WorkingCopyError(f"{self.path} was closed"))

    def _use(self) -> Any:
        if self._trouble is not None:
            kind, text = self._trouble
            raise kind(text)
        if self._db is None:
            self.mend()
        return self._db

    def _do(self, call: Callable[[], R]) -> R:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own for it
            trouble = self._named(error)
        # Not as its consequence: its frames hold iterators, and those the database, which is to be closed.
        raise self._note(trouble)

    def _note(self, trouble: WorkingCopyError) -> WorkingCopyError:
        self._trouble = type(trouble), str(trouble)
        return trouble

    def _named(self, error: Exception) -> WorkingCopyError:
        if isinstance(error, WorkingCopyError):
            return error
        text = f"{self.path}: {error}"
        if any(words in text for words in _IN_USE):
            return CopyBusyError(f"another process has {self.path} open")
        if any(words in text for words in _MACHINE):
            return NoRoomError(text)
        return CopyDamagedError(text)

    def _open(self) -> None:
        self._trouble = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._do(lambda: Rdict(str(self.path), _options(_ample(self._buffer_bytes))))
        self._write_options = WriteOptions()
        self._in_bulk = False
        self._unflushed_bytes = 0
        self._do(self._take_up_epochs)

    def _take_up_epochs(self) -> None:
        """Go on counting; raises CopyDamagedError for numbers that do not fit."""
        found = {
            _NUMBER.unpack(key[len(_EPOCH) :])[0]: _COUNTS.unpack(value) for key, value in self.items(_EPOCH)
        }
        if not found:
            if next(iter(self._db.keys()), None) is not None:
                raise CopyDamagedError(f"{self.path}: it holds data but no count of it")
            self._epoch, self._before, self._count = 0, 0, 0
            return
        newest = max(found)
        expected = list(range(max(0, newest - _KEPT_EPOCHS + 1), newest + 1))
        if sorted(found) != expected or any(found[n][0] != found[n - 1][1] for n in expected[1:]):
            raise CopyDamagedError(f"{self.path}: batches are missing in its middle: {found}")
        # RocksDB has put what was in the log into a table: a new log has begun.
        self._epoch, self._before, self._count = newest + 1, found[newest][1], 0

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is None:
            return
        with suppress(Exception):  # a broken one cannot always be closed in order, and is let go
            db.close()

    def _set_aside(self, error: CopyDamagedError) -> None:
        self._close()
        if not self.path.exists():
            return
        numbers = sorted(_damaged_copies(self.path))
        aside = _damaged_path(self.path, numbers[-1] + 1 if numbers else 1)
        try:
            self.path.rename(aside)
        except OSError as failure:
            message = f"{error}, and it cannot be set aside: {failure}"
            raise WorkingCopyError(message) from failure
        metrics.COPIES_DAMAGED.inc()
        log.error("working copy damaged, set aside and begun anew", why=str(error), kept_as=str(aside))
        for number in numbers[: max(0, len(numbers) - KEPT_DAMAGED + 1)]:
            shutil.rmtree(_damaged_path(self.path, number), ignore_errors=True)


def empty_batch() -> WriteBatch:
    """Return a batch for `WorkingCopy.write`."""
    return WriteBatch(raw_mode=True)


def end_of(prefix: bytes) -> bytes:
    """Return the first key after all those with this prefix."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def _check_end(db: Any, last: bytes) -> None:
    """Raise where an iteration ended at damage rather than after the last key."""
    iterator = db.iter()
    iterator.seek(last)
    while iterator.valid() and iterator.key() == last:
        iterator.next()
    iterator.status()
    if iterator.valid():
        raise CopyDamagedError(f"reading ended at {last!r}, and a moment later did not")


def _ample(buffer_bytes: int) -> int:
    """So much that RocksDB never begins a new memtable by itself: epochs are ours to end."""
    return 4 * buffer_bytes + (16 << 20)


def _options(buffer_bytes: int) -> Options:
    options = Options(raw_mode=True)
    options.set_write_buffer_size(buffer_bytes)
    options.set_keep_log_file_num(3)
    # Digests and sums: nothing that could be made smaller.
    options.set_compression_type(DBCompressionType.none())
    return options


def _damaged_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _damaged_copies(path: Path) -> list[int]:
    names = (each.name.removeprefix(f"{path.name}.damaged-") for each in path.parent.iterdir())
    return [int(name) for name in names if name.isdecimal()]

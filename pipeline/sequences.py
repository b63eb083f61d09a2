"""Durable (boot, sequence) of a sender, so that its next run goes on without a replay.

A small file beside the key file. Numbers are reserved, durably, before they are used: whoever is killed
while sending has lost at most the rest of a reservation, and begins a new boot, as a restarted device
does. A run that ends in good order gives the rest back, so the numbers go on without a gap.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.settings import UsageError
from schemas.envelope import PayloadKind
from schemas.events import MAX_SEQUENCE

BLOCK = 10_000
"""Numbers in one reservation: one fsync for so many events."""


class Sequences:
    """The counters of one device; use `opened`, which holds the file's lock."""

    def __init__(self, path: Path, did: str, stored: dict[str, Any], boot: int) -> None:
        self._path, self._did = path, did
        self.boot = boot
        self._used: dict[str, int] = dict(stored.get("used", {})) if stored.get("boot") == boot else {}
        self._reserved = dict(self._used)

    def next(self, kind: PayloadKind) -> int:
        """Return the next sequence number of `kind`; durable before it is returned."""
        name = kind.value
        number = self._used.get(name, 0) + 1
        if number > self._reserved.get(name, 0):
            self._reserved[name] = number + BLOCK - 1
            self._write()
        self._used[name] = number
        return number

    def finish(self) -> None:
        """Give back what was reserved and not used."""
        self._reserved = dict(self._used)
        self._write()

    def _write(self) -> None:
        record = {"did": self._did, "boot": self.boot, "used": self._used, "reserved": self._reserved}
        temporary = self._path.with_name(self._path.name + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a crash here: the old file, whose numbers are still unused
        finally:
            os.close(folder)


def path_for(key_file: Path) -> Path:
    """Where the counters of a key file are kept."""
    return key_file.with_name(key_file.name + ".sequences")


@contextlib.contextmanager
def opened(key_file: Path, did: str, *, now_s: int, boot: int | None = None) -> Iterator[Sequences]:
    """Hold the counters of `did` for the block; the caller calls `finish` when all was delivered.

    `boot` None goes on where the last run ended, or begins a new boot after a run that did not end in
    good order. The first boot is the time in seconds, so that a lost file never leads back to used numbers.
    """
    path = path_for(key_file)
    try:
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"cannot keep sequence numbers beside {key_file}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another send is using {key_file}") from error
        stored = _read(path, did)
        yield Sequences(path, did, stored, _boot(path, stored, boot, now_s))
    finally:
        os.close(lock)


def _boot(path: Path, stored: dict[str, Any], wanted: int | None, now_s: int) -> int:
    last = stored.get("boot", 0)
    clean = stored and stored["used"] == stored["reserved"]
    automatic = last if clean else max(now_s, last + 1)
    boot = automatic if wanted is None else wanted
    if not 1 <= boot <= MAX_SEQUENCE:
        raise UsageError(f"boot {boot} must lie in 1 to 2^62")
    if boot < last:
        raise UsageError(f"boot {boot} was passed: {path} has reached {last}, and boots only rise")
    if boot == last and not clean:
        message = (
            f"boot {boot} did not end in good order, its next number is not known: use {last + 1} or auto"
        )
        raise UsageError(message)
    return boot


def _read(path: Path, did: str) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        found, boot, used, reserved = (stored[name] for name in ("did", "boot", "used", "reserved"))
        numbers = [boot, *used.values(), *reserved.values()]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise TypeError
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: no record of sequence numbers; remove it to begin a new boot") from error
    if found != did:
        raise UsageError(f"{path} counts for {found}, the key file is of {did}")
    return stored

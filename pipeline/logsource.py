"""Where a published log is read from: a folder or a web address, as a stranger would.

Everything is untrusted: sizes are bounded by what a file of that name may hold, a slow or lying server costs
a bounded time, and what cannot be reached is told apart from what is not there.
"""

import http.client
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.settings import UsageError
from schemas.note import MAX_NOTE_BYTES
from schemas.tile import HASH_BYTES, MAX_ENTRY_BYTES, TILE_WIDTH

TIMEOUT_S = 10.0
ATTEMPTS = 4
FIRST_PAUSE_S = 0.25
MAX_BUNDLE_BYTES = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_TILE_BYTES = TILE_WIDTH * HASH_BYTES

_NOT_THERE = (404, 410)
_TRY_AGAIN = (408, 425, 429)


class LogSourceError(UsageError):
    """A published log cannot be read: nothing can be said about it."""


class LogSource(Protocol):
    """A `processors.merkle.reader.TileReader` that can be told to a person."""

    def read(self, path: str) -> bytes | None:
        """The bytes at a path below the log, at most one more than it may hold; None if there are none."""

    def at(self, path: str) -> "LogSource":
        """The log that is published below this one, or itself for an empty path."""


def open_source(place: str) -> LogSource:
    """The log at a folder or an http(s) address."""
    if place.startswith(("http://", "https://")):
        return WebSource(place.rstrip("/"))
    if "://" in place:
        raise UsageError(f"{place}: a published log is a folder or an http(s) address")
    return FolderSource(Path(place))


def most_bytes(path: str) -> int:
    """The largest file that may stand at a path."""
    if path.startswith("tile/entries/"):
        return MAX_BUNDLE_BYTES
    return MAX_TILE_BYTES if path.startswith("tile/") else MAX_NOTE_BYTES


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A log in a local folder."""

    folder: Path

    def read(self, path: str) -> bytes | None:
        """See `LogSource`."""
        try:
            with (self.folder / path).open("rb") as file:
                return file.read(most_bytes(path) + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise LogSourceError(f"cannot read {self.folder / path}: {error.strerror}") from error

    def at(self, path: str) -> "FolderSource":
        """See `LogSource`."""
        return FolderSource(self.folder / path) if path else self


@dataclass(frozen=True, slots=True)
class WebSource:
    """A log behind a web server."""

    address: str

    def read(self, path: str) -> bytes | None:
        """See `LogSource`."""
        url, pause_s = f"{self.address}/{path}", FIRST_PAUSE_S
        for _ in range(ATTEMPTS - 1):
            try:
                return _get(url, most_bytes(path))
            except _PassingError:
                time.sleep(pause_s)
                pause_s *= 2
        try:
            return _get(url, most_bytes(path))
        except _PassingError as error:
            raise LogSourceError(f"cannot read {url}: {error}") from error

    def at(self, path: str) -> "WebSource":
        """See `LogSource`."""
        return WebSource(f"{self.address}/{path}") if path else self


class _PassingError(Exception):
    """Trouble that may be over in a moment."""


def _get(url: str, most: int) -> bytes | None:
    deadline_s = time.monotonic() + TIMEOUT_S * ATTEMPTS
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 - http(s) only
            data = bytearray()
            # A server that drips a byte at a time never runs into the socket's time-out.
            while len(data) <= most and (piece := response.read1(most + 1 - len(data))):
                data += piece
                if time.monotonic() > deadline_s:
                    raise _PassingError("the answer takes too long")
            expected = response.headers.get("Content-Length")
            if expected is not None and expected.isdecimal() and len(data) < min(int(expected), most + 1):
                raise _PassingError("the answer was cut off")
            return bytes(data)
    except urllib.error.HTTPError as error:
        if error.code in _NOT_THERE:
            return None
        if error.code >= 500 or error.code in _TRY_AGAIN:
            raise _PassingError(f"the server says {error.code}") from error
        raise LogSourceError(f"cannot read {url}: the server says {error.code}") from error
    except http.client.InvalidURL as error:
        raise LogSourceError(f"cannot read {url}: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(str(getattr(error, "reason", error)) or type(error).__name__) from error

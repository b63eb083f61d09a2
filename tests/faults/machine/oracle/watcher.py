"""Looks at the published folder all the time: whatever is published holds at the moment it is.

Each checkpoint is signed, never smaller than the one before, never of another root at the same size, and all
its tiles and entry bundles are there and hash to its root. The leaves of the one before are remembered, so a
root that holds with the new leaves behind them proves the old tree a prefix. Sections 9 and 10 of
docs/formats.md.
"""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.faults.machine.ledger import Violation
from tests.faults.machine.oracle.formats import (
    EPOCH_TOPIC,
    HEADER_BYTES,
    HEADER_OF,
    UntrueError,
    open_checkpoint,
    origin_of,
)
from tests.faults.machine.oracle.found import Found
from tests.faults.machine.oracle.shards import Head
from tests.faults.machine.oracle.tree import HASH_BYTES, Tree, leaf_hash

WIDTH, HEIGHT = 256, 8
EVERY_S = 0.025


class Watcher:
    """Watches every shard under a folder; `look` may be called from any thread."""

    def __init__(self, log_dir: Path, log_name: str, log_key: bytes) -> None:
        self._log_dir, self._log_name, self._log_key = log_dir, log_name, log_key
        self._found = Found()
        self._shards: dict[Path, _Shard] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.seen: set[Head] = set()
        """Every head that was published when we looked."""

    def start(self) -> None:
        """Look again and again in a thread."""
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> None:
        """Look at every shard now."""
        with self._lock:
            for folder in self._folders():
                shard = self._shards.get(folder)
                if shard is None:
                    origin = origin_of(self._log_name, (folder.parent.name, int(folder.name)))
                    shard = self._shards[folder] = _Shard(folder, origin, self._log_key, self._found)
                head = shard.look()
                if head is not None:
                    self.seen.add(head)

    @property
    def has_found(self) -> bool:
        """Whether `violations` would return something."""
        return self._found.has_new

    def violations(self) -> list[Violation]:
        """What is new since the last call."""
        with self._lock:
            return self._found.take()

    def _watch(self) -> None:
        while not self._stop.wait(EVERY_S):
            try:
                self.look()
            except Exception as error:  # a watcher that died would find nothing and say nothing
                self._found.add("watcher", f"{type(error).__name__}: {error}")

    def _folders(self) -> Iterator[Path]:
        known = set(self._shards)
        yield from sorted(known)
        for checkpoint in self._log_dir.glob("*/*/checkpoint"):
            if checkpoint.parent not in known and checkpoint.parent.name.isdecimal():
                yield checkpoint.parent


class _Shard:
    """One published tree, as far as it was seen."""

    def __init__(self, folder: Path, origin: str, log_key: bytes, found: Found) -> None:
        self._folder, self._origin, self._log_key, self._found = folder, origin, log_key, found
        self._is_epoch = folder.parent.name == EPOCH_TOPIC
        self._stat = (0, 0, 0)
        self._bytes = b""
        self._size, self._root = 0, b""
        self._tree = Tree()
        self._last_offset = -1
        self._again = 0

    def look(self) -> Head | None:
        """Judge the checkpoint if it is another one than before; returns its head."""
        path = self._folder / "checkpoint"
        try:
            stat = path.stat()
            mark = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if mark == self._stat:
                return None
            data = path.read_bytes()
        except FileNotFoundError:
            if self._stat[0]:
                self._found.add(
                    "going_back", f"{self._origin}: the checkpoint of {self._size} leaves is gone"
                )
            return None
        self._stat = mark
        if data == self._bytes:
            return None
        self._bytes = data
        try:
            size, root = open_checkpoint(data, self._origin, self._log_key)
        except UntrueError as error:
            self._found.add("signature", f"{self._origin}: {error}")
            return None
        self._judge(size, root)
        return (self._origin, size, root)

    def _judge(self, size: int, root: bytes) -> None:
        if size < self._size:
            self._found.add("going_back", f"{self._origin}: {size} leaves after {self._size}")
        elif size == self._size and root != self._root and self._root:
            self._found.add("fork", f"{self._origin}: two roots of {size} leaves")
        else:
            self._size, self._root = size, root
            if size > self._tree.size:
                try:
                    self._extend(size, root)
                    self._look_again()
                except UntrueError as error:
                    self._found.add("tiles", f"{self._origin} at {size} leaves: {error}")

    def _extend(self, size: int, root: bytes) -> None:
        """Read every tile that is new at this size, and grow the tree by it if it hashes to the root."""
        old, offsets = self._tree.size, [self._last_offset]
        new: list[bytes] = []
        for index in range(old // WIDTH, -(-size // WIDTH)):
            first, width = index * WIDTH, min(WIDTH, size - index * WIDTH)
            hashes, entries = self._leaves(index, width)
            known = self._tree.nodes(0, first, first + width)
            if hashes[: len(known)] != known:
                raise UntrueError(f"tile/0 {index} holds other leaves than before")
            new += [hashes[at : at + HASH_BYTES] for at in range(len(known), len(hashes), HASH_BYTES)]
            if not self._is_epoch:
                offsets += map(_offset, entries[len(known) // HASH_BYTES :])
        for before, after in itertools.pairwise(offsets):
            if after <= before:
                raise UntrueError(f"a leaf of offset {after} behind one of {before}")
        for leaf in new:
            self._tree.append(leaf)
        try:
            if self._tree.root() != root:
                raise UntrueError(f"not the root of its tiles, or the {old} leaves before are no prefix")
            self._check_upper_tiles(old, size)
        except UntrueError:
            self._tree.cut(old)
            raise
        self._last_offset = offsets[-1]

    def _check_upper_tiles(self, old: int, size: int) -> None:
        for level in range(1, 8):
            nodes = size >> level * HEIGHT
            for index in range((old >> level * HEIGHT) // WIDTH, -(-nodes // WIDTH)):
                width = min(WIDTH, nodes - index * WIDTH)
                tile = self._read(f"tile/{level}", index, width)[: width * HASH_BYTES]
                if tile != self._tree.nodes(level * HEIGHT, index * WIDTH, index * WIDTH + width):
                    raise UntrueError(f"tile/{level} {index} holds other nodes")

    def _leaves(self, index: int, width: int) -> tuple[bytes, list[bytes]]:
        """The leaf hashes of a tile, and the entries that bear them out."""
        hashes = self._read("tile/0", index, width)[: width * HASH_BYTES]
        entries = list(_entries(self._read("tile/entries", index, width)))[:width]
        if len(entries) < width or hashes != b"".join(map(leaf_hash, entries)):
            raise UntrueError(f"entry bundle {index} and tile/0 do not agree on {width} leaves")
        return hashes, entries

    def _look_again(self) -> None:
        """One older full tile a time, in turn: what is published stays there."""
        full = self._tree.size // WIDTH
        if full > 1:
            self._again = (self._again + 1) % (full - 1)
            first = self._again * WIDTH
            if self._leaves(self._again, WIDTH)[0] != self._tree.nodes(0, first, first + WIDTH):
                raise UntrueError(f"tile/0 {self._again} was changed")

    def _read(self, folder: str, index: int, width: int) -> bytes:
        """A tile of at least this width: the partial one, or the full one that replaced it."""
        name = f"{index % 1000:03d}"
        while index := index // 1000:
            name = f"x{index % 1000:03d}/{name}"
        full = self._folder / folder / name
        choices = [full] if width == WIDTH else [full.with_name(f"{full.name}.p") / str(width), full]
        for path in choices:
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
        raise UntrueError(
            f"{folder} {index} of width {width} is missing: {choices[0].relative_to(self._folder)}"
        )


def _entries(bundle: bytes) -> Iterator[bytes]:
    at = 0
    while at + 2 <= len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if end > len(bundle):
            return
        yield bundle[at + 2 : end]
        at = end


def _offset(entry: bytes) -> int:
    """The offset that a leaf names: the Avro long behind the header."""
    if not entry.startswith(HEADER_OF["leaf"]):
        raise UntrueError("an entry is no leaf")
    number = shift = 0
    for byte in entry[HEADER_BYTES : HEADER_BYTES + 10]:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return number >> 1 ^ -(number & 1)

"""What must hold after a kill, a refused call or a power cut; judged from outside, as a stranger reads it.

Shares no code with the stages: formats and trees are the oracle's.
"""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.faults.machine.ledger import Violation
from tests.faults.machine.oracle.formats import (
    Partition,
    Record,
    UntrueError,
    decode_as,
    leaf_of,
    open_checkpoint,
    origin_of,
)
from tests.faults.machine.oracle.tree import Tree, leaf_hash
from tests.faults.machine.syscalls.outside import LEDGER, read_lines

Read = Callable[[str], bytes | None]
"""From a path below a shard's folder to its bytes."""
WIDTH, HASH_BYTES = 256, 32


def files_below(folder: Path) -> Read:
    """Read from a folder on disk."""

    def read(path: str) -> bytes | None:
        try:
            return (folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    return read


def look(read: Read, origin: str, key: bytes) -> tuple[int, bytes]:
    """Size and root of a published shard, its root recomputed from every tile; (0, b"") for none.

    Raises UntrueError where a stranger could not verify it.
    """
    signed = read("checkpoint")
    if signed is None:
        return 0, b""
    size, root = open_checkpoint(signed, origin, key)
    tree = Tree()
    for entry in _entries(read, size):
        tree.append(leaf_hash(entry))
    if tree.root() != root:
        raise UntrueError(f"{origin}: the {size} entries have another root than the checkpoint")
    level, width = 0, size
    while width:
        for index in range(-(-width // WIDTH)):
            end = min(width, (index + 1) * WIDTH)
            expected = tree.nodes(8 * level, index * WIDTH, end)
            found = _tile(read, f"{level}", index, end - index * WIDTH)
            if found[: len(expected)] != expected:
                raise UntrueError(f"{origin}: the tile at level {level}, {index} is another one")
        level, width = level + 1, width // WIDTH
    return size, root


def _entries(read: Read, size: int) -> Iterable[bytes]:
    for index in range(-(-size // WIDTH)):
        count = min(WIDTH, size - index * WIDTH)
        bundle, at = _tile(read, "entries", index, count), 0
        for _ in range(count):
            length = int.from_bytes(bundle[at : at + 2], "big")
            if at + 2 + length > len(bundle):
                raise UntrueError(f"the entry bundle {index} ends within an entry")
            yield bundle[at + 2 : at + 2 + length]
            at += 2 + length


def _tile(read: Read, level: str, index: int, width: int) -> bytes:
    """A tile of this width, or the full one that took its place."""
    number = index
    parts: list[str] = []
    while True:
        number, part = divmod(number, 1000)
        parts.append(f"x{part:03}" if parts else f"{part:03}")
        if not number:
            break
    path = f"tile/{level}/{'/'.join(reversed(parts))}"
    found = None if width == WIDTH else read(f"{path}.p/{width}")
    found = read(path) if found is None else found
    if found is None:
        raise UntrueError(f"{path} of width {width} is missing")
    return found


# ---- seal --------------------------------------------------------------------------------------------------


class Roots:
    """The right root of every size of a tree, from its entries."""

    def __init__(self, entries: Iterable[bytes]) -> None:
        self._tree = Tree()
        for entry in entries:
            self._tree.append(leaf_hash(entry))

    @property
    def size(self) -> int:
        """Of the whole tree."""
        return self._tree.size

    def at(self, size: int) -> bytes:
        """The root of the first `size` entries."""
        return self._tree.root(size)


class LogWitness:
    """Remembers what one log has shown, and holds every later look to it."""

    def __init__(self, name: str, key: bytes, roots: dict[Partition, Roots]) -> None:
        """`roots` are those of what the sealed topics hold."""
        self._name, self._key, self._roots = name, key, roots
        self._largest = dict.fromkeys(roots, 0)

    def epoch_is(self, roots: Roots) -> None:
        """The epoch log's topic has grown since."""
        self._roots["log.checkpoints", 0] = roots

    def note(self, published: Iterable[str]) -> list[Violation]:
        """Take up checkpoints that were published, in their order: each is a prefix of the next."""
        found = []
        for text in published:
            place, size, root = self._open(text.encode())
            if size < self._largest[place]:
                found.append(Violation("going_back", f"{place[0]}: {size} was published after a larger one"))
            if root != self._roots[place].at(size):
                found.append(Violation("append_only", f"{place[0]}: another root at {size} was published"))
            self._largest[place] = max(size, self._largest[place])
        return found

    def claim(self, recorded: Iterable[bytes]) -> None:
        """Take up entries of the epoch log: what they say may not be gone; one may come again."""
        for entry in recorded:
            if not entry.startswith(b"%s/shards\n" % self._name.encode()):
                place, size, _root = self._open(entry)
                self._largest[place] = max(size, self._largest[place])

    def _open(self, signed: bytes) -> tuple[Partition, int, bytes]:
        origin = signed.decode().split("\n")[0]
        place = {origin_of(self._name, each): each for each in self._roots}[origin]
        return place, *open_checkpoint(signed, origin, self._key)

    def look(self, what: str, reader: Callable[[Partition], Read]) -> list[Violation]:
        """Look at all shards; what verified once must still be there, and whatever was published."""
        found = []
        for place, roots in self._roots.items():
            origin = origin_of(self._name, place)
            try:
                size, root = look(reader(place), origin, self._key)
            except UntrueError as error:
                found.append(Violation("publication", f"{what}: {place[0]}: {error}"))
                continue
            if size > roots.size or (size and root != roots.at(size)):
                found.append(Violation("append_only", f"{what}: {origin} has another root at {size}"))
            if size < self._largest[place]:
                found.append(
                    Violation("going_back", f"{what}: {origin} has {size} of {self._largest[place]} leaves")
                )
            self._largest[place] = max(size, self._largest[place])
        return found

    def stalled(self, what: str) -> list[Violation]:
        """Tell what is not below a published checkpoint."""
        return [
            Violation(
                "stalled", f"{what}: {place[0]} is published up to {self._largest[place]} of {roots.size}"
            )
            for place, roots in self._roots.items()
            if self._largest[place] < roots.size
        ]


def roots_of(records: Iterable[Any]) -> Roots:
    """Of a sealed topic's records."""
    fields = ("topic", "partition", "offset", "append_ms", "key", "headers", "value")
    return Roots(leaf_of(Record(*(getattr(record, name) for name in fields))) for record in records)


# ---- anchor ------------------------------------------------------------------------------------------------


def check_anchor(world: Path, what: str, database: Path) -> list[Violation]:
    """Hold the ledger, what was said of it, and the database to each other."""
    ledger = _ledger(world)
    sizes = [size for size, _root, _name in ledger]
    found = [
        Violation("twice", f"{what}: {size} leaves are anchored {sizes.count(size)} times")
        for size in sorted(set(sizes))
        if sizes.count(size) > 1
    ]
    for said in _confirmed(world):
        at = said["sequence"] - 1
        if at >= len(ledger) or ledger[at][:2] != (said["tree_size"], said["root"]):
            found.append(Violation("early_claim", f"{what}: {said['tree_size']} is not on the ledger"))
    if ledger:
        found += _check_persisted(database, what, *ledger[-1])
    return found


def anchor_stalled(world: Path, what: str) -> list[Violation]:
    """Tell what is published or on the ledger and was never said to be confirmed."""
    sizes = {size for size, _root, _name in _ledger(world)}
    confirmed = {said["tree_size"] for said in _confirmed(world)}
    published = int(
        (world / "data" / "log" / "log.checkpoints" / "0" / "checkpoint").read_text().split("\n")[1]
    )
    missing = (sizes | {published}) - confirmed
    return [Violation("stalled", f"{what}: {sorted(missing)} are not confirmed")] if missing else []


def _confirmed(world: Path) -> list[dict[str, Any]]:
    rows = read_lines(world, "log.anchors")
    said = [decode_as("anchor", base64.b64decode(row[1])) for row in rows]
    return [each for each in said if each["status"] == "CONFIRMED"]


def _check_persisted(database: Path, what: str, size: int, _root: bytes, name: str) -> list[Violation]:
    """Whatever the ledger has, the database knew before."""
    if not database.exists():
        return [Violation("not_persisted", f"{what}: the ledger has {size}, and there is no database")]
    db = sqlite3.connect(database)
    try:
        flights = [row[0] for row in db.execute("SELECT transaction_id FROM in_flight")]
        anchored = [row[0] for row in db.execute("SELECT tree_size FROM anchored")]
    except sqlite3.Error as error:
        return [Violation("not_persisted", f"{what}: {error}")]
    finally:
        db.close()
    if name in flights or any(each >= size for each in anchored):
        return []
    return [Violation("not_persisted", f"{what}: {name} of {size} leaves was submitted and not kept")]


def _ledger(world: Path) -> list[tuple[int, bytes, str]]:
    found = []
    for row in read_lines(world, LEDGER):
        head = json.loads(row["message"])["metadata"]["root"]
        root = base64.urlsafe_b64decode(head["rootHashB64u"] + "=")
        found.append((int(head["treeSize"]), root, row["transaction_id"]))
    return found

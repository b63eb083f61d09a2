"""What was said to be anchored, held to the ledger's own record and to the published epoch log.

It shares no code with the anchor stage: the local service's SQLite file, the topic `log.anchors` and the
tiles are read as they are. The mirror's front says when it first showed each message.
"""

import base64
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.machine.ledger import Violation
from tests.faults.machine.oracle.formats import Record, UntrueError, decode_as, open_checkpoint
from tests.faults.machine.oracle.reading import TopicReader
from tests.faults.machine.oracle.tree import HASH_BYTES, Tree

ANCHORS = ("log.anchors", 0)
TILE = 256
CLOCK_S = 0.02
"""The broker's clock counts milliseconds, and is read a moment after ours."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One message of our topic, as the ledger's own database has it."""

    sequence: int
    consensus_ns: int
    payer: str
    running_hash: bytes
    size: int
    root: bytes
    previous: tuple[int, bytes] | None


@dataclass(slots=True)
class Judge:
    """Reads on from where it stood; `judge` after each schedule, `confirmed_size` any time."""

    bootstrap: str
    log_dir: Path
    log_name: str
    log_key: bytes
    ledger_path: Path
    shown_at: Mapping[int, float]
    placed: list[Placed] = field(default_factory=list)
    submitted: set[int] = field(default_factory=set)
    confirmed: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    _tree: Tree = field(default_factory=Tree)
    _found: list[Violation] = field(default_factory=list)
    _new: list[tuple[Record, dict[str, Any]]] = field(default_factory=list)
    _reader: TopicReader = field(init=False)

    def __post_init__(self) -> None:
        self._reader = TopicReader(self.bootstrap, [ANCHORS])

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()

    @property
    def confirmed_size(self) -> int:
        """The largest tree that was said to be anchored, up to now."""
        self._read_anchors()
        return max(self.confirmed, default=0)

    def judge(self, repeats: int, *, is_memory_lost: bool) -> list[Violation]:
        """Return what is wrong with everything since the last time.

        `repeats` is how often a size may stand on the ledger beyond once: a second machine was at work, or a
        database was lost while its message was under way. Lost memory may also cost a claim, whose successor
        then covers it.
        """
        self._read_tree()
        self._read_ledger(repeats)
        self._read_anchors()
        for record, said in self._new:
            self._check(record, said, repeats)
        self._new = []
        on_ledger = {message.size for message in self.placed}
        newest = max(self.confirmed, default=0)
        for size in sorted((self.submitted & on_ledger) - set(self.confirmed)):
            if not (is_memory_lost and size < newest):
                self._tell("anchor_claims", f"{size} leaves are submitted and on the ledger, never confirmed")
        if not is_memory_lost:
            for size in sorted(set(self.confirmed) - self.submitted):
                self._tell("anchor_claims", f"{size} leaves are confirmed and were never submitted")
        # What was excused once is excused for good.
        self.submitted &= set(self.confirmed)
        self.submitted |= set(self.confirmed)
        found, self._found = self._found, []
        return found

    # ---- the published log -----------------------------------------------------------------------------

    def _read_tree(self) -> None:
        folder = self.log_dir / "log.checkpoints" / "0"
        try:
            size, root = open_checkpoint((folder / "checkpoint").read_bytes(), self.log_name, self.log_key)
        except (OSError, UntrueError) as error:
            self._tell("signature", f"the epoch log's checkpoint: {error}")
            return
        self._tree.cut(self._tree.size // TILE * TILE)
        while self._tree.size < size:
            index, width = self._tree.size // TILE, min(TILE, size - self._tree.size)
            name = folder / "tile" / "0" / f"{index:03d}"
            path = name if width == TILE else name.with_name(f"{name.name}.p") / str(width)
            data = path.read_bytes()
            for at in range(0, len(data), HASH_BYTES):
                self._tree.append(data[at : at + HASH_BYTES])
        if self._tree.root(size) != root:
            self._tell("append_only", f"the tiles of {size} leaves are not those of the signed root")

    def _is_ours(self, size: int, root: bytes) -> bool:
        return 0 < size <= self._tree.size and self._tree.root(size) == root

    # ---- the ledger ------------------------------------------------------------------------------------

    def _read_ledger(self, repeats: int) -> None:
        known = len(self.placed)
        query = (
            "SELECT sequence, consensus_ns, payer, running_hash, body FROM message"
            " WHERE sequence > ? ORDER BY sequence"
        )
        with closing(sqlite3.connect(f"file:{self.ledger_path}?mode=ro", uri=True)) as database:
            rows = database.execute(query, (known,)).fetchall()
        for sequence, time_ns, payer, running_hash, body in rows:
            said = json.loads(body)["metadata"]
            previous = _head(said["prev"]) if "prev" in said else None
            message = Placed(sequence, time_ns, payer, running_hash, *_head(said["root"]), previous)
            where = f"message {message.sequence}"
            if not self._is_ours(message.size, message.root):
                self._tell("anchor", f"{where}: not the published root of {message.size} leaves")
            if message.previous is not None and not self._is_ours(*message.previous):
                self._tell("anchor", f"{where}: its previous is no published root")
            same = sum(each.size == message.size for each in self.placed)
            if same > repeats:
                self._tell(
                    "anchored_twice", f"{where}: {message.size} leaves stand there {same} times already"
                )
            largest = max((each.size for each in self.placed), default=0)
            if message.size < largest and not repeats:
                self._tell("going_back", f"{where}: {message.size} leaves after {largest}")
            self.placed.append(message)

    # ---- claims ----------------------------------------------------------------------------------------

    def _read_anchors(self) -> None:
        for record in self._reader.read():
            try:
                said = decode_as("anchor", record.value)
            except UntrueError as error:
                self._tell("anchor", f"log.anchors {record.offset}: {error}")
                continue
            if said["origin"] != self.log_name:
                continue
            self._new.append((record, said))
            if said["status"] == "CONFIRMED":
                self.confirmed.setdefault(said["tree_size"], []).append(said)
            else:
                self.submitted.add(said["tree_size"])

    def _check(self, record: Record, said: dict[str, Any], repeats: int) -> None:
        where, size = f"log.anchors {record.offset} ({said['status']})", said["tree_size"]
        try:
            signed = open_checkpoint(said["checkpoint"], self.log_name, self.log_key)
        except UntrueError as error:
            self._tell("signature", f"{where}: {error}")
            return
        if signed != (size, said["root"]) or not self._is_ours(size, said["root"]):
            self._tell("anchor", f"{where}: not the published root of {size} leaves")
        if said["status"] != "CONFIRMED":
            return
        of_size = [each for each in self.placed if each.size == size]
        stated = (said["sequence"], said["consensus_timestamp_ns"], said["running_hash"], said["payer"])
        there = [(each.sequence, each.consensus_ns, each.running_hash, each.payer) for each in of_size]
        if stated not in there:
            self._tell("early_claim", f"{where}: the ledger has no such message of {size} leaves: {there}")
        elif stated != there[0] and not repeats:
            self._tell("anchor", f"{where}: message {stated[0]} is not the first of {size} leaves")
        said_s, shown_s = record.append_ms / 1000, self.shown_at.get(said["sequence"])
        if shown_s is None or said_s < shown_s - CLOCK_S:
            self._tell("early_claim", f"{where}: said at {said_s}, first shown at {shown_s}")

    def _tell(self, invariant: str, what: str) -> None:
        self._found.append(Violation(invariant, what))


def _head(value: dict[str, str]) -> tuple[int, bytes]:
    text = value["rootHashB64u"]
    return int(value["treeSize"]), base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

"""What a log may hold beyond hashing to its root: leaves whose offsets rise, an epoch log of signed notes.

Entries are looked at span by span (`processors.merkle.fsck`), in any process. What is remembered of a span is
a small value, and `follow` compares it with what the next span begins with.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from processors.merkle.errors import MerkleError
from processors.merkle.reader import TiledTree
from schemas.checkpoint import Checkpoint, parse_checkpoint
from schemas.codec import CODEC
from schemas.errors import CodecError, FormatError
from schemas.note import Note, parse_note

Complaint = tuple[int, str]
"""The index of an entry, and what is wrong with it."""

_HEADER = CODEC.header("leaf")
_DIGEST_BYTES = 32


def leaf_offset(entry: bytes) -> int:
    """The offset that a leaf holds, in Avro's one spelling; any other bytes raise `CodecError`."""
    if not entry.startswith(_HEADER):
        raise CodecError("is not a leaf")
    offset, position = _long(entry, len(_HEADER))
    _, position = _long(entry, position)
    if len(entry) - position != _DIGEST_BYTES:
        raise CodecError(f"ends in {len(entry) - position} bytes where a leaf has a digest")
    return offset


def _long(data: bytes, position: int) -> tuple[int, int]:
    """An Avro long (zigzag, groups of 7 bits, lowest first), and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        group = data[position]
        position += 1
        value |= (group & 127) << shift
        if group > 127:
            continue
        if (shift and not group) or value >> 64:
            break
        return (value >> 1) ^ -(value & 1), position
    raise CodecError("holds a number that is cut off, too large, or not in its shortest form")


@dataclass(slots=True)
class LeavesSeen:
    """Where the offsets of a shard begin and how far they have come."""

    first: tuple[int, int] | None = None
    """(index, offset)."""
    last_offset: int = -1
    """Of the last leaf, be it in order or not: one step back is one complaint."""

    def follow(self, later: "LeavesSeen") -> Iterator[Complaint]:
        """Go on to the next span."""
        if later.first is None:
            return
        index, offset = later.first
        if offset <= self.last_offset:
            yield index, f"entry {index}: {_out_of_order(offset, self.last_offset)}"
        self.first = self.first or later.first
        self.last_offset = later.last_offset


class LeafOrder:
    """Offsets strictly increase: leaf i is the i-th committed record of its topic-partition."""

    def __init__(self) -> None:
        self.seen = LeavesSeen()

    def take(self, first_index: int, entries: Sequence[bytes]) -> Iterator[Complaint]:
        """See `processors.merkle.fsck.EntryCheck`."""
        seen = self.seen
        for index, entry in enumerate(entries, start=first_index):
            try:
                offset = leaf_offset(entry)
            except CodecError as error:
                yield index, f"entry {index} {error}"
                continue
            if offset <= seen.last_offset:
                yield index, f"entry {index}: {_out_of_order(offset, seen.last_offset)}"
            if seen.first is None:
                seen.first = index, offset
            seen.last_offset = offset


def _out_of_order(offset: int, last_offset: int) -> str:
    return f"offset {offset} does not come after {last_offset}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A shard's checkpoint as the epoch log records it."""

    index: int
    size: int
    root: bytes


@dataclass(slots=True)
class EpochSeen:
    """What the epoch log records: the first and the largest checkpoint of each origin, and the shard list."""

    are_shards_at_hand: bool
    first: dict[str, Recorded] = field(default_factory=dict)
    largest: dict[str, Recorded] = field(default_factory=dict)
    listed: tuple[str, ...] | None = None
    """The origins of the newest signed shard list."""
    checkpoints: int = 0
    foreign: int = 0
    """Entries that claim nothing in this log's name. They prove nothing and harm nobody."""

    def record(self, origin: str, new: Recorded) -> str | None:
        """Note a checkpoint; what is wrong with it, measured by those before it."""
        before = self.largest.get(origin)
        self.first.setdefault(origin, new)
        if before is None or new.size > before.size:
            self.largest[origin] = new
        elif new.size == before.size and new.root != before.root:
            return f"has a second root for {new.size} leaves, entry {before.index} has another: a fork"
        elif new.size < before.size and not self.are_shards_at_hand:
            # An old checkpoint said again by a sealer that was asleep is a prefix, and harms nobody: but only
            # the published shard can show that it is one.
            return f"goes back to {new.size} leaves from {before.size} in entry {before.index}"
        return None

    def follow(self, later: "EpochSeen") -> Iterator[Complaint]:
        """Go on to the next span."""
        for origin, recorded in later.first.items():
            complaint = self.record(origin, recorded)
            if complaint is not None:
                yield recorded.index, f"entry {recorded.index}: the checkpoint of {origin} {complaint}"
        for origin, recorded in later.largest.items():
            self.record(origin, recorded)
        self.listed = later.listed or self.listed
        self.checkpoints += later.checkpoints
        self.foreign += later.foreign


class EpochOrder:
    """Whatever speaks in the log's name is signed by it, and no shard's checkpoint contradicts another.

    `verify(note, name)` raises `FormatError` unless the log signed the note under that name. `published`
    gives the published tree of an origin (None: it has none) where the shards are at hand: then every
    checkpoint must be a prefix of it.
    """

    def __init__(
        self,
        log_name: str,
        list_name: str,
        verify: Callable[[Note, str], None],
        published: Callable[[str], TiledTree | None] | None,
    ) -> None:
        self.seen = EpochSeen(published is not None)
        self._log_name, self._list_name = log_name, list_name
        self._verify, self._published = verify, published

    def take(self, first_index: int, entries: Sequence[bytes]) -> Iterator[Complaint]:
        """See `processors.merkle.fsck.EntryCheck`."""
        for index, entry in enumerate(entries, start=first_index):
            name = entry.partition(b"\n")[0].decode(errors="replace")
            if name != self._log_name and not name.startswith(self._log_name + "/"):
                self.seen.foreign += 1
                continue
            try:
                complaint = self._look(index, name, parse_note(entry))
            except FormatError as error:
                complaint = f"is not what the log signed: {error}"
            if complaint is not None:
                yield index, f"entry {index}: the checkpoint of {name} {complaint}"

    def _look(self, index: int, name: str, note: Note) -> str | None:
        self._verify(note, name)
        if name == self._list_name:
            self.seen.listed = tuple(line.partition(" ")[0] for line in note.text.splitlines()[2:])
            return None
        checkpoint = parse_checkpoint(note.text)
        self.seen.checkpoints += 1
        complaint = self.seen.record(name, Recorded(index, checkpoint.size, checkpoint.root))
        return complaint or (self._compare(checkpoint) if self._published is not None else None)

    def _compare(self, checkpoint: Checkpoint) -> str | None:
        """Whether the published shard contains what was recorded of it."""
        assert self._published is not None  # noqa: S101 - the caller has asked
        try:
            tree = self._published(checkpoint.origin)
            if tree is None:
                return None  # named once, for the shard
            if checkpoint.size > tree.size:
                return f"is of {checkpoint.size} leaves, and only {tree.size} are published: it was cut off"
            root = tree.root_at(checkpoint.size)
        except (MerkleError, FormatError):
            return None  # the shard itself is at fault, and named so when it is checked
        if root != checkpoint.root:
            return f"of {checkpoint.size} leaves is not a prefix of the published shard: a fork"
        return None

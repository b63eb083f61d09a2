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

MAX_DOUBTS = 100
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

    def complaints(self) -> Iterator[Complaint]:
        """Nothing is left to be said at the end."""
        return iter(())


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
    """What the epoch log records of each origin."""

    are_shards_at_hand: bool
    first: dict[str, Recorded] = field(default_factory=dict)
    largest: dict[str, Recorded] = field(default_factory=dict)
    covered: dict[str, int] = field(default_factory=dict)
    """The largest size that is a prefix of what the origin publishes now."""
    listed: dict[str, str] = field(default_factory=dict)
    """The newest signed shard list: the shard id of each origin."""
    shard_ids: dict[str, set[str]] = field(default_factory=dict)
    """Every shard id that a signed list has given an origin; more than one: shards followed each other."""
    doubts: list[tuple[int, str, str]] = field(default_factory=list)
    """(index, origin, reason) of checkpoints that contradict earlier ones, unless another shard followed."""
    checkpoints: int = 0
    foreign: int = 0
    """Entries that claim nothing in this log's name. They prove nothing and harm nobody."""

    def record(self, origin: str, new: Recorded) -> None:
        """Note a checkpoint, and where the shards are not at hand, whether those before it allow it."""
        before = self.largest.get(origin)
        self.first.setdefault(origin, new)
        if before is None or new.size > before.size:
            self.largest[origin] = new
        elif not self.are_shards_at_hand and len(self.doubts) < MAX_DOUBTS:
            if new.size < before.size:
                # One said again by a sealer that was asleep is a prefix, and harms nobody: but only the
                # published shard can show that it is one.
                reason = f"goes back to {new.size} leaves from {before.size} in entry {before.index}"
                self.doubts.append((new.index, origin, reason))
            elif new.root != before.root:
                reason = f"has a second root for {new.size} leaves, entry {before.index} has another: a fork"
                self.doubts.append((new.index, origin, reason))

    def cover(self, origin: str, size: int) -> None:
        """Note that a recorded checkpoint is a prefix of what is published now."""
        self.covered[origin] = max(size, self.covered.get(origin, 0))

    def list_shards(self, listed: dict[str, str]) -> None:
        """Note a signed list."""
        self.listed = listed
        for origin, shard_id in listed.items():
            self.shard_ids.setdefault(origin, set()).add(shard_id)

    def follow(self, later: "EpochSeen") -> Iterator[Complaint]:
        """Go on to the next span; what is to be complained about is only known at the end."""
        for recorded in (later.first, later.largest):
            for origin, each in recorded.items():
                self.record(origin, each)
        for origin, size in later.covered.items():
            self.cover(origin, size)
        for origin, shard_ids in later.shard_ids.items():
            self.shard_ids.setdefault(origin, set()).update(shard_ids)
        self.listed = later.listed or self.listed
        self.doubts += later.doubts
        self.checkpoints += later.checkpoints
        self.foreign += later.foreign
        yield from ()

    def complaints(self) -> Iterator[Complaint]:
        """What contradicts itself, once the whole log was seen."""
        for index, origin, reason in self.doubts:
            if len(self.shard_ids.get(origin, ())) <= 1:
                yield index, _told(index, origin, reason)


class EpochOrder:
    """Whatever speaks in the log's name is signed by it, and no shard's checkpoint contradicts another.

    `verify(note, name)` raises `FormatError` unless the log signed the note under that name. Where the shards
    are at hand, `published` gives the trees of an origin, the present one first (None where that is not
    published), then those of closed shards that it follows; every checkpoint must be a prefix of one of them.
    """

    def __init__(
        self,
        log_name: str,
        list_name: str,
        verify: Callable[[Note, str], None],
        published: Callable[[str], Sequence[TiledTree | None]] | None,
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
                yield index, _told(index, name, complaint)

    def _look(self, index: int, name: str, note: Note) -> str | None:
        self._verify(note, name)
        if name == self._list_name:
            lines = [line.partition(" ") for line in note.text.splitlines()[2:]]
            self.seen.list_shards({origin: shard_id for origin, _, shard_id in lines})
            return None
        checkpoint = parse_checkpoint(note.text)
        self.seen.checkpoints += 1
        self.seen.record(name, Recorded(index, checkpoint.size, checkpoint.root))
        if self._published is None:
            return None
        try:
            return self._compare(checkpoint, self._published(name))
        except (MerkleError, FormatError):
            return None  # a shard that cannot be read is named when it is checked itself

    def _compare(self, checkpoint: Checkpoint, published: Sequence[TiledTree | None]) -> str | None:
        """Whether a published shard of the origin contains what was recorded."""
        for number, tree in enumerate(published):
            if tree is None or checkpoint.size > tree.size:
                continue
            if tree.root_at(checkpoint.size) == checkpoint.root:
                if number == 0:
                    self.seen.cover(checkpoint.origin, checkpoint.size)
                return None
        sizes = [tree.size for tree in published if tree is not None]
        if not sizes:
            return None  # named once, for the shard
        if checkpoint.size > max(sizes):
            return f"is of {checkpoint.size} leaves, and only {max(sizes)} are published: it was cut off"
        return f"of {checkpoint.size} leaves is not a prefix of the published shard: a fork"


def _told(index: int, origin: str, complaint: str) -> str:
    return f"entry {index}: the checkpoint of {origin} {complaint}"

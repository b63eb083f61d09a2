"""Later looks at what was proven before: the newest leaves soon again, and all of them in a slow pass.

A look reads tiles and records as they are now and holds them to the root that is remembered. It runs beside
the rounds, on a copy of what is known; what it found is judged within a round.
"""

import itertools
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.logsource import LogSource
from pipeline.settings import Settings
from pipeline.shard import leaf_of
from pipeline.statestore import Partition
from pipeline.topics import CHECKPOINTS
from processors.integrity.leaves import LeafMismatch, TopicLeaf, compare_leaves
from processors.logentries import leaf_offset
from processors.merkle.errors import MerkleError
from processors.merkle.reader import TiledTree
from schemas.checkpoint import Checkpoint
from schemas.errors import FormatError
from schemas.tile import TILE_WIDTH

READ_DEADLINE_S = 8.0
BATCH = 5000
LARGEST_OFFSET = 2**62
_GONE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001 - public codes
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Look:
    """Leaves of one log to be looked at again: [first, end), in whole bundles but for the last."""

    place: Partition
    source: LogSource
    checkpoint: Checkpoint
    first: int
    end: int
    with_records: bool
    kind: str
    """`recheck` or `scrub`."""


@dataclass(slots=True)
class Seen:
    """What a look found: nothing, an error of the tiles, or records that are not the sealed ones."""

    look: Look
    error: MerkleError | None = None
    leaf: int = 0
    """The first leaf of the bundle at which the error was met."""
    mismatches: Sequence[LeafMismatch] = ()


@dataclass(slots=True)
class _Range:
    seen: Seen
    entries: list[bytes]
    after_offset: int
    from_offset: int
    to_offset: int
    records: list[TopicLeaf]
    is_done: bool = False
    is_gone: bool = False
    """Nothing is kept at these offsets: trimmed, or cut off."""

    def is_read_by(self, message: Message) -> bool:
        """Take one message of the partition; True when it is the last that is needed."""
        error = message.error()
        if error is None:
            record = kafka.to_record(message)
            if record.offset < self.to_offset:
                self.records.append(TopicLeaf(record.offset, leaf_of(record)))
            return record.offset + 1 >= self.to_offset
        self.is_gone = error.code() in _GONE
        if self.is_gone or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the public name
            return True
        raise KafkaException(error)


class SecondLooks:
    """Looks, many at a time; raises KafkaException or KafkaReadError where the topics do not answer."""

    def __init__(self, settings: Settings, admin: AdminClient) -> None:
        self._settings, self._admin = settings, admin

    def take(self, looks: Sequence[Look]) -> list[Seen]:
        """Take every look."""
        outcome: list[Seen] = []
        ranges: list[_Range] = []
        for look in looks:
            seen = Seen(look, leaf=look.first)
            outcome.append(seen)
            try:
                found = self._tiles(seen)
            except MerkleError as error:
                seen.error = error
            else:
                if found is not None:
                    ranges.append(found)
        # One range a partition at a time: a consumer has one position in each.
        while ranges:
            places: dict[Partition, _Range] = {}
            for each in ranges:
                places.setdefault(each.seen.look.place, each)
            self._records(list(places.values()))
            ranges = [each for each in ranges if not each.is_done]
        return outcome

    def _tiles(self, seen: Seen) -> _Range | None:
        look = seen.look
        tree = TiledTree(look.source, look.checkpoint.size, look.checkpoint.root)
        first_bundle = look.first // TILE_WIDTH
        entries: list[bytes] = []
        for index in range(first_bundle, -(-look.end // TILE_WIDTH)):
            seen.leaf = max(look.first, index * TILE_WIDTH)
            entries += tree.bundle(index)
        entries = entries[look.first - first_bundle * TILE_WIDTH :][: look.end - look.first]
        if not look.with_records or not entries:
            return None
        try:
            first, last = self._offset(look, 0, entries), self._offset(look, len(entries) - 1, entries)
            before = self._before(look, tree)
        except FormatError:
            return None  # told by the first look
        begin = min(max(before + 1, 0), LARGEST_OFFSET)  # a forged leaf may name any offset
        return _Range(seen, entries, before, begin, max(first, last) + 1, [])

    def _before(self, look: Look, tree: TiledTree) -> int:
        if look.place[0] == CHECKPOINTS or not look.first:
            return look.first - 1
        return leaf_offset(tree.entry(look.first - 1))

    @staticmethod
    def _offset(look: Look, number: int, entries: list[bytes]) -> int:
        return look.first + number if look.place[0] == CHECKPOINTS else leaf_offset(entries[number])

    def _records(self, ranges: list[_Range]) -> None:
        """Read the records of each range, and then ask what is kept at all: retention may have moved on."""
        waiting = {each.seen.look.place: each for each in ranges}
        for place, start in kafka.start_offsets(self._admin, list(waiting)).items():
            waiting[place].from_offset = max(waiting[place].from_offset, start)
        group = f"{self._settings.log_name}.monitor.look.{os.getpid()}.{next(_numbers)}"
        reader = kafka.consumer(
            self._settings, group, **{"enable.partition.eof": True, "queued.min.messages": 1000}
        )
        deadline_s = time.monotonic() + READ_DEADLINE_S
        try:
            reader.assign([TopicPartition(*place, each.from_offset) for place, each in waiting.items()])
            while waiting:
                if time.monotonic() > deadline_s:
                    raise kafka.KafkaReadError(f"no answer for {next(iter(waiting))} and others")
                for message in reader.consume(BATCH, 0.05):
                    place = (message.topic() or "", message.partition() or 0)
                    if place in waiting and waiting[place].is_read_by(message):
                        del waiting[place]
        finally:
            reader.close()
        places = [each.seen.look.place for each in ranges]
        starts = kafka.start_offsets(self._admin, places)
        ends = kafka.end_offsets(self._admin, places)
        for each in ranges:
            each.is_done = True
            place = each.seen.look.place
            if each.is_gone:
                continue
            found = compare_leaves(
                each.seen.look.first,
                each.entries,
                each.records,
                after_offset=each.after_offset,
                kept_from=starts[place],
                by_index=place[0] == CHECKPOINTS,
            )
            # What lies beyond the end of the topic is its truncation, and told as that.
            each.seen.mismatches = [m for m in found if m.offset < ends[place]]

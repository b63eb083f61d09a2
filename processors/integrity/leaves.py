"""A shard's leaves against its topic: each committed record one leaf, each leaf one record, in offset order.

The comparison knows no trust: the leaves are those under a root that was proven, the records those that the
topic gives now, and where the two differ somebody rewrote one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from processors.logentries import leaf_offset
from schemas.errors import FormatError


@dataclass(frozen=True, slots=True)
class TopicLeaf:
    """A committed record as its topic gives it; `entry` is the leaf that it must have."""

    offset: int
    entry: bytes


class LeafFault(StrEnum):
    """In which way leaves and records differ."""

    ALTERED = "leaf and record differ"
    UNFOUNDED = "a leaf without a record"
    OMITTED = "a record without a leaf"
    DISORDERED = "offsets do not strictly increase"
    UNREADABLE = "an entry that is no leaf"


@dataclass(frozen=True, slots=True)
class LeafMismatch:
    """One difference: `index` counts leaves, `offset` is the record's (-1: the leaf names none)."""

    fault: LeafFault
    index: int
    offset: int


def compare_leaves(
    first_index: int,
    entries: Sequence[bytes],
    records: Sequence[TopicLeaf],
    *,
    after_offset: int,
    kept_from: int = 0,
    by_index: bool = False,
) -> list[LeafMismatch]:
    """Compare leaves `first_index` and following with the records up to the last leaf's offset.

    `after_offset` is the offset of the leaf before the first (-1: there is none). Records below `kept_from`
    are no longer kept, so their leaves have nothing to be compared with. `by_index`: leaf i is the record at
    offset i, as in the epoch log.
    """
    found: list[LeafMismatch] = []
    position, last = 0, after_offset
    for index, entry in enumerate(entries, first_index):
        record = records[position] if position < len(records) else None
        if record is not None and record.entry == entry and last < record.offset and not by_index:
            position, last = position + 1, record.offset
            continue
        offset = index if by_index else _offset_of(entry)
        if offset is None:
            found.append(LeafMismatch(LeafFault.UNREADABLE, index, -1))
            continue
        if offset <= last:
            found.append(LeafMismatch(LeafFault.DISORDERED, index, offset))
            continue
        last = offset
        while position < len(records) and records[position].offset < offset:
            found.append(LeafMismatch(LeafFault.OMITTED, index, records[position].offset))
            position += 1
        if position < len(records) and records[position].offset == offset:
            if records[position].entry != entry:
                found.append(LeafMismatch(LeafFault.ALTERED, index, offset))
            position += 1
        elif offset >= kept_from:
            found.append(LeafMismatch(LeafFault.UNFOUNDED, index, offset))
    return found


def _offset_of(entry: bytes) -> int | None:
    try:
        return leaf_offset(entry)
    except FormatError:
        return None

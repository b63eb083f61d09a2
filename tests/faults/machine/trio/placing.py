"""Finds records whose acknowledgement did not say where they stand, by what they hold."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from processors.model import RawRecord
from tests.faults.machine.ledger import Sent

Content = tuple[str, int, bytes | None, bytes | None]


def place(unplaced: Iterable[Sent], sent: Iterable[Sent], records: Iterable[RawRecord]) -> list[Sent]:
    """Return `unplaced` with their offsets, as far as `records` has them.

    `sent` are those whose place is known; of equal records the one that was sent first stands first.
    """
    known = {(each.topic, each.partition, each.offset) for each in sent}
    free: defaultdict[Content, list[int]] = defaultdict(list)
    for record in records:
        if (record.topic, record.partition, record.offset) not in known:
            free[record.topic, record.partition, record.key, record.value].append(record.offset)
    placed = []
    for each in unplaced:
        offsets = free[each.topic, each.partition, each.key, each.value]
        if offsets:
            placed.append(replace(each, offset=offsets.pop(0)))
    return placed

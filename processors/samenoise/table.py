"""The prints of the last minutes, by their newest signs.

Two prints are alike where their newest 14 signs are the same and of all 48 few differ: a shared trend, or the
rounding of another level, turns the smallest changes round. So one look finds candidates and one XOR judges
each (locality-sensitive hashing: Indyk, Motwani, STOC 1998).
"""

from collections import deque
from typing import NamedTuple

from processors.detect.config import SameNoiseLimits

KEY_SIGNS = 14
MAX_PRINTS = 100_000
"""So many prints are looked up at most, the newest: some 60 MB."""
LOOKED_AT = 8
"""Of prints under one key the newest are compared: where many devices have one source, each meets some."""
_KEY = (1 << KEY_SIGNS) - 1


class Place(NamedTuple):
    """A raw record."""

    topic: str
    partition: int
    offset: int


class Seen(NamedTuple):
    """A print and the device that has it."""

    device_id: str
    boot: int
    sequence: int
    """Of the event at which it ends."""
    time_us: int
    """The broker's time, of the block's last event."""
    place: Place
    """Likewise."""
    code: int
    signs: int


class PrintTable:
    """Prints in the order in which they arrived; they go when they are old, or too many."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[int, int], list[Seen]] = {}
        self._order: deque[tuple[int, int, tuple[int, int]]] = deque()
        """When each arrived (ms), in which record, and its key."""

    def __len__(self) -> int:
        return len(self._order)

    def alike(self, seen: Seen, limits: SameNoiseLimits) -> list[Seen]:
        """List the prints of other devices that are like this one; empty where it says nothing.

        That is where one device has shown it twice: a course that repeats itself, not noise.
        """
        known = self._by_key.get((seen.code, seen.signs & _KEY))
        if known is None:
            return []
        found: dict[str, Seen] = {}
        for each in known[-LOOKED_AT:]:
            if (each.signs ^ seen.signs).bit_count() > limits.differ:
                continue
            if each.device_id == seen.device_id or each.device_id in found:
                return []
            if abs(each.time_us - seen.time_us) <= limits.apart_us:
                found[each.device_id] = each
        return list(found.values())

    def add(self, seen: Seen, arrived_ms: int, offset: int) -> None:
        """Remember a print of the record at `offset`."""
        key = (seen.code, seen.signs & _KEY)
        self._by_key.setdefault(key, []).append(seen)
        self._order.append((arrived_ms, offset, key))
        if len(self._order) > MAX_PRINTS:
            self._drop()

    def expire(self, before_ms: int) -> None:
        """Forget what arrived before."""
        while self._order and self._order[0][0] < before_ms:
            self._drop()

    def oldest_record(self) -> int | None:
        """Return the offset of the record that the oldest print came with; None where there is none."""
        return self._order[0][1] if self._order else None

    def _drop(self) -> None:
        _, _, key = self._order.popleft()
        known = self._by_key[key]
        del known[0]
        if not known:
            del self._by_key[key]

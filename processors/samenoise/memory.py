"""What is remembered of prints and pairs: bounded, and the same after a restart.

The prints themselves are in their topic, so they are not kept a second time: the changelog says from which
record on they are still looked up, and a restart reads those again. Pairs are few; each has a numbered place
in the changelog, which a later pair may get.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator

from processors.detect.errors import StateError
from processors.samenoise.pair import Pair, decode_memory, encode_memory
from processors.samenoise.table import PrintTable

MAX_PAIRS = 4096
MOST_AGES = 4 * MAX_PAIRS
Age = tuple[bool, int, tuple[str, str]]
"""Of a pair: those of which something was told go last, then by the last meeting."""
HEAD = b"head"
_PAIR = b"pair/"


class NoiseMemory:
    """Of one partition of `device.prints`; `begin` is what `changes` wrote, in any order."""

    def __init__(self, begin: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.table = PrintTable()
        self.next_offset = 0
        self.from_offset = 0
        self.quiet_at_us = 0
        """No pair met before that; not kept."""
        self.named: Counter[str] = Counter()
        """In how many open findings a device is named."""
        self._pairs: dict[tuple[str, str], Pair] = {}
        self._place_of: dict[tuple[str, str], int] = {}
        self._touched: dict[int, tuple[str, str]] = {}
        self._by_age: list[Age] | None = None
        """A heap, from the first time that it is asked on; what a pair was before is passed over."""
        taken = set()
        for key, value in begin:
            next_offset, from_offset, pair = decode_memory(value)
            if key == HEAD:
                self.next_offset, self.from_offset = next_offset, from_offset
            elif pair is not None:
                place = _place(key)
                taken.add(place)
                self._pairs[pair.devices], self._place_of[pair.devices] = pair, place
                if pair.told_of is not None:
                    self.named.update(pair.devices)
        self._free = [place for place in range(MAX_PAIRS) if place not in taken]

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs.values())

    @property
    def is_full(self) -> bool:
        """Tell whether a pair must go before another can come."""
        return not self._free

    def pair(self, devices: tuple[str, str]) -> Pair | None:
        """Return what is known of two devices, the lower id first."""
        return self._pairs.get(devices)

    def keep(self, pair: Pair) -> None:
        """Remember a pair as it is now."""
        devices = pair.devices
        place = self._place_of.get(devices)
        if place is None:
            place = self._place_of[devices] = heapq.heappop(self._free)
        self._pairs[devices] = pair
        self._touched[place] = devices
        self._aged(pair)
        self.quiet_at_us = min(self.quiet_at_us, pair.last_us)

    def drop(self, pair: Pair) -> None:
        """Forget a pair."""
        place = self._place_of.pop(pair.devices)
        del self._pairs[pair.devices]
        self._touched[place] = pair.devices
        heapq.heappush(self._free, place)

    def opened(self, pair: Pair) -> None:
        """Note that both devices are named by an open finding."""
        self.named.update(pair.devices)
        self._aged(pair)

    def cleared(self, pair: Pair) -> None:
        """Note that they are not any more."""
        self.named.subtract(pair.devices)
        for device in pair.devices:
            if not self.named[device]:
                del self.named[device]

    def oldest(self) -> Pair:
        """Return the pair that nothing was told of and that met longest ago; else the oldest that was."""
        while True:
            if not self._by_age:
                self._by_age = [_age(pair) for pair in self]
                heapq.heapify(self._by_age)
            age = self._by_age[0]
            pair = self._pairs.get(age[2])
            if pair is not None and _age(pair) == age:
                return pair
            heapq.heappop(self._by_age)

    def _aged(self, pair: Pair) -> None:
        if self._by_age is None:
            return
        heapq.heappush(self._by_age, _age(pair))
        if len(self._by_age) > MOST_AGES:
            self._by_age = None

    def took(self, offset: int) -> None:
        """Note that a record is done."""
        self.next_offset = offset + 1
        oldest = self.table.oldest_record()
        self.from_offset = self.next_offset if oldest is None else oldest

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Write what the next commit must carry: how far it is, and each touched pair once."""
        at = self.next_offset, self.from_offset
        written = [(HEAD, encode_memory(*at, None))]
        for place, devices in self._touched.items():
            is_there = self._place_of.get(devices) == place
            pair = self._pairs[devices] if is_there else None
            written.append((_PAIR + b"%04d" % place, encode_memory(*at, pair)))
        return written

    def committed(self) -> None:
        """Forget what was touched."""
        self._touched.clear()


def _age(pair: Pair) -> Age:
    return pair.told_of is not None, pair.last_us, pair.devices


def _place(key: bytes) -> int:
    number = key.removeprefix(_PAIR)
    if number == key or not number.isdigit() or int(number) >= MAX_PAIRS:
        message = f"memory of noise has a key {key!r}"
        raise StateError(message)
    return int(number)

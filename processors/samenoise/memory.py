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

    def cleared(self, pair: Pair) -> None:
        """Note that they are not any more."""
        self.named.subtract(pair.devices)
        for device in pair.devices:
            if not self.named[device]:
                del self.named[device]

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


def _place(key: bytes) -> int:
    number = key.removeprefix(_PAIR)
    if number == key or not number.isdigit() or int(number) >= MAX_PAIRS:
        message = f"memory of noise has a key {key!r}"
        raise StateError(message)
    return int(number)

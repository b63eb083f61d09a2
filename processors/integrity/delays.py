"""What must not last: how long something has been so, and whether a shard alone is left behind.

Times are the caller's, in seconds of one clock that never goes back.
"""

from collections import deque
from collections.abc import Hashable

KEPT_S = 300.0


class Standing:
    """Since when each condition holds: what is so for a moment only need not be wrong."""

    def __init__(self) -> None:
        self._since: dict[Hashable, float] = {}

    def held_s(self, key: Hashable, now_s: float) -> float:
        """Note that the condition holds, and return for how long it has (0 the first time)."""
        return now_s - self._since.setdefault(key, now_s)

    def end(self, key: Hashable) -> None:
        """Note that it does not hold."""
        self._since.pop(key, None)

    def __len__(self) -> int:
        return len(self._since)


class Growth:
    """When shards grew, to tell one that is left out from a sealer that is away altogether."""

    def __init__(self) -> None:
        self._grown: deque[tuple[float, Hashable]] = deque()

    def grew(self, shard: Hashable, now_s: float) -> None:
        """Note that a shard's published tree has grown."""
        self._grown.append((now_s, shard))
        while self._grown[0][0] < now_s - KEPT_S:
            self._grown.popleft()

    def is_left_out(
        self, shard: Hashable, waiting_since_s: float, now_s: float, patience_s: float, outage_s: float
    ) -> bool:
        """Judge a shard whose records wait for their leaves since `waiting_since_s`.

        Where others have grown in the meantime, the first of them `patience_s` ago, its sealer works and
        passes it by. Where none has, the sealer is away, which is told after `outage_s`.
        """
        if now_s - waiting_since_s >= outage_s:
            return True
        for grown_s, other in self._grown:
            if other != shard and grown_s >= waiting_since_s:
                return now_s - grown_s >= patience_s
        return False


class Unanchored:
    """Sizes of the epoch log, each since when it was seen, until an anchor covers it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, float]] = deque()
        self._newest = 0

    def grown(self, size: int, now_s: float) -> None:
        """Note the published size."""
        if size > self._newest:
            self._newest = size
            self._waiting.append((size, now_s))

    def anchored(self, size: int) -> None:
        """Note that the ledger has an anchor of this size."""
        while self._waiting and self._waiting[0][0] <= size:
            self._waiting.popleft()

    @property
    def oldest_size(self) -> int:
        """The smallest size that waits; 0 where none does."""
        return self._waiting[0][0] if self._waiting else 0

    def waits_s(self, now_s: float) -> float:
        """Return how long the oldest size has waited; 0 when all is anchored."""
        return now_s - self._waiting[0][1] if self._waiting else 0.0

"""How far a consumer may commit whose records are acknowledged in another order than they came in."""

from collections import deque
from collections.abc import Collection


class InOrder:
    """The records of one partition that were given out, and the next offset behind those that are done."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()
        self._next_offset: int | None = None

    def give(self, offset: int) -> None:
        """Note a record that is given out, in offset order; an earlier one again is a new beginning there."""
        while self._waiting and self._waiting[-1] >= offset:
            self._waiting.pop()
        self._waiting.append(offset)

    def next_offset(self, acknowledged: Collection[int]) -> int | None:
        """Return the offset before which every record that was given out is acknowledged; None for none yet.

        Offsets that were never given out (markers of transactions, aborted records) hold nothing up.
        """
        while self._waiting and self._waiting[0] in acknowledged:
            self._next_offset = self._waiting.popleft() + 1
        return self._next_offset

"""Alerts that an output has read and not yet delivered."""

import asyncio
from collections import deque
from collections.abc import Sequence

from processors.model import RawRecord


class Waiting:
    """Alerts that were read and not yet delivered, of one assignment."""

    def __init__(self, next_offset: int) -> None:
        self.records: deque[RawRecord] = deque()
        self.arrived = asyncio.Event()
        self.read_to = self.done_to = next_offset
        """Next offsets: to be read, and behind what was delivered."""
        self.is_paused = False

    def add(self, batch: Sequence[RawRecord]) -> None:
        """Take what was read."""
        if batch:
            self.records.extend(batch)
            self.read_to = batch[-1].offset + 1
            self.arrived.set()

    def done(self, count: int) -> None:
        """Let go of the first so many: they were delivered or given up."""
        for _ in range(count):
            self.done_to = self.records.popleft().offset + 1

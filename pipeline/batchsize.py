"""How many records a worker takes at once: as many as a step of about a second is enough for.

The more there are in a transaction the less each costs: a device that comes often is looked up, written and
judged once for all of it. But a step, in which nobody hears of the worker, must not become long because its
records are dear, or the machine or the broker is slow.
"""

AIM_S = 1.0
LEAST = 500


class BatchSize:
    """The most that the next step takes, between `LEAST` and `most`; a `most` below that holds as it is."""

    def __init__(self, most: int) -> None:
        self._most, self._least = most, min(LEAST, most)
        self.next = min(4 * LEAST, most)

    def learn(self, records: int, seconds: float) -> None:
        """Take note of a step; of smaller ones than were allowed only that they took too long."""
        if seconds > AIM_S:
            self.next = max(self._least, min(self.next, round(records * AIM_S / seconds)))
        elif records >= self.next and seconds < AIM_S / 2:
            self.next = min(self._most, 2 * self.next)

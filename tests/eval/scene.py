"""What an anomaly is injected into: the scored half, a seeded generator, a place to begin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

from tests.eval.adapter import limits
from tests.eval.record import INTERVAL_US, Reading, beside, clean, half

LEAD = 30
"""Rows before an anomaly in which its signals are on too, so that what is normal is known."""
MOSTLY = 0.9
"""So much of an anomaly's time its signals are on; rows in which they are off are not touched."""

Change = Callable[[int, float], float]


@dataclass(frozen=True)
class Injected:
    """A stream with one anomaly, and the time from its first to its last reading, by the broker's clock."""

    readings: Sequence[Reading]
    start_us: int
    end_us: int


class Scene:
    """The second half of the record as one device sends it; `others` is a second device beside it."""

    def __init__(self, seed: str, *, with_others: bool = False) -> None:
        self.rng = Random(seed)
        self.readings = list(clean()[half() :])
        self.others = list(beside()[half() :]) if with_others else []

    def place(self, codes: Sequence[int], rows: int) -> int:
        """Choose where `rows` rows begin in which all signals are mostly on; ValueError if nowhere."""
        on = [all(each.is_on(code) for code in codes) for each in self.readings]
        sums = [0]
        for each in on:
            sums.append(sums[-1] + each)
        last = len(on) - rows - LEAD
        found = [
            at
            for at in range(LEAD, last)
            if sums[at + rows] - sums[at - LEAD] >= MOSTLY * (rows + LEAD) and on[at]
        ]
        if not found:
            message = f"no {rows} rows of {codes} are on together"
            raise ValueError(message)
        return self.rng.choice(found)

    def change(self, code: int, at: int, rows: int, change: Change) -> Injected:
        """Change a signal's values where it is on; `change` gets the row from 0 and the true value."""
        for row in range(rows):
            reading = self.readings[at + row]
            value = reading.value(code)
            if value:
                self.readings[at + row] = reading.replaced(code, change(row, value))
        return self.between(at, rows)

    def between(self, at: int, rows: int) -> Injected:
        """The stream as it stands, with an anomaly of `rows` rows from `at`."""
        merged = sorted([*self.readings, *self.others], key=lambda each: each.append_ms)
        start_us = clean()[half() + at].time_us
        return Injected(merged, start_us, start_us + (rows - 1) * INTERVAL_US)

    def level(self, readings: Sequence[Reading], code: int, at: int, width: int = 31) -> float:
        """The running median of a signal around a row, in its unit; 0 where it is off throughout."""
        around = readings[max(0, at - width // 2) : at + width // 2 + 1]
        values = [value for each in around if (value := each.value(code))]
        return median(values) if values else 0.0

    def direction(self, code: int, at: int, amount: float) -> int:
        """Up (1) or down (-1), by chance where the signal can go both ways and stay in its range."""
        low, high = limits(code)
        level = self.level(self.readings, code, at)
        ways = [sign for sign in (1, -1) if low < level + sign * amount < high]
        return self.rng.choice(ways or [1])

    def within(self, code: int, value: float) -> float:
        """The value, held inside the signal's range, so that only its course is anomalous."""
        low, high = limits(code)
        return min(max(value, low), high)

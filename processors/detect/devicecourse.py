"""A device as a whole: its clock against the broker's, and how often it reports.

The broker's time of an event is later than the device's by the delay on the way. A delay only ever makes
the difference smaller, never larger, so the largest difference seen is the clock's own (the minimum filter
of NTP, RFC 5905 section 10): a leap above it is the clock; a fall below it is a queue, unless it stays
exactly as deep for minutes. A clock that runs backwards shows in the device's own times.
"""

from dataclasses import dataclass

_MANY = 2**31
_FEW_EVENTS = 5
_STEADY_US = 1_000_000
FIRST_BLOCKS = 4
INTERVAL_MEMORY = 1 / 8
_ADOPT_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class CourseLimits:
    """Thresholds of clock and reporting rate."""

    ahead_us: int
    behind_us: int
    steady_us: int
    back_us: int
    rate_ratio: float
    rate_blocks: int


class Course:
    """What is remembered of a device's times. Times in us of either clock; differences device - broker."""

    __slots__ = (
        "append_ms",
        "below",
        "below_since_ms",
        "block_append_ms",
        "block_us",
        "blocks",
        "difference_us",
        "interval_us",
        "off_rate",
        "time_us",
        "top_us",
    )  # fmt: skip

    def __init__(self) -> None:
        self.time_us = self.append_ms = 0
        self.top_us = self.difference_us = 0
        self.below = self.below_since_ms = 0
        self.block_us = self.block_append_ms = self.blocks = self.off_rate = 0
        self.interval_us = 0.0

    def begin(self, time_us: int, append_ms: int) -> None:
        """Take a device's first event."""
        self.time_us, self.append_ms = time_us, append_ms
        self.block_us, self.block_append_ms = time_us, append_ms
        self.top_us = self.difference_us = _difference(time_us, append_ms)

    def irregular(self, time_us: int, append_ms: int, limits: CourseLimits) -> str:
        """Take an event whose time does not simply go on; return what its clock did, empty for nothing."""
        difference = _difference(time_us, append_ms)
        passed = time_us - self.time_us
        what = ""
        if passed < -limits.back_us:
            what = f"went back by more than {limits.back_us // 1_000_000} s"
            self.top_us, self.below = difference, 0
        elif difference > self.top_us + limits.ahead_us:
            # A backlog that is worked off brings the difference up as well, but event by event.
            if passed > self.interval_us + limits.ahead_us:
                what = f"leapt ahead by more than {limits.ahead_us // 1_000_000} s"
            self.top_us, self.below = difference, 0
        elif difference < self.top_us - limits.behind_us:
            if self.below and -_STEADY_US < difference - self.difference_us < _STEADY_US:
                self.below += self.below < _MANY
            else:
                self.below, self.below_since_ms = 1, append_ms
            if self.below >= _FEW_EVENTS and (append_ms - self.below_since_ms) * 1000 >= limits.steady_us:
                what = f"fell behind by more than {limits.behind_us // 1_000_000} s and stays there"
                self.top_us, self.below = difference, 0
        elif difference > self.top_us:
            self.top_us, self.below = difference, 0
        self.difference_us = difference
        return what

    def block_end(self, events: int, limits: CourseLimits) -> tuple[str, float]:
        """Look back on a block: return (the clock's fault or empty, how many times as often it reports).

        The factor is 1.0 where the rate is as before or not known yet.
        """
        took_us, passed_ms = self.time_us - self.block_us, self.append_ms - self.block_append_ms
        self.block_us, self.block_append_ms = self.time_us, self.append_ms
        if took_us <= 0:
            stands = took_us == 0 and passed_ms * 1000 > limits.behind_us
            return ("stands still" if stands else "", 1.0)
        interval = took_us / events
        usual = self.interval_us
        if self.blocks < FIRST_BLOCKS or usual <= 0.0:
            self.blocks += 1
            self.interval_us = usual + (interval - usual) / self.blocks
            return "", 1.0
        factor = usual / interval
        if 1 / limits.rate_ratio < factor < limits.rate_ratio:
            self.off_rate = 0
            self.interval_us += INTERVAL_MEMORY * (interval - usual)
            return "", 1.0
        self.off_rate += 1
        if self.off_rate >= _ADOPT_BLOCKS:
            # So long is no moment: the rate has changed for good, and the finding about it ends.
            self.off_rate, self.interval_us = 0, interval
            return "", 1.0
        return "", factor if self.off_rate >= limits.rate_blocks else 1.0


def _difference(time_us: int, append_ms: int) -> int:
    """Device's time less the broker's, held inside 63 bits whatever a device claims."""
    return max(-(2**62), min(2**62, time_us - append_ms * 1000))

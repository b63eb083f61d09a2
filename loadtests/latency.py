"""Latencies as load-test engineers read them: percentiles, HdrHistogram's text format, a line of summary.

All are worked out from every single value, in ms, so nothing is lost between the bounds of buckets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PERCENTILES = (("50pct", 50.0), ("75pct", 75.0), ("95pct", 95.0), ("99pct", 99.0), ("999pct", 99.9),
               ("9999pct", 99.99), ("99999pct", 99.999))  # fmt: skip
"""Names as the OpenMessaging Benchmark has them."""
TICKS_PER_HALF = 5
"""Steps to each halving of the distance to 100 %, HdrHistogram's default."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Latencies:
    """Latencies in ms, sorted."""

    sorted_ms: Values

    @classmethod
    def of_ns(cls, values: npt.NDArray[np.int64]) -> "Latencies":
        """Take latencies in ns."""
        return cls(np.sort(values).astype(np.float64) / 1e6)

    def __len__(self) -> int:
        return len(self.sorted_ms)

    def at(self, percentile: float) -> float:
        """Return the smallest value that so many percent are not above; NaN of none."""
        count = len(self.sorted_ms)
        if not count:
            return math.nan
        # Halves of a rounding error must not lead to the next value.
        place = math.ceil(round(percentile * count / 100, 6)) - 1
        return float(self.sorted_ms[min(count - 1, max(0, place))])

    @property
    def mean(self) -> float:
        """The mean; NaN of none."""
        return float(self.sorted_ms.mean()) if len(self.sorted_ms) else math.nan

    @property
    def most(self) -> float:
        """The largest; NaN of none."""
        return float(self.sorted_ms[-1]) if len(self.sorted_ms) else math.nan

    def quantiles(self) -> dict[str, float]:
        """Every percentile that HdrHistogram's iteration stops at, as {percentile: ms}."""
        return {f"{percentile:.6g}": value for percentile, value, _ in self._steps()}

    def summary(self) -> dict[str, Any]:
        """Count, mean, percentiles and maximum in ms, rounded to a microsecond; None where there is none."""
        found = {"avg": self.mean, **{name: self.at(at) for name, at in PERCENTILES}, "max": self.most}
        rounded = {name: None if math.isnan(each) else round(each, 3) for name, each in found.items()}
        return {"count": len(self), **rounded}

    def hgrm(self) -> str:
        """The percentile distribution as HdrHistogram's `outputPercentileDistribution` writes it."""
        lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
        for percentile, value, count in self._steps():
            share = percentile / 100
            if share < 1:
                lines.append(f"{value:12.3f} {share:2.12f} {count:10d} {1 / (1 - share):14.2f}")
            else:
                lines.append(f"{value:12.3f} {share:2.12f} {count:10d}")
        deviation = float(self.sorted_ms.std()) if len(self) else 0.0
        mean, most = (self.mean, self.most) if len(self) else (0.0, 0.0)
        lines.append(f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]")
        lines.append(f"#[Max     = {most:12.3f}, Total count    = {len(self):12d}]")
        lines.append(f"#[Buckets = {0:12d}, SubBuckets     = {0:12d}]")
        return "\n".join(lines) + "\n"

    def _steps(self) -> list[tuple[float, float, int]]:
        """Percentile, value, and how many values are not above it: ever finer towards 100."""
        steps: list[tuple[float, float, int]] = []
        count, percentile = len(self), 0.0
        while count:
            value = self.at(percentile)
            reached = int(np.searchsorted(self.sorted_ms, value, side="right"))
            if reached >= count:
                steps.append((100.0, value, count))
                break
            steps.append((percentile, value, reached))
            halvings = int(math.log2(100 / (100 - percentile))) + 1
            percentile += 100 / (TICKS_PER_HALF * 2**halvings)
        return steps


def summary_line(sent: int, sent_bytes: int, seconds: float, latencies: Latencies) -> str:
    """The last line of kafka-producer-perf-test, with the median and the other percentiles as there."""
    rate = sent / seconds if seconds > 0 else 0.0
    megabytes = sent_bytes / seconds / (1024 * 1024) if seconds > 0 else 0.0
    percentiles: Sequence[tuple[float, str]] = ((50, "50th"), (95, "95th"), (99, "99th"), (99.9, "99.9th"))
    told = ", ".join(f"{_whole(latencies.at(each))} ms {name}" for each, name in percentiles)
    mean, most = (0.0 if math.isnan(each) else each for each in (latencies.mean, latencies.most))
    return (
        f"{sent} records sent, {rate:.1f} records/sec ({megabytes:.2f} MB/sec), "
        f"{mean:.2f} ms avg latency, {most:.2f} ms max latency, {told}."
    )


def _whole(value: float) -> int:
    return 0 if math.isnan(value) else round(value)

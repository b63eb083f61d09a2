"""Does a process's memory grow? A robust answer from samples that have steps, spikes and restarts in them."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Sample = tuple[float, int, int]
"""Seconds, pid, resident bytes."""
MIB = 1 << 20
WARM_S = 120.0
"""Caches fill and pools grow for so long after a start; what comes then must be level."""
LEAST_S = 240.0
"""Over less than this a slope says nothing."""
MOST_POINTS = 200
ALLOWED_MIB, ALLOWED_SHARE = 12.0, 0.06
"""A process is level when it gains less over half the run than the larger of these (share of its median)."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What the samples of one process say."""

    samples: int
    starts: int
    max_mib: float
    median_mib: float
    slope_mib_per_h: float | None
    """Theil-Sen over the last life, warm-up left out; None where that was too short."""
    second_half_mib: float | None
    """What that slope adds up to over half the run."""
    verdict: str
    """flat, grows or too short."""

    def to_json(self) -> dict[str, Any]:
        """The form of the report."""
        return asdict(self)

    @staticmethod
    def heading() -> str:
        return (
            f"{'process':<12} {'starts':>6} {'max':>9} {'median':>9} {'slope/h':>10} {'2nd half':>9}  verdict"
        )

    @staticmethod
    def line(name: str, row: dict[str, Any]) -> str:
        slope, grown = row["slope_mib_per_h"], row["second_half_mib"]
        fitted = f"{slope:>+9.1f}M {grown:>+8.1f}M" if slope is not None else f"{'-':>10} {'-':>9}"
        return (
            f"{name:<12} {row['starts']:>6} {row['max_mib']:>8.0f}M {row['median_mib']:>8.0f}M {fitted}  "
            f"{row['verdict']}"
        )


def judge(samples: Sequence[Sample], *, from_s: float, half_s: float) -> Growth:
    """Judge one process; `from_s` is when the steady part began, `half_s` half its length."""
    lives = [
        pid
        for pid, before in zip(samples, [None, *samples], strict=False)
        if not before or before[1] != pid[1]
    ]
    resident = [size / MIB for _, _, size in samples]
    last_pid = samples[-1][1]
    life = [(at, size / MIB) for at, pid, size in samples if pid == last_pid]
    began_s = max(life[0][0] + WARM_S, from_s + half_s)
    level = [point for point in life if point[0] >= began_s]
    common = {
        "samples": len(samples),
        "starts": len(lives),
        "max_mib": round(max(resident), 1),
        "median_mib": round(statistics.median(resident), 1),
    }
    if not level or level[-1][0] - level[0][0] < LEAST_S:
        return Growth(**common, slope_mib_per_h=None, second_half_mib=None, verdict="too short")  # type: ignore[arg-type]
    slope = theil_sen(level)
    grown = slope * half_s
    allowed = max(ALLOWED_MIB, ALLOWED_SHARE * statistics.median(size for _, size in level))
    return Growth(
        **common,  # type: ignore[arg-type]
        slope_mib_per_h=round(slope * 3600, 2),
        second_half_mib=round(grown, 2),
        verdict="grows" if grown > allowed else "flat",
    )


def theil_sen(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope of all pairs of points: a third of them may be anything."""
    step = max(1, len(points) // MOST_POINTS)
    few = points[::step]
    slopes = [(y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(few) for x2, y2 in few[i + 1 :] if x2 > x1]
    return statistics.median(slopes)

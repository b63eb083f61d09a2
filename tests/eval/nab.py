"""The scoring of the Numenta Anomaly Benchmark, for detections instead of a threshold over scores.

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark", ICMLA
2015, section III: a window earns for its earliest detection, the more the earlier; a window without one
costs; a detection outside of windows costs, less right behind one. The weights are the benchmark's published
profiles. A score of 0 is a detector that says nothing, 100 one that detects every window on its first row.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.eval.series import Series

PROBATION, PROBATION_ROWS = 0.15, 5000
"""The first 15 % of a series, at most of 5,000 rows, are to learn from: nothing in them counts."""
_FAR_BEHIND = 3.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What a true and a false positive and a missed window weigh."""

    true_positive: float
    false_positive: float
    false_negative: float


PROFILES: Mapping[str, Profile] = {
    "standard": Profile(1.0, 0.11, 1.0),
    "reward_low_FP_rate": Profile(1.0, 0.22, 1.0),
    "reward_low_FN_rate": Profile(1.0, 0.11, 2.0),
}


@dataclass(frozen=True)
class Found:
    """A series and the rows at which something was detected."""

    series: Series
    rows: Sequence[int]


def scaled_sigmoid(position: float) -> float:
    """Worth of a detection at a position in widths of the window: -1 its begin, 0 its end, 3 far behind."""
    return -1.0 if position >= _FAR_BEHIND else 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


def probation(rows: int) -> int:
    """How many first rows of a series do not count."""
    return math.floor(PROBATION * min(rows, PROBATION_ROWS))


def scored_windows(series: Series) -> list[tuple[int, int]]:
    """The windows that do not lie in the probation wholly."""
    first = probation(len(series.values))
    return [window for window in series.windows if window[1] >= first]


def raw_score(found: Found, profile: Profile) -> float:
    """The sum of what the detections of one series earn and cost, unscaled."""
    series, first = found.series, probation(len(found.series.values))
    best: dict[tuple[int, int], float] = {}
    score = 0.0
    for row in sorted(set(found.rows)):
        if row < first:
            continue
        inside = next((window for window in series.windows if window[0] <= row <= window[1]), None)
        if inside is None:
            score += profile.false_positive * scaled_sigmoid(_behind(row, series.windows))
            continue
        # The row after the end is position 0, so that a detection on the last row still earns.
        position = -(inside[1] - row + 1) / (inside[1] - inside[0] + 1)
        worth = profile.true_positive * scaled_sigmoid(position) / scaled_sigmoid(-1.0)
        best[inside] = max(best.get(inside, -math.inf), worth)
    missed = sum(window not in best for window in scored_windows(series))
    return score + sum(best.values()) - profile.false_negative * missed


def _behind(row: int, windows: Iterable[tuple[int, int]]) -> float:
    """How many widths a row lies behind the last window before it; far where there is none."""
    before = [window for window in windows if window[1] < row]
    if not before:
        return _FAR_BEHIND
    begin, end = before[-1]
    return (row - end) / (end - begin) if end > begin else _FAR_BEHIND


def score(found: Sequence[Found], profile: Profile) -> float | None:
    """The score of a corpus, 0 for silence and 100 for perfection; None where no window counts."""
    windows = sum(len(scored_windows(each.series)) for each in found)
    if not windows:
        return None
    silence = -profile.false_negative * windows
    perfection = profile.true_positive * windows
    raw = sum(raw_score(each, profile) for each in found)
    return 100.0 * (raw - silence) / (perfection - silence)


def summary(found: Sequence[Found]) -> dict[str, Any]:
    """Scores by profile, and plainly: windows found, and detections that lie in one."""
    windows = hit = detections = right = 0
    for each in found:
        first = probation(len(each.series.values))
        rows = [row for row in set(each.rows) if row >= first]
        scored = scored_windows(each.series)
        windows += len(scored)
        hit += sum(any(begin <= row <= end for row in rows) for begin, end in scored)
        detections += len(rows)
        right += sum(any(begin <= row <= end for begin, end in scored) for row in rows)
    return {
        "series": len(found),
        "windows": windows,
        "detections": detections,
        "precision": round(right / detections, 3) if detections else None,
        "recall": round(hit / windows, 3) if windows else None,
        "scores": {name: _rounded(score(found, profile)) for name, profile in PROFILES.items()},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)

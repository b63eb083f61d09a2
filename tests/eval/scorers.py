"""The baselines: what scores an event, learning as it goes. The higher, the stranger.

river's models (Montiel et al., "River: machine learning for streaming data in Python", JMLR 22, 2021) get
every signal that is on, and two numbers that our rules know as well: the time since the last event, and how
far the device's clock is from the broker's. river is imported only when a model is made.
"""

import pickle
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from schemas.mdc import BY_NAME
from tests.eval.record import INTERVAL_US, Reading, clean, half

REQUIREMENTS = "tests/eval/requirements.txt"
INTERVAL, CLOCK = "interval_s", "clock_s"
QUANTILE = 0.99
GRACE_EVENTS = 30
"""So many values of a number are learned before its z-score counts: the deviation of two values is none."""
TREES, HEIGHT, WINDOW = 10, 8, 250  # river's defaults, and those of its documentation
# Alarm limits as bedside monitors for adults have them out of the box; makers differ by a few units.
BEDSIDE = {
    "hr": (50.0, 120.0),
    "pulse": (50.0, 120.0),
    "resp": (8.0, 30.0),
    "spo2": (90.0, 105.0),
    "abpsys": (90.0, 160.0),
    "abpdias": (50.0, 90.0),
    "abpmean": (60.0, 110.0),
    "nbpsys": (90.0, 160.0),
    "nbpdias": (50.0, 90.0),
    "nbpmean": (60.0, 110.0),
}


class RiverMissingError(RuntimeError):
    """The baselines cannot be run; the message says what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"river is not installed ({why}): run make eval, or pip install -r {REQUIREMENTS}, or leave the "
            "baselines out with --no-baselines"
        )


def find_river(folder: Path | None) -> None:
    """Make river importable, from `folder` if it is installed there; raises RiverMissingError.

    The folder comes last on the path, so that nothing in it replaces what the project is pinned to.
    """
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        import river.anomaly  # noqa: F401
    except ImportError as error:
        raise RiverMissingError(str(error)) from error


class Scorer(ABC):
    """A baseline's model of one device."""

    name: str

    @abstractmethod
    def score(self, reading: Reading) -> float:
        """Score an event and learn from it."""

    def saved(self) -> bytes:
        """The model as it is, for `pickle.loads`."""
        return pickle.dumps(self)


class Bedside(Scorer):
    """Plain limits by signal: 1.0 at a limit, and more the further outside, in half widths of the range."""

    name = "bedside limits"

    def __init__(self) -> None:
        self._limits = {BY_NAME[name].code: limits for name, limits in BEDSIDE.items()}

    def score(self, reading: Reading) -> float:
        """How far the worst signal is from the middle of its limits."""
        worst = 0.0
        for code, value in zip(reading.codes, reading.values, strict=True):
            limits = self._limits.get(code)
            if limits and value:  # zero: the sensor is off, which a monitor tells otherwise
                low, high = limits
                worst = max(worst, abs(value - (low + high) / 2) * 2 / (high - low))
        return worst


class _Features:
    """An event as named numbers."""

    def __init__(self) -> None:
        self._last_ms = 0

    def of(self, reading: Reading) -> dict[str, float]:
        found = {str(code): value for code, value in zip(reading.codes, reading.values, strict=True) if value}
        if self._last_ms:
            found[INTERVAL] = (reading.append_ms - self._last_ms) / 1000
        found[CLOCK] = (reading.device_us - reading.time_us) / 1e6
        self._last_ms = reading.append_ms
        return found


class ZScore(Scorer):
    """river's StandardAbsoluteDeviation of each number; the worst counts."""

    name = "river z-score"

    def __init__(self) -> None:
        self._features = _Features()
        self._models: dict[str, Any] = {}
        self._seen: Counter[str] = Counter()

    def score(self, reading: Reading) -> float:
        """The largest distance from a mean, in standard deviations."""
        from river import anomaly

        worst = 0.0
        for name, value in self._features.of(reading).items():
            model = self._models.get(name)
            if model is None:
                model = self._models[name] = anomaly.StandardAbsoluteDeviation()
            self._seen[name] += 1
            if self._seen[name] > GRACE_EVENTS:
                worst = max(worst, model.score_one(None, value))
            model.learn_one(None, value)
        return worst


class HalfSpace(Scorer):
    """river's HalfSpaceTrees over all numbers together."""

    name = "river half-space trees"

    def __init__(self) -> None:
        self._features, self._model = _Features(), _trees()

    def score(self, reading: Reading) -> float:
        """The trees' score, 0 to 1."""
        features = self._features.of(reading)
        found = float(self._model.score_one(features))
        self._model.learn_one(features)
        return found


class QuantileFiltered(Scorer):
    """river's QuantileFilter: the trees' score by its running quantile; above it they do not learn."""

    name = "river quantile filter"

    def __init__(self) -> None:
        from river import anomaly

        self._features = _Features()
        self._model = anomaly.QuantileFilter(_trees(), q=QUANTILE)

    def score(self, reading: Reading) -> float:
        """The score in units of the quantile: 1.0 is where the filter itself would say anomaly."""
        features = self._features.of(reading)
        found = float(self._model.score_one(features))
        usual = self._model.quantile.get() or 1.0
        self._model.learn_one(features)
        return found / usual


SCORERS: tuple[type[Scorer], ...] = (Bedside, ZScore, HalfSpace, QuantileFiltered)


def _trees() -> Any:
    from river import anomaly

    return anomaly.HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, limits=_ranges(), seed=1)


@cache
def _ranges() -> dict[str, tuple[float, float]]:
    """The range of each number in the first half, and half as much again at both ends."""
    ranges = {}
    for name, values in _tuning_values().items():
        low, high = min(values), max(values)
        margin = max((high - low) / 2, 1.0)
        ranges[name] = (low - margin, high + margin)
    interval_s = INTERVAL_US / 1e6
    return {**ranges, INTERVAL: (0.0, 2 * interval_s), CLOCK: (-interval_s, interval_s)}


def _tuning_values() -> dict[str, list[float]]:
    found: dict[str, list[float]] = {
        str(BY_NAME[name].code): [0.0, 2 * high] for name, (_, high) in BEDSIDE.items()
    }
    seen: dict[str, list[float]] = {}
    for reading in clean()[: half()]:
        for code, value in zip(reading.codes, reading.values, strict=True):
            if value:
                seen.setdefault(str(code), []).append(value)
    return found | seen


def learn(scorer: Scorer, readings: Iterable[Reading]) -> Scorer:
    """Let a scorer see readings; return it."""
    for reading in readings:
        scorer.score(reading)
    return scorer

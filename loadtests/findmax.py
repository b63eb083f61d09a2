"""Searches for the highest rate that is sustained: what waits stays bounded and the 99th percentile is met.

Rates rise by a factor until one is not sustained, then the gap is halved; a step below the best is held for
as long as was asked for, and where it does not hold that long a lower one is. The measuring is somebody
else's: a function of rate and seconds.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

FACTOR = 1.6
STEP_BACK = 0.88
"""What a system bears for seconds it hardly ever bears for a minute: the first rate that is to be held is
already one step below. Each that does not hold costs a minute and the most records of all."""
CONFIRMATIONS = 4


@dataclass(frozen=True, slots=True)
class Trial:
    """What one rate led to."""

    rate: float
    seconds: float
    p99_ms: float
    """From the intended moment until accepted."""
    lag: int
    """Raw records that waited when the last one was sent."""
    sustained: bool
    why_not: str = ""
    """Empty where it is sustained."""


@dataclass(slots=True)
class Found:
    """The outcome of a search: the confirmed trial, if there is one, and all trials in order."""

    confirmed: Trial | None = None
    why_not: str = ""
    """Why nothing was confirmed."""
    trials: list[Trial] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Members by name."""
        return {
            "rate": self.confirmed.rate if self.confirmed else None,
            "why_not": self.why_not,
            "trials": [asdict(each) for each in self.trials],
        }


Measure = Callable[[float, float], Trial | None]
"""(rate, seconds) -> what it led to; None where there is nothing left to send."""


def find_max(  # noqa: PLR0917 - the bounds of a search
    measure: Measure,
    start: float,
    trial_s: float,
    confirm_s: float,
    tolerance: float = 0.08,
    most_trials: int = 12,
    on_trial: Callable[[Trial], None] = lambda _trial: None,
) -> Found:
    """Search from `start` records a second until `tolerance` from the limit or `most_trials`; then hold."""
    found = Found()

    def tried(rate: float, seconds: float) -> Trial | None:
        trial = measure(round(rate), seconds)
        if trial is not None:
            found.trials.append(trial)
            on_trial(trial)
        return trial

    good, bad = 0.0, 0.0
    rate = start
    while len(found.trials) < most_trials and not (good and bad and bad / good < 1 + tolerance):
        trial = tried(rate, trial_s)
        if trial is None:
            break
        if trial.sustained:
            good = max(good, trial.rate)
        else:
            bad = min(bad or trial.rate, trial.rate)
        rate = _next(good, bad)
        if rate < 1:
            break
    found.why_not = "no rate held as long as was asked for" if good else "no rate was sustained"
    for _ in range(CONFIRMATIONS if good else 0):
        good *= STEP_BACK
        trial = tried(good, confirm_s)
        if trial is None:
            found.why_not = "too few records were left to hold a rate: give more"
            break
        if trial.sustained:
            found.confirmed, found.why_not = trial, ""
            break
    return found


def _next(good: float, bad: float) -> float:
    """The rate to try next: above what is good so far, below what is bad."""
    if not bad:
        return good * FACTOR
    return (good + bad) / 2 if good else bad / (FACTOR * FACTOR)

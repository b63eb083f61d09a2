"""Baselines before the same trials, at the threshold at which they give as many false alarms as our rules."""

import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from statistics import mean
from typing import Any

from tests.eval.anomalies import ANOMALIES
from tests.eval.record import DAY_US, DEVICE, INTERVAL_US, Reading, beside, clean, half
from tests.eval.scene import Injected, Scene
from tests.eval.scorers import SCORERS, Scorer, learn
from tests.eval.trials import GRACE_US, Grade, stream

DEVICES = 3
ONE_MORE = DAY_US / (half() * INTERVAL_US)
"""A single alarm in the scored half, per device-day."""
QUIET_EVENTS = 10
"""So many events below the threshold end an alarm; until then it is the same one, as with our findings."""

Scored = Sequence[tuple[str, int, float]]
"""Events as device, time in us, and score."""


def openings(scored: Scored, threshold: float) -> Iterator[tuple[str, int]]:
    """Device and time of each alarm that a threshold makes of scores."""
    quiet: dict[str, int] = {}
    for device, time_us, score in scored:
        if score >= threshold:
            if quiet.get(device, QUIET_EVENTS) >= QUIET_EVENTS:
                yield device, time_us
            quiet[device] = 0
        else:
            quiet[device] = quiet.get(device, QUIET_EVENTS) + 1


def threshold_for(runs: Sequence[Scored], alarms: float) -> float:
    """The lowest threshold at which clean runs give no more than so many alarms together.

    Looked for among the highest tenth of the scores and above the middle one: a threshold below makes one
    alarm that never ends.
    """
    every = sorted((score for run in runs for _, _, score in run), reverse=True)
    middle = every[len(every) // 2]
    scores = sorted({each for each in every[: max(1, len(every) // 10)] if each > middle}, reverse=True)
    best = math.nextafter(every[0], math.inf)
    for score in scores:
        if sum(1 for run in runs for _ in openings(run, score)) > alarms:
            break
        best = score
    return best


class Baseline:
    """One kind of scorer, warm from the first half, with a threshold for each rate of false alarms."""

    def __init__(self, kind: type[Scorer], rates: Sequence[float]) -> None:
        self._kind = kind
        scored = clean()[half() :]
        joins = [device * half() // max(1, DEVICES - 1) for device in range(DEVICES)]
        runs = [self.scored(scored, joined) for joined in joins]
        device_days = DEVICES * len(scored) * INTERVAL_US / DAY_US
        self.thresholds = [threshold_for(runs, rate * device_days + 1e-9) for rate in rates]
        self.rates = [
            sum(1 for run in runs for _ in openings(run, threshold)) / device_days
            for threshold in self.thresholds
        ]
        """False alarms per device-day at each threshold: at most those that were allowed."""
        self._known = {others: self._clean_openings(with_others=others) for others in (False, True)}

    def _clean_openings(self, *, with_others: bool) -> list[frozenset[tuple[str, int]]]:
        scored = self.scored(Scene("", with_others=with_others).between(0, 1).readings)
        return [frozenset(openings(scored, threshold)) for threshold in self.thresholds]

    @cache  # noqa: B019 - three baselines live as long as the run
    def _warm(self, device: str, joined: int) -> bytes:
        past = (clean() if device == DEVICE else beside())[joined : half()]
        return learn(self._kind(), past).saved()

    def scored(self, readings: Sequence[Reading], joined: int = 0) -> Scored:
        """Score readings of the second half by models that saw the first from row `joined` on."""
        models: dict[str, Scorer] = {
            device: pickle.loads(self._warm(device, joined)) for device in {each.device for each in readings}
        }
        return [(each.device, each.time_us, models[each.device].score(each)) for each in readings]

    def finds(self, injected: Injected, *, two_devices: bool) -> list[bool]:
        """For each threshold, whether an alarm opens within an anomaly that the clean stream has not."""
        scored, end_us = self.scored(injected.readings), injected.end_us + GRACE_US
        return [
            any(
                injected.start_us <= time_us <= end_us and (device, time_us) not in known
                for device, time_us in openings(scored, threshold)
            )
            for threshold, known in zip(self.thresholds, self._known[two_devices], strict=True)
        ]

    def cpu_us_per_event(self, readings: Sequence[Reading]) -> float:
        """CPU to score and learn an event, in microseconds."""
        model: Scorer = pickle.loads(self._warm(DEVICE, 0))
        started = time.process_time_ns()
        learn(model, readings)
        return (time.process_time_ns() - started) / 1000 / len(readings)


def compare(
    ours: Mapping[str, Grade],
    *,
    false_alarms_per_device_day: float,
    cpu_us: float,
    events: Sequence[Reading],
    seed: int,
    told: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Recall of every baseline on the trials of `ours` (a grade for each anomaly), and CPU on `events`.

    `recall` is at the given rate, `lenient` at one false alarm more in the scored half: none at all in so
    short a time is a hard and uncertain measure for any method.
    """
    rates = false_alarms_per_device_day, false_alarms_per_device_day + ONE_MORE
    methods = {}
    for kind in SCORERS:
        baseline = Baseline(kind, rates)
        found = {name: _found(baseline, name, grade, seed) for name, grade in ours.items()}
        equal, lenient = (
            _summary({name: each[at] for name, each in found.items()}, baseline.rates[at])
            for at in range(len(rates))
        )
        cpu = round(baseline.cpu_us_per_event(events), 2)
        methods[kind.name] = {**equal, "cpu_us_per_event": cpu, "lenient": lenient}
        told(f"{kind.name}: mean recall {equal['mean_recall']}, leniently {lenient['mean_recall']}")
    own = _summary({name: grade.recall for name, grade in ours.items()}, false_alarms_per_device_day)
    return {"ours": {**own, "cpu_us_per_event": round(cpu_us, 2)}, "methods": methods}


def _found(baseline: Baseline, name: str, grade: Grade, seed: int) -> list[float]:
    """Recall at each of the baseline's thresholds."""
    anomaly = ANOMALIES[name]
    trials = [
        baseline.finds(stream(anomaly, grade.strength, f"{seed}/{trial}"), two_devices=anomaly.two_devices)
        for trial in range(grade.trials)
    ]
    return [mean(each) for each in zip(*trials, strict=True)]


def _summary(recall: Mapping[str, float], rate: float) -> dict[str, Any]:
    return {
        "mean_recall": round(mean(recall.values()), 3),
        "false_alarms_per_device_day": round(rate, 3),
        "recall": {name: round(each, 3) for name, each in recall.items()},
    }

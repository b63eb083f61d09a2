"""Runs the detectors over clean and injected streams, and counts."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import median

from tests.eval.adapter import Alarm, Detection, States
from tests.eval.anomalies import ANOMALIES, Anomaly
from tests.eval.record import DAY_US, DEVICE, INTERVAL_US, beside, clean, half
from tests.eval.scene import Injected, Scene

DEVICES = 12
"""Clean devices: each joins at another place of the first half, from its beginning to its end, so each has
another past; all then send the second half, and only that is counted."""
GRACE_US = 10 * INTERVAL_US
"""So long after its end an anomaly may still be found: rules look at windows of several rows."""


@dataclass
class Grade:
    """What came of one anomaly at one strength."""

    strength: float
    trials: int = 0
    found: int = 0
    false_alarms: int = 0
    """Findings that opened outside of the anomaly and its grace."""
    delays_s: list[float] = field(default_factory=list)
    trials_by_rule: Counter[str] = field(default_factory=Counter)
    """In how many trials a rule was among those that found it."""
    delays_by_rule: dict[str, list[float]] = field(default_factory=dict)
    false_by_rule: Counter[str] = field(default_factory=Counter)

    @property
    def recall(self) -> float:
        """Share of the trials in which the anomaly was found."""
        return self.found / self.trials

    @property
    def precision(self) -> float | None:
        """Anomalies found among all that was found; None where nothing was."""
        told = self.found + self.false_alarms
        return self.found / told if told else None

    @property
    def delay_s(self) -> float | None:
        """Median time from the anomaly's first reading to the first finding."""
        return median(self.delays_s) if self.delays_s else None


@dataclass(frozen=True)
class CleanRun:
    """What the detectors say where nothing is wrong."""

    device_days: float
    alarms: Sequence[Alarm]

    @property
    def per_device_day(self) -> float:
        """False alarms of all rules together."""
        return len(self.alarms) / self.device_days

    @property
    def by_rule(self) -> Counter[str]:
        """The same, by rule."""
        return Counter(alarm.rule for alarm in self.alarms)


@cache
def warm(joined: int = 0, *, with_others: bool = False) -> States:
    """States after the first half, for a device that joined at row `joined` of it."""
    readings = list(clean()[joined : half()])
    if with_others:
        readings += beside()[: half()]
    detection = Detection()
    detection.findings(sorted(readings, key=lambda each: each.append_ms))
    return detection.states()


def clean_run(devices: int = DEVICES) -> CleanRun:
    """Run clean devices; a device-day is a day of one device's scored half."""
    scored = clean()[half() :]
    alarms: list[Alarm] = []
    for device in range(devices):
        joined = device * half() // max(1, devices - 1)
        alarms += Detection(warm(joined)).alarms(scored)
    span_us = len(scored) * INTERVAL_US
    return CleanRun(devices * span_us / DAY_US, alarms)


@cache
def _clean_marks(*, with_others: bool) -> frozenset[tuple[str, str, str, int]]:
    scene = Scene("", with_others=with_others)
    readings = scene.between(0, 1).readings
    return frozenset(_mark(each) for each in Detection(warm(with_others=with_others)).alarms(readings))


def _mark(alarm: Alarm) -> tuple[str, str, str, int]:
    return alarm.rule, alarm.device, alarm.signal, alarm.place


def stream(anomaly: Anomaly, strength: float, seed: str) -> Injected:
    """Inject one anomaly: the same for the same seed, whoever is to find it."""
    scene = Scene(f"{seed}/{anomaly.name}/{strength:g}", with_others=anomaly.two_devices)
    return anomaly.inject(scene, strength)


def run_trial(anomaly: Anomaly, strength: float, seed: str) -> tuple[Injected, list[Alarm]]:
    """Inject one anomaly; return the stream with it, and what alarms on that stream."""
    injected = stream(anomaly, strength, seed)
    return injected, Detection(warm(with_others=anomaly.two_devices)).alarms(injected.readings)


def run_grade(anomaly: Anomaly, strength: float, *, trials: int, seed: int) -> Grade:
    """Run one anomaly at one strength `trials` times, each at another place or signal."""
    known = _clean_marks(with_others=anomaly.two_devices)
    grade = Grade(strength)
    for number in range(trials):
        injected, alarms = run_trial(anomaly, strength, f"{seed}/{number}")
        count(grade, injected, alarms, is_new=lambda alarm: _mark(alarm) not in known)
    return grade


def count(grade: Grade, injected: Injected, alarms: Sequence[Alarm], is_new: Callable[[Alarm], bool]) -> None:
    """Add one trial. An alarm within the anomaly's time counts only if the clean stream has it not."""
    grade.trials += 1
    end_us = injected.end_us + GRACE_US
    first: dict[str, float] = {}
    for alarm in alarms:
        inside = injected.start_us <= alarm.time_us <= end_us
        if inside and is_new(alarm):
            first.setdefault(alarm.rule, (alarm.time_us - injected.start_us) / 1e6)
        elif alarm.device == DEVICE or is_new(alarm):
            # What the second, borrowed device says of its own is not of this device.
            grade.false_alarms += 1
            grade.false_by_rule[alarm.rule] += 1
    for rule, delay_s in first.items():
        grade.trials_by_rule[rule] += 1
        grade.delays_by_rule.setdefault(rule, []).append(delay_s)
    if first:
        grade.found += 1
        grade.delays_s.append(min(first.values()))


def run_all(
    *, trials: int, seed: int, told: Callable[[str], None] = lambda _text: None
) -> dict[str, list[Grade]]:
    """Every anomaly at every strength."""
    results = {}
    for name, anomaly in ANOMALIES.items():
        results[name] = [run_grade(anomaly, each, trials=trials, seed=seed) for each in anomaly.grades]
        told(f"{name}: recall " + ", ".join(f"{each.recall:.2f}" for each in results[name]))
    return results

"""The one place that knows how the detectors are called: readings in, findings out.

Rules are not listed here or anywhere in the harness: whatever rule reports is scored under its own name.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from statistics import median
from typing import Any, NamedTuple

from loadtests.pace import loop_ns
from pipeline.detectreplay import Silences
from processors.detect import DetectConfig, SilenceRule, TelemetryDetectors
from processors.model import RawRecord
from processors.samenoise import NoiseMemory, SameNoise
from schemas.noise import NoiseBlock, encode_noise
from schemas.records import Finding, FindingStatus, Severity
from tests.eval.record import PARTITION, TOPIC, Reading

SILENCE_AFTER_S = 150.0
"""Two and a half of the record's intervals. The default of the stage (30 s) is for devices that report
every few seconds; `silence_after_s` is a deployment's setting."""
BATCH = 256
PRINTS = "device.prints"
FLEET, INGEST_BATCH = 500, 2000
ANY_SIGNAL = 1
"""In place of an MDC code for a signal that has none; codes of the standard are 65,536 and more."""
States = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A finding that opened: what a ward would hear once. `place`: raw offset of its newest evidence."""

    rule: str
    device: str
    time_us: int
    signal: str
    place: int
    finding: Finding


class Cpu(NamedTuple):
    """CPU of an event in us, and of a step of a plain loop in ns in the same run (`loadtests/pace.py`)."""

    us_per_event: float
    loop_ns: float


@cache
def _config() -> DetectConfig:
    return DetectConfig.default()


@cache
def _any_signal() -> DetectConfig:
    shipped = resources.files("processors.detect").joinpath("defaults.toml").read_text(encoding="utf-8")
    # Wide enough for any measurement, and far from where a difference of the two overflows.
    return DetectConfig.parse(f"{shipped}\n[signal.{ANY_SIGNAL}]\nlow = -1.0e300\nhigh = 1.0e300\n")


class Detection:
    """All rules over telemetry as the stage runs them, with the states of any number of devices."""

    def __init__(
        self,
        states: States | None = None,
        *,
        silence_after_s: float | None = SILENCE_AFTER_S,
        config: DetectConfig | None = None,
    ) -> None:
        self._noise: list[NoiseBlock] = []
        self._detectors = TelemetryDetectors(config or _config(), noise=self._noise)
        self._same_noise, self._memory = SameNoise(config or _config()), NoiseMemory()
        self._states: dict[str, Any] = {
            device: self._detectors.load(data) for device, data in (states or {}).items()
        }
        self._quiet = Silences(SilenceRule(silence_after_s) if silence_after_s is not None else None)

    def findings(self, readings: Sequence[Reading]) -> list[Finding]:
        """Judge readings in the order of the broker's time; findings of the same calls in theirs."""
        found = [each for reading in readings for each in self._quiet.hear(reading.event)]
        for at in range(0, len(readings), BATCH):
            events = [each.event for each in readings[at : at + BATCH]]
            found += self._detectors.process(events, self._state_of)
            found += self._meet()
        return sorted(found, key=lambda finding: finding.time_us)

    def alarms(self, readings: Sequence[Reading]) -> list[Alarm]:
        """Judge readings and keep what would alarm: findings that open, and are more than information."""
        return [
            Alarm(
                each.rule,
                each.device_id,
                each.time_us,
                each.parameters.get("signal", ""),
                each.evidence[-1].offset if each.evidence else 0,
                each,
            )
            for each in self.findings(readings)
            if each.status is FindingStatus.OPENED and each.severity is not Severity.INFORMATIONAL
        ]

    def states(self) -> States:
        """The devices' states as the changelog would hold them."""
        return {device: self._detectors.dump(state) for device, state in self._states.items()}

    def _meet(self) -> list[Finding]:
        """Let the prints of noise meet, each block's at its own time, as where batches are small."""
        records = [
            RawRecord(
                PRINTS,
                0,
                self._memory.next_offset + number,
                block.time_us // 1000,
                b"",
                encode_noise(TOPIC, PARTITION, [block]),
            )
            for number, block in enumerate(self._noise)
        ]
        self._noise.clear()
        return self._same_noise.process(records, self._memory).findings

    def _state_of(self, device: str) -> Any:
        state = self._states.get(device)
        if state is None:
            state = self._states[device] = self._detectors.new()
        return state


def detections(times_us: Sequence[int], values: Sequence[float]) -> list[int]:
    """Rows of any series at which a rule opens a finding about its values.

    The signal has no MDC code, so no limits of its own: what remains are the rules that take their scale from
    the signal itself. Findings about the device, such as its clock, say nothing about values.
    """
    readings = [
        Reading("did:key:z6MkSeries", row, time_us // 1000, time_us, (ANY_SIGNAL,), (value,))
        for row, (time_us, value) in enumerate(zip(times_us, values, strict=True))
    ]
    alarms = Detection(silence_after_s=None, config=_any_signal()).alarms(readings)
    return sorted({each.place for each in alarms if each.finding.parameters.get("code") == str(ANY_SIGNAL)})


def config_digest() -> str:
    """The digest of the configuration that is measured, as findings cite it."""
    return _config().digest


def limits(code: int) -> tuple[float, float]:
    """The range in which a true value of a signal lies, in its unit."""
    signal = _config().signals[code]
    return signal.low, signal.high


def cpu_us_per_event(readings: Sequence[Reading], runs: int = 3) -> Cpu:
    """CPU of all rules for one event, in microseconds: the median of several runs over the readings.

    Each is sent by `FLEET` devices in turn, in batches as ingest takes them. A batch's events are made right
    before it is judged, as decoding leaves them (codes shared, values in an array), and that is not counted.
    """
    devices = [f"{readings[0].device}-{number}" for number in range(FLEET)]
    codes: dict[tuple[int, ...], tuple[int, ...]] = {}
    shared = [replace(each, codes=codes.setdefault(each.codes, each.codes)) for each in readings]
    sent = [(reading, device) for reading in shared for device in devices]
    noise: list[NoiseBlock] = []
    detectors = TelemetryDetectors(_config(), noise=noise)
    taken, pace = [], [loop_ns()]
    for _ in range(runs):
        states: dict[str, Any] = {device: detectors.new() for device in devices}
        spent = 0
        for at in range(0, len(sent), INGEST_BATCH):
            batch = [
                replace(reading, device=device).event for reading, device in sent[at : at + INGEST_BATCH]
            ]
            started = time.process_time_ns()
            detectors.process(batch, states.__getitem__)
            spent += time.process_time_ns() - started
            noise.clear()
        taken.append(spent / 1000 / len(sent))
        pace.append(loop_ns())
    return Cpu(median(taken), median(pace))

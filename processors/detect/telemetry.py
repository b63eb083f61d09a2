"""Detectors over readings: values that no patient shows, and sensors that are stuck.

A lasting cause is one finding: opened, updated at ten times its length, at a hundred times and so on,
and cleared. The hot path compares and counts, nothing more, so that a vectorised version can equal it
bit for bit. Findings are kept for good, so no measured value stands in them: the evidence names the
record that holds it, and the score is rounded until it says no more than "how far outside".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from processors.detect.config import DetectConfig, SignalLimits
from processors.detect.telemetry_state import (
    BOUNDS,
    FIRST,
    LAST,
    MAX_RUN,
    MAX_SAMPLES,
    OFF,
    RUN,
    SATURATED,
    STUCK,
    Episode,
    TelemetryState,
)
from processors.model import VerifiedEvent
from schemas.mdc import BY_CODE, label
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

_NEVER = 2**63
_MAX_SCORE = 100.0
_RULE_NAMES = {BOUNDS: "bounds", STUCK: "stuck"}
_RULE_TITLES = {BOUNDS: "out of range", STUCK: "stuck"}


@dataclass(frozen=True, slots=True)
class _Sample:
    """Where a judgement happens: the event, the signal's limits, and the device's state."""

    verified: VerifiedEvent
    limits: SignalLimits
    state: TelemetryState
    findings: list[Finding]


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: FindingStatus
    severity: Severity
    score: float
    explanation: str


class TelemetryDetectors:
    """Bounds and stuck values, per device and signal. Holds no state: that is the caller's, by device."""

    def __init__(self, config: DetectConfig) -> None:
        self._config = config
        # Tuples unpack faster than attributes read; absent limits become ones that nothing reaches.
        self._rules = {
            code: (
                limits.low,
                limits.high,
                *(limits.off or (math.inf, -math.inf)),
                math.inf if limits.ceiling is None else limits.ceiling,
                limits.stuck_after or _NEVER,
            )
            for code, limits in config.signals.items()
        }

    def new(self) -> TelemetryState:
        """Return the state of a device not seen before."""
        return TelemetryState()

    def load(self, data: bytes) -> TelemetryState:
        """Read a state; `b""` is a new one. Raises StateError for bytes that `dump` never wrote."""
        return TelemetryState.load(data)

    def dump(self, state: TelemetryState) -> bytes:
        """Write a state so that `load` gives exactly it."""
        return state.dump()

    def process(
        self, events: Sequence[VerifiedEvent], state_of: Callable[[str], TelemetryState]
    ) -> list[Finding]:
        """Judge accepted telemetry in its order, updating states; return findings in that order."""
        findings: list[Finding] = []
        for verified in events:
            self._readings(verified, state_of(verified.event.device_id), findings)
        return findings

    def _readings(self, verified: VerifiedEvent, state: TelemetryState, findings: list[Finding]) -> None:
        rules = self._rules
        slots, cells, episodes = state.slots, state.cells, state.episodes
        body = verified.event.body
        for code, value in zip(body["codes"], body["values"], strict=False):
            rule = rules.get(code)
            if rule is None:
                continue
            low, high, off_low, off_high, ceiling, stuck_after = rule
            at = slots.get(code)
            if at is None:
                at = state.add(code)
            run = cells[at + RUN]
            if value == cells[at + LAST] and run > SATURATED:
                cells[at + RUN] = run_now = int(run) + 1 if run < MAX_RUN else MAX_RUN
                if run_now >= stuck_after:
                    self._unchanged(self._sample(verified, code, state, findings), run_now)
            else:
                if episodes and (code, STUCK) in episodes:
                    self._close(self._sample(verified, code, state, findings), STUCK)
                if off_low <= value <= off_high:
                    cells[at + LAST] = 0.0
                    cells[at + RUN] = OFF
                    continue
                if value >= ceiling:
                    cells[at + RUN] = SATURATED
                else:
                    cells[at + LAST] = value
                    cells[at + RUN] = 1
                    cells[at + FIRST] = verified.source.offset
            if not low <= value <= high:
                self._outside(self._sample(verified, code, state, findings), value, was_off=run == OFF)
            elif episodes and (code, BOUNDS) in episodes:
                self._inside(self._sample(verified, code, state, findings))

    def _sample(
        self, verified: VerifiedEvent, code: int, state: TelemetryState, findings: list[Finding]
    ) -> _Sample:
        return _Sample(verified, self._config.signals[code], state, findings)

    def _outside(self, sample: _Sample, value: float, *, was_off: bool) -> None:
        limits = sample.limits
        episode = sample.state.episodes.get((limits.code, BOUNDS))
        offset = sample.verified.source.offset
        if episode is None:
            # The first sample after "off" may average both states, so it may lie between them.
            if was_off and limits.off and limits.off[0] <= value < limits.low:
                return
            episode = sample.state.episodes[limits.code, BOUNDS] = Episode(offset, 1)
            status, severity = FindingStatus.OPENED, Severity.MEDIUM
        else:
            episode.samples = min(episode.samples + 1, MAX_SAMPLES)
            episode.calm = 0
            if not _is_power_of_ten(episode.samples):
                return
            status, severity = FindingStatus.UPDATED, Severity.HIGH
        distance = (value - limits.high) if value > limits.high else (limits.low - value)
        # min() first: it turns an infinite distance, or none at all (NaN), into a number.
        score = 1.0 + math.floor(min(_MAX_SCORE - 1.0, distance / (limits.high - limits.low)))
        span = f"{limits.low:g} to {limits.high:g}{_unit(limits.code)}"
        text = f"{label(limits.code)} is outside {span}, where no true value lies"
        if status is FindingStatus.UPDATED:
            text += f", for {episode.samples} samples now"
        _report(self._config, sample, BOUNDS, episode, _Verdict(status, severity, score, text))

    def _inside(self, sample: _Sample) -> None:
        episode = sample.state.episodes[sample.limits.code, BOUNDS]
        episode.calm += 1
        if episode.calm >= self._config.clear_after:
            self._close(sample, BOUNDS)

    def _unchanged(self, sample: _Sample, run: int) -> None:
        limits = sample.limits
        stuck_after = limits.stuck_after or _NEVER
        at = sample.state.slots[limits.code]
        episode = sample.state.episodes.get((limits.code, STUCK))
        if episode is None:
            first_offset = int(sample.state.cells[at + FIRST])
            episode = sample.state.episodes[limits.code, STUCK] = Episode(first_offset, run)
            status, severity = FindingStatus.OPENED, Severity.LOW
        else:
            episode.samples = run
            if run % stuck_after or not _is_power_of_ten(run // stuck_after):
                return
            status, severity = FindingStatus.UPDATED, Severity.MEDIUM
        text = f"{label(limits.code)} has not changed for {run} samples; normal are fewer than {stuck_after}"
        score = math.floor(10 * run / stuck_after) / 10
        _report(self._config, sample, STUCK, episode, _Verdict(status, severity, score, text))

    def _close(self, sample: _Sample, rule: int) -> None:
        episode = sample.state.episodes.pop((sample.limits.code, rule))
        text = (
            f"{label(sample.limits.code)} is no longer {_RULE_TITLES[rule]}, after {episode.samples} samples"
        )
        verdict = _Verdict(FindingStatus.CLEARED, Severity.INFORMATIONAL, 0.0, text)
        _report(self._config, sample, rule, episode, verdict)


def _report(config: DetectConfig, sample: _Sample, rule: int, episode: Episode, verdict: _Verdict) -> None:
    source, limits = sample.verified.source, sample.limits
    evidence = [source.reference(sample.verified.digest)]
    if episode.first_offset != source.offset:
        evidence.insert(0, EvidenceRef(source.topic, source.partition, episode.first_offset))
    parameters = {
        "code": str(limits.code),
        "signal": label(limits.code),
        "samples": str(episode.samples),
        "config": config.digest,
    }
    if rule == BOUNDS:
        parameters |= {
            "low": f"{limits.low:g}",
            "high": f"{limits.high:g}",
            "clear_after": str(config.clear_after),
        }
    else:
        parameters["stuck_after"] = str(limits.stuck_after)
    sample.findings.append(
        Finding(
            rule=_RULE_NAMES[rule],
            severity=verdict.severity,
            device_id=sample.verified.event.device_id,
            time_us=source.append_us,
            explanation=verdict.explanation,
            evidence=tuple(evidence),
            score=verdict.score,
            status=verdict.status,
            parameters=parameters,
            cause=f"{limits.code} from {source.topic}/{source.partition}/{episode.first_offset}",
        )
    )


def _unit(code: int) -> str:
    signal = BY_CODE.get(code)
    return f" {signal.unit}" if signal else ""


def _is_power_of_ten(number: int) -> bool:
    return number >= 10 and str(number).rstrip("0") == "1"

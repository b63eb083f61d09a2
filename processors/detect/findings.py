"""Makes findings of the telemetry rules: one for a lasting cause, updated at powers of ten, then cleared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from processors.detect.config import DetectConfig
from processors.detect.rules import DEVICE, TELLINGS
from processors.detect.telemetry_state import MAX_SAMPLES, Episode, TelemetryState
from processors.model import VerifiedEvent
from schemas.mdc import label
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

MAX_SCORE = 100.0
_WORSE = {
    Severity.LOW: Severity.MEDIUM,
    Severity.MEDIUM: Severity.HIGH,
    Severity.HIGH: Severity.CRITICAL,
}


class Scene:
    """Where a judgement happens: the event at hand, the device's state, and where findings go.

    No dataclass, since one is made for every second event and a frozen one takes four times as long.
    """

    __slots__ = ("config", "findings", "state", "verified")

    def __init__(
        self,
        config: DetectConfig,
        verified: VerifiedEvent,
        state: TelemetryState,
        findings: list[Finding],
    ) -> None:
        self.config, self.verified = config, verified
        self.state, self.findings = state, findings


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of an episode now."""

    status: FindingStatus
    severity: Severity
    score: float
    explanation: str


def report(
    scene: Scene, code: int, rule: int, episode: Episode, verdict: Verdict, *, extra: Mapping[str, str]
) -> None:
    """Add a finding about an episode; `extra` are the limits that applied."""
    source = scene.verified.source
    evidence = [source.reference(scene.verified.digest)]
    if episode.first_offset != source.offset:
        evidence.insert(0, EvidenceRef(source.topic, source.partition, episode.first_offset))
    about = {"code": str(code), "signal": label(code)} if code != DEVICE else {}
    place = f"{source.topic}/{source.partition}/{episode.first_offset}"
    scene.findings.append(
        Finding(
            rule=TELLINGS[rule].name,
            severity=verdict.severity,
            device_id=scene.verified.event.device_id,
            time_us=source.append_us,
            explanation=verdict.explanation,
            evidence=tuple(evidence),
            score=verdict.score,
            status=verdict.status,
            parameters={
                **about,
                "samples": str(episode.samples),
                "config": scene.config.digest,
                **extra,
            },
            cause=f"{code} from {place}" if code != DEVICE else f"from {place}",
        )
    )


def raise_or_update(
    scene: Scene, code: int, rule: int, first_offset: int, score: float, *, limit: str = "", other: str = ""
) -> None:
    """Open an episode of a rule that is told by `TELLINGS`, or count it on; `score` is 1.0 at the threshold.

    Scores are rounded down to halves, so that they do not give the value away.
    """
    told = TELLINGS[rule]
    text = told.opening.format(signal=label(code), limit=limit, other=other)
    episode = scene.state.episodes.get((code, rule))
    if episode is None:
        episode = scene.state.episodes[code, rule] = Episode(first_offset, 1)
        status, severity = FindingStatus.OPENED, told.opens_as
    else:
        episode.calm = 0
        episode.samples = min(episode.samples + 1, MAX_SAMPLES)
        if not is_power_of_ten(episode.samples):
            return
        status, severity = FindingStatus.UPDATED, _WORSE[told.opens_as]
        text += f"; seen {episode.samples} times now"
    score = max(1.0, math.floor(2 * min(score, MAX_SCORE)) / 2)
    report(scene, code, rule, episode, Verdict(status, severity, score, text), extra=_limit(limit))


def close(scene: Scene, code: int, rule: int, extra: Mapping[str, str] | None = None) -> None:
    """End an episode, which must be open."""
    text = TELLINGS[rule].over.format(signal=label(code), other="the other signal")
    text += f", after {scene.state.episodes[code, rule].samples} samples" if extra is not None else ""
    _end(scene, code, rule, text, extra or {})


def give_up(scene: Scene, code: int, rule: int) -> None:
    """End an episode about a signal that is judged no more: whether it is over nobody can tell."""
    _end(scene, code, rule, f"{label(code)} is not judged any more: no limits are configured for it here", {})


def _end(scene: Scene, code: int, rule: int, text: str, extra: Mapping[str, str]) -> None:
    episode = scene.state.episodes.pop((code, rule))
    verdict = Verdict(FindingStatus.CLEARED, Severity.INFORMATIONAL, 0.0, text)
    report(scene, code, rule, episode, verdict, extra=extra)


def is_power_of_ten(number: int) -> bool:
    """Whether a count is 10, 100 and so on: then an episode is told of again."""
    return number >= 10 and str(number).rstrip("0") == "1"


def _limit(limit: str) -> Mapping[str, str]:
    return {"limit": limit} if limit else {}

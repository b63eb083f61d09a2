"""Was each attack found? Judged by what the topics say about the very records that it published.

A rejection names its raw record; a finding cites its evidence. Only what was never sent has no record to
cite, so silence is recognised by device, and its latency counts from the moment the deadline had passed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from loadtests.attacks import ATTACKS, SILENCE
from pipeline.demo.notified import SeenIncident
from pipeline.demo.observed import Observed, SeenFinding, SeenRejection
from pipeline.demo.traffic import LaunchedAttack


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one attack. `latency_ms`: from its deciding record's delivery to the last sign of it."""

    name: str
    expected: str
    found: bool
    latency_ms: float | None
    seen: str
    """What was seen instead, for a person, when it was not found."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """One expected sign that showed: when it became visible, and when the record behind it was delivered."""

    at_s: float
    delivered_s: float


def judge(
    launched: Iterable[LaunchedAttack],
    observed: Observed,
    last_telemetry_s: Mapping[str, float],
    silence_after_s: float,
    incident_devices: int,
) -> list[Verdict]:
    """Judge each attack by what was observed so far, in the order of the list of attacks.

    From `incident_devices` of one ward on, what was found of them must be told as one incident.
    """
    with observed.lock:
        rejections, findings = dict(observed.rejections), list(observed.findings)
    incidents = observed.incidents()
    verdicts = []
    for under_way in sorted(launched, key=lambda each: ATTACKS.index(each.attack)):
        # A copy: the stream's thread may be adding deliveries right now.
        attack = replace(under_way, delivered=dict(under_way.delivered))
        deadline_s = None
        if attack.attack.name == SILENCE:
            deadline_s = last_telemetry_s.get(attack.device_id, attack.launched_at_s) + silence_after_s
        expected = attack.attack.expected
        if len(attack.touched) < incident_devices:
            expected = replace(expected, incident=False)
        signs = [
            *([_rejection(attack, rejections)] if expected.reason is not None else []),
            *([_finding(attack, findings, deadline_s)] if expected.rule is not None else []),
            *([_incident(attack, incidents)] if expected.incident else []),
        ]
        verdicts.append(_verdict(attack, str(expected), signs, _seen(attack, rejections, findings)))
    return verdicts


def _verdict(launched: LaunchedAttack, expected: str, signs: Sequence[_Sign | None], seen: str) -> Verdict:
    shown = [sign for sign in signs if sign is not None]
    name = launched.attack.name
    if len(shown) < len(signs):
        return Verdict(name, expected, found=False, latency_ms=None, seen=seen)
    latency_ms = round(max(0.0, *(sign.at_s - sign.delivered_s for sign in shown)) * 1000, 1)
    return Verdict(name, expected, found=True, latency_ms=latency_ms, seen=expected)


def _rejection(launched: LaunchedAttack, rejections: Mapping[str, SeenRejection]) -> _Sign | None:
    for source, delivered_s in launched.delivered.items():
        rejection = rejections.get(source)
        if rejection is not None and rejection.reason == launched.attack.expected.reason:
            return _Sign(rejection.at_s, delivered_s)
    return None


def _finding(
    launched: LaunchedAttack, findings: Iterable[SeenFinding], deadline_s: float | None
) -> _Sign | None:
    expected = launched.attack.expected
    cited: dict[str, float] = {}
    for finding in findings:
        if finding.rule != expected.rule or finding.status != "OPENED":
            continue
        mine = [s for s in finding.sources if s in launched.delivered]
        if mine and not expected.each:
            return _Sign(finding.at_s, max(launched.delivered[s] for s in mine))
        cited |= dict.fromkeys(mine, finding.at_s)
        about_it = expected.by_device and finding.device_id == launched.device_id
        if about_it and finding.at_s >= launched.launched_at_s:
            return _Sign(finding.at_s, launched.launched_at_s if deadline_s is None else deadline_s)
    if cited and cited.keys() == launched.delivered.keys():
        # The slowest of them counts.
        return max(
            (_Sign(at_s, launched.delivered[s]) for s, at_s in cited.items()),
            key=lambda sign: sign.at_s - sign.delivered_s,
        )
    return None


def _incident(launched: LaunchedAttack, incidents: Iterable[SeenIncident]) -> _Sign | None:
    for incident in incidents:
        if incident.rule == launched.attack.expected.rule and incident.named & launched.touched:
            return _Sign(incident.at_s, max(launched.delivered.values(), default=launched.launched_at_s))
    return None


def _seen(
    launched: LaunchedAttack, rejections: Mapping[str, SeenRejection], findings: Iterable[SeenFinding]
) -> str:
    """What its records led to instead."""
    reasons = {f"rejected: {rejections[s].reason}" for s in launched.delivered if s in rejections}
    rules = {
        f"finding: {f.rule}"
        for f in findings
        if f.device_id == launched.device_id or any(s in launched.delivered for s in f.sources)
    }
    return ", ".join(sorted(reasons | rules)) or "nothing"


def clean_rejections(launched: Iterable[LaunchedAttack], observed: Observed) -> dict[str, str]:
    """Rejected records that no attack meant to have rejected: source to reason. There must be none."""
    meant = {
        source
        for attack in launched
        if attack.attack.expected.reason is not None
        for source in attack.delivered
    }
    with observed.lock:
        return {s: r.reason for s, r in observed.rejections.items() if s not in meant}


def false_alarms(
    launched: Iterable[LaunchedAttack], observed: Observed, broken_into: Iterable[str] = ()
) -> int:
    """Count findings that were opened about devices which no attack touched, nor a break-glass access."""
    expected = {device for attack in launched for device in (attack.device_id, *attack.touched)}
    expected.update(broken_into)
    with observed.lock:
        return sum(count for device, count in observed.opened_about.items() if device not in expected)

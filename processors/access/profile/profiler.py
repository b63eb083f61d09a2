"""PROFILE: what one person does across devices, judged decision by decision.

Pure: what comes out follows from the decisions of one partition in their order, and from nothing else. A
lasting cause is one finding: opened, updated when it gets worse or at 10, 100, ... times, and over when
nothing more of it was seen for a while.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from blake3 import blake3

from processors.access.profile.config import ProfileConfig
from processors.access.profile.memory import Episode, Profile
from processors.access.profile.presence import Dormant, ImpossibleTravel, OffShift
from processors.access.profile.seen import Rule, Seen, Sighting, seconds
from processors.access.profile.volume import MassExport, Probing
from processors.model import RawRecord
from schemas.decisions import DecisionKind, DecisionReason, decode_decision
from schemas.errors import CodecError
from schemas.records import SEVERITY_RANK, EvidenceRef, Finding, FindingStatus, Severity

REGISTERED = frozenset(
    {
        DecisionReason.POLICY,
        DecisionReason.BREAK_GLASS,
        DecisionReason.NO_PERMIT,
        DecisionReason.FORBIDDEN,
        DecisionReason.APPROVALS_MISSING,
        DecisionReason.INVALID_REQUEST,
        DecisionReason.POLICY_ERROR,
        DecisionReason.BAD_ATTRIBUTE,
        DecisionReason.SUBJECT_ENDED,
    }
)
"""Reasons that only a person of the registry can get. Others say nothing about who asked, so they begin no
profile: whoever holds a device could call himself by a million names."""


class Profiles(Protocol):
    """The profiles of one partition of the decisions."""

    def profile_of(self, subject: str) -> Profile | None:
        """Return a person's profile; None for one not seen before."""

    def keep(self, subject: str, profile: Profile) -> None:
        """Mark a profile as changed by this batch."""


class ForeignRecordError(ValueError):
    """A record of the topic that ingest does not write so."""


@dataclass(slots=True)
class Profiled:
    """What a batch came to; every decision on a request is counted once."""

    findings: list[Finding] = field(default_factory=list)
    judged: int = 0
    strangers: int = 0
    """Decisions on requests in a name that has no profile, and for reasons that begin none."""
    unreadable: list[tuple[RawRecord, str]] = field(default_factory=list)


class Profiler:
    """Judges decisions by one configuration; holds no state."""

    def __init__(self, config: ProfileConfig) -> None:
        self._digest = config.digest
        self._rules: tuple[Rule, ...] = (
            Probing(config.probing),
            OffShift(config.shift),
            ImpossibleTravel(config.travel),
            Dormant(config.dormant),
            MassExport(config.export),
        )

    def process(self, batch: Iterable[RawRecord], profiles: Profiles) -> Profiled:
        """Judge records of `access.decisions` in offset order; profiles move along."""
        profiled = Profiled()
        for record in batch:
            try:
                seen = read_decision(record)
            except (CodecError, ForeignRecordError) as error:
                profiled.unreadable.append((record, str(error)))
                continue
            if seen.decision.kind is not DecisionKind.REQUEST:
                continue  # the end of a permit is nothing that anybody did
            profile = profiles.profile_of(seen.decision.subject)
            if profile is None:
                if seen.decision.reason not in REGISTERED:
                    profiled.strangers += 1
                    continue
                profile = Profile(newest_us=seen.time_us)
            profiled.judged += 1
            profiled.findings += self._judge(profile, seen)
            profiles.keep(seen.decision.subject, profile)
        return profiled

    def _judge(self, profile: Profile, seen: Seen) -> list[Finding]:
        findings = self._over(profile, seen)
        for rule in self._rules:
            sighting = rule.look(profile, seen)
            if sighting is not None:
                findings += self._tell(rule, profile, seen, sighting)
        profile.newest_us = max(profile.newest_us, seen.time_us)
        profile.next_offset = seen.offset + 1
        return findings

    def _over(self, profile: Profile, seen: Seen) -> list[Finding]:
        """End what has been quiet for long enough."""
        findings = []
        for rule in self._rules:
            episode = profile.episodes.get(rule.name)
            if episode is None or seen.time_us - episode.last_us <= rule.quiet_us:
                continue
            del profile.episodes[rule.name]
            if rule.clears:
                text = f"has done nothing more of it within {seconds(rule.quiet_us)}"
                over = Sighting(Severity.INFORMATIONAL, 0.0, text)
                findings.append(self._finding(FindingStatus.CLEARED, episode, seen, over))
        return findings

    def _tell(self, rule: Rule, profile: Profile, seen: Seen, sighting: Sighting) -> list[Finding]:
        episode = profile.episodes.get(rule.name)
        if episode is None:
            episode = Episode(
                rule.name,
                seen.decision.device_id,
                seen.offset,
                seen.time_us,
                1,
                sighting.severity,
                sighting.score,
            )
            profile.episodes[rule.name] = episode
            return [self._finding(FindingStatus.OPENED, episode, seen, sighting)]
        episode.count += 1
        episode.last_us = max(episode.last_us, seen.time_us)
        is_worse = SEVERITY_RANK[sighting.severity] > SEVERITY_RANK[episode.severity]
        if not is_worse and str(episode.count).rstrip("0") != "1":
            return []
        if is_worse:
            episode.severity = sighting.severity
        return [self._finding(FindingStatus.UPDATED, episode, seen, sighting)]

    def _finding(self, status: FindingStatus, episode: Episode, seen: Seen, sighting: Sighting) -> Finding:
        record, subject = seen.record, seen.decision.subject
        # The first decision of an episode stays in view, whatever came since.
        earlier = dict.fromkeys((episode.first_offset, *sighting.earlier))
        evidence = [
            EvidenceRef(record.topic, record.partition, offset)
            for offset in earlier
            if offset != record.offset
        ]
        evidence.append(record.reference(blake3(record.value or b"").digest()))
        return Finding(
            rule=episode.rule,
            severity=sighting.severity if status is FindingStatus.CLEARED else episode.severity,
            device_id=episode.device_id,
            time_us=seen.time_us,
            explanation=f"{subject} {sighting.text}",
            evidence=tuple(evidence),
            score=sighting.score,
            status=status,
            subject=subject,
            parameters={**sighting.parameters, "count": str(episode.count), "config": self._digest},
            cause=f"{subject} from {record.topic}/{record.partition}/{episode.first_offset}",
        )


def read_decision(record: RawRecord) -> Seen:
    """Read a record of `access.decisions`; raises CodecError or ForeignRecordError."""
    decision = decode_decision(record.value or b"")
    if record.key != decision.subject.encode("utf-8", "surrogatepass"):
        message = f"{record.topic}/{record.partition}/{record.offset} has a key that is not its subject"
        raise ForeignRecordError(message)
    return Seen(decision, record)

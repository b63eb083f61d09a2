"""Decisions as ingest writes them, without an ingest: for what reads `access.decisions`."""

from collections.abc import Mapping, Sequence
from typing import Any

from processors.access.profile import Profile, ProfileConfig, Profiler, decode_profile, person_key
from processors.model import RawRecord
from schemas.decisions import Decision, DecisionKind, DecisionReason, Effect
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

TOPIC = "access.decisions"
NURSE = "did:example:nora"
NOON_US = 1_700_049_600_000_000  # 12:00 UTC
DAY_SHIFT = "07:00-19:00"
_PERMITS = (DecisionReason.POLICY, DecisionReason.BREAK_GLASS)


def decision(after_s: float = 0.0, /, **changes: Any) -> Decision:
    """A nurse's permit to view at her ward's pump, so many seconds after noon; attributes by short names."""
    reason = changes.pop("reason", DecisionReason.POLICY)
    attributes: Mapping[str, str] = {
        "resource.ward": changes.pop("ward", "ICU-2"),
        "resource.tag.site": changes.pop("site", ""),
        "principal.shifts": changes.pop("shifts", DAY_SHIFT),
    }
    fields: dict[str, Any] = {
        "kind": DecisionKind.REQUEST,
        "effect": Effect.PERMIT if reason in _PERMITS else Effect.DENY,
        "reason": reason,
        "detail": "",
        "device_id": "did:example:pump",
        "subject": NURSE,
        "action": "view",
        "resource": "screen",
        "purpose": "TREAT",
        "session": "s1",
        "emergency": False,
        "time_us": NOON_US + round(after_s * 1e6),
        "request": EvidenceRef("device.access.raw", 0, 0, bytes(32)),
        "registry_offset": 1,
        "policy_offset": 1,
        "attributes": {name: value for name, value in attributes.items() if value},
    }
    return Decision(**{**fields, **changes})


def record_of(made: Decision, offset: int, partition: int = 0) -> RawRecord:
    """The record of a decision; the salt follows from its place, so that the same is made again."""
    salt = offset.to_bytes(16, "big")
    key = made.subject.encode("utf-8", "surrogatepass")
    return RawRecord(TOPIC, partition, offset, made.time_us // 1000, key, made.encode(salt))


class MemoryProfiles:
    """Profiles of one partition in memory; `reload` puts each through its bytes, as a restart does."""

    def __init__(self) -> None:
        self.profiles: dict[bytes, Profile] = {}

    def profile_of(self, subject: str) -> Profile | None:
        return self.profiles.get(person_key(subject))

    def keep(self, subject: str, profile: Profile) -> None:
        self.profiles[person_key(subject)] = profile

    def dump(self) -> dict[bytes, bytes]:
        return {key: profile.encode() for key, profile in self.profiles.items()}

    def reload(self) -> None:
        self.profiles = {key: decode_profile(data) for key, data in self.dump().items()}


PROFILER = Profiler(ProfileConfig.default())
DAY_S, HOUR_S, MIN_S = 86_400.0, 3600.0, 60.0


def run(decisions: Sequence[Decision], profiles: MemoryProfiles | None = None) -> list[Finding]:
    """Judge decisions as one partition's; all must be readable."""
    records = [record_of(each, i) for i, each in enumerate(decisions)]
    profiled = PROFILER.process(records, profiles or MemoryProfiles())
    assert not profiled.unreadable
    return profiled.findings


def told(findings: Sequence[Finding]) -> list[tuple[str, FindingStatus, Severity]]:
    return [(each.rule, each.status, each.severity) for each in findings]


def cited(finding: Finding) -> list[int]:
    return [each.offset for each in finding.evidence]

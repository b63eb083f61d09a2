"""Which findings, rejections and denials are worth a human, how bad they are, and what they show of ATT&CK.

Technique ids are of MITRE ATT&CK 19.2: enterprise, and ICS for what happens to a device's reports; a test
holds them against its data. Only techniques that the evidence itself shows are named; a malformed record
proves none.
"""

from dataclasses import dataclass
from types import MappingProxyType

from schemas.decisions import DecisionReason
from schemas.reasons import Reason
from schemas.records import Severity

ATTACK_VERSION = "19.2"


@dataclass(frozen=True, slots=True)
class Technique:
    """A technique or, with `parent`, a sub-technique, and one tactic that it serves."""

    uid: str
    name: str
    tactic_uid: str
    tactic: str
    parent: tuple[str, str] | None = None
    """(uid, name) of the technique that this is a sub-technique of."""


_GUESSING = Technique(
    "T1110.001", "Password Guessing", "TA0006", "Credential Access", ("T1110", "Brute Force")
)
_SPRAYING = Technique(
    "T1110.003", "Password Spraying", "TA0006", "Credential Access", ("T1110", "Brute Force")
)
_VALID_ACCOUNTS = Technique("T1078", "Valid Accounts", "TA0001", "Initial Access")
_REPOSITORIES = Technique("T1213", "Data from Information Repositories", "TA0009", "Collection")
_HARDWARE = Technique("T1200", "Hardware Additions", "TA0001", "Initial Access")
_ALTERED = Technique(
    "T1565.002", "Transmitted Data Manipulation", "TA0040", "Impact", ("T1565", "Data Manipulation")
)
_STORED = Technique(
    "T1565.001", "Stored Data Manipulation", "TA0040", "Impact", ("T1565", "Data Manipulation")
)
_SPOOFED_REPORT = Technique(
    "T1692.002", "Reporting Message", "TA0106", "Impair Process Control", ("T1692", "Unauthorized Message")
)
_BLOCKED_REPORT = Technique(
    "T1691.002",
    "Reporting Message",
    "TA0107",
    "Inhibit Response Function",
    ("T1691", "Block Operational Technology Message"),
)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """How findings of a rule are told. Their severity is their own."""

    title: str
    types: tuple[str, ...]
    techniques: tuple[Technique, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectionRule:
    """How rejections for a reason are told."""

    title: str
    severity: Severity
    techniques: tuple[Technique, ...] = ()


@dataclass(frozen=True, slots=True)
class DenialRule:
    """How denials for a reason are told."""

    title: str
    severity: Severity
    techniques: tuple[Technique, ...] = ()


_TELEMETRY, _ACCESS, _INTEGRITY = ("Telemetry anomaly",), ("Access anomaly",), ("Integrity",)
_LOG = ("Log integrity",)

FINDING_RULES = MappingProxyType(
    {
        "bounds": AlertRule("Reading outside the plausible range", _TELEMETRY, (_SPOOFED_REPORT,)),
        "stuck": AlertRule("Sensor value does not change", _TELEMETRY, (_SPOOFED_REPORT,)),
        "rate_of_change": AlertRule("Reading changed impossibly fast", _TELEMETRY, (_SPOOFED_REPORT,)),
        "unit_confusion": AlertRule("Reading is in another unit", _TELEMETRY),
        "step": AlertRule("Reading moved to another level at once", _TELEMETRY, (_SPOOFED_REPORT,)),
        "drift": AlertRule("Reading drifts away from its level", _TELEMETRY, (_SPOOFED_REPORT,)),
        "noise_burst": AlertRule("Reading is unusually noisy", _TELEMETRY),
        "quantised": AlertRule("Reading takes coarse values only", _TELEMETRY, (_SPOOFED_REPORT,)),
        "interpolation": AlertRule("Reading follows straight lines", _TELEMETRY, (_SPOOFED_REPORT,)),
        "frozen_jitter": AlertRule(
            "Reading only jitters around a frozen value", _TELEMETRY, (_SPOOFED_REPORT,)
        ),
        "plausibility": AlertRule("Readings contradict each other", _TELEMETRY, (_SPOOFED_REPORT,)),
        "clock": AlertRule("Device clock jumped or stands", _TELEMETRY),
        "reporting_rate": AlertRule("Device reports at another rate", _TELEMETRY),
        "replay": AlertRule("Old readings under fresh signatures", _TELEMETRY, (_SPOOFED_REPORT,)),
        "same_noise": AlertRule("Two devices report the same noise", _TELEMETRY, (_SPOOFED_REPORT,)),
        "fleet_drift": AlertRule("Devices of one build drift alike", _TELEMETRY, (_SPOOFED_REPORT,)),
        "silence": AlertRule("Device fell silent", _TELEMETRY, (_BLOCKED_REPORT,)),
        "sequence_gap": AlertRule("Events of a device are missing", _INTEGRITY, (_BLOCKED_REPORT,)),
        "equivocation": AlertRule(
            "Device signed two different events as one", _INTEGRITY, (_ALTERED, _SPOOFED_REPORT)
        ),
        "registry_rejected": AlertRule("Registry entry was ignored", _INTEGRITY, (_VALID_ACCOUNTS,)),
        "policy_rejected": AlertRule("Policy entry was ignored", _INTEGRITY, (_VALID_ACCOUNTS,)),
        "repeated_failed_access": AlertRule("Repeated failed access", _ACCESS, (_GUESSING,)),
        "privilege_probing": AlertRule("One person is denied at many doors", _ACCESS),
        "off_shift_access": AlertRule("Access outside of the shift", _ACCESS, (_VALID_ACCOUNTS,)),
        "impossible_travel": AlertRule("One person at two places at once", _ACCESS, (_VALID_ACCOUNTS,)),
        "dormant_credential": AlertRule("Unused credential is in use again", _ACCESS, (_VALID_ACCOUNTS,)),
        "mass_export": AlertRule("One person exports unusually much", _ACCESS, (_REPOSITORIES,)),
        # What the access policies ask to be told of: no technique, since it may be rightful.
        "break_glass": AlertRule("Glass was broken: access in an emergency", _ACCESS),
        "policy_alert": AlertRule("Access of which a policy asks to tell", _ACCESS),
        # What the monitor finds about the log itself.
        "entry_rewritten": AlertRule("Log entry is not its record's", _LOG, (_STORED,)),
        "tile_rewritten": AlertRule("Published tile was changed", _LOG, (_STORED,)),
        "record_rewritten": AlertRule("Sealed record was changed", _LOG, (_STORED,)),
        "log_truncated": AlertRule("Part of the log is gone", _LOG, (_STORED,)),
        "fork": AlertRule("Log shows two histories", _LOG, (_STORED,)),
        "checkpoint_rollback": AlertRule("Published checkpoint went back", _LOG, (_STORED,)),
        "checkpoint_invalid": AlertRule("Published checkpoint cannot be trusted", _LOG),
        "shard_missing": AlertRule("Records are left out of the log", _LOG),
        "shard_replaced": AlertRule("Topic was replaced and its log begun anew", _LOG),
        "anchor_wrong_payer": AlertRule("Anchor paid by a stranger", _LOG),
        "anchor_wrong_root": AlertRule("Anchor of another log than the published one", _LOG),
        "anchor_missing": AlertRule("Log grows and is not anchored", _LOG),
        "mirror_lies": AlertRule("Ledger's mirror contradicts itself", _LOG),
        "witness_quorum_missed": AlertRule("Too few witnesses have cosigned", _LOG),
    }
)
LASTING_RULES = frozenset(name for name, rule in FINDING_RULES.items() if rule.types in (_TELEMETRY, _LOG))
"""What these find is a state: it goes on until it is cleared. The others tell of something that happened."""
DEVICE_WIDE_ACCESS = AlertRule("Repeated failed access under many names", _ACCESS, (_SPRAYING,))
"""`repeated_failed_access` of scope `device`."""

REJECTION_RULES = MappingProxyType(
    {
        Reason.BAD_SIGNATURE: RejectionRule(
            "Signature does not verify", Severity.HIGH, (_ALTERED, _SPOOFED_REPORT)
        ),
        Reason.WRONG_KIND: RejectionRule(
            "Signed event presented as another kind", Severity.HIGH, (_SPOOFED_REPORT,)
        ),
        Reason.REVOKED_KEY: RejectionRule("Revoked key in use", Severity.HIGH, (_VALID_ACCOUNTS,)),
        Reason.DECOMMISSIONED: RejectionRule(
            "Decommissioned device reports", Severity.HIGH, (_VALID_ACCOUNTS,)
        ),
        Reason.UNKNOWN_KEY: RejectionRule(
            "Unregistered key of a known device", Severity.HIGH, (_SPOOFED_REPORT,)
        ),
        Reason.REPLAY: RejectionRule("Event was replayed", Severity.MEDIUM, (_SPOOFED_REPORT,)),
        Reason.UNKNOWN_DEVICE: RejectionRule("Unknown device reports", Severity.MEDIUM, (_HARDWARE,)),
        Reason.WRONG_PARTITION: RejectionRule(
            "Event in a place that is not its device's", Severity.MEDIUM, (_SPOOFED_REPORT,)
        ),
        Reason.STALE: RejectionRule("Old event arrived again", Severity.LOW),
        Reason.IMPLAUSIBLE_TIME: RejectionRule("Device clock is far off", Severity.LOW),
        Reason.INVALID_VALUE: RejectionRule("Signed event breaks a rule of its format", Severity.LOW),
        Reason.MALFORMED: RejectionRule("Bytes that are no event", Severity.LOW),
        Reason.UNKNOWN_SCHEMA: RejectionRule("Event of an unknown schema", Severity.LOW),
        Reason.OVERSIZED: RejectionRule("Oversized record", Severity.LOW),
    }
)
UNALERTED = frozenset({Reason.EQUIVOCATION, Reason.EMPTY, Reason.LATE})
"""Told elsewhere (equivocation is a finding too) or normal: kept in `device.rejected` and counted there."""

DENIAL_RULES = MappingProxyType(
    {
        # Everyday: somebody of another ward, out of shift, or without the second signature.
        DecisionReason.NO_PERMIT: DenialRule("No policy permits the access", Severity.INFORMATIONAL),
        DecisionReason.APPROVALS_MISSING: DenialRule("Access needs approvals", Severity.INFORMATIONAL),
        DecisionReason.FORBIDDEN: DenialRule("A policy forbids the access", Severity.LOW),
        DecisionReason.INVALID_REQUEST: DenialRule("Access was asked for in unknown words", Severity.LOW),
        DecisionReason.UNKNOWN_KIND: DenialRule("Person of an unknown kind asks for access", Severity.LOW),
        DecisionReason.UNKNOWN_SUBJECT: DenialRule("Unregistered person asks for access", Severity.MEDIUM),
        DecisionReason.SESSION_OF_ANOTHER: DenialRule("Session of another person in use", Severity.MEDIUM),
        # A person or a device gets no access any more until somebody mends it.
        DecisionReason.BAD_ATTRIBUTE: DenialRule("Attribute in the registry cannot be read", Severity.MEDIUM),
        DecisionReason.TOO_MANY_PERMITS: DenialRule("Device has no room for more permits", Severity.MEDIUM),
        DecisionReason.SUBJECT_ENDED: DenialRule(
            "Person or credential out of use asks for access", Severity.HIGH, (_VALID_ACCOUNTS,)
        ),
        DecisionReason.DEVICE_ENDED: DenialRule(
            "Device or key out of use asks for access", Severity.HIGH, (_VALID_ACCOUNTS,)
        ),
        # Everybody is denied, the rightful too.
        DecisionReason.NO_POLICY: DenialRule("No access policy is in force", Severity.HIGH),
        DecisionReason.POLICY_ERROR: DenialRule("Access policy cannot be evaluated", Severity.HIGH),
        DecisionReason.STALE_REGISTRY: DenialRule("Access is denied: registry is stale", Severity.HIGH),
        DecisionReason.STALE_POLICY: DenialRule("Access is denied: policies are stale", Severity.HIGH),
    }
)
REVOCATION = DenialRule("Live permit was taken away", Severity.MEDIUM)
"""Whatever the reason: somebody at a device loses it, because a key, a person or a policy was changed."""
UNTOLD_DENIALS = frozenset({DecisionReason.FAILED_AT_DEVICE, DecisionReason.EXPIRED})
"""Told by the detector of repeated failures, and normal."""

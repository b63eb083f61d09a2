"""Decisions on access: the record of `access.decisions`, and why a decision is what it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from blake3 import blake3

from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.records import EvidenceRef


class DecisionKind(StrEnum):
    """What called for a decision."""

    REQUEST = "REQUEST"
    """Somebody asked."""
    REVOCATION = "REVOCATION"
    """A key, a person, a device or a policy changed, and what was permitted is so no more."""
    EXPIRY = "EXPIRY"
    """The time of a permit is over."""


class Effect(StrEnum):
    """What holds from this decision on."""

    PERMIT = "PERMIT"
    DENY = "DENY"


class DecisionReason(StrEnum):
    """Why; the value stands in the record and in metrics."""

    POLICY = "policy"
    """A policy permits it, its conditions are met, and no policy forbids it."""
    BREAK_GLASS = "break_glass"
    """The same in an emergency that the request states; it raises an alert."""
    NO_PERMIT = "no_permit"
    """No policy permits it."""
    FORBIDDEN = "forbidden"
    """A policy forbids it."""
    APPROVALS_MISSING = "approvals_missing"
    """A policy would permit it with more approvals; the obligations say which."""
    NO_POLICY = "no_policy"
    """No policy document is in force."""
    INVALID_REQUEST = "invalid_request"
    """The schema has no such action, purpose, or combination of them, so no policy was asked."""
    POLICY_ERROR = "policy_error"
    """A policy could not be evaluated: whatever the others say, that is no permit."""
    STALE_REGISTRY = "stale_registry"
    """The registry could not be read up, so a revocation may be unknown."""
    STALE_POLICY = "stale_policy"
    """The policies could not be read up."""
    UNKNOWN_SUBJECT = "unknown_subject"
    """Who asked is not registered."""
    UNKNOWN_KIND = "unknown_kind"
    """Who asked is registered, but neither as a clinician nor as a technician."""
    SUBJECT_ENDED = "subject_ended"
    """Who asked was taken out of service, or has no valid key: a lost or stolen credential."""
    DEVICE_ENDED = "device_ended"
    """The device was taken out of service, or the key that signed the request has ended."""
    BAD_ATTRIBUTE = "bad_attribute"
    """An attribute in the registry cannot be read, such as a shift that is no times of day."""
    FAILED_AT_DEVICE = "failed_at_device"
    """The device itself says that the credential did not hold, or that it denied the access."""
    SESSION_OF_ANOTHER = "session_of_another"
    """The session at this device is somebody else's."""
    TOO_MANY_PERMITS = "too_many_permits"
    """The device has as many live permits as are kept."""
    EXPIRED = "expired"
    """The permit's time is over."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `request` is the raw record that asked, or that opened the permit that ends."""

    kind: DecisionKind
    effect: Effect
    reason: DecisionReason
    detail: str
    device_id: str
    subject: str
    action: str
    resource: str
    purpose: str
    session: str
    emergency: bool
    time_us: int
    request: EvidenceRef
    registry_offset: int
    policy_offset: int
    expires_us: int | None = None
    policies: tuple[str, ...] = ()
    policy_digest: bytes = b""
    attributes: Mapping[str, str] = field(default_factory=dict)
    obligations: tuple[str, ...] = ()
    approvals: tuple[str, ...] = ()

    @property
    def id(self) -> bytes:
        """16 bytes of BLAKE3 over the kind and the request's place: a repeat has the same."""
        at = self.request
        return blake3(f"{self.kind.value} {at.topic}/{at.partition}/{at.offset}".encode()).digest(16)

    def encode(self, salt: bytes) -> bytes:
        """Write the decision with 16 unpredictable bytes of salt."""
        at = self.request
        return CODEC.encode(
            "decision",
            {
                "id": self.id,
                "kind": self.kind.value,
                "effect": self.effect.value,
                "reason": self.reason.value,
                "detail": self.detail,
                "device_id": self.device_id,
                "subject": self.subject,
                "action": self.action,
                "resource": self.resource,
                "purpose": self.purpose,
                "session": self.session,
                "emergency": self.emergency,
                "time": self.time_us,
                "expires": self.expires_us,
                "request": {
                    "topic": at.topic,
                    "partition": at.partition,
                    "offset": at.offset,
                    "digest": at.digest or b"",
                },
                "policies": list(self.policies),
                "policy_digest": self.policy_digest,
                "attributes": dict(self.attributes),
                "obligations": list(self.obligations),
                "approvals": list(self.approvals),
                "registry_offset": self.registry_offset,
                "policy_offset": self.policy_offset,
                "salt": salt,
            },
        )


def decode_decision(value: bytes) -> Decision:
    """Read a decision; raises CodecError for bytes that are none, or of a reason that this build lacks."""
    record = CODEC.decode("decision", value)
    at = record["request"]
    try:
        reason = DecisionReason(record["reason"])
    except ValueError as error:
        raise CodecError(str(error)) from error
    return Decision(
        DecisionKind(record["kind"]),
        Effect(record["effect"]),
        reason,
        record["detail"],
        record["device_id"],
        record["subject"],
        record["action"],
        record["resource"],
        record["purpose"],
        record["session"],
        record["emergency"],
        record["time"],
        EvidenceRef(at["topic"], at["partition"], at["offset"], at["digest"]),
        record["registry_offset"],
        record["policy_offset"],
        record["expires"],
        tuple(record["policies"]),
        record["policy_digest"],
        record["attributes"],
        tuple(record["obligations"]),
        tuple(record["approvals"]),
    )

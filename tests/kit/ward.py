"""A ward without a broker: persons and devices with attributes, policies, and requests to decide."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources

from processors.access.decide import Request, View
from processors.access.policies import PolicyTable
from processors.model import RawRecord
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.records import EvidenceRef
from schemas.trust import TrustRoot
from tests.kit.parties import (
    AUTHORITIES,
    LOG,
    NOW_MS,
    TRUST,
    RegistryTopic,
    identity_of,
    new_key,
)

ACCESS_RAW = "device.access.raw"
POLICIES = "access.policies"
NOW_US = NOW_MS * 1000  # 22:13:20 UTC
ON_SHIFT, OFF_SHIFT = "19:00-07:00", "07:00-19:00"


def shipped(name: str) -> str:
    """A file of the policies that the project ships."""
    return resources.files("processors.access").joinpath(name).read_text(encoding="utf-8")


HOSPITAL, ACTIONS = shipped("hospital.cedar"), shipped("hospital.cedarschema")

NURSE: Mapping[str, str] = {
    "name": "Nora",
    "kind": "clinician",
    "roles": "nurse",
    "wards": "ICU-2",
    "shift": ON_SHIFT,
}
PUMP: Mapping[str, str] = {"name": "pump", "kind": "infusion-pump", "ward": "ICU-2", "model": "P1"}


def policy_payload(
    name: str, version: int, previous: bytes, policies: str, schema: str = ACTIONS, action: str = "PUBLISH"
) -> bytes:
    record = {
        "subject": name,
        "version": version,
        "previous_digest": previous,
        "action": action,
        "time": NOW_US,
        "policies": policies,
        "schema": schema,
    }
    return CODEC.encode(PayloadKind.POLICY_ENTRY.value, record)


def signed_policy(payload: bytes, signers: Sequence[str] = AUTHORITIES[:1]) -> bytes:
    """A policy entry's envelope, signed by authorities (or whoever has such a key)."""
    signatures = tuple(
        replace(identity_of(name), key_id=name).sign(PayloadKind.POLICY_ENTRY, LOG, payload)
        for name in signers
    )
    return SignedEnvelope(payload, signatures).encode()


class PolicyTopic:
    """The policies' topic and the table that a worker makes of it."""

    def __init__(self, trust: TrustRoot = TRUST) -> None:
        self.table = PolicyTable(trust)
        self.records: list[RawRecord] = []

    def put(self, key: bytes | None, value: bytes | None) -> RawRecord:
        record = RawRecord(POLICIES, 0, len(self.records), NOW_MS + len(self.records), key, value)
        self.records.append(record)
        self.table.apply(record)
        return record

    def publish(self, name: str = "hospital", policies: str = HOSPITAL, schema: str = ACTIONS) -> None:
        """Publish a document as an honest authority does; it must be taken."""
        self._next(name, policies, schema, "PUBLISH")

    def withdraw(self, name: str = "hospital") -> None:
        self._next(name, "", "", "WITHDRAW")

    def _next(self, name: str, policies: str, schema: str, action: str) -> None:
        known = self.table.published(name)
        version, digest = (known.version + 1, known.entry_digest) if known else (1, b"")
        ignored = len(self.table.ignored)
        payload = policy_payload(name, version, digest, policies, schema, action)
        self.put(name.encode(), signed_policy(payload))
        assert len(self.table.ignored) == ignored, self.table.ignored[-1].detail


class Ward:
    """Registry and policies, and whoever asks. Persons have keys for approvals, devices for events."""

    def __init__(self, policies: str | None = HOSPITAL) -> None:
        self.registry = RegistryTopic()
        self.policies = PolicyTopic()
        if policies is not None:
            self.policies.publish(policies=policies)
        self.requests = 0

    def person(self, name: str, /, **attributes: str) -> str:
        """Register a person with NURSE's attributes unless others are given; return the DID."""
        return self._register(name, "APPROVAL", {**NURSE, **attributes})

    def device(self, name: str, /, **attributes: str) -> str:
        return self._register(name, "EVENT", {**PUMP, **attributes})

    def _register(self, name: str, purpose: str, attributes: Mapping[str, str]) -> str:
        did = identity_of(name).did
        given = {key: value for key, value in attributes.items() if value}
        self.registry.write(did, "REGISTER", key=new_key("k1", name, purpose), attributes=given)
        assert self.registry.table.subject(did) is not None
        return did

    def revoke(self, did: str, key_id: str = "k1") -> None:
        self.registry.write(did, "REVOKE", revoked=key_id)

    def view(self, *, registry_fresh: bool = True, policies_fresh: bool = True) -> View:
        return View(self.registry.table, self.policies.table, registry_fresh, policies_fresh)

    def request(self, subject: str, device: str, action: str = "login", /, **changes: object) -> Request:
        self.requests += 1
        place = EvidenceRef(ACCESS_RAW, 0, self.requests, bytes(32))
        asked = Request(device, "k1", subject, action, "drug library", "TREAT", "s1", place)
        return replace(asked, **changes)  # type: ignore[arg-type]

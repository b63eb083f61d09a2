"""The parties of a log without a broker: authorities that write entries, devices that sign, records in order.

Keys follow from names, so that a failing example is the same in every run.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from processors.authenticate import Authenticate, TimeLimits
from processors.model import RawRecord
from processors.registry import Registry
from schemas.codec import CODEC
from schemas.did import encode_did_key
from schemas.ed25519 import public_key
from schemas.envelope import PayloadKind, Signature, SignedEnvelope
from schemas.events import encode_event
from schemas.partition import partition_of
from schemas.signing import SigningIdentity
from schemas.trust import TrustRoot

LOG = "ward.example"
PARTITIONS = 4
NOW_MS = 1_700_000_000_000
TELEMETRY_RAW = "device.telemetry.raw"
REGISTRY = "identity.registry"
LIMITS = TimeLimits(max_ahead_us=300_000_000, max_behind_us=86_400_000_000)


@cache
def seed_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


@cache
def key_of(name: str) -> bytes:
    return public_key(seed_of(name))


@cache
def identity_of(name: str, key_id: str = "k1") -> SigningIdentity:
    """A device, person or authority whose DID is that of its key."""
    return SigningIdentity(encode_did_key(key_of(name)), key_id, seed_of(name))


AUTHORITIES = ("authority-1", "authority-2")
TRUST = TrustRoot(LOG, key_of("log"), {name: key_of(name) for name in AUTHORITIES})


def new_key(key_id: str, name: str, purpose: str = "EVENT") -> dict[str, object]:
    """A key as a registry entry holds it."""
    return {"key_id": key_id, "algorithm": "ED25519", "public_key": key_of(name), "purpose": purpose}


def registry_payload(
    did: str,
    action: str,
    version: int,
    previous: bytes = b"",
    *,
    key: Mapping[str, object] | None = None,
    revoked: str | None = None,
    compromised_since: int | None = None,
    attributes: Mapping[str, str] | None = None,
) -> bytes:
    record = {
        "subject": did,
        "version": version,
        "previous_digest": previous,
        "action": action,
        "time": NOW_MS * 1000,
        "key": key,
        "revoked_key_id": revoked,
        "compromised_since": compromised_since,
        "attributes": dict(attributes or {}),
    }
    return CODEC.encode(PayloadKind.REGISTRY_ENTRY.value, record)


def signed_entry(payload: bytes, signers: Sequence[str] = AUTHORITIES[:1], audience: str = LOG) -> bytes:
    """A registry entry's envelope, signed by authorities (or whoever has such a key)."""
    signatures = tuple(
        replace(identity_of(name), key_id=name).sign(PayloadKind.REGISTRY_ENTRY, audience, payload)
        for name in signers
    )
    return SignedEnvelope(payload, signatures).encode()


class RegistryTopic:
    """The registry's topic and the table that a worker makes of it."""

    def __init__(self, trust: TrustRoot = TRUST) -> None:
        self.trust = trust
        self.table = Registry(trust)
        self.records: list[RawRecord] = []

    def put(self, key: bytes | None, value: bytes | None) -> RawRecord:
        """Append a record and let the table take it."""
        record = RawRecord(REGISTRY, 0, len(self.records), NOW_MS + len(self.records), key, value)
        self.records.append(record)
        self.table.apply(record)
        return record

    def write(
        self,
        did: str,
        action: str,
        *,
        signers: Sequence[str] = AUTHORITIES[:1],
        key: Mapping[str, object] | None = None,
        revoked: str | None = None,
        compromised_since: int | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> bytes:
        """Write the entry that follows the table, as an honest authority does; return its envelope."""
        known = self.table.subject(did)
        payload = registry_payload(
            did,
            action,
            known.version + 1 if known else 1,
            known.entry_digest if known else b"",
            key=key,
            revoked=revoked,
            compromised_since=compromised_since,
            attributes=attributes,
        )
        value = signed_entry(payload, signers)
        self.put(did.encode(), value)
        return value

    def enroll(self, name: str, purpose: str = "EVENT") -> SigningIdentity:
        """Register a device or an approver with its first key."""
        identity = identity_of(name)
        self.write(identity.did, "REGISTER", key=new_key("k1", name, purpose))
        return identity

    def upto(self, offset: int) -> Registry:
        """A worker that has read the entries [0, offset) only."""
        table = Registry(self.trust)
        for record in self.records[:offset]:
            table.apply(record)
        return table


def payload_of(did: str, kind: PayloadKind = PayloadKind.TELEMETRY, **changes: object) -> bytes:
    """A sound event of `kind`, with any field changed."""
    body: dict[str, object] = {"device_id": did, "boot": 1, "sequence": 1, "time": NOW_MS * 1000}
    if kind is PayloadKind.TELEMETRY:
        body |= {"codes": [147842, 150456], "values": [72.5, 98.0]}
    elif kind is PayloadKind.ACCESS:
        body |= {"subject": "nurse-1", "action": "login", "resource": "monitor", "purpose": "TREAT"}
        body |= {"session": "", "outcome": "GRANTED"}
    else:
        body |= {"kind": "BOOT", "firmware": None, "pseudonym": None}
    return encode_event(kind, {**body, **changes})


def envelope_of(
    payload: bytes,
    signer: SigningIdentity,
    *approvals: Signature,
    kind: PayloadKind = PayloadKind.TELEMETRY,
    audience: str = LOG,
) -> bytes:
    return SignedEnvelope(payload, (signer.sign(kind, audience, payload), *approvals)).encode()


def approval_of(name: str, payload: bytes, kind: PayloadKind = PayloadKind.TELEMETRY) -> Signature:
    """An approver's signature, named by DID URL."""
    identity = identity_of(name)
    return replace(identity, key_id=f"{identity.did}#k1").sign(kind, LOG, payload)


def event_of(name: str, **changes: object) -> bytes:
    """A signed telemetry event of a device."""
    identity = identity_of(name)
    return envelope_of(payload_of(identity.did, PayloadKind.TELEMETRY, **changes), identity)


def record_of(
    key: bytes | None, value: bytes | None, offset: int = 0, partition: int | None = None
) -> RawRecord:
    """A raw telemetry record, in the partition of its key unless another is given."""
    if partition is None:
        partition = partition_of(key or b"", PARTITIONS)
    return RawRecord(TELEMETRY_RAW, partition, offset, NOW_MS, key, value)


def sent(name: str, value: bytes | None, offset: int = 0) -> RawRecord:
    """A record that a device sends under its own name."""
    return record_of(identity_of(name).did.encode(), value, offset)


def telemetry_judge() -> Authenticate:
    return Authenticate(PayloadKind.TELEMETRY, LOG, PARTITIONS, LIMITS)

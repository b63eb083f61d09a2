"""An authority at work: signs the next registry entry of a subject and publishes it.

An entry is read back before it counts as done: had another authority been faster, ours would be ignored.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from blake3 import blake3

from pipeline import kafka
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.registry import RegistryFollower
from pipeline.settings import PipelineError, Settings
from pipeline.topics import REGISTRY
from pipeline.trust import authority_identity, load_trust, trust_path
from processors.registry import Registry
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, SignedEnvelope
from schemas.signing import SigningIdentity


class RegistryWriteError(PipelineError):
    """An entry was published and ignored, or could not be published."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A public key to be registered."""

    key_id: str
    public_key: bytes
    purpose: str = "EVENT"


class Authority:
    """Writes registry entries in the name of one authority key."""

    def __init__(self, settings: Settings, identity: SigningIdentity | None = None) -> None:
        self._identity = identity or authority_identity(settings)
        self._audience = settings.log_name
        self._follower = RegistryFollower(settings, load_trust(trust_path(settings)))
        self._producer = kafka.producer(settings)
        self._follower.catch_up()

    @property
    def registry(self) -> Registry:
        """The table as of the last write or `refresh`."""
        return self._follower.table

    def refresh(self) -> Registry:
        """Read the registry to its high watermark."""
        self._follower.catch_up()
        return self._follower.table

    def enroll(self, did: str, key: NewKey, attributes: Mapping[str, str]) -> bytes:
        """Register a subject; returns the published envelope."""
        return self._publish([self._entry(did, "REGISTER", key=key, attributes=attributes)])[0]

    def enroll_many(self, devices: list[tuple[str, NewKey, Mapping[str, str]]]) -> None:
        """Register many subjects with one wait."""
        self._publish([self._entry(did, "REGISTER", key=key, attributes=a) for did, key, a in devices])

    def rotate(self, did: str, key: NewKey) -> bytes:
        """Give a subject a new key of a purpose; the old one ends."""
        return self._publish([self._entry(did, "ROTATE", key=key)])[0]

    def revoke(self, did: str, key_id: str, compromised_since_us: int | None = None) -> bytes:
        """End a key."""
        entry = self._entry(did, "REVOKE", revoked=key_id, compromised_since_us=compromised_since_us)
        return self._publish([entry])[0]

    def decommission(self, did: str) -> bytes:
        """Take a subject out of service for good."""
        return self._publish([self._entry(did, "DECOMMISSION")])[0]

    def close(self) -> None:
        """Release the clients."""
        self._producer.flush(CALL_TIMEOUT_S)
        self._follower.close()

    def _entry(
        self,
        did: str,
        action: str,
        *,
        key: NewKey | None = None,
        revoked: str | None = None,
        compromised_since_us: int | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> tuple[str, bytes]:
        known = self.registry.subject(did)
        record = {
            "subject": did,
            "version": known.version + 1 if known else 1,
            "previous_digest": known.entry_digest if known else b"",
            "action": action,
            "time": time.time_ns() // 1000,
            "key": None
            if key is None
            else {
                "key_id": key.key_id,
                "algorithm": "ED25519",
                "public_key": key.public_key,
                "purpose": key.purpose,
            },
            "revoked_key_id": revoked,
            "compromised_since": compromised_since_us,
            "attributes": dict(attributes or {}),
        }
        return did, CODEC.encode(PayloadKind.REGISTRY_ENTRY.value, record)

    def _publish(self, entries: list[tuple[str, bytes]]) -> list[bytes]:
        published = []
        for did, payload in entries:
            signature = self._identity.sign(PayloadKind.REGISTRY_ENTRY, self._audience, payload)
            value = SignedEnvelope(payload, (signature,)).encode()
            self._producer.produce(REGISTRY, key=did.encode(), value=value, partition=0)
            published.append(value)
        if self._producer.flush(CALL_TIMEOUT_S):
            raise RegistryWriteError(f"{REGISTRY} did not acknowledge within {CALL_TIMEOUT_S:.0f} s")
        ignored_before = len(self.registry.ignored)
        self._follower.catch_up()
        for did, payload in entries:
            subject = self.registry.subject(did)
            if subject is None or subject.entry_digest != blake3(payload).digest():
                why = next((e.detail for e in self.registry.ignored[ignored_before:] if e.subject == did), "")
                raise RegistryWriteError(f"the entry for {did} was not taken: {why or 'another came first'}")
        return published

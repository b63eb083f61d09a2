"""An authority at work on the registry: registers subjects and devices, rotates and ends their keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.entries import EntryWriter
from pipeline.registry import RegistryFollower
from pipeline.settings import Settings
from pipeline.trust import load_trust, trust_path
from processors.registry import Registry
from schemas.envelope import PayloadKind
from schemas.signing import SigningIdentity


@dataclass(frozen=True, slots=True)
class NewKey:
    """A public key to be registered."""

    key_id: str
    public_key: bytes
    purpose: str = "EVENT"

    def to_entry(self) -> dict[str, Any]:
        """As a registry entry has it."""
        return {
            "key_id": self.key_id,
            "algorithm": "ED25519",
            "public_key": self.public_key,
            "purpose": self.purpose,
        }


class Authority:
    """Writes registry entries in the name of one authority key; raises EntryWriteError."""

    def __init__(self, settings: Settings, identity: SigningIdentity | None = None) -> None:
        follower = RegistryFollower(settings, load_trust(trust_path(settings)))
        self._writer = EntryWriter(settings, follower, PayloadKind.REGISTRY_ENTRY, identity)
        self.refresh, self.close = self._writer.refresh, self._writer.close
        self.submit = self._writer.submit

    @property
    def registry(self) -> Registry:
        """The table as of the last write or `refresh`."""
        return self._writer.table

    def enroll(self, did: str, key: NewKey, attributes: Mapping[str, str]) -> bytes:
        """Register a subject; returns the published envelope."""
        return self._write(did, "REGISTER", key=key.to_entry(), attributes=dict(attributes))

    def enroll_many(self, devices: list[tuple[str, NewKey, Mapping[str, str]]]) -> None:
        """Register many subjects with one wait."""
        self._writer.write(
            (did, "REGISTER", {**_NOTHING, "key": key.to_entry(), "attributes": dict(attributes)})
            for did, key, attributes in devices
        )

    def rotate(self, did: str, key: NewKey, attributes: Mapping[str, str] | None = None) -> bytes:
        """Give a subject a new key of a purpose, and attributes in place of all it has; the old key ends."""
        return self._write(did, "ROTATE", key=key.to_entry(), attributes=dict(attributes or {}))

    def revoke(self, did: str, key_id: str, compromised_since_us: int | None = None) -> bytes:
        """End a key."""
        return self._write(did, "REVOKE", revoked_key_id=key_id, compromised_since=compromised_since_us)

    def decommission(self, did: str) -> bytes:
        """Take a subject out of service for good."""
        return self._write(did, "DECOMMISSION")

    def _write(self, did: str, action: str, **members: Any) -> bytes:
        return self._writer.write([(did, action, {**_NOTHING, **members})])[0]


_NOTHING: Mapping[str, Any] = {
    "key": None,
    "revoked_key_id": None,
    "compromised_since": None,
    "attributes": {},
}

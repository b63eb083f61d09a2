"""How a device signs: its identity, and the envelope around an event."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.envelope import PayloadKind, Signature, SignedEnvelope, pae, pae_prefix
from schemas.events import encode_event


@dataclass(frozen=True, slots=True)
class SigningIdentity:
    """A DID with one private key (32-byte seed): a device's, a person's or an authority's."""

    did: str
    key_id: str
    seed: bytes = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """Raw 32-byte Ed25519 public key."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    def sign(self, kind: PayloadKind, audience: str, payload: bytes) -> Signature:
        """Sign a payload as one of `kind` for one deployment."""
        message = pae(pae_prefix(kind, audience), payload)
        return Signature(self.key_id, Ed25519PrivateKey.from_private_bytes(self.seed).sign(message))

    def seal_event(self, kind: PayloadKind, audience: str, record: Mapping[str, Any]) -> bytes:
        """Encode an event and sign it: the bytes of a signed envelope, ready for a raw topic."""
        payload = encode_event(kind, record)
        return SignedEnvelope(payload, (self.sign(kind, audience, payload),)).encode()

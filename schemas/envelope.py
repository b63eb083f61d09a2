"""The signed envelope: payload bytes and signatures over their DSSE pre-authentication encoding.

DSSE v1.0.2, "Protocol": PAE(type, body) = "DSSEv1" SP len(type) SP type SP len(body) SP body. The type
names the record and its audience, so an event of one kind or one deployment never passes for another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.codec import CODEC
from schemas.errors import EnvelopeError
from schemas.shortcut import read_envelope

MAX_ENVELOPE_BYTES = 64 * 1024
"""A device event larger than this is not one; the cap bounds what one record can cost."""
MAX_SIGNATURES = 16


class PayloadKind(StrEnum):
    """What a payload is; the value is the Avro record's name and its place in the payload type."""

    TELEMETRY = "telemetry"
    ACCESS = "access"
    LIFECYCLE = "lifecycle"
    REGISTRY_ENTRY = "registry_entry"
    POLICY_ENTRY = "policy_entry"
    ALERT_CONTROL = "alert_control"


# Not frozen, as events are not (schemas/events.py): ingest makes one of each for every record.
@dataclass(slots=True, unsafe_hash=True)
class Signature:
    """One signature: whose key, by which algorithm, and the 64 bytes of Ed25519."""

    key_id: str
    signature: bytes
    algorithm: str = "ED25519"


@dataclass(slots=True, unsafe_hash=True)
class SignedEnvelope:
    """A payload exactly as it was signed, with its signatures, the device's or the authority's first."""

    payload: bytes
    signatures: tuple[Signature, ...]

    def encode(self) -> bytes:
        """Write the envelope as a Kafka value."""
        return CODEC.encode(
            "signed_envelope",
            {
                "payload": self.payload,
                "signatures": [
                    {"key_id": s.key_id, "algorithm": s.algorithm, "signature": s.signature}
                    for s in self.signatures
                ],
            },
        )


def decode_envelope(value: bytes) -> SignedEnvelope:
    """Read an envelope of at most MAX_ENVELOPE_BYTES with 1 to MAX_SIGNATURES signatures."""
    if len(value) > MAX_ENVELOPE_BYTES:
        message = f"envelope of {len(value)} bytes is above the limit of {MAX_ENVELOPE_BYTES}"
        raise EnvelopeError(message)
    plain = read_envelope(value)
    if plain is not None:
        return SignedEnvelope(plain[0], (Signature(plain[1], plain[2]),))
    record = CODEC.decode("signed_envelope", value)
    found: Sequence[dict[str, str | bytes]] = record["signatures"]
    if not 1 <= len(found) <= MAX_SIGNATURES:
        message = f"envelope has {len(found)} signatures, allowed are 1 to {MAX_SIGNATURES}"
        raise EnvelopeError(message)
    return SignedEnvelope(
        record["payload"],
        tuple(Signature(s["key_id"], s["signature"], s["algorithm"]) for s in found),  # type: ignore[arg-type]
    )


def payload_type(kind: PayloadKind, audience: str) -> str:
    """Name a kind of payload for one deployment; `audience` is the log name."""
    return f"application/vnd.attestream.{kind.value.replace('_', '-')}+avro; audience={audience}"


def pae_prefix(kind: PayloadKind, audience: str) -> bytes:
    """Return the part of PAE before the body's length: constant for a kind and an audience."""
    name = payload_type(kind, audience).encode()
    return b"DSSEv1 %d %s " % (len(name), name)


def pae(prefix: bytes, payload: bytes) -> bytes:
    """Complete PAE over a `pae_prefix`: these are the signed bytes."""
    return b"%s%d %s" % (prefix, len(payload), payload)

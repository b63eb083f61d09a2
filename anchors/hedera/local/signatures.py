"""Which keys of a `Key` protobuf have signed: single Ed25519 keys, key lists and threshold keys.

A signature map names each key by a prefix, as the network allows; a prefix that fits several keys
counts for each that it verifies with. Other kinds of key never sign here.
"""

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519_KEY_BYTES = 32
MAX_KEY_DEPTH = 15
"""Deeper nesting is refused by the network with BAD_ENCODING."""


class Signatures:
    """The signatures of one transaction body, verified when a key is asked about."""

    def __init__(self, body: bytes, signature_map: Any) -> None:
        self._body = body
        self._pairs = [
            (bytes(pair.pubKeyPrefix), bytes(pair.ed25519))
            for pair in signature_map.sigPair
            if pair.WhichOneof("signature") == "ed25519"
        ]

    def by(self, public_key: bytes) -> bool:
        """Whether this raw Ed25519 key has signed."""
        return any(
            public_key.startswith(prefix) and self._verifies(public_key, signature)
            for prefix, signature in self._pairs
        )

    def satisfy(self, key: Any) -> bool:
        """Whether enough of a `Key`'s parts have signed."""
        kind = key.WhichOneof("key")
        if kind == "ed25519":
            return self.by(key.ed25519)
        if kind == "keyList":
            return all(self.satisfy(part) for part in key.keyList.keys)
        if kind == "thresholdKey":
            signed = sum(self.satisfy(part) for part in key.thresholdKey.keys.keys)
            return bool(signed >= key.thresholdKey.threshold)
        return False

    def _verifies(self, public_key: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, self._body)
        except (InvalidSignature, ValueError):
            return False
        return True


def is_usable_key(key: Any, depth: int = 1) -> bool:
    """Whether a topic may carry this `Key`: well-formed, not empty, and of a kind that can sign here."""
    if depth > MAX_KEY_DEPTH:
        return False
    kind = key.WhichOneof("key")
    if kind == "ed25519":
        return len(key.ed25519) == ED25519_KEY_BYTES
    if kind == "keyList":
        parts = key.keyList.keys
    elif kind == "thresholdKey":
        parts = key.thresholdKey.keys.keys
        if not 1 <= key.thresholdKey.threshold <= len(parts):
            return False
    else:
        return False
    return bool(parts) and all(is_usable_key(part, depth + 1) for part in parts)

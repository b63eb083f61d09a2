"""Ed25519 for events: one rule for every verifier, ZIP 215.

Strict and cofactorless verifiers disagree on crafted signatures, and so do single and batch verification.
ZIP 215 (https://zips.z.cash/zip-0215) settles it: the cofactored equation [8][s]B = [8]R + [8][k]A, any
decodable encoding of A and R, and s below the group order. The wheel, a native batch verifier, an auditor
and a browser all reach the same verdict. Which of the first two is at work here, `schemas.native` decides.

ZIP 215 alone would accept a key of small order, under which one signature fits every message. So keys are
checked once, at registration, and again by whoever verifies evidence: canonical encoding and prime order.
"""

from collections.abc import Sequence

from ed25519_zebra import ed_public_from_secret, ed_sign, ed_verify
from nacl.bindings import crypto_core_ed25519_is_valid_point

from schemas.errors import FormatError
from schemas.native import CRATE

PUBLIC_KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64


class PublicKeyError(FormatError):
    """An Ed25519 public key that must not be trusted, whatever is signed under it."""


def check_public_key(raw: bytes) -> None:
    """Accept `raw` only as the canonical encoding of a point of prime order; else raise `PublicKeyError`.

    libsodium's check covers the four ways to be wrong: not on the curve, a y coordinate of 2^255 - 19 or
    more, one of the eight points of small order, and a point with a torsion component.
    """
    if len(raw) != PUBLIC_KEY_BYTES:
        raise PublicKeyError(f"Ed25519 public key has {len(raw)} bytes, not {PUBLIC_KEY_BYTES}")
    if not crypto_core_ed25519_is_valid_point(bytes(raw)):
        raise PublicKeyError(
            f"Ed25519 public key {raw.hex()} is not the canonical encoding of a point of prime order"
        )


def verify_batch(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    """Verify n signatures by ZIP 215; item i is True iff `signatures[i]` signs `messages[i]`.

    Keys and signatures of a wrong length are False, never an error: they came from outside. The three
    sequences must have one length (`ValueError` otherwise: the caller's fault).
    """
    return _VERIFY(public_keys, messages, signatures)


def verify_with_wheel(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    """`verify_batch` by ed25519-zebra, one signature after the other."""
    return [
        ed_verify(signature, message, public_key)
        for public_key, message, signature in zip(public_keys, messages, signatures, strict=True)
    ]


_VERIFY = verify_with_wheel if CRATE is None else CRATE.verify_batch
VERIFIER = "ed25519_zebra" if CRATE is None else f"attestream_fast ({CRATE.BACKEND})"
"""What `verify_batch` calls, and its name for logs."""


def public_key(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte private seed (RFC 8032, 5.1.5)."""
    _check_seed(seed)
    return bytes(ed_public_from_secret(seed))


def sign(seed: bytes, message: bytes) -> bytes:
    """The 64-byte deterministic signature of `message` (RFC 8032, 5.1.6) under a 32-byte private seed."""
    _check_seed(seed)
    return bytes(ed_sign(seed, message))


def _check_seed(seed: bytes) -> None:
    if len(seed) != SEED_BYTES:
        raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, this one {len(seed)}")

"""Signatures of every kind, good, bad and strange, each with the wheel's verdict."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from schemas.ed25519 import public_key, sign, verify_with_wheel
from tests.kit.zip215 import (
    BASE,
    IDENTITY,
    SMALL_ORDER,
    TORSION,
    L,
    P,
    encode,
    multiply,
    signature_over,
    torsioned,
)

MESSAGE = b"heart rate 62"
NO_POINT = (2).to_bytes(32, "little")
NON_CANONICAL = [
    (P + excess | sign_bit << 255).to_bytes(32, "little") for excess in range(19) for sign_bit in (0, 1)
]


@dataclass(frozen=True, slots=True)
class Case:
    """One signature, and what ed25519-zebra says of it."""

    kind: str
    key: bytes
    message: bytes
    signature: bytes
    verdict: bool


Triple = tuple[bytes, bytes, bytes]


def judged(kind: str, triple: Triple) -> Case:
    [verdict] = verify_with_wheel(*([item] for item in triple))
    return Case(kind, *triple, verdict)


def columns(batch: Sequence[Case]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    return [c.key for c in batch], [c.message for c in batch], [c.signature for c in batch]


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def honest(number: int) -> Triple:
    seed, message = number.to_bytes(32, "big"), MESSAGE + number.to_bytes(4, "big")
    return public_key(seed), message, sign(seed, message)


def _honest() -> Iterator[Triple]:
    yield from map(honest, range(60))


def _one_key() -> Iterator[Triple]:
    seed = bytes(range(32))
    for number in range(20):
        message = bytes([number])
        yield public_key(seed), message, sign(seed, message)


def _bit_flips() -> Iterator[Triple]:
    rng = random.Random(215)
    for number in range(60):
        key, message, signature = honest(number)
        yield flipped(key, rng.randrange(256)), message, signature
        yield key, flipped(message, rng.randrange(8 * len(message))), signature
        yield key, message, flipped(signature, rng.randrange(256))
        yield key, message, flipped(signature, 256 + rng.randrange(256))


def _vectors() -> Iterator[Triple]:
    """ZIP 215's own: A and R of small order in each of their encodings, s = 0."""
    for a in SMALL_ORDER:
        for r in SMALL_ORDER:
            yield a, b"Zcash", r + bytes(32)


def _torsion() -> Iterator[Triple]:
    """Torsion in A, in R, in both; and the same with an s that is one too large."""
    for number, (in_a, in_r) in enumerate((a, r) for a in TORSION for r in TORSION):
        secret, nonce = 7**50 + number, 11**50 + number
        key, r = torsioned(secret, in_a), torsioned(nonce, in_r)
        yield key, MESSAGE, signature_over(r, nonce, key, secret, MESSAGE)
        yield key, MESSAGE, signature_over(r, nonce + 1, key, secret, MESSAGE)


def _strange_r() -> Iterator[Triple]:
    """R of small order, in each encoding, under a good key; and A of small order with a good R."""
    secret, nonce = 13**40, 17**40
    good_key, good_r = (encode(multiply(multiple, BASE)) for multiple in (secret, nonce))
    for raw in SMALL_ORDER:
        yield good_key, MESSAGE, signature_over(raw, 0, good_key, secret, MESSAGE)
        yield good_key, MESSAGE, signature_over(raw, 1, good_key, secret, MESSAGE)
        yield raw, MESSAGE, signature_over(good_r, nonce, raw, 0, MESSAGE)


def _non_canonical() -> Iterator[Triple]:
    key, message, signature = honest(1)
    for raw in NON_CANONICAL:
        yield raw, message, signature
        yield raw, message, raw + bytes(32)
        yield key, message, raw + signature[32:]


def _large_s() -> Iterator[Triple]:
    for number in range(5):
        key, message, signature = honest(number)
        s = int.from_bytes(signature[32:], "little")
        for value in (s + L, s + 2 * L, s + 15 * L, L, L - 1, L + 1, 2**256 - 1, 2**255, 2**252, 0, 1):
            if value < 2**256:
                yield key, message, signature[:32] + value.to_bytes(32, "little")
    for raw in SMALL_ORDER:  # L is 0 as a number, and no s
        yield raw, b"Zcash", raw + L.to_bytes(32, "little")


def _no_points() -> Iterator[Triple]:
    key, message, signature = honest(2)
    yield NO_POINT, message, signature
    yield key, message, NO_POINT + signature[32:]
    yield NO_POINT, message, NO_POINT + bytes(32)


def _wrong_lengths() -> Iterator[Triple]:
    key, message, signature = honest(3)
    for length in (0, 1, 31, 32, 33, 63, 64, 65, 128):
        yield (key * 4)[:length], message, signature
        yield key, message, (signature * 2)[:length]
        yield (key * 4)[:length], message, (signature * 2)[:length]


def _swapped() -> Iterator[Triple]:
    for number in range(10):
        (key, message, signature), (_, _, other) = honest(number), honest(number + 1)
        yield key, message, other
        yield key, message, signature[:32] + other[32:]
        yield key, message, signature[32:] + signature[:32]


def _identity() -> Iterator[Triple]:
    one = encode(IDENTITY)
    for message in (b"", b"anything", bytes(1000)):
        yield one, message, one + bytes(32)


_KINDS: dict[str, Callable[[], Iterator[Triple]]] = {
    "honest": _honest,
    "one key": _one_key,
    "bit flips": _bit_flips,
    "vectors": _vectors,
    "torsion": _torsion,
    "strange R": _strange_r,
    "non-canonical": _non_canonical,
    "large s": _large_s,
    "no points": _no_points,
    "wrong lengths": _wrong_lengths,
    "swapped": _swapped,
    "identity": _identity,
}
KINDS = sorted(_KINDS)


@cache
def of_kind(kind: str) -> tuple[Case, ...]:
    return tuple(judged(kind, triple) for triple in _KINDS[kind]())


@cache
def good() -> tuple[Case, ...]:
    """All cases that hold."""
    return tuple(case for kind in KINDS for case in of_kind(kind) if case.verdict)


@cache
def bad() -> tuple[Case, ...]:
    """All cases that do not."""
    return tuple(case for kind in KINDS for case in of_kind(kind) if not case.verdict)

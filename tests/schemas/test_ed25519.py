"""One signature rule: ZIP 215 for events, and keys of prime order only.

The curve arithmetic below is written from RFC 8032, section 5.1, and decides by ZIP 215's own words, so the
library is compared with the specification rather than with itself.
"""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ed25519 import PublicKeyError, check_public_key, public_key, sign, verify_batch

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
SPECCHECK = json.loads((Path(__file__).parents[1] / "vectors" / "zip215-speccheck.json").read_text())["cases"]
SEED = bytes(range(32))

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def _add(one: Point, two: Point) -> Point:
    x1, y1 = one
    x2, y2 = two
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def _multiply(scalar: int, point: Point) -> Point:
    total = IDENTITY
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    return total


def _x_of(y: int) -> int | None:
    """A root x of the curve equation, if y is on the curve."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for candidate in (x, x * SQRT_M1 % P):
        if candidate * candidate % P == square:
            return candidate
    return None


def _decode(raw: bytes) -> Point | None:
    """ZIP 215: any y below 2^255, and a sign bit even where x is 0."""
    number = int.from_bytes(raw, "little")
    y = (number & (2**255 - 1)) % P
    x = _x_of(y)
    if x is None:
        return None
    return (x if x & 1 == number >> 255 else -x % P), y


def _encode(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE = _decode((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
assert BASE is not None


def _zip215(key: bytes, message: bytes, signature: bytes) -> bool:
    """[8][s]B = [8]R + [8][k]A."""
    assert BASE is not None
    a, r, s = _decode(key), _decode(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    return _multiply(8 * s, BASE) == _multiply(8, _add(r, _multiply(k, a)))


def _small_order_encodings() -> list[bytes]:
    """All 14 encodings, canonical or not, of the 8 points whose order divides 8."""
    torsion = next(
        point
        for y in range(2, 100)
        if (x := _x_of(y)) is not None
        for point in [_multiply(L, (x, y))]
        if _multiply(4, point) != IDENTITY
    )
    found = set()
    for multiple in range(8):
        _, y = _multiply(multiple, torsion)
        for value in (y, y + P):
            if value < 2**255:
                found |= {(value | sign_bit << 255).to_bytes(32, "little") for sign_bit in (0, 1)}
    return sorted(found)


SMALL_ORDER = _small_order_encodings()
MIXED_ORDER = [
    _encode(_add(point, BASE))
    for raw in SMALL_ORDER
    if (point := _decode(raw)) is not None and point != IDENTITY
]


def test_small_order_points_have_fourteen_encodings() -> None:
    assert len(SMALL_ORDER) == 14
    assert len({_decode(raw) for raw in SMALL_ORDER}) == 8


def test_zip215_accepts_all_196_small_order_signatures() -> None:
    """The vectors of ZIP 215 and of ed25519-zebra's tests: s = 0 over the message "Zcash"."""
    pairs = [(a, r + bytes(32)) for a in SMALL_ORDER for r in SMALL_ORDER]
    assert len(pairs) == 196
    keys, signatures = [a for a, _ in pairs], [signature for _, signature in pairs]
    assert verify_batch(keys, [b"Zcash"] * 196, signatures) == [True] * 196
    assert _zip215(keys[17], b"Zcash", signatures[17])


@pytest.mark.parametrize(("message", "key", "signature", "valid"), SPECCHECK)
def test_speccheck_vector(message: str, key: str, signature: str, valid: bool) -> None:
    case = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert verify_batch(*([item] for item in case)) == [valid]
    assert _zip215(*case) is valid


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_torsioned_signatures_follow_the_specification(data: st.DataObject) -> None:
    """R with a small-order component: half of the verifiers of the world disagree here."""
    assert BASE is not None
    secret, nonce = data.draw(st.integers(1, L - 1)), data.draw(st.integers(1, L - 1))
    message = data.draw(st.binary(max_size=20))
    torsion_a, torsion_r = (_decode(data.draw(st.sampled_from(SMALL_ORDER))) for _ in range(2))
    assert torsion_a is not None
    assert torsion_r is not None
    key = _encode(_add(_multiply(secret, BASE), torsion_a))
    r = _encode(_add(_multiply(nonce, BASE), torsion_r))
    k = int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L
    shift = data.draw(st.sampled_from([0, 0, 1]))
    signature = r + ((nonce + k * secret + shift) % L).to_bytes(32, "little")
    assert verify_batch([key], [message], [signature]) == [shift == 0] == [_zip215(key, message, signature)]


@pytest.mark.parametrize("raw", [*SMALL_ORDER, *MIXED_ORDER], ids=bytes.hex)
def test_key_of_small_or_mixed_order_is_refused(raw: bytes) -> None:
    with pytest.raises(PublicKeyError):
        check_public_key(raw)


def test_non_canonical_key_is_refused() -> None:
    """Every encoding with y in [p, 2^255): 19 values, with either sign bit."""
    for excess in range(19):
        for sign_bit in (0, 1):
            with pytest.raises(PublicKeyError):
                check_public_key((P + excess | sign_bit << 255).to_bytes(32, "little"))


def test_key_that_is_no_point_or_no_key_is_refused() -> None:
    no_point = next(y for y in range(2, 100) if _x_of(y) is None).to_bytes(32, "little")
    for raw in (no_point, b"", bytes(31), bytes(33), public_key(SEED) + b"\0"):
        with pytest.raises(PublicKeyError):
            check_public_key(raw)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100))
def test_signed_messages_verify_and_changed_ones_do_not(seed: bytes, message: bytes) -> None:
    key, signature = public_key(seed), sign(seed, message)
    check_public_key(key)
    flipped = signature[:40] + bytes([signature[40] ^ 1]) + signature[41:]
    result = verify_batch([key] * 3, [message, message + b"x", message], [signature, signature, flipped])
    assert result == [True, False, False]


def test_rfc8032_test_1() -> None:
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert public_key(seed) == key
    assert verify_batch([key], [b""], [sign(seed, b"")]) == [True]


@given(st.binary(max_size=70), st.binary(max_size=40))
def test_hostile_lengths_are_false_and_never_raise(signature: bytes, key: bytes) -> None:
    assert verify_batch([key], [b"m"], [signature]) in ([False], [_zip215_of_any(key, signature)])


def _zip215_of_any(key: bytes, signature: bytes) -> bool:
    return len(key) == 32 and len(signature) == 64 and _zip215(key, b"m", signature)


def test_unequal_batch_and_wrong_seed_are_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="shorter"):
        verify_batch([public_key(SEED)], [], [])
    with pytest.raises(ValueError, match="32 bytes"):
        sign(b"short", b"")
    with pytest.raises(ValueError, match="32 bytes"):
        public_key(b"short")

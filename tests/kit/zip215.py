"""ZIP 215 in plain Python: the third opinion, beside the wheel and the crate.

Written from RFC 8032, section 5.1, and decided by ZIP 215's own words, so that libraries are compared with
the specification rather than with each other.
"""

import hashlib
from functools import cache

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]
IDENTITY: Point = (0, 1)


def add(one: Point, two: Point) -> Point:
    x1, y1 = one
    x2, y2 = two
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def multiply(scalar: int, point: Point) -> Point:
    total = IDENTITY
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point = add(point, point)
        scalar >>= 1
    return total


def x_of(y: int) -> int | None:
    """A root x of the curve equation, if y is on the curve."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for candidate in (x, x * SQRT_M1 % P):
        if candidate * candidate % P == square:
            return candidate
    return None


def decode(raw: bytes) -> Point | None:
    """ZIP 215: any y below 2^255, and a sign bit even where x is 0."""
    number = int.from_bytes(raw, "little")
    y = (number & (2**255 - 1)) % P
    x = x_of(y)
    if x is None:
        return None
    return (x if x & 1 == number >> 255 else -x % P), y


def encode(point: Point) -> bytes:
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def point_of(raw: bytes) -> Point:
    """Decode what is known to be a point."""
    point = decode(raw)
    assert point is not None
    return point


BASE = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def challenge(r: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def zip215(key: bytes, message: bytes, signature: bytes) -> bool:
    """[8][s]B = [8]R + [8][k]A."""
    if len(key) != 32 or len(signature) != 64:
        return False
    a, r, s = decode(key), decode(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = challenge(signature[:32], key, message)
    return multiply(8 * s, BASE) == multiply(8, add(r, multiply(k, a)))


def signature_over(r: bytes, nonce: int, key: bytes, secret: int, message: bytes) -> bytes:
    """Sign for R and A as the caller encoded them; but for torsion they are [nonce]B and [secret]B."""
    s = (nonce + challenge(r, key, message) * secret) % L
    return r + s.to_bytes(32, "little")


@cache
def _of_base(multiple: int) -> Point:
    return multiply(multiple, BASE)


def torsioned(multiple: int, torsion: Point) -> bytes:
    """Encode [multiple]B plus a point of small order."""
    return encode(add(_of_base(multiple), torsion))


def small_order_encodings() -> list[bytes]:
    """All 14 encodings, canonical or not, of the 8 points whose order divides 8."""
    torsion = next(
        point
        for y in range(2, 100)
        if (x := x_of(y)) is not None
        for point in [multiply(L, (x, y))]
        if multiply(4, point) != IDENTITY
    )
    found = set()
    for multiple in range(8):
        _, y = multiply(multiple, torsion)
        for value in (y, y + P):
            if value < 2**255:
                found |= {(value | sign_bit << 255).to_bytes(32, "little") for sign_bit in (0, 1)}
    return sorted(found)


SMALL_ORDER = small_order_encodings()
TORSION = sorted({point_of(raw) for raw in SMALL_ORDER})
"""The 8 points themselves."""
MIXED_ORDER = [encode(add(point_of(raw), BASE)) for raw in SMALL_ORDER if point_of(raw) != IDENTITY]

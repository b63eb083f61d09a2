"""Avro and Ed25519 spelled as few expect: the same to a lenient reader, not to a strict one."""

import hashlib
import struct
from collections.abc import Iterator

from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
)

from schemas.codec import CODEC
from tests.kit.parties import key_of, seed_of

ORDER = 2**252 + 27742317777372353535851937790883648493


SMALL_ORDER = tuple(
    bytes.fromhex(each)
    for each in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


def torsioned(name: str, message: bytes, torsion: bytes) -> bytes:
    """A signature by `name` whose R has a part of small order: the cofactor makes all the difference."""
    digest = hashlib.sha512(seed_of(name)).digest()
    secret = bytearray(digest[:32])
    secret[0] &= 248
    secret[31] = secret[31] & 127 | 64
    nonce = crypto_core_ed25519_scalar_reduce(hashlib.sha512(digest[32:] + message).digest())
    point = crypto_core_ed25519_add(crypto_scalarmult_ed25519_base_noclamp(nonce), torsion)
    challenge = crypto_core_ed25519_scalar_reduce(hashlib.sha512(point + key_of(name) + message).digest())
    reduced = crypto_core_ed25519_scalar_reduce(bytes(secret) + bytes(32))
    return point + crypto_core_ed25519_scalar_add(nonce, crypto_core_ed25519_scalar_mul(challenge, reduced))


def spelled_otherwise(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The same Avro record to a lenient reader: each is another spelling of it, or no record."""
    header, body = data[:10], data[10:]
    yield "another fingerprint", header[:9] + bytes([header[9] ^ 1]) + body
    yield (
        "an overlong first number",
        header + bytes([body[0] | 0x80, 0]) + body[1:] if body[0] < 0x80 else data + b"!",
    )
    yield "a number of eleven bytes", header + bytes([body[0] | 0x80]) + b"\x80" * 9 + b"\0" + body[1:]
    yield "a byte behind", data + b"\0"
    yield "no body", header
    yield "a negative first length", header + b"\x01" + body[1:]
    name = CODEC.name_of(data)
    record = CODEC.decode(name, data)
    if name == "telemetry":
        front = CODEC.encode(name, {**record, "codes": [], "values": []})[:-2]
        codes, values = record["codes"], record["values"]
        numbers = b"".join(struct.pack("<d", each) for each in values)
        spelled = b"".join(_zigzag(each) for each in codes)
        two, end = _zigzag(2), b"\0"
        yield (
            "two blocks",
            front + b"".join(_zigzag(1) + _zigzag(each) for each in codes) + end + two + numbers + end,
        )
        sized = _zigzag(-2) + _zigzag(len(spelled)) + spelled + end
        yield "a block with its size", front + sized + two + numbers + end
    if name == "registry_entry":
        at = data.rindex(b"\x00" * 3)
        yield "a map key twice", data[:-1] + b"\x04" + b"\x02a\x02b" * 2 + b"\0"
        yield "a third branch", data[:at] + b"\x04" + data[at + 1 :]
        yield "a negative branch", data[:at] + b"\x01" + data[at + 1 :]


def _zigzag(number: int) -> bytes:
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    found = bytearray()
    while rest > 127:
        found.append(rest & 127 | 128)
        rest >>= 7
    return bytes((*found, rest))

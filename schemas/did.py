"""`did:key` for Ed25519 (https://w3c-ccg.github.io/did-key-spec/): the device id that is its own public key.

`did:key:z` and the base58btc of multicodec 0xed01 and the 32-byte key, which always reads `z6Mk…`. There is
one spelling of a key and one key of a spelling; anything else is refused.
"""

from schemas.ed25519 import PUBLIC_KEY_BYTES, PublicKeyError, check_public_key
from schemas.errors import FormatError

_PREFIX = "did:key:z"
_MULTICODEC = b"\xed\x01"
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}
_ENCODED_LENGTH = 47


class DidError(FormatError):
    """A string is not the did:key of a trustworthy Ed25519 key."""


def encode_did_key(public_key: bytes) -> str:
    """The DID of a 32-byte Ed25519 public key; `PublicKeyError` if the key must not be trusted."""
    check_public_key(public_key)
    number = int.from_bytes(_MULTICODEC + public_key, "big")
    digits = []
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return _PREFIX + "".join(reversed(digits))


def decode_did_key(did: str) -> bytes:
    """The 32-byte Ed25519 public key of a DID, checked like any other key."""
    encoded = did.removeprefix(_PREFIX)
    # The length also bounds the work on a hostile string.
    if len(encoded) != _ENCODED_LENGTH or len(did) != len(_PREFIX) + _ENCODED_LENGTH:
        raise DidError(f"{did[:80]!a} is not did:key:z and {_ENCODED_LENGTH} characters")
    number = 0
    for character in encoded:
        digit = _DIGITS.get(character)
        if digit is None:
            raise DidError(f"{did!a} holds {character!a}, which is not base58btc")
        number = number * len(_ALPHABET) + digit
    raw = number.to_bytes(_ENCODED_LENGTH, "big").lstrip(b"\0")
    if len(raw) != len(_MULTICODEC) + PUBLIC_KEY_BYTES or not raw.startswith(_MULTICODEC):
        raise DidError(f"{did} is not the did:key of an Ed25519 key")
    key = raw.removeprefix(_MULTICODEC)
    try:
        check_public_key(key)
    except PublicKeyError as error:
        raise DidError(f"{did}: {error}") from error
    return key

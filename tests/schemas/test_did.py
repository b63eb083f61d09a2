"""did:key: one spelling of a key, one key of a spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ed25519
from schemas.did import DidError, decode_did_key, encode_did_key
from schemas.ed25519 import PublicKeyError

# The example of the did:key specification.
EXAMPLE = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"
EXAMPLE_KEY = "2e6fcce36701dc791488e0d0b1745cc1e33a4c1c9fcc41c63bd343dbbe0970e6"
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def test_example_of_the_specification() -> None:
    assert decode_did_key(EXAMPLE).hex() == EXAMPLE_KEY
    assert encode_did_key(bytes.fromhex(EXAMPLE_KEY)) == EXAMPLE


@given(st.binary(min_size=32, max_size=32))
def test_did_reads_back(seed: bytes) -> None:
    key = ed25519.public_key(seed)
    did = encode_did_key(key)
    assert did.startswith("did:key:z6Mk")
    assert decode_did_key(did) == key


@pytest.mark.parametrize(
    "did",
    [
        "",
        "did:key:z",
        EXAMPLE[:-1],
        EXAMPLE + "K",
        EXAMPLE.replace("did:key:z", ""),
        EXAMPLE.replace("did:key:z", "did:key:zz"),
        EXAMPLE.replace("did:key:z", "did:key:1"),
        EXAMPLE.replace("did:key", "did:web"),
        EXAMPLE.upper(),
        EXAMPLE[:-1] + "0",
        EXAMPLE[:-1] + "é",
        f"{EXAMPLE}#{EXAMPLE[8:]}",
        " " + EXAMPLE,
        "did:key:z" + "z" * 47,
        "did:key:z" + "1" * 47,
        "did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
    ],
)
def test_any_other_string_is_refused(did: str) -> None:
    with pytest.raises(DidError):
        decode_did_key(did)


def test_weak_key_has_no_did() -> None:
    weak = (1).to_bytes(32, "little")
    with pytest.raises(PublicKeyError):
        encode_did_key(weak)
    number, encoded = int.from_bytes(b"\xed\x01" + weak, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        encoded = ALPHABET[digit] + encoded
    with pytest.raises(DidError, match="prime order"):
        decode_did_key(f"did:key:z{encoded}")


@given(st.text(max_size=80) | st.text(ALPHABET, min_size=47, max_size=47).map("did:key:z".__add__))
def test_hostile_string_is_a_key_or_one_error(did: str) -> None:
    try:
        key = decode_did_key(did)
    except DidError:
        return
    assert encode_did_key(key) == did

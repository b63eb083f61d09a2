"""One signature rule: ZIP 215 for events, and keys of prime order only.

Each verdict is compared with that of the specification in plain Python (`tests/kit/zip215.py`).
"""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.ed25519 import PublicKeyError, check_public_key, public_key, sign, verify_batch
from tests.kit.zip215 import (
    MIXED_ORDER,
    SMALL_ORDER,
    TORSION,
    L,
    P,
    decode,
    signature_over,
    torsioned,
    x_of,
    zip215,
)

SPECCHECK = json.loads((Path(__file__).parents[1] / "vectors" / "zip215-speccheck.json").read_text())["cases"]
SEED = bytes(range(32))


def test_small_order_points_have_fourteen_encodings() -> None:
    assert len(SMALL_ORDER) == 14
    assert len({decode(raw) for raw in SMALL_ORDER}) == 8


def test_zip215_accepts_all_196_small_order_signatures() -> None:
    """The vectors of ZIP 215 and of ed25519-zebra's tests: s = 0 over the message "Zcash"."""
    pairs = [(a, r + bytes(32)) for a in SMALL_ORDER for r in SMALL_ORDER]
    assert len(pairs) == 196
    keys, signatures = [a for a, _ in pairs], [signature for _, signature in pairs]
    assert verify_batch(keys, [b"Zcash"] * 196, signatures) == [True] * 196
    assert zip215(keys[17], b"Zcash", signatures[17])


@pytest.mark.parametrize(("message", "key", "signature", "valid"), SPECCHECK)
def test_speccheck_vector(message: str, key: str, signature: str, valid: bool) -> None:
    case = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert verify_batch(*([item] for item in case)) == [valid]
    assert zip215(*case) is valid


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_torsioned_signatures_follow_the_specification(data: st.DataObject) -> None:
    """R with a small-order component: half of the verifiers of the world disagree here."""
    secret, nonce = data.draw(st.integers(1, L - 1)), data.draw(st.integers(1, L - 1))
    message = data.draw(st.binary(max_size=20))
    torsion_a, torsion_r = (data.draw(st.sampled_from(TORSION)) for _ in range(2))
    key = torsioned(secret, torsion_a)
    shift = data.draw(st.sampled_from([0, 0, 1]))
    signature = signature_over(torsioned(nonce, torsion_r), nonce + shift, key, secret, message)
    assert verify_batch([key], [message], [signature]) == [shift == 0] == [zip215(key, message, signature)]


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
    no_point = next(y for y in range(2, 100) if x_of(y) is None).to_bytes(32, "little")
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
    assert verify_batch([key], [b"m"], [signature]) == [zip215(key, b"m", signature)]


def test_unequal_batch_and_wrong_seed_are_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="shorter"):
        verify_batch([public_key(SEED)], [], [])
    with pytest.raises(ValueError, match="32 bytes"):
        sign(b"short", b"")
    with pytest.raises(ValueError, match="32 bytes"):
        public_key(b"short")

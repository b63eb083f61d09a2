"""The envelope: what is signed (DSSE), and the limits that bound what one record can cost."""

import contextlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from schemas import ed25519
from schemas.codec import CODEC
from schemas.envelope import (
    MAX_ENVELOPE_BYTES,
    MAX_SIGNATURES,
    PayloadKind,
    Signature,
    SignedEnvelope,
    decode_envelope,
    pae,
    pae_prefix,
    payload_type,
)
from schemas.errors import CodecError, EnvelopeError, FormatError, UnknownSchemaError
from schemas.events import decode_event, encode_event
from schemas.signing import SigningIdentity

SIGNATURE = Signature("key-1", bytes(64))
IDENTITY = SigningIdentity("did:example:monitor", "key-1", bytes(range(32)))
BODY = {
    "device_id": IDENTITY.did,
    "boot": 1,
    "sequence": 1,
    "time": 1,
    "codes": [147842],
    "values": [82.0],
}
SIGNATURES = st.builds(
    Signature, st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.binary(max_size=70)
)


def dsse_pae(kind: bytes, body: bytes) -> bytes:
    """PAE as the DSSE specification writes it."""
    return b"DSSEv1 " + str(len(kind)).encode() + b" " + kind + b" " + str(len(body)).encode() + b" " + body


def test_pae_known_answer_of_the_dsse_specification() -> None:
    kind = b"http://example.com/HelloWorld"
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert dsse_pae(kind, b"hello world") == expected
    assert pae(b"DSSEv1 29 http://example.com/HelloWorld ", b"hello world") == expected


@given(st.sampled_from(PayloadKind), st.text(min_size=1, max_size=40).filter(str.isprintable), st.binary())
def test_signed_bytes_are_pae_of_payload_type_and_payload(
    kind: PayloadKind, audience: str, payload: bytes
) -> None:
    expected = dsse_pae(payload_type(kind, audience).encode(), payload)
    assert pae(pae_prefix(kind, audience), payload) == expected


def test_payload_type_names_record_and_audience() -> None:
    prefix, suffix = "application/vnd.attestream.", "+avro; audience=ward.example"
    assert [payload_type(kind, "ward.example") for kind in PayloadKind] == [
        f"{prefix}{name}{suffix}"
        for name in ("telemetry", "access", "lifecycle", "registry-entry", "policy-entry", "alert-control")
    ]


@given(st.binary(max_size=100), st.lists(SIGNATURES, min_size=1, max_size=MAX_SIGNATURES))
def test_envelope_reads_back(payload: bytes, signatures: list[Signature]) -> None:
    envelope = SignedEnvelope(payload, tuple(signatures))
    assert decode_envelope(envelope.encode()) == envelope


@pytest.mark.parametrize("count", [0, MAX_SIGNATURES + 1, 500])
def test_number_of_signatures_is_bounded(count: int) -> None:
    with pytest.raises(EnvelopeError, match=f"envelope has {count} signatures, allowed are 1 to 16"):
        decode_envelope(SignedEnvelope(b"", (SIGNATURE,) * count).encode())


def test_size_is_bounded_to_the_byte() -> None:
    # The payload's own length prefix grows to three bytes on the way, as it has at the limit.
    rest = len(SignedEnvelope(bytes(60_000), (SIGNATURE,)).encode()) - 60_000
    largest = SignedEnvelope(bytes(MAX_ENVELOPE_BYTES - rest), (SIGNATURE,)).encode()
    assert len(largest) == MAX_ENVELOPE_BYTES
    assert decode_envelope(largest).signatures == (SIGNATURE,)
    with pytest.raises(EnvelopeError, match="is above the limit"):
        decode_envelope(SignedEnvelope(bytes(MAX_ENVELOPE_BYTES - rest + 1), (SIGNATURE,)).encode())


def test_oversized_bytes_are_refused_before_they_are_read() -> None:
    with pytest.raises(EnvelopeError, match="is above the limit"):
        decode_envelope(bytes(MAX_ENVELOPE_BYTES + 1))


def test_unknown_algorithm_does_not_pass_for_a_known_one() -> None:
    data = SignedEnvelope(b"", (SIGNATURE,)).encode()
    at = data.index(b"key-1") + len(b"key-1")
    assert data[at : at + 1] == b"\0"
    with pytest.raises(CodecError):
        decode_envelope(data[:at] + b"\x02" + data[at + 1 :])


@given(st.binary(max_size=120))
def test_hostile_bytes_are_an_envelope_or_one_error(data: bytes) -> None:
    for value in (data, CODEC.header("signed_envelope") + data):
        with contextlib.suppress(FormatError):
            decode_envelope(value)


def test_foreign_fingerprint_says_so() -> None:
    with pytest.raises(UnknownSchemaError):
        decode_envelope(b"\xc3\x01" + bytes(8) + b"\0")


def test_device_signs_what_an_independent_verifier_checks() -> None:
    sealed = IDENTITY.seal_event(PayloadKind.TELEMETRY, "ward.example", BODY)
    envelope = decode_envelope(sealed)
    (signature,) = envelope.signatures
    message = dsse_pae(b"application/vnd.attestream.telemetry+avro; audience=ward.example", envelope.payload)
    Ed25519PublicKey.from_public_bytes(IDENTITY.public_key).verify(signature.signature, message)
    assert (signature.key_id, signature.algorithm) == ("key-1", "ED25519")
    assert signature.signature == ed25519.sign(IDENTITY.seed, message)
    assert IDENTITY.public_key == ed25519.public_key(IDENTITY.seed)
    assert envelope.payload == encode_event(PayloadKind.TELEMETRY, BODY)
    assert decode_event(PayloadKind.TELEMETRY, envelope.payload).device_id == BODY["device_id"]


def test_signature_of_one_kind_or_deployment_is_none_of_another() -> None:
    payload = CODEC.encode("telemetry", BODY)
    signature = IDENTITY.sign(PayloadKind.TELEMETRY, "ward.example", payload).signature
    messages = [
        pae(pae_prefix(kind, audience), payload)
        for kind in PayloadKind
        for audience in ("ward.example", "other.example")
    ]
    verdicts = ed25519.verify_batch(
        [IDENTITY.public_key] * len(messages), messages, [signature] * len(messages)
    )
    assert verdicts == [True] + [False] * (len(messages) - 1)


def test_private_seed_does_not_show() -> None:
    assert IDENTITY.seed.hex() not in repr(IDENTITY)
    assert str(IDENTITY.seed) not in repr(IDENTITY)

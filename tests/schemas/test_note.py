"""Signed notes: what the reference implementation signs, and what an attacker sends."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import ed25519
from schemas.errors import FormatError
from schemas.note import (
    COSIGNATURE_V1,
    ED25519,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    CosignatureSigner,
    Ed25519Signer,
    Note,
    NoteError,
    Signature,
    SignatureError,
    VerifierKey,
    format_note,
    format_signatures,
    parse_note,
    parse_signatures,
    parse_vkey,
    sign_note,
    verify_note,
)

# The example in the documentation of Go's golang.org/x/mod/sumdb/note (BSD-3-Clause, The Go Authors).
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUg"
    "YN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

LOG = Ed25519Signer.from_seed("example.com/log", bytes(range(32)))
OTHER = Ed25519Signer.from_seed("example.com/log", bytes(32))
WITNESS = CosignatureSigner.from_seed("witness.example/w1", bytes([7] * 32), 1_700_000_000)
TEXT = "example.com/log\n\nwith an empty line\n"


def test_note_of_the_reference_implementation_verifies() -> None:
    key = parse_vkey(GO_VKEY)
    note = parse_note(GO_NOTE)
    assert [verified.key for verified in verify_note(note, [key])] == [key]
    assert str(key) == GO_VKEY
    assert format_note(note) == GO_NOTE


def test_log_and_witness_sign_one_note() -> None:
    note = sign_note(TEXT, [LOG])
    note = note.with_signatures(sign_note(TEXT, [WITNESS]).signatures)
    assert parse_note(format_note(note)) == note
    log, witness = verify_note(note, [WITNESS.verifier, LOG.verifier])
    assert (log.key, log.time_s) == (LOG.verifier, None)
    assert (witness.key, witness.time_s) == (WITNESS.verifier, 1_700_000_000)


def test_cosignature_signs_its_time() -> None:
    signature = sign_note(TEXT, [WITNESS]).signatures[0]
    message = b"cosignature/v1\ntime 1700000000\n" + TEXT.encode()
    assert signature.blob == (1_700_000_000).to_bytes(8, "big") + ed25519.sign(bytes([7] * 32), message)
    for time_s in (1_700_000_001, 2**63):
        forged = Signature(signature.name, signature.key_id, time_s.to_bytes(8, "big") + signature.blob[8:])
        with pytest.raises(SignatureError):
            verify_note(Note(TEXT, (forged,)), [WITNESS.verifier])


def test_time_beyond_the_specification_is_refused_even_if_signed() -> None:
    signer = CosignatureSigner.from_seed("w", bytes(32), 2**63)
    with pytest.raises(SignatureError):
        verify_note(sign_note(TEXT, [signer]), [signer.verifier])


def test_unknown_signatures_are_carried_and_ignored() -> None:
    strange = Signature("post.quantum/log", b"\x06\x06\x06\x06", b"x" * 2428)
    same_name, same_id = (
        Signature(LOG.name, b"abcd", b"x" * 64),
        Signature("someone.else", LOG.key_id, b"x" * 64),
    )
    note = Note(TEXT, (strange, same_name, same_id, *sign_note(TEXT, [OTHER, LOG]).signatures))
    note = parse_note(format_note(note))
    assert [verified.key for verified in verify_note(note, [LOG.verifier])] == [LOG.verifier]
    assert len(note.signatures) == 5


def test_a_key_counts_once_however_often_it_signs() -> None:
    signatures = sign_note(TEXT, [LOG, LOG]).signatures
    assert len(verify_note(Note(TEXT, signatures), [LOG.verifier])) == 1


def test_a_bad_signature_of_a_known_key_spoils_the_note() -> None:
    good, bad = sign_note(TEXT, [LOG]).signatures[0], Signature(WITNESS.name, WITNESS.key_id, b"x" * 72)
    with pytest.raises(SignatureError, match="witness"):
        verify_note(Note(TEXT, (good, bad)), [LOG.verifier, WITNESS.verifier])


@pytest.mark.parametrize("length", [1, 63, 65, 72])
def test_signatures_of_wrong_length_do_not_verify(length: int) -> None:
    for signer in (LOG, WITNESS):
        signature = Signature(signer.name, signer.key_id, b"x" * (length - 1) + b"y")
        with pytest.raises(SignatureError):
            verify_note(Note(TEXT, (signature,)), [signer.verifier])


def test_nobody_known_signed() -> None:
    for keys in ([], [OTHER.verifier]):
        with pytest.raises(SignatureError, match="no trusted key"):
            verify_note(sign_note(TEXT, [LOG]), keys)


def test_a_cosignature_is_not_taken_for_a_log_signature() -> None:
    """One key, two types: neither signature is good for the other."""
    seed = bytes(32)
    log, witness = Ed25519Signer.from_seed("n", seed), CosignatureSigner.from_seed("n", seed, 5)
    assert log.key_id != witness.key_id
    swapped = Signature("n", log.key_id, witness.sign(TEXT.encode())[8:])
    with pytest.raises(SignatureError):
        verify_note(Note(TEXT, (swapped,)), [log.verifier])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no blank line"),
        (b"text\n", "no blank line"),
        (b"text\n\n", "do not end in a newline"),
        (b"text\n\nhello\n", "em dash"),
        ("text\n\n— a AAAAAAA=".encode(), "do not end in a newline"),
        ("text\n\n— a AAAAAA==\n".encode(), "holds no signature"),
        ("text\n\n— a AAAAAAA\n".encode(), "not base64"),
        ("text\n\n— a AAAAAAB=\n".encode(), "not canonical"),
        ("text\n\n— a AAAA AAA=\n".encode(), "not base64"),
        ("text\n\n— a AAAAAAA= \n".encode(), "not base64"),
        ("text\n\n— a  AAAAAAA=\n".encode(), "not base64"),
        ("text\n\n— a+b AAAAAAA=\n".encode(), "key name"),
        ("text\n\n— a\u00a0b AAAAAAA=\n".encode(), "key name"),
        ("text\n\n—  AAAAAAA=\n".encode(), "key name"),
        (f"text\n\n— {'a' * 256} AAAAAAA=\n".encode(), "key name"),
        ("text\r\n\n— a AAAAAAA=\n".encode(), "control character"),
        ("te\x00xt\n\n— a AAAAAAA=\n".encode(), "control character"),
        (b"te\xffxt\n\n", "not UTF-8"),
        (b"te\xed\xa0\x80xt\n\n", "not UTF-8"),
        (b"x" * (MAX_NOTE_BYTES + 1), "more than"),
        (("text\n\n" + "— a AAAAAAA=\n" * (MAX_SIGNATURES + 1)).encode(), "101 signatures"),
    ],
)
def test_malformed_note_names_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(NoteError, match=reason):
        parse_note(data)


@given(st.binary(max_size=300))
@example(b"\n\n\n")
def test_hostile_bytes_end_in_a_note_or_one_error(data: bytes) -> None:
    try:
        note = parse_note(data)
    except NoteError:
        return
    assert format_note(note) == data


@given(st.data())
def test_every_flipped_byte_of_a_signed_note_is_found(data: st.DataObject) -> None:
    signed = format_note(sign_note(TEXT, [LOG, WITNESS]))
    position = data.draw(st.integers(0, len(signed) - 1))
    changed = bytearray(signed)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):  # noqa: PT012 - parsing or verifying may find it
        if len(verify_note(parse_note(bytes(changed)), [LOG.verifier, WITNESS.verifier])) < 2:
            raise SignatureError("one of the two became a stranger's")


@pytest.mark.parametrize("text", ["", "no newline", "bad\tcharacter\n", "bad\rcharacter\n"])
def test_text_that_cannot_be_a_note_is_not_signed(text: str) -> None:
    with pytest.raises(NoteError):
        sign_note(text, [LOG])


def test_a_note_without_signers_is_not_made() -> None:
    with pytest.raises(NoteError):
        sign_note(TEXT, [])


def test_signature_lines_of_a_witness_answer() -> None:
    signatures = sign_note(TEXT, [WITNESS]).signatures
    assert parse_signatures(format_signatures(signatures)) == signatures
    for data in (b"", b"\n", b"\xff\n"):
        with pytest.raises(NoteError):
            parse_signatures(data)


def test_vkey_reads_back() -> None:
    for key in (LOG.verifier, WITNESS.verifier):
        assert parse_vkey(str(key)) == key


def _vkey(name: str, material: bytes) -> str:
    claimed = VerifierKey(name, ED25519, LOG.public_key).key_id.hex() if name else "00000000"
    return f"{name}+{claimed}+{base64.b64encode(material).decode()}"


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "a+b",
        "n+00000000+AAAA",
        "n+00000000+",
        "n+00000000+!!!!",
        "\ud800+00000000+AAAA",
        _vkey("", bytes([ED25519]) + LOG.public_key),
        _vkey("n", bytes([ED25519]) + LOG.public_key).upper(),
        _vkey("n", bytes([COSIGNATURE_V1]) + LOG.public_key),
        _vkey("n", bytes([ED25519]) + OTHER.public_key),
        _vkey("n", bytes([6]) + LOG.public_key),
        _vkey("n", bytes([ED25519]) + LOG.public_key[:-1]),
        _vkey("n", bytes([ED25519]) + (1).to_bytes(32, "little")),
    ],
)
def test_malformed_or_weak_vkey_is_refused(vkey: str) -> None:
    with pytest.raises(FormatError):
        parse_vkey(vkey)


@given(st.text(max_size=100))
def test_hostile_vkey_is_one_error(vkey: str) -> None:
    with pytest.raises(FormatError):
        parse_vkey(vkey)

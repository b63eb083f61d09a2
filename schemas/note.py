"""Signed notes (https://c2sp.org/signed-note) and witness cosignatures (https://c2sp.org/tlog-cosignature).

A note is a text that ends in a newline, a blank line, and signature lines of the form
`— <key name> base64(key ID (4 bytes) | signature)`, where key ID = SHA-256(name | 0x0A | type | key)[:4].

Two signature types are spoken: 0x01, Ed25519 over the text, and 0x04, a timestamped cosignature. Lines of any
other key are carried along and ignored, as the specification demands, so that a new type needs no new parser.
One private key signs for every origin: the key name is the origin, so each origin has a verifier key of its
own that follows from the origin and the one public key.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas import ed25519
from schemas.errors import FormatError

ED25519 = 0x01
COSIGNATURE_V1 = 0x04

# Go's sumdb/note stops at the same two numbers; the specification asks for at least 16 signatures.
MAX_NOTE_BYTES = 1_000_000
MAX_SIGNATURES = 100
MAX_NAME_BYTES = 255
MAX_TIME_S = 2**63 - 1

_LINE_PREFIX = "— "
_KEY_ID_BYTES = 4
_TIME_BYTES = 8


class NoteError(FormatError):
    """Bytes are not a signed note, or a verifier key is malformed: whoever wrote them is at fault."""


class SignatureError(NoteError):
    """A well-formed note is not signed by the keys it must be signed by."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who claims to have signed, and the bytes after the key ID."""

    name: str
    key_id: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note. `text` includes its final newline and must not be believed before `verify_note`."""

    text: str
    signatures: tuple[Signature, ...]

    def with_signatures(self, added: Iterable[Signature]) -> "Note":
        """This note with more signature lines below the ones it has."""
        return replace(self, signatures=self.signatures + tuple(added))


class Signer(Protocol):
    """Whatever can sign a note: a key in memory, a file, a hardware token or a key management service."""

    @property
    def name(self) -> str:
        """The key name of the signature line."""

    @property
    def key_id(self) -> bytes:
        """The four bytes that follow from name, type and public key."""

    def sign(self, text: bytes) -> bytes:
        """The bytes after the key ID for this note text."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key as a note verifier knows it. `str()` gives its vkey, `name+hash+base64(type|key)`."""

    name: str
    algorithm: int
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.algorithm not in (ED25519, COSIGNATURE_V1):
            raise NoteError(
                f"verifier key {self.name}: signature type {self.algorithm:#04x} is not supported"
            )
        ed25519.check_public_key(self.public_key)

    @property
    def key_id(self) -> bytes:
        """The four bytes that name this key in a signature line."""
        return key_id(self.name, self.algorithm, self.public_key)

    def verify(self, text: bytes, blob: bytes) -> bool:
        """Whether `blob` (the bytes after the key ID) is this key's signature of the note text.

        RFC 8032 without the cofactor, as the C2SP verifiers do it; ZIP 215 is for events.
        """
        if self.algorithm == ED25519:
            return _verify_ed25519(self.public_key, text, blob)
        if len(blob) != _TIME_BYTES + ed25519.SIGNATURE_BYTES:
            return False
        time_s = int.from_bytes(blob[:_TIME_BYTES], "big")
        if time_s > MAX_TIME_S:
            return False
        return _verify_ed25519(self.public_key, cosigned_message(text, time_s), blob[_TIME_BYTES:])

    def __str__(self) -> str:
        material = bytes([self.algorithm]) + self.public_key
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(material).decode()}"


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that holds. `time_s` (Unix) is the cosigner's word on when, None for a plain signature."""

    key: VerifierKey
    time_s: int | None


@dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """Signs note texts as `name`; `sign_raw` turns a message into 64 bytes wherever the private key lives."""

    name: str
    public_key: bytes
    sign_raw: Callable[[bytes], bytes]

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """A signer whose 32-byte private seed is in this process."""
        return cls(name, ed25519.public_key(seed), lambda message: ed25519.sign(seed, message))

    @property
    def verifier(self) -> VerifierKey:
        """The key that checks what this signer signs."""
        return VerifierKey(self.name, ED25519, self.public_key)

    @property
    def key_id(self) -> bytes:
        """See `Signer`."""
        return key_id(self.name, ED25519, self.public_key)

    def sign(self, text: bytes) -> bytes:
        """See `Signer`."""
        return self.sign_raw(text)


@dataclass(frozen=True, slots=True)
class CosignatureSigner:
    """Cosigns a checkpoint as a witness, stating that `time_s` (Unix) is when it saw it."""

    name: str
    public_key: bytes
    sign_raw: Callable[[bytes], bytes]
    time_s: int

    @classmethod
    def from_seed(cls, name: str, seed: bytes, time_s: int) -> Self:
        """A cosigner whose 32-byte private seed is in this process."""
        return cls(name, ed25519.public_key(seed), lambda message: ed25519.sign(seed, message), time_s)

    @property
    def verifier(self) -> VerifierKey:
        """The key that checks what this signer signs."""
        return VerifierKey(self.name, COSIGNATURE_V1, self.public_key)

    @property
    def key_id(self) -> bytes:
        """See `Signer`."""
        return key_id(self.name, COSIGNATURE_V1, self.public_key)

    def sign(self, text: bytes) -> bytes:
        """See `Signer`."""
        return self.time_s.to_bytes(_TIME_BYTES, "big") + self.sign_raw(cosigned_message(text, self.time_s))


def key_id(name: str, algorithm: int, public_key: bytes) -> bytes:
    """The first four bytes of SHA-256(name | 0x0A | type | key)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:_KEY_ID_BYTES]


def cosigned_message(text: bytes, time_s: int) -> bytes:
    """What an Ed25519 cosignature signs (tlog-cosignature, "Ed25519 signed message")."""
    return b"cosignature/v1\ntime %d\n" % time_s + text


def parse_vkey(vkey: str) -> VerifierKey:
    """Parse `name+hash+base64(type|key)`; `FormatError` on a wrong hash, unknown type or weak key."""
    parts = vkey.split("+", 2)
    if len(parts) != 3:
        raise NoteError("verifier key is not name+hash+key")
    name, claimed_id, encoded = parts
    material = decode_base64(encoded, "verifier key")
    if not material:
        raise NoteError(f"verifier key {name} is empty")
    key = VerifierKey(name, material[0], material[1:])
    if claimed_id != key.key_id.hex():
        raise NoteError(f"verifier key {name}: hash {claimed_id!r} does not belong to its key")
    return key


def parse_note(data: bytes) -> Note:
    """Parse an untrusted note. Whatever it holds, the outcome is a `Note` or one `NoteError`."""
    if len(data) > MAX_NOTE_BYTES:
        raise NoteError(f"note has {len(data)} bytes, more than {MAX_NOTE_BYTES}")
    content = _decode_text(data)
    text, separator, lines = content.rpartition("\n\n")
    if not separator:
        raise NoteError("note has no blank line before its signatures")
    return Note(text + "\n", parse_signatures(lines.encode()))


def parse_signatures(data: bytes) -> tuple[Signature, ...]:
    """Parse one or more whole signature lines, as a note ends with and as a witness answers."""
    content = _decode_text(data)
    if not content.endswith("\n"):
        raise NoteError("signature lines do not end in a newline")
    lines = content[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"note has {len(lines)} signatures, more than {MAX_SIGNATURES}")
    return tuple(_parse_line(line, number) for number, line in enumerate(lines, start=1))


def format_note(note: Note) -> bytes:
    """The note's bytes; `parse_note` gives the same note back."""
    return note.text.encode() + b"\n" + format_signatures(note.signatures)


def format_signatures(signatures: Iterable[Signature]) -> bytes:
    """Signature lines alone."""
    return "".join(
        f"{_LINE_PREFIX}{signature.name} {base64.b64encode(signature.key_id + signature.blob).decode()}\n"
        for signature in signatures
    ).encode()


def sign_note(text: str, signers: Iterable[Signer]) -> Note:
    """Sign `text` (which must end in a newline) with every signer, in their order."""
    encoded = text.encode()
    _decode_text(encoded)
    if not text.endswith("\n"):
        raise NoteError("note text does not end in a newline")
    signatures = []
    for signer in signers:
        _check_name(signer.name)
        signatures.append(Signature(signer.name, signer.key_id, signer.sign(encoded)))
    if not signatures:
        raise NoteError("a note needs at least one signature")
    return Note(text, tuple(signatures))


def verify_note(note: Note, keys: Iterable[VerifierKey]) -> list[VerifiedSignature]:
    """The signatures of `note` made by `keys`, in the order of the note, at most one a key.

    Raises `SignatureError` when a known key's signature does not hold, or when no known key signed at all.
    """
    known = {(key.name, key.key_id): key for key in keys}
    text = note.text.encode()
    verified: list[VerifiedSignature] = []
    for signature in note.signatures:
        # A key counts once however often its line is repeated, so popping it also ends the work per key.
        key = known.pop((signature.name, signature.key_id), None)
        if key is None:
            continue
        if not key.verify(text, signature.blob):
            raise SignatureError(f"the signature of {key.name} does not fit the note")
        is_timed = key.algorithm == COSIGNATURE_V1
        time_s = int.from_bytes(signature.blob[:_TIME_BYTES], "big") if is_timed else None
        verified.append(VerifiedSignature(key, time_s))
    if not verified:
        raise SignatureError("no trusted key has signed the note")
    return verified


def decode_base64(encoded: str, what: str) -> bytes:
    """Decode standard base64 (RFC 4648, section 4), canonical only; `what` names the place in the error."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{what} is not base64") from error
    # A decoder that ignores stray trailing bits would let two texts mean one value.
    if base64.b64encode(raw).decode() != encoded:
        raise NoteError(f"{what} is not canonical base64")
    return raw


def _parse_line(line: str, number: int) -> Signature:
    where = f"signature line {number}"
    if not line.startswith(_LINE_PREFIX):
        raise NoteError(f"{where} does not begin with an em dash and a space")
    name, _, encoded = line.removeprefix(_LINE_PREFIX).partition(" ")
    _check_name(name)
    raw = decode_base64(encoded, where)
    if len(raw) <= _KEY_ID_BYTES:
        raise NoteError(f"{where} holds no signature")
    return Signature(name, raw[:_KEY_ID_BYTES], raw[_KEY_ID_BYTES:])


def _check_name(name: str) -> None:
    is_clean = name and not any(c.isspace() or c == "+" or c < " " or "\ud800" <= c <= "\udfff" for c in name)
    if not is_clean or len(name.encode()) > MAX_NAME_BYTES:
        raise NoteError(f"key name {name[:64]!a} is empty, too long, or holds a character it must not")


def _decode_text(data: bytes) -> str:
    try:
        content = data.decode()
    except UnicodeDecodeError as error:
        raise NoteError(f"note is not UTF-8 at byte {error.start}") from error
    if any(c < " " and c != "\n" for c in content):
        raise NoteError("note holds a control character")
    return content


def _verify_ed25519(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True

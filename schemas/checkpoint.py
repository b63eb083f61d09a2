"""Checkpoints (https://c2sp.org/tlog-checkpoint): a log's signed statement of its size and root.

The text is the origin, the tree size in decimal, the base64 of the RFC 6962 root, and optional extension
lines; it is signed as a note whose key name is the origin.
"""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from schemas.errors import FormatError
from schemas.note import (
    ED25519,
    Note,
    NoteError,
    SignatureError,
    Signer,
    VerifierKey,
    decode_base64,
    parse_note,
    sign_note,
    verify_note,
)

ROOT_BYTES = 32
MAX_SIZE = 2**63 - 1
EMPTY_ROOT = hashlib.sha256(b"").digest()

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class CheckpointError(FormatError):
    """A note's text is not a checkpoint, or not the checkpoint of the log that was asked for."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tree of `origin` had `size` leaves and this 32-byte `root`."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if any(not line or "\n" in line for line in lines):
            raise CheckpointError("an origin or extension line is empty or holds a newline")
        if not 0 <= self.size <= MAX_SIZE:
            raise CheckpointError(f"tree size {self.size} is not between 0 and 2^63 - 1")
        if len(self.root) != ROOT_BYTES:
            raise CheckpointError(f"root has {len(self.root)} bytes, not {ROOT_BYTES}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise CheckpointError("an empty tree has another root than SHA-256 of nothing")


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose log signature was verified, and the note that carried it."""

    checkpoint: Checkpoint
    note: Note


def log_key(origin: str, log_public_key: bytes) -> VerifierKey:
    """The verifier key of one origin, from the one public key that a trust file lists."""
    return VerifierKey(origin, ED25519, log_public_key)


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The note text of a checkpoint."""
    root = base64.b64encode(checkpoint.root).decode()
    return "\n".join((checkpoint.origin, str(checkpoint.size), root, *checkpoint.extensions)) + "\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """Parse a note text strictly; `CheckpointError` says which line is wrong."""
    if not text.endswith("\n"):
        raise CheckpointError("checkpoint does not end in a newline")
    lines = text[:-1].split("\n")
    if len(lines) < 3:
        raise CheckpointError(f"checkpoint has {len(lines)} lines, fewer than 3")
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size):
        raise CheckpointError("tree size (line 2) is not a decimal number without leading zeros")
    try:
        raw_root = decode_base64(root, "root (line 3)")
    except NoteError as error:
        raise CheckpointError(str(error)) from error
    return Checkpoint(origin, int(size), raw_root, tuple(extensions))


def sign_checkpoint(checkpoint: Checkpoint, signers: Iterable[Signer]) -> Note:
    """Sign a checkpoint; the log's own signer is named like the origin."""
    return sign_note(format_checkpoint(checkpoint), signers)


def open_checkpoint(data: bytes, key: VerifierKey, *earlier: VerifierKey) -> SignedCheckpoint:
    """Parse a signed checkpoint and verify that the log `key.name` signed it as its own.

    `earlier` are keys of the same log that have since been replaced; one signature suffices.

    Raises `FormatError`: malformed (`NoteError`, `CheckpointError`), unsigned or forged (`SignatureError`),
    or another log's (`CheckpointError`). Other signatures are neither needed nor checked.
    """
    if any(each.algorithm != ED25519 for each in (key, *earlier)):
        raise SignatureError(f"{key.name} is a cosigner's key, not a log's")
    note = parse_note(data)
    verify_note(note, [key, *earlier])
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != key.name:
        raise CheckpointError(f"checkpoint of {checkpoint.origin!r} where one of {key.name!r} was expected")
    return SignedCheckpoint(checkpoint, note)

"""Transparency log proofs (https://c2sp.org/tlog-proof): a leaf's inclusion as one text file, `.tlog-proof`.

The line `c2sp.org/tlog-proof@v1`, an optional `extra <base64>`, `index <n>`, the hashes of the inclusion
proof in base64 from the leaf upwards, an empty line, and the signed checkpoint as the log issued it.
"""

import base64
import re
from dataclasses import dataclass

from schemas.errors import FormatError
from schemas.note import MAX_NOTE_BYTES, Note, NoteError, decode_base64, format_note, parse_note

MAGIC = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
"""No tree of fewer than 2^63 leaves needs more."""

_HASH_BYTES = 32
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
_EXTRA = "extra "


class TlogProofError(FormatError):
    """Bytes are not a tlog-proof; the message names the line."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed proof: nothing in it is verified. `extra` is never signed by anyone."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: Note
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.index < 2**63:
            raise TlogProofError(f"index {self.index} is not between 0 and 2^63 - 1")
        if len(self.hashes) > MAX_HASHES or any(len(value) != _HASH_BYTES for value in self.hashes):
            raise TlogProofError(
                f"more than {MAX_HASHES} hashes, or one that is not {_HASH_BYTES} bytes long"
            )


def format_tlog_proof(proof: TlogProof) -> bytes:
    """The bytes of a `.tlog-proof` file; `parse_tlog_proof` gives the same proof back."""
    lines = [MAGIC]
    if proof.extra is not None:
        lines.append(_EXTRA + base64.b64encode(proof.extra).decode())
    lines.append(f"index {proof.index}")
    lines += [base64.b64encode(value).decode() for value in proof.hashes]
    return ("\n".join(lines) + "\n\n").encode() + format_note(proof.checkpoint)


def parse_tlog_proof(data: bytes) -> TlogProof:
    """Parse an untrusted proof: the outcome is a `TlogProof`, a `TlogProofError` or a `NoteError`."""
    if len(data) > 2 * MAX_NOTE_BYTES:
        raise TlogProofError(f"proof has {len(data)} bytes, more than {2 * MAX_NOTE_BYTES}")
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator:
        raise TlogProofError("proof has no empty line before its checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise TlogProofError(f"proof is not ASCII at byte {error.start}") from error
    if lines.pop(0) != MAGIC:
        raise TlogProofError(f"proof does not begin with {MAGIC}")
    extra = None
    if lines and lines[0].startswith(_EXTRA):
        extra = _decode(lines.pop(0).removeprefix(_EXTRA), "extra")
    index = _INDEX.fullmatch(lines.pop(0)) if lines else None
    if index is None:
        raise TlogProofError("proof has no line `index <n>` in decimal without leading zeros")
    if len(lines) > MAX_HASHES:
        raise TlogProofError(f"proof has {len(lines)} hashes, more than {MAX_HASHES}")
    hashes = tuple(_decode(line, f"hash {number}") for number, line in enumerate(lines))
    return TlogProof(int(index[1]), hashes, parse_note(checkpoint), extra)


def _decode(encoded: str, what: str) -> bytes:
    try:
        return decode_base64(encoded, what)
    except NoteError as error:
        raise TlogProofError(str(error)) from error

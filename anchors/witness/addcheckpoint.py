"""The add-checkpoint request and its answers (https://c2sp.org/tlog-witness, "add-checkpoint").

The body: `old <size>`, up to 63 lines of a base64 hash each (RFC 6962, section 2.1.2), an empty line, and the
signed checkpoint. The answer is signature lines, or with 409 the size that the witness cosigned last.
"""

import base64
import re
from dataclasses import dataclass

from anchors.errors import WitnessRequestError
from schemas.checkpoint import MAX_SIZE
from schemas.errors import FormatError
from schemas.note import decode_base64

PATH = "add-checkpoint"
MAX_PROOF_HASHES = 63
MAX_BODY_BYTES = 1 << 16
HASH_BYTES = 32
SIZE_CONTENT_TYPE = "text/x.tlog.size"

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_OLD = "old "


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """Please cosign `checkpoint`: `proof` shows that it extends the `old_size` leaves you know."""

    old_size: int
    proof: tuple[bytes, ...]
    """32-byte hashes, lowest first."""
    checkpoint: bytes
    """A signed note, not parsed."""

    def encode(self) -> bytes:
        """The request's body."""
        hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in self.proof)
        return f"{_OLD}{self.old_size}\n{hashes}\n".encode() + self.checkpoint


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Parse an untrusted body; raises WitnessRequestError."""
    if len(body) > MAX_BODY_BYTES:
        raise WitnessRequestError(f"the request has more than {MAX_BODY_BYTES} bytes")
    head, blank, checkpoint = body.partition(b"\n\n")
    if not blank:
        raise WitnessRequestError("no empty line before the checkpoint")
    try:
        old, *lines = head.decode().split("\n")
        if len(lines) > MAX_PROOF_HASHES:
            raise WitnessRequestError(f"the proof has more than {MAX_PROOF_HASHES} hashes")
        proof = tuple(decode_base64(line, f"line {number}") for number, line in enumerate(lines, start=2))
    except (UnicodeDecodeError, FormatError) as error:
        raise WitnessRequestError(str(error)) from error
    if any(len(each) != HASH_BYTES for each in proof):
        raise WitnessRequestError(f"a hash of the proof has not {HASH_BYTES} bytes")
    if not old.startswith(_OLD):
        raise WitnessRequestError("the first line does not begin with 'old '")
    return AddCheckpoint(_size(old.removeprefix(_OLD)), proof, checkpoint)


def format_size(size: int) -> bytes:
    """The body of a 409."""
    return b"%d\n" % size


def parse_size(body: bytes) -> int:
    """Parse the body of a 409; raises WitnessRequestError."""
    text = body.decode("ascii", "replace")
    if not text.endswith("\n"):
        raise WitnessRequestError("the size does not end in a newline")
    return _size(text[:-1])


def _size(text: str) -> int:
    if not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise WitnessRequestError(f"{text[:32]!a} is no tree size")
    return int(text)

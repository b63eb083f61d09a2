from collections.abc import Sequence
from typing import TypeAlias

BACKEND: str  # what does the curve's arithmetic on this processor: avx512ifma, avx2 or serial

# Item i of the result says whether signatures[i] holds by ZIP 215. Keys and signatures of a wrong length, or
# that encode no point, are False. The sequences must have one length (ValueError) and hold bytes (TypeError).
def verify_batch(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]: ...

# Item i of the result is BLAKE3 (32 bytes) over key, headers and value of record i, each part with its
# length. The sequences must have one length (ValueError), and names be UTF-8's (UnicodeEncodeError).
def record_digests(
    keys: Sequence[bytes | None],
    headers: Sequence[Sequence[tuple[str, bytes | None]]],
    values: Sequence[bytes | None],
) -> list[bytes]: ...

# device_id, boot, sequence, time in us, codes, values (doubles of eight bytes, the lowest first), key id,
# signature, the signed message, BLAKE3 of the payload (32 bytes)
Opened: TypeAlias = tuple[str, int, int, int, tuple[int, ...], bytes, str, bytes, bytes, bytes]

class Opener:
    # What the single-object encodings of envelope and telemetry begin with, and what a signed message does.
    def __init__(self, envelope: bytes, telemetry: bytes, prefix: bytes) -> None: ...
    # Opens envelopes of one signature with telemetry that breaks no rule; None for all else.
    def open(self, values: Sequence[bytes | None]) -> list[Opened | None]: ...

# Tables of doubles: 25 of each block's track, as many samples of each, and rows of 15 thresholds; 64-bit
# integers choose a row for each block. Returns the tracks as they are now, as bytes, and the places of blocks
# that break a rule, whose tracks stay. Tables that do not fit together are a ValueError, what is no table of
# such numbers a BufferError or TypeError.
def judge_blocks(
    tracks: object, samples: object, thresholds: object, which: object
) -> tuple[bytes, list[int]]: ...

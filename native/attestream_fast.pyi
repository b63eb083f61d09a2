from collections.abc import Sequence

BACKEND: str
"""Which code does the curve's arithmetic on this processor: avx512ifma, avx2 or serial."""

def verify_batch(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]:
    """Verify n signatures by ZIP 215, with the GIL released; item i says whether `signatures[i]` holds.

    Keys and signatures of a wrong length, or that are no points, are False. The three sequences must have one
    length (ValueError) and hold bytes (TypeError).
    """

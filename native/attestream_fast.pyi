from collections.abc import Sequence

BACKEND: str  # what does the curve's arithmetic on this processor: avx512ifma, avx2 or serial

# Item i of the result says whether signatures[i] holds by ZIP 215. Keys and signatures of a wrong length, or
# that encode no point, are False. The sequences must have one length (ValueError) and hold bytes (TypeError).
def verify_batch(
    public_keys: Sequence[bytes], messages: Sequence[bytes], signatures: Sequence[bytes]
) -> list[bool]: ...

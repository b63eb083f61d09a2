"""Opens a batch of signed telemetry at once: by the crate where it is at work, else one after the other.

Either reads the common shape only (`shortcut.py`), and leaves all else to `decode_envelope` and
`decode_event`.
"""

import sys
from array import array
from collections.abc import Callable, Sequence

from blake3 import blake3

from schemas.codec import CODEC
from schemas.envelope import pae
from schemas.native import CRATE
from schemas.shortcut import read_envelope, read_telemetry

Opened = tuple[str, int, int, int, tuple[int, ...], "bytes | array[float]", str, bytes, bytes, bytes]
"""device_id, boot, sequence, time in us, codes, values (an array, or bytes for one), key id, signature, the
signed message, BLAKE3 of the payload (32 bytes)"""

Open = Callable[[Sequence[bytes | None]], Sequence[Opened | None]]
"""Values of records -> what is in each; None for what is not telemetry of the common shape."""


def opener(prefix: bytes) -> Open:
    """Return what opens batches whose signed messages begin with this `pae_prefix`."""
    if CRATE is None or sys.byteorder == "big":
        return plain_opener(prefix)
    native: Open = CRATE.Opener(CODEC.header("signed_envelope"), CODEC.header("telemetry"), prefix).open
    return native


def plain_opener(prefix: bytes) -> Open:
    """Return one that does without the crate."""

    def opened(value: bytes | None) -> Opened | None:
        envelope = None if value is None else read_envelope(value)
        if envelope is None:
            return None
        payload, key_id, signature = envelope
        found = read_telemetry(payload)
        if found is None:
            return None
        return (*found, key_id, signature, pae(prefix, payload), blake3(payload).digest())

    return lambda values: [opened(value) for value in values]

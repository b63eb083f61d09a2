"""Finds rows of readings that a device sent before, whatever their signatures and times.

A fingerprint of six rows in a row is kept for some places of the last day, and every such window that may
have been kept is looked up. Which rows may end a window follows from their content, so a replay meets the
places that were kept wherever it begins (winnowing: Schleimer, Wilkerson, Aiken, SIGMOD 2003).
"""

import struct
from zlib import crc32

ROWS = 6
CRC = 4
"""Bytes of one."""
KEPT = 192
SAMPLED = 4  # a power of two
_FIRST_SPACING = 8
_DEFAULT_INTERVAL_US = 60e6
_WINDOW = struct.Struct(f"<{ROWS}I")
LARGEST_SPACING = 2**30


def span_rows(window_s: float, interval_us: float) -> float:
    """Return how many rows a window holds; `interval_us` is 0.0 while nothing is known of it."""
    return window_s * 1e6 / (interval_us or _DEFAULT_INTERVAL_US)


class Prints:
    """Fingerprints of earlier rows, oldest first, at least `spacing` rows apart."""

    __slots__ = ("kept", "rows", "since", "spacing")

    def __init__(self) -> None:
        self.rows = bytearray()
        """CRCs of the last rows."""
        self.kept = bytearray()
        """CRCs of windows. As bytes, since a device has up to 192 of them, and Python's numbers take nine
        times the room."""
        self.spacing = _FIRST_SPACING
        self.since = 0

    @property
    def missing(self) -> bool:
        """Whether fewer rows were seen than a window has."""
        return len(self.rows) < ROWS * CRC

    def add(self, row: int) -> bool:
        """Take a row's CRC; whether a window may end with it, as every fourth does."""
        self.rows += row.to_bytes(CRC, "little")
        if len(self.rows) > ROWS * CRC:
            del self.rows[:CRC]
        self.since += 1
        return row % SAMPLED == 0

    def meet(self, span_rows: float) -> int:
        """Look at the window that ends now, and maybe keep it; return how many rows ago it was met, about.

        0 where it is new. `span_rows` is how many rows are to be remembered: about a day's.
        """
        rows = self.rows
        if len(rows) < ROWS * CRC or len(set(_WINDOW.unpack(rows))) < ROWS:
            return 0
        window = crc32(rows).to_bytes(CRC, "little")
        at = self.kept.find(window)
        while at % CRC and at != -1:
            at = self.kept.find(window, at + 1)
        if at != -1:
            return max(1, (len(self.kept) - at) // CRC * self.spacing)
        if self.since >= self.spacing:
            self._keep(window, span_rows)
        return 0

    def _keep(self, window: bytes, span_rows: float) -> None:
        self.since = 0
        self.kept += window
        if len(self.kept) <= KEPT * CRC:
            return
        if KEPT * self.spacing >= span_rows or self.spacing >= LARGEST_SPACING:
            del self.kept[:CRC]
        else:
            kept = memoryview(self.kept).cast("I")
            self.kept = bytearray(kept[1::2].tobytes())
            self.spacing *= 2

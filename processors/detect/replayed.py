"""Finds rows of readings that a device sent before, whatever their signatures and times.

A fingerprint of six rows in a row is kept for some places of the last day, and every such window that may
have been kept is looked up. Which rows may end a window follows from their content, so a replay meets the
places that were kept wherever it begins (winnowing: Schleimer, Wilkerson, Aiken, SIGMOD 2003).
"""

import struct
from zlib import crc32

ROWS = 6
KEPT = 192
_SAMPLED = 4  # a power of two
_FIRST_SPACING = 8
_WINDOW = struct.Struct(f"<{ROWS}I")
_LARGEST_SPACING = 2**30


class Prints:
    """Fingerprints of earlier rows, oldest first, at least `spacing` rows apart."""

    __slots__ = ("hits", "kept", "known", "rows", "since", "spacing")

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.kept: list[int] = []
        self.known: set[int] = set()
        self.spacing = _FIRST_SPACING
        self.since = 0
        self.hits = 0

    def meet(self, span_rows: float) -> int:
        """Look at the window that ends now, and maybe keep it; return how many rows ago it was met, about.

        0 where it is new. `span_rows` is how many rows are to be remembered: about a day's.
        """
        rows = self.rows
        if len(rows) < ROWS or len(set(rows)) < ROWS:
            return 0
        window = crc32(_WINDOW.pack(*rows))
        if window in self.known:
            return max(1, (len(self.kept) - self.kept.index(window)) * self.spacing)
        if self.since >= self.spacing:
            self._keep(window, span_rows)
        return 0

    def _keep(self, window: int, span_rows: float) -> None:
        self.since = 0
        self.kept.append(window)
        self.known.add(window)
        if len(self.kept) <= KEPT:
            return
        if KEPT * self.spacing >= span_rows or self.spacing >= _LARGEST_SPACING:
            self.known.discard(self.kept.pop(0))
        else:
            del self.kept[::2]
            self.known = set(self.kept)
            self.spacing *= 2


def is_sampled(row: int) -> bool:
    """Whether a window may end with a row of this CRC: every fourth does."""
    return row % _SAMPLED == 0

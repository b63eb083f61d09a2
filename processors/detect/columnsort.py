"""Orders the numbers of many short lists at once: each list is a column, numpy compares whole rows.

`numpy.sort` calls its sort once a list, which for eight numbers costs more than comparing rows by a sorting
network does (Knuth, The Art of Computer Programming 3, section 5.3.4). A zero may take another one's
sign; who sees the difference makes it positive first.
"""

from collections.abc import Sequence

import numpy as np

from processors.detect.blockcolumns import Floats

_EIGHT = (
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3), (4, 5), (6, 7),
    (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
)  # fmt: skip
_MIDDLE_OF_NINE = (
    (0, 3), (1, 7), (2, 5), (4, 8), (0, 7), (2, 4), (3, 8), (5, 6), (0, 2), (1, 3), (4, 5), (7, 8),
    (1, 4), (3, 6), (5, 7), (0, 1), (2, 4), (3, 5), (6, 8), (2, 3), (4, 5), (3, 4),
)  # fmt: skip
"""Puts the least, the middle and the largest of nine into their places, the others anywhere."""


def in_order(rows: Floats) -> Sequence[Floats]:
    """Return rows that have each column's numbers from the least to the largest; `rows` is used up."""
    if len(rows) != 8:
        return list(np.sort(rows, axis=0))
    return _exchanged(rows, _EIGHT)


def least_middle_largest(rows: Floats) -> tuple[Floats, Floats, Floats]:
    """Return each column's least number, its middle one (the upper of two), and its largest."""
    ordered = np.sort(rows, axis=0) if len(rows) != 9 else _exchanged(rows.copy(), _MIDDLE_OF_NINE)
    return ordered[0], ordered[len(rows) >> 1], ordered[-1]


def _exchanged(rows: Floats, network: Sequence[tuple[int, int]]) -> Sequence[Floats]:
    ordered, spare = list(rows), np.empty_like(rows[0])
    for low, high in network:
        one, other = ordered[low], ordered[high]
        np.minimum(one, other, out=spare)
        np.maximum(one, other, out=other)
        ordered[low], spare = spare, one
    return ordered

"""One flipped byte: copies of a file, spread over it so that each part is hit."""

import random
from collections.abc import Iterator


def flipped(data: bytes, position: int) -> bytes:
    """The data with one bit changed."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def some_flips(data: bytes, count: int, rng: random.Random) -> Iterator[tuple[int, bytes]]:
    """So many (position, changed copy), one in each part of the data.

    The last digit before base64's padding is left alone: some of its bits decode to nothing, and a reader
    that does not mind sees the same bytes, of which nothing that is signed has changed.
    """
    for number in range(count):
        part = range(number * len(data) // count, (number + 1) * len(data) // count)
        candidates = [position for position in part if data[position + 1 : position + 2] != b"="]
        if candidates:
            position = rng.choice(candidates)
            yield position, flipped(data, position)

"""Bytes told by how they differ from others: what stands before and after the part that both have."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.errors import CodecError


class Splice(NamedTuple):
    """`head`, then bytes `begin` to `end` of the others, then `tail`."""

    head: bytes
    begin: int
    end: int
    tail: bytes

    def applied(self, base: bytes) -> bytes:
        """Return the bytes told of. Raises CodecError where the others have no such part."""
        if not 0 <= self.begin <= self.end <= len(base):
            message = f"bytes {self.begin} to {self.end} of a state of {len(base)} are told to be kept"
            raise CodecError(message)
        return self.head + base[self.begin : self.end] + self.tail


def all_anew(written: Sequence[bytes], is_whole: Sequence[bool]) -> list[bytes | Splice]:
    """Tell of small states as if nothing of them had been written before."""
    return [data if whole else Splice(data, 0, 0, b"") for data, whole in zip(written, is_whole, strict=True)]

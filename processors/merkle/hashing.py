"""Hashing of RFC 6962, section 2.1: SHA-256 with a prefix that tells a leaf (0x00) from a node (0x01)."""

import hashlib
from collections.abc import Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one leaf."""
    return _sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The hashes of many leaves."""
    return [_sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return _sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: bytes) -> bytes:
    """The root above 2^k concatenated hashes of equal height."""
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([_sha256(b"\x01" + hashes[i : i + 2 * HASH_BYTES]).digest() for i in pairs])
    return hashes


def fold_right(subtrees: Sequence[bytes]) -> bytes:
    """The root above perfect subtrees of falling height, given from left to right; at least one."""
    root = subtrees[-1]
    for subtree in reversed(subtrees[:-1]):
        root = node_hash(subtree, root)
    return root


def perfect_pieces(hashes: bytes) -> list[bytes]:
    """The roots of the perfect subtrees, from left to right, that `hashes` (of equal height) fall into."""
    pieces = []
    position, count = 0, len(hashes) // HASH_BYTES
    while count:
        piece = 1 << (count.bit_length() - 1)
        end = position + piece * HASH_BYTES
        pieces.append(perfect_root(hashes[position:end]))
        position, count = end, count - piece
    return pieces

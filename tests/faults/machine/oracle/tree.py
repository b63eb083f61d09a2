"""An RFC 6962 tree that remembers every complete node, so that any earlier root can be recomputed."""

import hashlib

HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """64 bytes a leaf: `_levels[k]` holds the roots of the complete subtrees of 2^k leaves, in order."""

    def __init__(self) -> None:
        self._levels = [bytearray()]

    @property
    def size(self) -> int:
        """Leaves so far."""
        return len(self._levels[0]) // HASH_BYTES

    def append(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        node, level = leaf, 0
        while True:
            row = self._levels[level]
            row += node
            if len(row) // HASH_BYTES % 2:
                return
            pair = bytes(row[-2 * HASH_BYTES :])
            node, level = node_hash(pair[:HASH_BYTES], pair[HASH_BYTES:]), level + 1
            if level == len(self._levels):
                self._levels.append(bytearray())

    def cut(self, size: int) -> None:
        """Forget all but the first `size` leaves."""
        for level, row in enumerate(self._levels):
            del row[(size >> level) * HASH_BYTES :]

    def nodes(self, level: int, first: int, end: int) -> bytes:
        """The complete nodes [first, end) of a level, 32 bytes each; fewer where there are fewer."""
        if level >= len(self._levels):
            return b""
        return bytes(self._levels[level][first * HASH_BYTES : end * HASH_BYTES])

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves, by default all; `size` is not above what is there."""
        size = self.size if size is None else size
        root = b""
        for level in range(size.bit_length()):
            if size >> level & 1:
                last = (size >> level) - 1
                node = self.nodes(level, last, last + 1)
                root = node_hash(node, root) if root else node
        return root or hashlib.sha256(b"").digest()

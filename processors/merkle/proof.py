"""Inclusion and consistency proofs (RFC 6962, sections 2.1.1 and 2.1.2): building and verifying.

Building reads only perfect subtrees, from any `NodeReader`; verifying follows RFC 9162, sections 2.1.3.2 and
2.1.4.2, which say the same as RFC 6962 as an algorithm. Trees and leaves count from 0.
"""

from collections.abc import Callable, Iterator, Sequence

from processors.merkle.errors import ProofError
from processors.merkle.hashing import EMPTY_ROOT, HASH_BYTES, fold_right, node_hash

NodeReader = Callable[[int, int], bytes]
"""`read(height, index)` gives the root of the leaves [index * 2^height, (index + 1) * 2^height)."""


def tree_root(size: int, read: NodeReader) -> bytes:
    """The root of the first `size` leaves."""
    return range_root(0, size, read) if size else EMPTY_ROOT


def range_root(start: int, end: int, read: NodeReader) -> bytes:
    """The hash of leaves [start, end); `start` is a multiple of a power of two not below `end - start`."""
    subtrees = []
    while start < end:
        height = (end - start).bit_length() - 1
        subtrees.append(read(height, start >> height))
        start += 1 << height
    return fold_right(subtrees)


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """The hashes beside the way from leaf `index` up to the root of `size` leaves, lowest first."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(range_root(split, end, read))
            end = split
        else:
            path.append(range_root(start, split, read))
            start = split
    return path[::-1]


def consistency_proof(old_size: int, new_size: int, read: NodeReader) -> list[bytes]:
    """The hashes that show the first `old_size` of `new_size` leaves unchanged, lowest first.

    Nothing can be shown of an empty tree (`ProofError`): whoever asks treats an old size of 0 by itself.
    """
    if not 0 < old_size <= new_size:
        raise ProofError(f"there is no consistency proof from {old_size} to {new_size} leaves")
    path: list[bytes] = []
    start, end = 0, new_size
    while end != old_size:
        split = start + _split(end - start)
        if old_size <= split:
            path.append(range_root(split, end, read))
            end = split
        else:
            path.append(range_root(start, split, read))
            start = split
    # The verifier knows the root of the old tree, so it is left out where the walk ends on it.
    if start:
        path.append(range_root(start, end, read))
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of `size` leaves that `proof` gives leaf hash `leaf` at `index`; `ProofError` if it cannot."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    _check_hashes([leaf, *proof])
    root = leaf
    for sibling, is_left in _climb(index, size - 1, proof):
        root = node_hash(sibling, root) if is_left else node_hash(root, sibling)
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Accept that the leaf with hash `leaf` is at `index` of the tree `(size, root)`, else `ProofError`."""
    if root_from_inclusion(leaf, index, size, proof) != root:
        raise ProofError(f"inclusion proof of leaf {index} does not lead to the root of {size} leaves")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Accept that tree `(old_size, old_root)` is a prefix of `(new_size, new_root)`, else `ProofError`."""
    if old_size == new_size and old_size:
        if proof or old_root != new_root:
            raise ProofError(f"two trees of {old_size} leaves have different roots, or a proof between them")
        return
    if not 0 < old_size < new_size:
        raise ProofError(f"there is no consistency proof from {old_size} to {new_size} leaves")
    _check_hashes([old_root, new_root, *proof])
    # A perfect old tree is itself the first node of the way, and left out of the proof.
    hashes = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not hashes:
        raise ProofError("consistency proof is empty")
    height = (old_size & -old_size).bit_length() - 1
    old = new = hashes[0]
    for sibling, is_left in _climb((old_size - 1) >> height, (new_size - 1) >> height, hashes[1:]):
        if is_left:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
        else:
            new = node_hash(new, sibling)
    if old != old_root:
        raise ProofError(f"consistency proof does not lead to the root of {old_size} leaves")
    if new != new_root:
        raise ProofError(f"consistency proof does not lead to the root of {new_size} leaves")


def _climb(node: int, last: int, siblings: Sequence[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Rise from `node` to the root of a level whose last node is `last`: each sibling, and if it is left.

    A proof that ends before or goes on after the root raises `ProofError`.
    """
    for sibling in siblings:
        if last == 0:
            raise ProofError("proof is too long")
        is_left = bool(node & 1) or node == last
        yield sibling, is_left
        # A right border without a sibling of its own rises until it has one on its left.
        while is_left and node and not node & 1:
            node, last = node >> 1, last >> 1
        node, last = node >> 1, last >> 1
    if last:
        raise ProofError("proof is too short")


def _split(count: int) -> int:
    """The largest power of two below `count`, which is at least 2 (RFC 6962, section 2.1)."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ProofError(f"a hash in the proof is not {HASH_BYTES} bytes long")

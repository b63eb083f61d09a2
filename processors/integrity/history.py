"""How a checkpoint relates to the one that was verified last (RFC 6962, section 2.1.2).

The proof is built from the tiles of the larger tree, which authenticate themselves against its root, and is
then verified as if somebody else had sent it. Two checkpoints of one log that no proof joins are a fork.
"""

from enum import StrEnum

from processors.merkle.errors import ProofError
from processors.merkle.proof import verify_consistency
from processors.merkle.reader import TiledTree, TileReader
from schemas.checkpoint import EMPTY_ROOT, Checkpoint


class Relation(StrEnum):
    """What a checkpoint is to the known one."""

    SAME = "same"
    GROWN = "grown"
    BEHIND = "behind"
    """Smaller, and a prefix: true, but older than what was seen."""
    FORKED = "forked"
    """Proven to be of another history."""


def relate(known: Checkpoint, seen: Checkpoint, tiles: TileReader) -> Relation:
    """Relate `seen` to `known`, by the tiles of the larger of the two.

    Raises MerkleError when those tiles are missing or do not lead to its root: then nothing is proven.
    """
    if seen.size == known.size:
        return Relation.SAME if seen.root == known.root else Relation.FORKED
    small, large = sorted((known, seen), key=lambda checkpoint: checkpoint.size)
    tree = TiledTree(tiles, large.size, large.root)
    if not _is_prefix(small, tree, large.root):
        return Relation.FORKED
    return Relation.GROWN if seen is large else Relation.BEHIND


def _is_prefix(small: Checkpoint, tree: TiledTree, large_root: bytes) -> bool:
    if not small.size:
        return small.root == EMPTY_ROOT
    proof = tree.consistency_proof(small.size)
    try:
        verify_consistency(small.size, small.root, tree.size, large_root, proof)
    except ProofError:
        return False
    return True

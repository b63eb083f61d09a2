"""The exception family of `processors.merkle`."""


class MerkleError(ValueError):
    """A tree, tile or proof is not what a root says it is."""


class ProofError(MerkleError):
    """A proof does not lead to its root: the proof, the leaf, the size or the root is wrong."""


class TileMissingError(MerkleError):
    """A tile that a tree of this size must have is not there."""


class TileTamperedError(MerkleError):
    """A tile or entry bundle has other content than the root commits to; `path` says which."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path

"""The published epoch log as the anchor stage sees it: its newest checkpoint, and that it only ever grows."""

from pipeline.anchorrecords import Anchored
from pipeline.settings import PipelineError, Settings
from pipeline.shard import store_of
from pipeline.topics import CHECKPOINTS
from pipeline.trust import load_trust, trust_path
from processors.merkle.reader import TiledTree
from schemas.checkpoint import SignedCheckpoint, log_key, open_checkpoint


class LogConflictError(PipelineError):
    """The published log is no extension of what is anchored: somebody must look before more is anchored."""


class EpochLog:
    """Reads the published folder; believes the log's key and nothing else."""

    def __init__(self, settings: Settings) -> None:
        trust = load_trust(trust_path(settings))
        self.origin = trust.log_name
        self._key = log_key(trust.log_name, trust.log_key)
        self._tiles = store_of(settings, (CHECKPOINTS, 0))

    def verify(self, data: bytes) -> SignedCheckpoint:
        """Open a signed checkpoint of this log; raises FormatError for any other bytes."""
        return open_checkpoint(data, self._key)

    def published(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint, verified; None before the first."""
        data = self._tiles.read_checkpoint()
        return None if data is None else self.verify(data)

    def check_extends(self, signed: SignedCheckpoint, anchored: Anchored) -> None:
        """Recompute the anchored root from the published tiles.

        Raises LogConflictError when it is another, MerkleError when the tiles are not those of `signed`.
        """
        checkpoint = signed.checkpoint
        if checkpoint.size < anchored.tree_size:
            raise LogConflictError(f"{checkpoint.size} leaves are published, {anchored.tree_size} anchored")
        tree = TiledTree(self._tiles, checkpoint.size, checkpoint.root)
        if tree.root_at(anchored.tree_size) != anchored.root:
            raise LogConflictError(
                f"the published log of {checkpoint.size} leaves is no extension of the {anchored.tree_size} "
                f"that message {anchored.sequence} anchors"
            )

"""The published epoch log as the anchor stage sees it: its newest checkpoint, and that it only ever grows."""

from collections.abc import Callable, Sequence

from pipeline.anchorrecords import Anchored
from pipeline.settings import PipelineError, Settings
from pipeline.shard import store_of
from pipeline.topics import CHECKPOINTS
from pipeline.trust import load_trust, trust_path
from processors.merkle.reader import TiledTree
from schemas.checkpoint import SignedCheckpoint
from schemas.errors import FormatError
from schemas.note import SignatureError, format_note
from schemas.trust import open_trusted_checkpoint

COSIGNED = "checkpoint.cosigned"
"""Beside `checkpoint`: the newest one that a quorum of witnesses cosigned."""


class LogConflictError(PipelineError):
    """The published log is no extension of what is anchored: somebody must look before more is anchored."""


class LogBehindError(PipelineError):
    """More is anchored than is published: the log is being recomputed, or it went back and must not."""


class EpochLog:
    """Reads the published folder; believes the log's keys and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self._trust_path = trust_path(settings)
        trust = load_trust(self._trust_path)
        self.origin, self._trust = trust.log_name, trust
        self._tiles = store_of(settings, (CHECKPOINTS, 0))

    def verify(self, data: bytes) -> SignedCheckpoint:
        """Open a signed checkpoint of this log; raises FormatError for any other bytes."""
        try:
            return open_trusted_checkpoint(data, self.origin, self._trust)
        except SignatureError:
            # The sealer may have begun to sign with a key that was made since we read the trust file.
            known, self._trust = self._trust, load_trust(self._trust_path)
            if self._trust.log_keys == known.log_keys:
                raise
            return open_trusted_checkpoint(data, self.origin, self._trust)

    def published(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint, verified; None before the first."""
        data = self._tiles.read_checkpoint()
        return None if data is None else self.verify(data)

    def cosigned(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint that a quorum cosigned; None where there is none, or none of ours."""
        data = self._tiles.read(COSIGNED)
        try:
            return None if data is None else self.verify(data)
        except FormatError:
            return None  # a damaged one is replaced by the next

    def publish_cosigned(self, signed: SignedCheckpoint) -> None:
        """Publish a checkpoint that a quorum cosigned, unless a larger one is there."""
        known = self.cosigned()
        if known is None or known.checkpoint.size <= signed.checkpoint.size:
            self._tiles.put(COSIGNED, format_note(signed.note))

    def prover(self, signed: SignedCheckpoint) -> Callable[[int], Sequence[bytes]]:
        """Return what gives the consistency proof from a smaller size; reads the published tiles.

        Raises MerkleError, as the proof may, when they are not those of `signed`.
        """
        return TiledTree(self._tiles, signed.checkpoint.size, signed.checkpoint.root).consistency_proof

    def check_published(self, anchored: Anchored) -> None:
        """Recompute an anchored root from what is published now; raises as `check_extends`."""
        signed = self.published()
        if signed is None:
            raise LogBehindError(f"nothing is published, {anchored.tree_size} leaves are anchored")
        self.check_extends(signed, anchored)

    def check_extends(self, signed: SignedCheckpoint, anchored: Anchored) -> None:
        """Recompute the anchored root from the published tiles.

        Raises LogConflictError when it is another, LogBehindError when the checkpoint is smaller, MerkleError
        when the tiles are not those of `signed`.
        """
        checkpoint = signed.checkpoint
        if checkpoint.size < anchored.tree_size:
            raise LogBehindError(
                f"the published log has {checkpoint.size} leaves, {anchored.tree_size} are anchored"
            )
        if checkpoint.size == anchored.tree_size:
            root = checkpoint.root
        else:
            root = TiledTree(self._tiles, checkpoint.size, checkpoint.root).root_at(anchored.tree_size)
        if root != anchored.root:
            raise LogConflictError(
                f"the published log of {checkpoint.size} leaves is no extension of the {anchored.tree_size} "
                f"that message {anchored.sequence} anchors"
            )

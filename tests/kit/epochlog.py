"""An epoch log that grows by hand: what the sealer publishes of `log.checkpoints`, without one."""

from collections.abc import Sequence

from pipeline.settings import Settings
from pipeline.shard import store_of
from pipeline.tilestore import sync_stores
from pipeline.topics import CHECKPOINTS
from pipeline.trust import log_identity
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.note import Ed25519Signer, format_note


def log_signer(settings: Settings) -> Ed25519Signer:
    """What signs the epoch log's checkpoints."""
    return Ed25519Signer.from_seed(settings.log_name, log_identity(settings).seed)


def publish(settings: Settings, tree: TreeBuilder, entries: Sequence[bytes]) -> tuple[int, bytes]:
    """Append to the tree and publish tiles and checkpoint, as the sealer does; return size and root."""
    tiles = [*tree.append(entries), *tree.edge()]
    store = store_of(settings, (CHECKPOINTS, 0))
    store.put_many((item.tile.path, item.data) for item in tiles)
    sync_stores([store])
    note = sign_checkpoint(Checkpoint(settings.log_name, tree.size, tree.root()), [log_signer(settings)])
    store.compare_and_set_checkpoint(store.read_checkpoint(), format_note(note))
    return tree.size, tree.root()

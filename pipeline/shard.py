"""One shard: the tree of one sealed topic-partition, from its records to its published checkpoint.

Leaf i is the i-th committed record, so the tree is a pure function of the topic. On assignment the truth is
what is published: the checkpoint under a log key of the trust file, its right edge, and the last leaf, whose
record must still be in the topic with the same digest. Anything else stops the shard loudly; nothing is ever
re-signed.
"""

from collections.abc import Sequence

import structlog
from confluent_kafka.admin import AdminClient

from pipeline import kafka
from pipeline.lookup import read_record
from pipeline.sealstore import SealStore, TreeState
from pipeline.settings import PipelineError, Settings
from pipeline.shardabout import ABOUT, ShardAbout, ShardAboutError, read_about
from pipeline.statestore import Partition
from pipeline.tilestore import LocalTileStore
from pipeline.topics import CHECKPOINTS
from pipeline.trust import load_trust, trust_path
from processors.merkle.errors import MerkleError
from processors.merkle.reader import TiledTree
from processors.merkle.tree import TileData, TreeBuilder
from processors.model import UNREADABLE_HEADERS, RawRecord
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.codec import CODEC
from schemas.errors import FormatError
from schemas.note import Ed25519Signer, format_note
from schemas.records import encode_leaf, record_digests
from schemas.trust import TrustRoot, open_trusted_checkpoint

log = structlog.get_logger()


class ShardStoppedError(PipelineError):
    """Topic, published tree and ourselves disagree: an operator must look before anything is signed."""


def origin_of(log_name: str, partition: Partition) -> str:
    """Name a shard's checkpoints; the epoch log carries the log's own name."""
    return log_name if partition[0] == CHECKPOINTS else f"{log_name}/{partition[0]}/{partition[1]}"


def store_of(settings: Settings, partition: Partition) -> LocalTileStore:
    """Open the published folder of a shard."""
    return LocalTileStore(settings.data_dir / "log" / partition[0] / str(partition[1]))


def leaf_of(record: RawRecord) -> bytes:
    """Make a record's leaf entry."""
    return leaves_of([record])[0]


def leaves_of(records: Sequence[RawRecord]) -> list[bytes]:
    """Make the leaf entries of a topic's records; in the epoch log the record's value itself is the leaf."""
    if records and records[0].topic == CHECKPOINTS:
        return [record.value or b"" for record in records]
    digests = record_digests(
        [record.key for record in records],
        [record.headers for record in records],
        [record.value for record in records],
    )
    return [
        encode_leaf(record.offset, record.append_ms, digest)
        for record, digest in zip(records, digests, strict=True)
    ]


class Shard:
    """A growing tree and the folder where it is published."""

    def __init__(
        self,
        settings: Settings,
        partition: Partition,
        store: SealStore,
        signer: Ed25519Signer,
        topic_id: str,
    ) -> None:
        self.partition, self.signer = partition, signer
        self.published = store_of(settings, partition)
        self.next_offset = 0
        self.recorded_size = 0
        self.published_size = 0
        self._store, self._topic_id = store, topic_id
        self._builder = TreeBuilder()
        self._checkpoint: bytes | None = None
        self._unpublished: list[TileData] = []
        self._last_entry = b""

    @property
    def size(self) -> int:
        """Leaves in the tree, published or not."""
        return self._builder.size

    @property
    def is_dirty(self) -> bool:
        """Tell whether there are leaves that no published checkpoint covers."""
        return self._builder.size > self.published_size

    @property
    def checkpoint(self) -> bytes | None:
        """The signed checkpoint as published."""
        return self._checkpoint

    # ---- assignment ------------------------------------------------------------------------------------

    def open(self, settings: Settings, admin: AdminClient) -> None:
        """Load the published tree and check it against the topic; raises ShardStoppedError."""
        about = self._check_topic_id()
        self._checkpoint = self.published.settle_checkpoint()
        if self._checkpoint is None:
            self._store.wipe(self.partition)
            self.next_offset = about.from_offset if about else 0
        else:
            self._load(self._checkpoint, load_trust(trust_path(settings)))
        start = kafka.start_offsets(admin, [self.partition])[self.partition]
        end = kafka.end_offsets(admin, [self.partition])[self.partition]
        if end < self.next_offset:
            raise self._stopped(f"the topic ends at {end}, the tree has sealed up to {self.next_offset}")
        if start > self.next_offset:
            raise self._stopped(f"records {self.next_offset} to {start - 1} are gone and were never sealed")
        if self.size and self.next_offset > start:
            self._check_last_record(settings)
        # For the first record of a topic that never had one sealed this writes where it belongs.
        if about is None:
            self.published.put(ABOUT, ShardAbout(*self.partition, self._topic_id).encode())

    def _check_topic_id(self) -> ShardAbout | None:
        try:
            about = read_about(self.published)
        except ShardAboutError as error:
            raise self._stopped(str(error)) from error
        if self.published.read_checkpoint() is None:
            return about if about is not None and about.topic_id == self._topic_id else None
        if about is None:
            raise self._stopped(f"{ABOUT} is missing beside the published checkpoint")
        if about.topic_id != self._topic_id:
            raise self._stopped(
                f"the topic was recreated: its id is {self._topic_id}, the tree's is {about.topic_id}"
            )
        return about

    def _load(self, data: bytes, trust: TrustRoot) -> None:
        # What is published may still bear the signature of a key that was replaced since.
        checkpoint = open_trusted_checkpoint(data, self.signer.name, trust).checkpoint
        tree = TiledTree(self.published, checkpoint.size, checkpoint.root)
        self.published_size = checkpoint.size
        if not checkpoint.size:
            return
        if not self._load_working_copy(checkpoint):
            self._store.wipe(self.partition)
            self._builder = tree.builder()
            self._last_entry = tree.entry(checkpoint.size - 1)
            self.next_offset = self._offset_after(self._last_entry)

    def _load_working_copy(self, published: Checkpoint) -> bool:
        """Go on from RocksDB when it holds an extension of the published tree of the same topic."""
        state = self._store.state(self.partition)
        if state is None or state.topic_id != self._topic_id or state.size < published.size:
            return False
        try:
            builder = self._store.builder(self.partition, state.size)
            tree = self._store.tree(self.partition, builder)
            if tree.root_at(published.size) != published.root:
                raise MerkleError("the working copy is of another tree")
            full = self._store.full_tiles(self.partition, published.size, state.size)
            last_entry = tree.entry(state.size - 1)
        except (MerkleError, FormatError) as error:
            log.warning("working copy dropped", shard=self.signer.name, why=str(error))
            return False
        self._builder, self._unpublished, self._last_entry = builder, full, last_entry
        self.next_offset, self.recorded_size = state.next_offset, state.recorded_size
        return True

    def _offset_after(self, entry: bytes) -> int:
        if self.partition[0] == CHECKPOINTS:
            return self.published_size  # nobody writes transactions there: offset and index are one
        return int(CODEC.decode("leaf", entry)["offset"]) + 1

    def _check_last_record(self, settings: Settings) -> None:
        last = read_record(settings, self.partition, self.next_offset - 1)
        if last is None or leaf_of(last) != self._last_entry:
            raise self._stopped(f"the record at {self.next_offset - 1} is not the one that was sealed")

    # ---- growth ----------------------------------------------------------------------------------------

    def append(self, records: Sequence[RawRecord]) -> None:
        """Add records in offset order: leaves, touched tiles and next offset in one WriteBatch."""
        for record in records:
            if record.headers is UNREADABLE_HEADERS:
                raise self._stopped(f"the record at {record.offset} has headers that cannot be digested")
            if record.offset < self.next_offset:
                raise self._stopped(f"offset {record.offset} comes again, {self.next_offset} was next")
            if self.partition[0] == CHECKPOINTS and record.offset != self.next_offset:
                raise self._stopped(f"offset {record.offset} where {self.next_offset} was next")
            self.next_offset = record.offset + 1
        full = self._builder.append(leaves_of(records))
        self._unpublished += full
        self._store.write(self.partition, self._state(), full, self._builder.edge())

    def record(self) -> bytes | None:
        """Return the published checkpoint if the epoch log has none as large yet, and note that it has."""
        if self._checkpoint is None or self.published_size <= self.recorded_size:
            return None
        return self._checkpoint

    def recorded(self) -> None:
        """Remember that the epoch log acknowledged the published checkpoint."""
        self.recorded_size = self.published_size
        self._store.write(self.partition, self._state(), (), ())

    # ---- publication -----------------------------------------------------------------------------------

    def stage(self) -> None:
        """Write tiles and right edge; they count only after `sync_stores`."""
        tiles = [*self._unpublished, *self._builder.edge()]
        self.published.put_many((item.tile.path, item.data) for item in tiles)

    def sign(self) -> None:
        """Sign the tree whose tiles are durable and replace the published checkpoint.

        The leaves are committed in Kafka: they were read so. A crash before the replacement leaves tiles
        that no checkpoint covers; they are written again, equal.
        """
        checkpoint = Checkpoint(self.signer.name, self._builder.size, self._builder.root())
        signed = format_note(sign_checkpoint(checkpoint, [self.signer]))
        self.published.compare_and_set_checkpoint(self._checkpoint, signed)
        self._checkpoint, self.published_size, self._unpublished = signed, self._builder.size, []

    def _state(self) -> TreeState:
        return TreeState(self._topic_id, self._builder.size, self.next_offset, self.recorded_size)

    def _stopped(self, why: str) -> ShardStoppedError:
        return ShardStoppedError(f"shard {self.partition[0]}[{self.partition[1]}] stopped: {why}")

"""Takes evidence for one record: the record from its topic, two proofs from the published tiles.

The shard's proof is made against a checkpoint that stands in the epoch log, and the epoch log's against the
newest anchored root that covers it, or its newest checkpoint where none is anchored yet.
"""

from dataclasses import dataclass

from pipeline.kafkaread import read_all
from pipeline.lookup import read_record
from pipeline.settings import PipelineError, Settings
from pipeline.shard import leaf_of, origin_of, store_of
from pipeline.statestore import Partition
from pipeline.tilestore import LocalTileStore
from pipeline.topics import ANCHORS, CHECKPOINTS, SEALED_TOPICS
from pipeline.trust import load_trust, trust_path
from processors.merkle.reader import TiledTree
from schemas.checkpoint import Checkpoint, SignedCheckpoint, log_key, open_checkpoint
from schemas.codec import CODEC, Record
from schemas.errors import FormatError
from schemas.evidence import AnchorReceipt, Evidence, EvidenceRecord
from schemas.note import Note, parse_note
from schemas.tlogproof import TlogProof, format_tlog_proof

EPOCH: Partition = (CHECKPOINTS, 0)
LOOK_BACK = 100_000
"""Epoch-log entries searched, newest first, for a checkpoint of the record's shard."""


class NotProvenYetError(PipelineError):
    """The record exists but is not sealed, or its shard's checkpoint is not in the epoch log: try later."""


class NoSuchRecordError(PipelineError):
    """There is no committed record at that place, or its topic is not sealed."""


@dataclass(frozen=True, slots=True)
class _Log:
    tree: TiledTree
    signed: SignedCheckpoint

    @property
    def checkpoint(self) -> Checkpoint:
        return self.signed.checkpoint


def prove(settings: Settings, topic: str, partition: int, offset: int) -> Evidence:
    """Make the evidence for one record; raises NotProvenYetError while its proofs are still to come."""
    place = (topic, partition)
    if topic not in SEALED_TOPICS or topic == CHECKPOINTS:
        raise NoSuchRecordError(f"records of {topic} are not proven: it is not a sealed topic")
    record = read_record(settings, place, offset)
    if record is None:
        raise NoSuchRecordError(f"no committed record at offset {offset} of {topic}[{partition}]")
    shard = _published(settings, place)
    index = find_leaf(shard.tree, offset)
    if index is None:
        raise NotProvenYetError(f"{topic}[{partition}] at {offset} is not sealed yet")
    entry = shard.tree.entry(index)
    if entry != leaf_of(record):
        raise PipelineError(f"the record at {topic}[{partition}] {offset} is not the one that was sealed")
    epoch = _published(settings, EPOCH)
    anchor = _newest_anchor(settings)
    epoch_index, shard_note = _recorded_checkpoint(settings, epoch, place, index, _size_of(anchor))
    shard_size = _open(settings, place, shard_note).checkpoint.size
    shard_proof = _proof(shard, index, shard_size, parse_note(shard_note))
    if anchor is not None and epoch_index < anchor["tree_size"]:
        epoch_proof = _proof(epoch, epoch_index, anchor["tree_size"], parse_note(anchor["checkpoint"]))
    else:
        anchor = None
        epoch_proof = _proof(epoch, epoch_index, epoch.checkpoint.size, epoch.signed.note)
    return Evidence(
        record=EvidenceRecord(
            topic, partition, offset, record.append_ms, record.key, record.headers, record.value
        ),
        leaf=entry,
        shard_proof=format_tlog_proof(shard_proof),
        epoch_proof=format_tlog_proof(epoch_proof),
        anchor=_receipt(anchor) if anchor else None,
    )


def _proof(log: _Log, index: int, size: int, note: Note) -> TlogProof:
    return TlogProof(index, tuple(log.tree.inclusion_proof(index, size)), note)


def find_leaf(tree: TiledTree, offset: int) -> int | None:
    """Find the index of the record with this offset: leaves hold offsets, which strictly increase."""
    low, high = 0, tree.size
    while low < high:
        middle = (low + high) // 2
        if _leaf_offset(tree, middle) < offset:
            low = middle + 1
        else:
            high = middle
    return low if low < tree.size and _leaf_offset(tree, low) == offset else None


def _leaf_offset(tree: TiledTree, index: int) -> int:
    return int(CODEC.decode("leaf", tree.entry(index))["offset"])


def _published(settings: Settings, place: Partition) -> _Log:
    store = store_of(settings, place)
    data = store.read_checkpoint()
    if data is None:
        raise NotProvenYetError(f"{place[0]}[{place[1]}] has no published checkpoint yet")
    signed = _open(settings, place, data)
    return _Log(_tree(store, signed.checkpoint), signed)


def _tree(store: LocalTileStore, checkpoint: Checkpoint) -> TiledTree:
    return TiledTree(store, checkpoint.size, checkpoint.root)


def _open(settings: Settings, place: Partition, data: bytes) -> SignedCheckpoint:
    trust = load_trust(trust_path(settings))
    return open_checkpoint(data, log_key(origin_of(trust.log_name, place), trust.log_key))


def _recorded_checkpoint(
    settings: Settings, epoch: _Log, place: Partition, index: int, anchored_size: int
) -> tuple[int, bytes]:
    """Find an epoch-log entry that is a checkpoint of this shard covering the leaf.

    The newest one below the anchored size is preferred: what it covers is anchored.
    """
    newest = epoch.tree.size - 1
    wanted = origin_of(settings.log_name, place)
    found: tuple[int, bytes] | None = None
    for number in range(newest, max(-1, newest - LOOK_BACK), -1):
        entry = epoch.tree.entry(number)
        if not entry.startswith(wanted.encode() + b"\n"):
            continue
        try:
            checkpoint = _open(settings, place, entry).checkpoint
        except FormatError:
            continue  # whoever may write to that topic may write nonsense; it proves nothing
        if checkpoint.size <= index:
            break
        found = (number, entry)
        if number < anchored_size:
            break
    if found is None:
        raise NotProvenYetError(f"the epoch log has no checkpoint of {wanted} that covers leaf {index} yet")
    return found


def _newest_anchor(settings: Settings) -> Record | None:
    confirmed = [
        anchor
        for anchor in (CODEC.decode("anchor", r.value or b"") for r in read_all(settings, ANCHORS))
        if anchor["status"] == "CONFIRMED"
    ]
    return max(confirmed, key=lambda anchor: int(anchor["tree_size"]), default=None)


def _size_of(anchor: Record | None) -> int:
    return int(anchor["tree_size"]) if anchor else 0


def _receipt(anchor: Record) -> AnchorReceipt:
    return AnchorReceipt(
        ledger=anchor["ledger"],
        topic=anchor["ledger_topic"],
        sequence=anchor["sequence"],
        consensus_timestamp_ns=anchor["consensus_timestamp_ns"],
        transaction_id=anchor["transaction_id"],
        payer=anchor["payer"],
        running_hash=anchor["running_hash"],
        tree_size=anchor["tree_size"],
        root=anchor["root"],
        mirror=anchor["mirror"],
    )

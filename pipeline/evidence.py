"""Takes evidence for one record: from its topic, the published tiles, the registry and the ledger's mirror.

All proofs end in one checkpoint of the epoch log: the newest anchored one that covers the record and what its
signers' registry entries were then, or the newest published one where none is anchored yet.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from anchors.errors import AnchorError
from anchors.hedera.receipt import Receipts
from pipeline.epochlog import EpochLog
from pipeline.kafkaread import read_all
from pipeline.ledgers import ledger_access
from pipeline.lookup import read_record
from pipeline.settings import PipelineError, Settings, UsageError
from pipeline.shard import leaf_of, origin_of, store_of
from pipeline.statestore import Partition
from pipeline.topics import ANCHORS, CHECKPOINTS, EVENTS, REGISTRY, SEALED_TOPICS
from pipeline.trust import load_trust, trust_path
from processors.merkle.reader import TiledTree
from processors.model import RawRecord
from processors.registry import Registry
from schemas.checkpoint import Checkpoint, SignedCheckpoint
from schemas.codec import CODEC, Record
from schemas.envelope import decode_envelope
from schemas.errors import FormatError
from schemas.evidence import AnchorReceipt, Evidence, EvidenceRecord, ProvenRecord
from schemas.note import parse_note
from schemas.tile import TILE_WIDTH
from schemas.tlogproof import TlogProof, format_tlog_proof
from schemas.trust import open_trusted_checkpoint

log = structlog.get_logger()

EPOCH: Partition = (CHECKPOINTS, 0)
REGISTRY_SHARD: Partition = (REGISTRY, 0)


class NotProvenYetError(PipelineError):
    """The record exists but is not sealed, or its shard's checkpoint is not in the epoch log: try later."""


class NoSuchRecordError(PipelineError):
    """There is no committed record at that place, or its topic is not sealed."""


@dataclass(frozen=True, slots=True)
class _Log:
    """A published log under its newest checkpoint."""

    tree: TiledTree
    signed: SignedCheckpoint


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A record and where its leaf stands."""

    record: RawRecord
    shard: _Log
    index: int
    entry: bytes

    @property
    def place(self) -> Partition:
        return self.record.topic, self.record.partition


@dataclass(frozen=True, slots=True)
class _Head:
    """A checkpoint of the epoch log to prove against, and the anchor record of it, if any."""

    signed: SignedCheckpoint
    anchor: Record | None = None


def prove(settings: Settings, topic: str, partition: int, offset: int, *, earliest: bool = False) -> Evidence:
    """Make the evidence for one record; raises NotProvenYetError while its proofs are still to come.

    `earliest` takes the earliest anchored root that covers the record: the tightest time, and of the registry
    only what was known then.
    """
    prover = _Prover(settings)
    return prover.prove(prover.sealed(_read(settings, (topic, partition), offset)), earliest=earliest)


class _Prover:
    """One run of `prove`: what is published and anchored as of now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trust = load_trust(trust_path(settings))
        self._epoch = self._published(EPOCH)

    def sealed(self, record: RawRecord) -> _Sealed:
        """Find a record's leaf in its published shard."""
        topic, partition, offset = record.topic, record.partition, record.offset
        shard = self._published((topic, partition))
        index = find_leaf(shard.tree, offset)
        if index is None:
            raise NotProvenYetError(f"{topic}[{partition}] at {offset} is not sealed yet")
        entry = shard.tree.entry(index)
        if entry != leaf_of(record):
            raise PipelineError(f"the record at {topic}[{partition}] {offset} is not the one that was sealed")
        return _Sealed(record, shard, index, entry)

    def prove(self, wanted: _Sealed, *, earliest: bool) -> Evidence:
        """Prove the record and its registry chain under one checkpoint of the epoch log."""
        chain, judged_at = self._registry_chain(wanted.record)
        why: NotProvenYetError | None = None
        for head in self._heads(earliest=earliest):
            try:
                proven = self._proven(wanted, head)
                registry = tuple(self._chain_under(chain, judged_at, head))
            except NotProvenYetError as error:
                why = error
                continue
            return Evidence(
                record=proven.record,
                leaf=proven.leaf,
                shard_proof=proven.shard_proof,
                epoch_proof=proven.epoch_proof,
                registry=registry,
                anchor=self._receipt(head.anchor) if head.anchor else None,
            )
        raise why or NotProvenYetError("the epoch log has no checkpoint yet")

    # ---- checkpoints -----------------------------------------------------------------------------------

    def _published(self, place: Partition) -> _Log:
        store = store_of(self._settings, place)
        data = store.read_checkpoint()
        if data is None:
            raise NotProvenYetError(f"{place[0]}[{place[1]}] has no published checkpoint yet")
        signed = self._open(place, data)
        return _Log(TiledTree(store, signed.checkpoint.size, signed.checkpoint.root), signed)

    def _open(self, place: Partition, data: bytes) -> SignedCheckpoint:
        return open_trusted_checkpoint(data, origin_of(self._trust.log_name, place), self._trust)

    def _heads(self, *, earliest: bool) -> Iterator[_Head]:
        """Checkpoints of the epoch log, the best first; one may be larger than the tiles read so far."""
        largest = self._epoch.signed.checkpoint.size
        anchored = []
        for record in read_all(self._settings, ANCHORS):
            try:
                anchor = CODEC.decode("anchor", record.value or b"")
                if anchor["status"] == "CONFIRMED" and anchor["tree_size"] <= largest:
                    anchored.append(_Head(self._open(EPOCH, anchor["checkpoint"]), anchor))
            except FormatError:
                continue  # whoever may write to that topic may write nonsense; it proves nothing
        anchored.sort(key=lambda head: head.signed.checkpoint.size, reverse=not earliest)
        yield from anchored if earliest else anchored[:1]
        cosigned = EpochLog(self._settings).cosigned()
        if cosigned is not None and cosigned.checkpoint.size <= largest:
            yield _Head(cosigned)
        yield _Head(self._epoch.signed)

    def _recorded(self, place: Partition, index: int, size: int) -> tuple[int, bytes, Checkpoint]:
        """The newest entry among the first `size` of the epoch log that is a checkpoint of this shard."""
        wanted = f"{origin_of(self._trust.log_name, place)}\n".encode()
        for bundle in range((size - 1) // TILE_WIDTH, -1, -1):
            entries = self._epoch.tree.bundle(bundle)
            for position in range(min(len(entries), size - bundle * TILE_WIDTH) - 1, -1, -1):
                entry = entries[position]
                if not entry.startswith(wanted):
                    continue
                try:
                    checkpoint = self._open(place, entry).checkpoint
                except FormatError:
                    continue  # not the log's: it proves nothing
                if checkpoint.size <= index:
                    break
                return bundle * TILE_WIDTH + position, entry, checkpoint
        raise NotProvenYetError(
            f"the epoch log has no checkpoint of {place[0]}[{place[1]}] yet that covers leaf {index}"
        )

    def _proven(self, sealed: _Sealed, head: _Head) -> ProvenRecord:
        """Prove one record under one checkpoint of the epoch log."""
        record, size = sealed.record, head.signed.checkpoint.size
        number, entry, checkpoint = self._recorded(sealed.place, sealed.index, size)
        shard_proof = TlogProof(
            sealed.index,
            tuple(sealed.shard.tree.inclusion_proof(sealed.index, checkpoint.size)),
            parse_note(entry),
        )
        epoch_proof = TlogProof(
            number, tuple(self._epoch.tree.inclusion_proof(number, size)), head.signed.note
        )
        return ProvenRecord(
            EvidenceRecord(
                record.topic,
                record.partition,
                record.offset,
                record.append_ms,
                record.key,
                record.headers,
                record.value,
            ),
            sealed.entry,
            format_tlog_proof(shard_proof),
            format_tlog_proof(epoch_proof),
        )

    # ---- the registry ----------------------------------------------------------------------------------

    def _registry_chain(self, record: RawRecord) -> tuple[list[RawRecord], int]:
        """The entries on everybody who signed the record, and the offset at which their keys were judged."""
        if record.topic != EVENTS:
            return [], 0
        offset = dict(record.headers).get("registry.offset") or b""
        if not offset.isdigit():
            raise PipelineError(f"{EVENTS}[{record.partition}] at {record.offset} was not written by ingest")
        judged_at = int(offset)
        signers = {record.key or b""}
        for signature in decode_envelope(record.value or b"").signatures[1:]:
            signers.add(signature.key_id.rpartition("#")[0].encode())
        table, chain = Registry(self._trust), []
        for entry in read_all(self._settings, REGISTRY):
            if entry.key not in signers:
                continue
            ignored = len(table.ignored)
            table.apply(entry)
            if len(table.ignored) == ignored:
                chain.append(entry)
        return chain, judged_at

    def _chain_under(self, chain: list[RawRecord], judged_at: int, head: _Head) -> Iterator[ProvenRecord]:
        """Prove the chain; entries behind the record's own offset may still be missing in the log."""
        for entry in chain:
            try:
                yield self._proven(self.sealed(entry), head)
            except NotProvenYetError:
                if entry.offset < judged_at:
                    raise
                return

    # ---- the ledger ------------------------------------------------------------------------------------

    def _receipt(self, anchor: Record) -> AnchorReceipt | None:
        """Take the receipt from the mirror; None, and a warning, where that is not to be had now."""
        try:
            mirror = ledger_access(self._settings).mirror
        except (UsageError, AnchorError):
            mirror = anchor["mirror"]
        sequence = anchor["sequence"]
        known = [p.sequence for p in self._trust.ledger.checkpoints if p.sequence >= sequence]
        try:
            return Receipts(mirror).take(
                anchor["ledger"],
                anchor["ledger_topic"],
                sequence,
                anchor["transaction_id"],
                min(known, default=None),
            )
        except AnchorError as error:
            log.warning("no ledger receipt", mirror=mirror, why=str(error))
            return None


def find_leaf(tree: TiledTree, offset: int) -> int | None:
    """Find the index of the record with this offset: leaves hold offsets, which strictly rise.

    The gaps between them are few and spread evenly (a marker a transaction), so guessing in proportion finds
    the bundle in two or three reads; every other guess halves what is left, whatever the gaps are.
    """
    if not offset >= 0:
        return None
    low, high = 0, min(tree.size, offset + 1)
    low_offset, high_offset = 0, offset + 1
    halve = False
    while low < high:
        share = (offset - low_offset) / max(1, high_offset - low_offset)
        guess = (low + high) // 2 if halve else low + int((high - 1 - low) * share)
        halve = not halve
        first = guess // TILE_WIDTH * TILE_WIDTH
        offsets = [_leaf_offset(entry) for entry in tree.bundle(guess // TILE_WIDTH)]
        if offset < offsets[0]:
            high, high_offset = first, offsets[0]
        elif offset > offsets[-1]:
            low, low_offset = first + len(offsets), offsets[-1] + 1
        else:
            position = bisect_left(offsets, offset)
            return first + position if offsets[position] == offset else None
    return None


def _read(settings: Settings, place: Partition, offset: int) -> RawRecord:
    topic, partition = place
    if topic not in SEALED_TOPICS or topic == CHECKPOINTS:
        raise NoSuchRecordError(f"records of {topic} are not proven: it is not a sealed topic")
    record = read_record(settings, place, offset)
    if record is None:
        raise NoSuchRecordError(f"no committed record at offset {offset} of {topic}[{partition}]")
    return record


def _leaf_offset(entry: bytes) -> int:
    return int(CODEC.decode("leaf", entry)["offset"])

"""A small log without a broker: shards and an epoch log, and evidence for any of their records.

Proofs are built from leaf hashes by RFC 6962's own recursion, so that what is tried rests on the verifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from processors.merkle.hashing import leaf_hash, node_hash
from processors.merkle.tree import TreeBuilder
from schemas.checkpoint import Checkpoint, sign_checkpoint
from schemas.evidence import AnchorReceipt, Evidence, EvidenceRecord
from schemas.note import Ed25519Signer, Note, format_note
from schemas.records import encode_leaf, record_digest
from schemas.tlogproof import TlogProof, format_tlog_proof
from schemas.trust import LedgerTrust
from tests.kit.parties import LOG, NOW_MS, TRUST, event_of, identity_of, seed_of

LEDGER = LedgerTrust("hedera:attestream-local", "0.0.1001", "0.0.2")
TRUSTED = replace(TRUST, ledger=LEDGER)
"""What an auditor believes of this log."""


def path_of(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962, section 2.1.1, lowest first."""
    if len(hashes) <= 1:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if index < split:
        return [*path_of(hashes[:split], index), root_of(hashes[split:])]
    return [*path_of(hashes[split:], index - split), root_of(hashes[:split])]


def root_of(hashes: Sequence[bytes]) -> bytes:
    """MTH(D[n]) of RFC 6962, section 2.1, over leaf hashes."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(root_of(hashes[:split]), root_of(hashes[split:]))


def record(topic: str, partition: int, offset: int) -> EvidenceRecord:
    """An accepted event with the headers that ingest gives it."""
    headers = (("registry.offset", b"3"), ("source", b"device.telemetry.raw/%d/%d" % (partition, offset)))
    value = event_of("device", sequence=offset + 1)
    key = identity_of("device").did.encode()
    return EvidenceRecord(topic, partition, offset, NOW_MS + offset, key, headers, value)


def leaf_of(each: EvidenceRecord) -> bytes:
    return encode_leaf(each.offset, each.timestamp_ms, record_digest(each.key, each.headers, each.value))


@dataclass
class SmallTree:
    """A tree and who signs it."""

    origin: str
    log: str = "log"
    entries: list[bytes] = field(default_factory=list)

    def signed(self, size: int | None = None) -> Note:
        size = len(self.entries) if size is None else size
        builder = TreeBuilder()
        builder.append(self.entries[:size])
        signer = Ed25519Signer.from_seed(self.origin, seed_of(self.log))
        return sign_checkpoint(Checkpoint(self.origin, size, builder.root()), [signer])

    def proof(self, index: int, note: Note, size: int | None = None) -> bytes:
        hashes = [leaf_hash(entry) for entry in self.entries[:size]]
        return format_tlog_proof(TlogProof(index, tuple(path_of(hashes, index)), note))


class SmallLog:
    """`shards` gives the records of each topic-partition; offsets leave holes where markers stood."""

    def __init__(self, shards: Sequence[tuple[str, int, int]], name: str = LOG, key: str = "log") -> None:
        self.records = {
            (topic, partition): [record(topic, partition, 2 * number) for number in range(count)]
            for topic, partition, count in shards
        }
        self.shards = {
            place: SmallTree(f"{name}/{place[0]}/{place[1]}", key, [leaf_of(each) for each in records])
            for place, records in self.records.items()
        }
        # Each shard stands in the epoch log twice: half grown, and as it is.
        notes = [tree.signed((len(tree.entries) + 1) // 2) for tree in self.shards.values()]
        notes += [tree.signed() for tree in self.shards.values()]
        self.epoch = SmallTree(name, key, [format_note(note) for note in notes])

    def evidence(
        self, topic: str = "device.events", partition: int = 0, index: int = 0, *, anchored: bool = True
    ) -> Evidence:
        """Evidence for the record of a leaf, as `prove` makes it."""
        tree, note = self.shards[topic, partition], self.epoch.signed()
        shard_note = tree.signed()
        newest_first = self.epoch.entries[::-1]
        epoch_index = len(newest_first) - 1 - newest_first.index(format_note(shard_note))
        builder = TreeBuilder()
        builder.append(self.epoch.entries)
        receipt = AnchorReceipt(
            ledger=LEDGER.kind,
            topic=LEDGER.topic,
            sequence=17,
            consensus_timestamp_ns=NOW_MS * 1_000_000,
            transaction_id="0.0.2@1700000000.000000001",
            payer=LEDGER.payer,
            running_hash=bytes(range(48)),
            tree_size=builder.size,
            root=builder.root(),
            mirror="http://127.0.0.1:5551",
        )
        return Evidence(
            record=self.records[topic, partition][index],
            leaf=tree.entries[index],
            shard_proof=tree.proof(index, shard_note),
            epoch_proof=self.epoch.proof(epoch_index, note),
            anchor=receipt if anchored else None,
        )


SHARDS = (("device.events", 0, 7), ("device.events", 1, 4), ("device.rejected", 0, 1))

"""A small log without a broker: shards, registry, epoch log, ledger, witnesses, and evidence for any record.

Proofs are built from leaf hashes by RFC 6962's own recursion, so that what is tried rests on the verifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from anchors.hcs27 import AnchorMessage, TreeHead, build_anchor
from anchors.hedera.ids import EntityId
from anchors.hedera.running_hash import RUNNING_HASH_VERSION, ZERO_RUNNING_HASH, running_hash_v3
from processors.merkle.hashing import leaf_hash, node_hash
from processors.merkle.tree import TreeBuilder
from processors.model import RawRecord
from schemas.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from schemas.envelope import decode_envelope
from schemas.errors import FormatError
from schemas.evidence import (
    AnchorReceipt,
    ChainPoint,
    Evidence,
    EvidenceRecord,
    ProvenRecord,
    SegmentMessage,
)
from schemas.note import CosignatureSigner, Ed25519Signer, Note, format_note, sign_note
from schemas.records import encode_leaf
from schemas.tlogproof import TlogProof, format_tlog_proof
from schemas.trust import LedgerTrust
from tests.kit.parties import LOG, NOW_MS, REGISTRY, TRUST, RegistryTopic, event_of, identity_of, seed_of

LEDGER = LedgerTrust("hedera:attestream-local", "0.0.1001", "0.0.2")
WITNESSES = ("hospital", "regulator", "maker")
NOW_S = NOW_MS // 1000
FIRST_SEQUENCE = 17
"""The ledger message that anchors the log; messages before and behind it are other anchors."""
OTHERS = ("someone", "bystander")
"""Subjects of the registry besides the device."""


def policy_of(names: Sequence[str] = WITNESSES, threshold: str = "2") -> str:
    """A tlog-policy over witnesses."""
    signers = [witness(name) for name in names]
    lines = [f"witness {each.name} {each.verifier}" for each in signers]
    return "\n".join([*lines, f"group all {threshold} {' '.join(names)}", "quorum all"]) + "\n"


def witness(name: str, time_s: int = NOW_S) -> CosignatureSigner:
    return CosignatureSigner.from_seed(name, seed_of(f"witness {name}"), time_s)


TRUSTED = replace(TRUST, ledger=LEDGER)
"""What an auditor believes of this log who knows no witnesses."""
WITNESSED = replace(TRUSTED, witness_policy=policy_of())
"""The same with two of three witnesses."""


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


@cache
def registry() -> RegistryTopic:
    """Three entries before the device's events, and a rotation behind them."""
    topic = RegistryTopic()
    topic.enroll(OTHERS[0])
    topic.enroll("device")
    topic.enroll(OTHERS[1])
    return topic


def record(topic: str, partition: int, offset: int) -> EvidenceRecord:
    """An accepted event with the headers that ingest gives it."""
    headers = (("registry.offset", b"3"), ("source", b"device.telemetry.raw/%d/%d" % (partition, offset)))
    value = event_of("device", sequence=offset + 1)
    key = identity_of("device").did.encode()
    return EvidenceRecord(topic, partition, offset, NOW_MS + offset, key, headers, value)


def as_evidence(each: RawRecord) -> EvidenceRecord:
    return EvidenceRecord(
        each.topic, each.partition, each.offset, each.append_ms, each.key, each.headers, each.value
    )


def leaf_of(each: EvidenceRecord) -> bytes:
    return encode_leaf(each.offset, each.timestamp_ms, each.digest)


@dataclass
class SmallTree:
    """A tree and who signs it."""

    origin: str
    log: str = "log"
    entries: list[bytes] = field(default_factory=list)

    def signed(self, size: int | None = None, key: str | None = None) -> Note:
        size = len(self.entries) if size is None else size
        builder = TreeBuilder()
        builder.append(self.entries[:size])
        signer = Ed25519Signer.from_seed(self.origin, seed_of(key or self.log))
        return sign_checkpoint(Checkpoint(self.origin, size, builder.root()), [signer])

    def proof(self, index: int, note: Note, size: int | None = None) -> bytes:
        hashes = [leaf_hash(entry) for entry in self.entries[:size]]
        return format_tlog_proof(TlogProof(index, tuple(path_of(hashes, index)), note))


class SmallLog:
    """`shards` gives the records of each topic-partition; offsets leave holes where markers stood."""

    def __init__(
        self,
        shards: Sequence[tuple[str, int, int]],
        name: str = LOG,
        key: str = "log",
        chain: RegistryTopic | None = None,
    ) -> None:
        self.records = {
            (topic, partition): [record(topic, partition, 2 * number) for number in range(count)]
            for topic, partition, count in shards
        }
        self.name = name
        self.records[REGISTRY, 0] = [as_evidence(each) for each in (chain or registry()).records]
        self.shards = {
            place: SmallTree(f"{name}/{place[0]}/{place[1]}", key, [leaf_of(each) for each in records])
            for place, records in self.records.items()
        }
        # Each shard stands in the epoch log twice: half grown, and as it is.
        notes = [tree.signed((len(tree.entries) + 1) // 2) for tree in self.shards.values()]
        notes += [tree.signed() for tree in self.shards.values()]
        self.epoch = SmallTree(name, key, [format_note(note) for note in notes])

    def evidence(
        self,
        topic: str = "device.events",
        partition: int = 0,
        index: int = 0,
        *,
        anchored: bool = True,
        cosigned: Sequence[CosignatureSigner] = (),
    ) -> Evidence:
        """Evidence for the record of a leaf, as `prove` makes it."""
        note = self.epoch.signed()
        if cosigned:
            note = note.with_signatures(sign_note(note.text, cosigned).signatures)
        proven = self.proven((topic, partition), index, note)
        return Evidence(
            record=proven.record,
            leaf=proven.leaf,
            shard_proof=proven.shard_proof,
            epoch_proof=proven.epoch_proof,
            registry=self.chain(proven.record, note),
            anchor=receipt_of(note) if anchored else None,
        )

    def proven(self, place: tuple[str, int], index: int, note: Note) -> ProvenRecord:
        """One record under a checkpoint of the epoch log."""
        tree = self.shards[place]
        shard_note = tree.signed()
        newest_first = self.epoch.entries[::-1]
        epoch_index = len(newest_first) - 1 - newest_first.index(format_note(shard_note))
        return ProvenRecord(
            self.records[place][index],
            tree.entries[index],
            tree.proof(index, shard_note),
            self.epoch.proof(epoch_index, note),
        )

    def chain(self, each: EvidenceRecord, note: Note) -> tuple[ProvenRecord, ...]:
        """The registry's entries on everybody who signed a device event."""
        if each.topic != "device.events":
            return ()
        try:
            approvals = decode_envelope(each.value or b"").signatures[1:]
        except FormatError:
            approvals = ()
        signers = {each.key, *(signature.key_id.rpartition("#")[0].encode() for signature in approvals)}
        return tuple(
            self.proven((REGISTRY, 0), number, note)
            for number, entry in enumerate(self.records[REGISTRY, 0])
            if entry.key in signers
        )


def resealed(log: SmallLog) -> SmallLog:
    """The log with an epoch log over its shards as they are now."""
    log.epoch.entries = [format_note(tree.signed()) for tree in log.shards.values()]
    return log


def receipt_of(
    note: Note,
    sequence: int = FIRST_SEQUENCE,
    behind: int = 0,
    payer: str = LEDGER.payer,
    message: bytes | None = None,
) -> AnchorReceipt:
    """The receipt of a checkpoint as message `sequence`, with `behind` further messages in the segment."""
    checkpoint = parse_checkpoint(note.text)
    root = TreeHead(checkpoint.size, checkpoint.root)
    own = message or build_anchor(AnchorMessage("attestream", checkpoint.origin, "leaf", root))
    start = None if sequence == 1 else ChainPoint(sequence - 1, bytes(range(48)))
    previous = start.running_hash if start else ZERO_RUNNING_HASH
    segment = []
    for number in range(sequence, sequence + behind + 1):
        data = own if number == sequence else b"another message"
        time_ns = NOW_MS * 1_000_000 + number
        previous = running_hash_v3(
            previous,
            payer=EntityId.parse(payer),
            topic=EntityId.parse(LEDGER.topic),
            consensus_time_ns=time_ns,
            sequence=number,
            message=data,
        )
        segment.append(SegmentMessage(number, time_ns, payer, data, previous))
    return AnchorReceipt(
        ledger=LEDGER.kind,
        topic=LEDGER.topic,
        sequence=sequence,
        consensus_timestamp_ns=segment[0].consensus_timestamp_ns,
        transaction_id="0.0.2@1700000000.000000001",
        payer=payer,
        mirror="http://127.0.0.1:5551",
        message=own,
        running_hash=segment[0].running_hash,
        running_hash_version=RUNNING_HASH_VERSION,
        segment_start=start,
        segment=tuple(segment),
    )


SHARDS = (("device.events", 0, 7), ("device.events", 1, 4), ("device.rejected", 0, 1))

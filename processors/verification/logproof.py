"""Record → leaf → shard → epoch log: what inclusion proofs and the log's signatures show.

RFC 6962 inclusion (section 2.1.1) in C2SP tlog-proofs, under checkpoints that a key of the trust file signed.
"""

from dataclasses import dataclass

from processors.merkle.hashing import leaf_hash
from processors.merkle.proof import verify_inclusion
from processors.verification.verdict import VerificationError
from schemas.checkpoint import Checkpoint, log_key
from schemas.codec import CODEC
from schemas.evidence import Proven
from schemas.note import Note, format_note
from schemas.tlogproof import TlogProof, parse_tlog_proof
from schemas.trust import TrustRoot, open_trusted_checkpoint

EPOCH_TOPIC = "log.checkpoints"


@dataclass(frozen=True, slots=True)
class OpenedProof:
    """A proof and its checkpoint, whose log signature was verified."""

    proof: TlogProof
    data: bytes
    """The checkpoint's note, byte for byte."""
    checkpoint: Checkpoint

    @property
    def note(self) -> Note:
        """The checkpoint's note."""
        return self.proof.checkpoint

    def include(self, entry: bytes) -> None:
        """Raise MerkleError unless `entry` is the leaf of this proof under this checkpoint."""
        verify_inclusion(
            leaf_hash(entry),
            self.proof.index,
            self.checkpoint.size,
            list(self.proof.hashes),
            self.checkpoint.root,
        )

    def signed_now(self, trust: TrustRoot) -> bool:
        """Tell whether the log's present key is among the signers, not only an earlier one."""
        key = log_key(self.checkpoint.origin, trust.log_key)
        return any((each.name, each.key_id) == (key.name, key.key_id) for each in self.note.signatures)


def shard_origin(trust: TrustRoot, topic: str, partition: int) -> str:
    """Name the checkpoints of a topic-partition."""
    return f"{trust.log_name}/{topic}/{partition}"


def open_proof(data: bytes, origin: str, trust: TrustRoot) -> OpenedProof:
    """Parse a proof and verify that the log signed its checkpoint as one of `origin`."""
    proof = parse_tlog_proof(data)
    note = format_note(proof.checkpoint)
    return OpenedProof(proof, note, open_trusted_checkpoint(note, origin, trust).checkpoint)


def check_record(proven: Proven) -> None:
    """Raise unless the record is what its leaf was made of."""
    record = proven.record
    if record.topic == EPOCH_TOPIC:
        raise VerificationError("an epoch-log entry is proven within the evidence of a shard's record")
    leaf = CODEC.decode("leaf", proven.leaf)
    if leaf["digest"] != record.digest:
        raise VerificationError("the record's digest is not the leaf's: key, a header or the value changed")
    if (leaf["offset"], leaf["timestamp"]) != (record.offset, record.timestamp_ms):
        raise VerificationError("offset or timestamp of the record is not the leaf's")


def check_in_shard(shard: OpenedProof, proven: Proven) -> None:
    """Raise unless the leaf is in the shard, at an index that its offset leaves room for."""
    shard.include(proven.leaf)
    if shard.proof.index > proven.record.offset:
        raise VerificationError(
            f"leaf {shard.proof.index} has the offset {proven.record.offset}: offsets strictly rise from 0"
        )


def open_under(proven: Proven, epoch: OpenedProof, trust: TrustRoot) -> OpenedProof:
    """Prove another record against the epoch log's very same checkpoint; returns its proof in its shard."""
    record = proven.record
    check_record(proven)
    shard = open_proof(proven.shard_proof, shard_origin(trust, record.topic, record.partition), trust)
    check_in_shard(shard, proven)
    proof = parse_tlog_proof(proven.epoch_proof)
    if proof.checkpoint != epoch.note:
        raise VerificationError("it is proven against another checkpoint of the epoch log than the record")
    OpenedProof(proof, epoch.data, epoch.checkpoint).include(shard.data)
    return shard

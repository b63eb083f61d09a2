"""Verify: from an evidence file and a trust file to a verdict, step by step. Pure: no clock, file or network.

What it believes comes from the trust file only. It also says what it did not prove.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from processors.merkle.errors import MerkleError
from processors.merkle.hashing import leaf_hash
from processors.merkle.proof import verify_inclusion
from schemas.checkpoint import Checkpoint, log_key, open_checkpoint
from schemas.codec import CODEC
from schemas.envelope import decode_envelope
from schemas.errors import FormatError
from schemas.evidence import Evidence
from schemas.note import format_note
from schemas.records import record_digest
from schemas.tlogproof import TlogProof, parse_tlog_proof
from schemas.trust import TrustRoot

EPOCH_TOPIC = "log.checkpoints"


class VerificationError(FormatError):
    """A step does not hold."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked, and what it says when it holds, or why it does not."""

    name: str
    holds: bool
    detail: str


@dataclass(slots=True)
class Verdict:
    """Steps in their order, ending at the first that does not hold; and what remains unproven."""

    steps: list[Step] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """True iff every step holds."""
        return bool(self.steps) and all(step.holds for step in self.steps)

    @property
    def broken(self) -> Step | None:
        """The first step that does not hold."""
        return next((step for step in self.steps if not step.holds), None)


def verify(evidence: Evidence, trust: TrustRoot) -> Verdict:
    """Check a record's two inclusion proofs and checkpoint signatures from bytes."""
    check = _Check(evidence, trust)
    verdict = Verdict()
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("record", check.record),
        ("shard checkpoint", check.shard_checkpoint),
        ("leaf in shard", check.leaf_in_shard),
        ("epoch checkpoint", check.epoch_checkpoint),
        ("shard in epoch log", check.shard_in_epoch_log),
        ("ledger receipt", check.receipt),
    )
    for name, step in steps:
        try:
            verdict.steps.append(Step(name, holds=True, detail=step()))
        except (FormatError, MerkleError) as error:
            verdict.steps.append(Step(name, holds=False, detail=str(error)))
            break
    verdict.not_proven = check.not_proven()
    return verdict


@dataclass(frozen=True, slots=True)
class _Proof:
    """A proof and its checkpoint, whose signature was verified."""

    proof: TlogProof
    note: bytes
    checkpoint: Checkpoint

    def include(self, entry: bytes) -> None:
        verify_inclusion(
            leaf_hash(entry),
            self.proof.index,
            self.checkpoint.size,
            list(self.proof.hashes),
            self.checkpoint.root,
        )


class _Check:
    """The steps in their order; a later one may use what an earlier one has opened."""

    def __init__(self, evidence: Evidence, trust: TrustRoot) -> None:
        self._evidence, self._trust = evidence, trust
        record = evidence.record
        self._origin = f"{trust.log_name}/{record.topic}/{record.partition}"
        self._shard: _Proof
        self._epoch: _Proof

    def record(self) -> str:
        record = self._evidence.record
        if record.topic == EPOCH_TOPIC:
            raise VerificationError("an epoch-log entry is proven within the evidence of a shard's record")
        leaf = CODEC.decode("leaf", self._evidence.leaf)
        if leaf["digest"] != record_digest(record.key, record.headers, record.value):
            raise VerificationError(
                "the record's digest is not the leaf's: key, a header or the value changed"
            )
        if (leaf["offset"], leaf["timestamp"]) != (record.offset, record.timestamp_ms):
            raise VerificationError("offset or timestamp of the record is not the leaf's")
        return f"{record.topic}[{record.partition}] at {record.offset} is what its leaf was made of"

    def shard_checkpoint(self) -> str:
        self._shard = self._open(self._evidence.shard_proof, self._origin)
        return f"signed by the log key of {self._trust.log_name} for {self._origin}"

    def leaf_in_shard(self) -> str:
        shard = self._shard
        shard.include(self._evidence.leaf)
        return f"leaf {shard.proof.index} of {shard.checkpoint.size} in {self._origin}"

    def epoch_checkpoint(self) -> str:
        self._epoch = self._open(self._evidence.epoch_proof, self._trust.log_name)
        return f"signed by the log key of {self._trust.log_name}: one root for all shards"

    def shard_in_epoch_log(self) -> str:
        epoch = self._epoch
        epoch.include(self._shard.note)
        return f"that checkpoint is entry {epoch.proof.index} of {epoch.checkpoint.size} in the epoch log"

    def receipt(self) -> str:
        anchor, epoch = self._evidence.anchor, self._epoch.checkpoint
        if anchor is None:
            return "none in this file"
        if (anchor.tree_size, anchor.root) != (epoch.size, epoch.root):
            raise VerificationError("the receipt is of another epoch-log root than the proof's")
        expected = self._trust.ledger
        if expected.kind and anchor.ledger != expected.kind:
            raise VerificationError(f"ledger {anchor.ledger}, the trust file says {expected.kind}")
        if expected.topic and anchor.topic != expected.topic:
            raise VerificationError(f"ledger topic {anchor.topic}, the trust file says {expected.topic}")
        if expected.payer and anchor.payer != expected.payer:
            raise VerificationError(f"paid by {anchor.payer}, the trust file says {expected.payer}")
        return (
            f"message {anchor.sequence} of {anchor.ledger} topic {anchor.topic}: stated by mirror "
            f"{anchor.mirror}, unsigned"
        )

    def not_proven(self) -> list[str]:
        """Say honestly what these bytes do not show."""
        remaining = [
            "time: the record's timestamp is the broker's, which the log's operator runs",
            "completeness: that the device sent nothing else",
        ]
        if self._evidence.anchor is not None:
            remaining.append("the ledger receipt: a mirror's unsigned word until it is checked online")
        else:
            remaining.append("that the root was anchored: the file has no receipt")
        if self._is_envelope():
            remaining.append("the device's key: the file does not carry its registry chain")
        return remaining

    def _is_envelope(self) -> bool:
        try:
            decode_envelope(self._evidence.record.value or b"")
        except FormatError:
            return False
        return True

    def _open(self, data: bytes, origin: str) -> _Proof:
        proof = parse_tlog_proof(data)
        note = format_note(proof.checkpoint)
        signed = open_checkpoint(note, log_key(origin, self._trust.log_key))
        return _Proof(proof, note, signed.checkpoint)

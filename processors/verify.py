"""Verify: from an evidence file and a trust file to a verdict, step by step. Pure: no clock, file or network.

    record             the record is what its leaf was made of
    shard checkpoint   signed by the log's key for that topic-partition
    leaf in shard      the leaf is under that root
    epoch checkpoint   signed by the log's key: one root for all shards
    shard in epoch log the shard's checkpoint is under that root
    witnesses          enough of them cosigned it, and by when
    registry chain     entries of the signers, each in the same log, signed by authorities
    signatures         the device's and every approval, under keys valid at the registry offset
    ledger receipt     the root stands on the ledger

What it believes comes from the trust file only. It stops at the first step that does not hold, names on whose
word each step rests, and says what it did not prove.
"""

from collections.abc import Callable

from processors.merkle.errors import MerkleError
from processors.verification.logproof import (
    OpenedProof,
    check_in_shard,
    check_record,
    open_proof,
    shard_origin,
)
from processors.verification.receipt import ReadReceipt, check_receipt
from processors.verification.signer import SignerCheck
from processors.verification.verdict import Found, Step, Verdict, plain
from processors.verification.witnessing import check_witnesses
from schemas.errors import FormatError
from schemas.evidence import Evidence
from schemas.trust import TrustRoot

COMPUTED = "arithmetic"


def verify(evidence: Evidence, trust: TrustRoot, read_receipt: ReadReceipt) -> Verdict:
    """Judge evidence by a trust file; whatever is in the file, the outcome is a verdict.

    `read_receipt` knows how the ledger of a receipt chains its messages.
    """
    check = _Check(evidence, trust, read_receipt)
    verdict = Verdict()
    steps: tuple[tuple[str, Callable[[], Found]], ...] = (
        ("record", check.record),
        ("shard checkpoint", check.shard_checkpoint),
        ("leaf in shard", check.leaf_in_shard),
        ("epoch checkpoint", check.epoch_checkpoint),
        ("shard in epoch log", check.shard_in_epoch_log),
        ("witnesses", check.witnesses),
        ("registry chain", check.registry_chain),
        ("signatures", check.signatures),
        ("ledger receipt", check.receipt),
    )
    for name, step in steps:
        try:
            found = step()
        except (FormatError, MerkleError) as error:
            verdict.steps.append(Step(name, holds=False, detail=plain(str(error))))
            break
        verdict.steps.append(Step(name, holds=True, detail=plain(found.detail), by=plain(found.by)))
    if verdict.holds:
        verdict.warnings = [plain(each) for each in check.warnings()]
        verdict.not_proven = [plain(each) for each in check.not_proven()]
        verdict.existed_before_s = check.existed_before_s
    return verdict


class _Check:
    """The steps in their order; a later one may use what an earlier one has opened."""

    def __init__(self, evidence: Evidence, trust: TrustRoot, read_receipt: ReadReceipt) -> None:
        self._evidence, self._trust, self._read_receipt = evidence, trust, read_receipt
        self._origin = shard_origin(trust, evidence.record.topic, evidence.record.partition)
        self._shard: OpenedProof
        self._epoch: OpenedProof
        self._signer: SignerCheck
        self._on_believed_chain = False
        self.existed_before_s: int | None = None

    def record(self) -> Found:
        record = self._evidence.record
        check_record(self._evidence)
        withheld = "; its value is withheld" if record.withheld is not None else ""
        place = f"{record.topic}[{record.partition}] at {record.offset}"
        return Found(f"{place} is what its leaf was made of{withheld}", COMPUTED)

    def shard_checkpoint(self) -> Found:
        self._shard = open_proof(self._evidence.shard_proof, self._origin, self._trust)
        return self._signed_by_log(self._shard, f"for {self._origin}")

    def leaf_in_shard(self) -> Found:
        shard = self._shard
        check_in_shard(shard, self._evidence)
        return Found(f"leaf {shard.proof.index} of {shard.checkpoint.size} in {self._origin}", COMPUTED)

    def epoch_checkpoint(self) -> Found:
        self._epoch = open_proof(self._evidence.epoch_proof, self._trust.log_name, self._trust)
        return self._signed_by_log(self._epoch, "as one root for all shards")

    def shard_in_epoch_log(self) -> Found:
        epoch = self._epoch
        epoch.include(self._shard.data)
        detail = f"that checkpoint is entry {epoch.proof.index} of {epoch.checkpoint.size} in the epoch log"
        return Found(detail, COMPUTED)

    def witnesses(self) -> Found:
        found, self.existed_before_s = check_witnesses(self._epoch.note, self._trust)
        return found

    def registry_chain(self) -> Found:
        self._signer = SignerCheck(self._evidence, self._trust, self._epoch)
        return self._signer.registry_chain()

    def signatures(self) -> Found:
        return self._signer.signatures()

    def receipt(self) -> Found:
        receipt = self._evidence.anchor
        if receipt is None:
            return Found("none in this file", "")
        found, self._on_believed_chain = check_receipt(
            receipt, self._epoch.checkpoint, self._trust, self._read_receipt
        )
        return found

    def warnings(self) -> list[str]:
        """What holds, and still deserves a second look."""
        warnings = list(self._signer.warnings)
        if not self._epoch.signed_now(self._trust):
            warnings.append(
                "the epoch log's checkpoint is signed by an earlier key of the log, which was replaced "
                "since: whoever has that key can still sign"
            )
        return warnings

    def not_proven(self) -> list[str]:
        """Say honestly what these bytes do not show."""
        remaining = ["completeness: that the device sent nothing else"]
        if self.existed_before_s is None:
            remaining.append(
                "time: the record's timestamp is the broker's, which the log's operator runs, and no quorum "
                "of witnesses states another"
            )
            remaining.append("a single history: the operator may show others another log under the same key")
        else:
            remaining.append("the moment: the record's timestamp is the broker's, which the operator runs")
        remaining += self._signer.not_proven
        receipt = self._evidence.anchor
        if receipt is None:
            remaining.append("that the root was anchored: the file has no receipt")
        elif self._on_believed_chain:
            remaining.append("the ledger's transaction id: the mirror's unsigned word")
        else:
            remaining.append(
                f"the ledger receipt: the unsigned word of mirror {receipt.mirror}, until it is checked "
                "online or leads to a running hash that the trust file names"
            )
        return remaining

    def _signed_by_log(self, opened: OpenedProof, what: str) -> Found:
        which = "the log key" if opened.signed_now(self._trust) else "an earlier log key"
        name = self._trust.log_name
        return Found(f"signed by {which} of {name} {what}", f"operator of {name}")

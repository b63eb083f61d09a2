"""The ledger receipt in an evidence file: taken from a mirror, recomputed from its bytes, checked online.

A receipt is a piece of the topic around the anchor's message. That its running hashes recompute shows that
the piece is of one make; that it is the ledger's own shows whoever knows a running hash at or behind the
message: it commits to everything before it. A known point before the message shows nothing, since anybody
can continue a chain of hashes.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from anchors.errors import AnchorMessageError, LedgerHistoryError, LedgerUnavailableError
from anchors.hcs27 import parse_anchor
from anchors.hedera.chain import verified
from anchors.hedera.config import HederaConfig
from anchors.hedera.mirror import Mirror
from anchors.hedera.running_hash import RUNNING_HASH_BYTES
from anchors.ledger import ChainPosition, LedgerMessage
from schemas.evidence import (
    MAX_SEGMENT,
    AnchorReceipt,
    ChainPoint,
    EvidenceError,
    SegmentMessage,
    StatedRoot,
)

KIND = "hedera:"


def read_receipt(receipt: AnchorReceipt) -> StatedRoot:
    """Recompute a receipt's segment and read its message; raises EvidenceError. No network."""
    if not receipt.ledger.startswith(KIND):
        raise EvidenceError(f"no rules are known for receipts of the ledger {receipt.ledger}")
    start = receipt.segment_start
    if start is not None and (start.sequence < 1 or len(start.running_hash) != RUNNING_HASH_BYTES):
        raise EvidenceError("segment_start is not a message's number and its running hash")
    after = None if start is None else ChainPosition(start.sequence, start.running_hash)
    try:
        for _ in verified(receipt.topic, after, (_ledger_message(receipt, each) for each in receipt.segment)):
            continue
    except LedgerHistoryError as error:
        raise EvidenceError(str(error)) from error
    own = next((each for each in receipt.segment if each.sequence == receipt.sequence), None)
    if own != _own_message(receipt):
        raise EvidenceError(f"the segment does not hold message {receipt.sequence} as the receipt states it")
    try:
        anchor = parse_anchor(receipt.message)
    except AnchorMessageError as error:
        raise EvidenceError(f"message {receipt.sequence} is no anchor: {error}") from error
    return StatedRoot(anchor.log_id, anchor.root.tree_size, anchor.root.root_hash)


@dataclass(frozen=True, slots=True)
class Receipts:
    """Takes and checks receipts at one mirror."""

    url: str

    @property
    def _mirror(self) -> Mirror:
        # For reading only: whoever reads a mirror pays nobody.
        return Mirror(HederaConfig("0.0.0", Path(), self.url, network="mainnet"))

    def take(
        self, ledger: str, topic: str, sequence: int, transaction_id: str, through: int | None = None
    ) -> AnchorReceipt:
        """Make the receipt of a message; `through` is a later message that the segment must reach.

        Raises LedgerUnavailableError, LedgerRefusedError (the topic is unknown there) or, for a history that
        does not recompute, LedgerHistoryError.
        """
        last = max(sequence, through or 0)
        first = max(1, sequence - 1)
        if last - first >= MAX_SEGMENT:
            raise LedgerUnavailableError(f"{last - first} messages are too many for one receipt")
        found = list(islice(self._mirror.messages(topic, after_sequence=first - 1), last - first + 1))
        if not found or found[-1].sequence != last or found[0].sequence != first:
            raise LedgerUnavailableError(
                f"the mirror does not show messages {first} to {last} of topic {topic}"
            )
        start = None if sequence == 1 else found.pop(0).position
        for _ in verified(topic, start, found):
            continue
        own = found[0]
        return AnchorReceipt(
            ledger=ledger,
            topic=topic,
            sequence=sequence,
            consensus_timestamp_ns=own.consensus_time_ns,
            transaction_id=transaction_id,
            payer=own.payer,
            mirror=self.url,
            message=own.message,
            running_hash=own.running_hash,
            running_hash_version=own.running_hash_version,
            segment_start=None if start is None else ChainPoint(start.sequence, start.running_hash),
            segment=tuple(_segment_message(each) for each in found),
        )

    def compare(self, receipt: AnchorReceipt) -> None:
        """Ask the mirror for the message; raises LedgerHistoryError when it shows another.

        Also LedgerUnavailableError and LedgerRefusedError.
        """
        messages = self._mirror.messages(receipt.topic, after_sequence=receipt.sequence - 1)
        found = next(messages, None)
        if found is None:
            raise LedgerHistoryError(
                f"{self.url} shows no message {receipt.sequence} of topic {receipt.topic}"
            )
        if _segment_message(found) != _own_message(receipt):
            raise LedgerHistoryError(
                f"{self.url} shows another message {receipt.sequence} of topic {receipt.topic}"
            )


def _own_message(receipt: AnchorReceipt) -> SegmentMessage:
    return SegmentMessage(
        receipt.sequence,
        receipt.consensus_timestamp_ns,
        receipt.payer,
        receipt.message,
        receipt.running_hash,
    )


def _segment_message(message: LedgerMessage) -> SegmentMessage:
    return SegmentMessage(
        message.sequence, message.consensus_time_ns, message.payer, message.message, message.running_hash
    )


def _ledger_message(receipt: AnchorReceipt, message: SegmentMessage) -> LedgerMessage:
    return LedgerMessage(
        topic_id=receipt.topic,
        sequence=message.sequence,
        consensus_time_ns=message.consensus_timestamp_ns,
        message=message.message,
        payer=message.payer,
        running_hash=message.running_hash,
        running_hash_version=receipt.running_hash_version,
    )

"""The ledger receipt: that its message anchors this very root, in the trusted place, and whose word that is.

How a ledger chains its messages is the ledger's affair: that part is handed in as a function.
"""

from collections.abc import Callable

from processors.verification.verdict import Found, VerificationError, at
from schemas.checkpoint import Checkpoint
from schemas.evidence import AnchorReceipt, StatedRoot
from schemas.trust import LedgerTrust, TrustRoot

ReadReceipt = Callable[[AnchorReceipt], StatedRoot]
"""Recomputes a receipt from its bytes and reads its message; raises FormatError."""


def check_receipt(
    receipt: AnchorReceipt, epoch: Checkpoint, trust: TrustRoot, read: ReadReceipt
) -> tuple[Found, bool]:
    """Check a receipt; returns also whether its chain reaches a point that the trust file names."""
    _check_place(receipt, trust.ledger)
    stated = read(receipt)
    if stated.origin != trust.log_name:
        raise VerificationError(f"the message anchors the log {stated.origin}, not {trust.log_name}")
    if (stated.tree_size, stated.root) != (epoch.size, epoch.root):
        raise VerificationError("the receipt is of another epoch-log root than the proof's")
    believed = _reached(receipt, trust.ledger)
    where = f"message {receipt.sequence} of {receipt.ledger} topic {receipt.topic}"
    time = at(receipt.consensus_timestamp_ns / 1e9)
    if believed is not None:
        detail = f"{where} at {time}; its running hashes lead to the trust file's message {believed}"
        return Found(detail, f"ledger {receipt.ledger}"), True
    detail = f"{where} at {time}: stated by mirror {receipt.mirror}, unsigned"
    return Found(detail, f"mirror {receipt.mirror}, unsigned"), False


def _check_place(receipt: AnchorReceipt, expected: LedgerTrust) -> None:
    if expected.kind and receipt.ledger != expected.kind:
        raise VerificationError(f"ledger {receipt.ledger}, the trust file says {expected.kind}")
    if expected.topic and receipt.topic != expected.topic:
        raise VerificationError(f"ledger topic {receipt.topic}, the trust file says {expected.topic}")
    if expected.payer and receipt.payer != expected.payer:
        raise VerificationError(f"paid by {receipt.payer}, the trust file says {expected.payer}")


def _reached(receipt: AnchorReceipt, expected: LedgerTrust) -> int | None:
    """The believed point, at or behind the message, that the segment leads to; None for none.

    A point before the message must fit too, but shows nothing: anybody can continue a chain of hashes.
    """
    known = {point.sequence: point.running_hash for point in (each.point for each in receipt.segment)}
    if receipt.segment_start is not None:
        known[receipt.segment_start.sequence] = receipt.segment_start.running_hash
    reached = None
    for point in expected.checkpoints:
        if point.sequence not in known:
            continue
        if known[point.sequence] != point.running_hash:
            raise VerificationError(
                f"the running hash after message {point.sequence} is not the one that the trust file names"
            )
        if point.sequence >= receipt.sequence:
            reached = point.sequence
    return reached

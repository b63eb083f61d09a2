"""What an anchor looks like: on the ledger (HCS-27) and on `log.anchors` (Avro `anchor`).

On the ledger the first message of a tree size counts; later ones of that size, or of a smaller one, say
nothing new. They come from a process that did not know better, and are passed over.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from anchors.errors import AnchorMessageError
from anchors.hcs27 import AnchorMessage, TreeHead, build_anchor, parse_anchor
from anchors.ledger import LedgerMessage
from schemas.checkpoint import MAX_SIZE, SignedCheckpoint
from schemas.codec import CODEC, Record
from schemas.note import format_note

log = structlog.get_logger()

REGISTRY = "attestream"
LEAF = "sha256(0x00||checkpoint)"
"""RFC 6962, section 2.1: an entry of the epoch log is a shard's signed checkpoint."""
SUBMITTED, CONFIRMED = "SUBMITTED", "CONFIRMED"


@dataclass(frozen=True, slots=True)
class Anchored:
    """A tree head of our log on the ledger, verified, and where it stands."""

    tree_size: int
    root: bytes
    sequence: int
    consensus_time_ns: int
    running_hash: bytes
    payer: str

    @property
    def head(self) -> TreeHead:
        """As an anchor message names it."""
        return TreeHead(self.tree_size, self.root)


@dataclass(frozen=True, slots=True)
class AnchorPlace:
    """What all records of one ledger topic have in common."""

    ledger: str
    topic: str
    payer: str
    mirror: str

    def __str__(self) -> str:
        return f"{self.ledger} topic {self.topic}"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record for `log.anchors`; made once and kept, so that a repeat has the same bytes."""

    tree_size: int
    value: bytes

    @property
    def key(self) -> bytes:
        """The tree size as text."""
        return str(self.tree_size).encode()


def ledger_message(signed: SignedCheckpoint, previous: Anchored | None) -> bytes:
    """Make the HCS-27 message for a checkpoint; `previous` is None only for a stream's first."""
    checkpoint = signed.checkpoint
    return build_anchor(
        AnchorMessage(
            registry=REGISTRY,
            log_id=checkpoint.origin,
            leaf=LEAF,
            root=TreeHead(checkpoint.size, checkpoint.root),
            previous=previous.head if previous else None,
        )
    )


def read_anchor(message: LedgerMessage, origin: str, payer: str) -> Anchored | None:
    """Read a verified ledger message as an anchor of our log; None when it is not ours or not one."""
    if message.payer != payer:
        return None
    try:
        anchor = parse_anchor(message.message)
    except AnchorMessageError:
        return None
    if (anchor.registry, anchor.log_id) != (REGISTRY, origin) or anchor.root.tree_size > MAX_SIZE:
        return None
    return Anchored(
        anchor.root.tree_size,
        anchor.root.root_hash,
        message.sequence,
        message.consensus_time_ns,
        message.running_hash,
        message.payer,
    )


def newest(known: Anchored | None, anchors: Iterable[Anchored]) -> Anchored | None:
    """Return the anchor of the largest tree, the first message of its size."""
    for anchor in anchors:
        if known is None or anchor.tree_size > known.tree_size:
            known = anchor
        elif anchor.tree_size == known.tree_size and anchor.root != known.root:
            # Only our own key can have paid for it. The first one counts; somebody must look.
            log.error(
                "a second root of the same size is on the ledger",
                tree_size=anchor.tree_size,
                first_sequence=known.sequence,
                second_sequence=anchor.sequence,
            )
    return known


def submitted(signed: SignedCheckpoint, place: AnchorPlace, transaction_id: str, time_us: int) -> Outgoing:
    """Make the record that says: the ledger's node has taken it. No claim that it is anchored."""
    record = _common(signed, place, transaction_id, time_us)
    return _outgoing({**record, "status": SUBMITTED, "payer": place.payer})


def confirmed(
    signed: SignedCheckpoint, place: AnchorPlace, transaction_id: str, time_us: int, anchored: Anchored
) -> Outgoing:
    """Make the record that says: the mirror shows it and the running hash recomputes.

    `transaction_id` is empty where the message was found on the ledger and not sent from here.
    """
    return _outgoing(
        {
            **_common(signed, place, transaction_id, time_us),
            "status": CONFIRMED,
            "sequence": anchored.sequence,
            "consensus_timestamp_ns": anchored.consensus_time_ns,
            "running_hash": anchored.running_hash,
            "payer": anchored.payer,
            "mirror": place.mirror,
        }
    )


def _common(signed: SignedCheckpoint, place: AnchorPlace, transaction_id: str, time_us: int) -> Record:
    return {
        "origin": signed.checkpoint.origin,
        "tree_size": signed.checkpoint.size,
        "root": signed.checkpoint.root,
        "checkpoint": format_note(signed.note),
        "ledger": place.ledger,
        "ledger_topic": place.topic,
        "transaction_id": transaction_id,
        "time": time_us,
    }


def _outgoing(record: Record) -> Outgoing:
    return Outgoing(record["tree_size"], CODEC.encode("anchor", record))

"""The evidence file: one JSON document from which a stranger checks a record, with a trust file of his own.

{"format": "attestream-evidence/v1", "record", "leaf", "shard_proof", "epoch_proof", "registry", "anchor"}, as
docs/formats.md, section 13, shows them. Bytes are standard base64; a key, a value or a header's value may be
null. The epoch log's leaf is the signed checkpoint inside `shard_proof`, byte for byte. Whom to believe is
not in it: that is the trust file's to say.
"""

import base64
import json
from dataclasses import dataclass, replace
from typing import Any, Protocol

from schemas.errors import FormatError
from schemas.members import Members
from schemas.records import Headers, digest_of_parts, key_digest, value_digest
from schemas.strictjson import load_object

FORMAT = "attestream-evidence/v1"
MAX_EVIDENCE_BYTES = 8 << 20
MAX_HEADERS = 100_000
MAX_REGISTRY_ENTRIES = 1_000
MAX_SEGMENT = 4_096
DIGEST_BYTES = 32


class EvidenceError(FormatError):
    """The file is not an evidence file; the message names the member at fault."""


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """The Kafka record that is proven; a withheld value is None here and its 32-byte digest is given."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: Headers
    value: bytes | None
    withheld: bytes | None = None
    """The value digest in place of the value; None: the value is whole."""

    def __post_init__(self) -> None:
        if self.withheld is not None and (self.value is not None or len(self.withheld) != DIGEST_BYTES):
            raise EvidenceError(f"a withheld value is null, with a value_digest of {DIGEST_BYTES} bytes")

    @property
    def digest(self) -> bytes:
        """The record digest, which the leaf holds."""
        value = value_digest(self.value) if self.withheld is None else self.withheld
        return digest_of_parts(key_digest(self.key, self.headers), value)

    def header(self, name: str) -> bytes | None:
        """The value of the first header of a name; None where there is none."""
        return next((value for found, value in self.headers if found == name), None)


class Proven(Protocol):
    """A record with its leaf and the two proofs: what is proven, and each entry of its registry chain."""

    @property
    def record(self) -> EvidenceRecord:
        """What the leaf was made of."""

    @property
    def leaf(self) -> bytes:
        """The entry of the shard's tree."""

    @property
    def shard_proof(self) -> bytes:
        """The tlog-proof of the leaf in its shard."""

    @property
    def epoch_proof(self) -> bytes:
        """The tlog-proof of the shard's checkpoint in the epoch log."""


@dataclass(frozen=True, slots=True)
class ProvenRecord:
    """See `Proven`."""

    record: EvidenceRecord
    leaf: bytes
    shard_proof: bytes
    epoch_proof: bytes


@dataclass(frozen=True, slots=True)
class ChainPoint:
    """A point of a ledger topic's history: the running hash after message number `sequence`."""

    sequence: int
    running_hash: bytes


@dataclass(frozen=True, slots=True)
class SegmentMessage:
    """One message of a ledger topic, as a mirror stated it."""

    sequence: int
    consensus_timestamp_ns: int
    payer: str
    message: bytes
    running_hash: bytes

    @property
    def point(self) -> ChainPoint:
        """The chain's state after this message."""
        return ChainPoint(self.sequence, self.running_hash)


@dataclass(frozen=True, slots=True)
class AnchorReceipt:
    """Where the epoch log's root stands on the ledger, as a mirror stated it: unsigned.

    The segment is a contiguous piece of the topic from behind `segment_start` (None: from its first message).
    It holds the anchor's own message, and ends there or at a later point that somebody believes.
    """

    ledger: str
    topic: str
    sequence: int
    consensus_timestamp_ns: int
    transaction_id: str
    payer: str
    mirror: str
    message: bytes
    running_hash: bytes
    running_hash_version: int
    segment_start: ChainPoint | None
    segment: tuple[SegmentMessage, ...]


@dataclass(frozen=True, slots=True)
class StatedRoot:
    """What a receipt's ledger message says, once the segment around it was recomputed."""

    origin: str
    tree_size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Evidence:
    """All parts, parsed; nothing in it is verified."""

    record: EvidenceRecord
    leaf: bytes
    shard_proof: bytes
    epoch_proof: bytes
    registry: tuple[ProvenRecord, ...] = ()
    """The registry's entries on every subject whose key signed the record, in offset order."""
    anchor: AnchorReceipt | None = None

    def redacted(self) -> "Evidence":
        """The same evidence with the value's digest in its place.

        The registry chain goes too: the signatures that it is for are in the value.
        """
        if self.record.withheld is not None:
            return self
        digest = value_digest(self.record.value)
        return replace(self, record=replace(self.record, value=None, withheld=digest), registry=())

    def to_json(self) -> str:
        """Write the file."""
        anchor = None if self.anchor is None else _anchor_json(self.anchor)
        registry = [_proven_json(each) for each in self.registry]
        document = {"format": FORMAT, **_proven_json(self), "registry": registry, "anchor": anchor}
        return json.dumps(document, indent=2)


def parse_evidence(data: bytes) -> Evidence:
    """Read an untrusted evidence file strictly; raises EvidenceError."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise EvidenceError(f"evidence file of {len(data)} bytes is above the limit of {MAX_EVIDENCE_BYTES}")
    try:
        document = load_object(data)
    except ValueError as error:
        raise EvidenceError(f"evidence file is not JSON: {error}") from error
    top = Members(document, "evidence", EvidenceError)
    if top.text("format") != FORMAT:
        raise EvidenceError(f"format is {document['format'][:64]!a}, expected {FORMAT!r}")
    proven = _parse_proven(top)
    anchor = top.child_or_null("anchor")
    return Evidence(
        record=proven.record,
        leaf=proven.leaf,
        shard_proof=proven.shard_proof,
        epoch_proof=proven.epoch_proof,
        registry=tuple(_parse_proven(each) for each in top.children("registry", MAX_REGISTRY_ENTRIES)),
        anchor=None if anchor is None else _parse_anchor(anchor),
    )


def _parse_proven(found: Members) -> ProvenRecord:
    return ProvenRecord(
        record=_parse_record(found.child("record")),
        leaf=found.data("leaf"),
        shard_proof=found.text("shard_proof").encode(),
        epoch_proof=found.text("epoch_proof").encode(),
    )


def _parse_record(record: Members) -> EvidenceRecord:
    value = record.data_or_null("value")
    withheld = record.data("value_digest") if "value_digest" in record else None
    if withheld is not None and (value is not None or len(withheld) != DIGEST_BYTES):
        raise record.fault("value_digest", f"is not {DIGEST_BYTES} bytes in place of a value that is null")
    return EvidenceRecord(
        topic=record.text("topic"),
        partition=record.number("partition"),
        offset=record.number("offset"),
        timestamp_ms=record.number("timestamp_ms"),
        key=record.data_or_null("key"),
        headers=tuple(record.pairs("headers", MAX_HEADERS)),
        value=value,
        withheld=withheld,
    )


def _parse_anchor(anchor: Members) -> AnchorReceipt:
    start = anchor.child_or_null("segment_start")
    return AnchorReceipt(
        ledger=anchor.text("ledger"),
        topic=anchor.text("topic"),
        sequence=anchor.number("sequence"),
        consensus_timestamp_ns=anchor.number("consensus_timestamp_ns"),
        transaction_id=anchor.text("transaction_id"),
        payer=anchor.text("payer"),
        mirror=anchor.text("mirror"),
        message=anchor.data("message"),
        running_hash=anchor.data("running_hash"),
        running_hash_version=anchor.number("running_hash_version"),
        segment_start=None if start is None else parse_point(start),
        segment=tuple(
            SegmentMessage(
                sequence=each.number("sequence"),
                consensus_timestamp_ns=each.number("consensus_timestamp_ns"),
                payer=each.text("payer"),
                message=each.data("message"),
                running_hash=each.data("running_hash"),
            )
            for each in anchor.children("segment", MAX_SEGMENT)
        ),
    )


def parse_point(found: Members) -> ChainPoint:
    """Read {"sequence", "running_hash"}."""
    return ChainPoint(found.number("sequence"), found.data("running_hash"))


def point_json(point: ChainPoint) -> dict[str, Any]:
    """Write {"sequence", "running_hash"}."""
    return {"sequence": point.sequence, "running_hash": _text(point.running_hash)}


def _proven_json(proven: Proven) -> dict[str, Any]:
    record = proven.record
    withheld = {} if record.withheld is None else {"value_digest": _text(record.withheld)}
    return {
        "record": {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": _text(record.key),
            "headers": [[name, _text(value)] for name, value in record.headers],
            "value": _text(record.value),
            **withheld,
        },
        "leaf": _text(proven.leaf),
        "shard_proof": proven.shard_proof.decode(),
        "epoch_proof": proven.epoch_proof.decode(),
    }


def _anchor_json(anchor: AnchorReceipt) -> dict[str, Any]:
    start = anchor.segment_start
    return {
        "ledger": anchor.ledger,
        "topic": anchor.topic,
        "sequence": anchor.sequence,
        "consensus_timestamp_ns": anchor.consensus_timestamp_ns,
        "transaction_id": anchor.transaction_id,
        "payer": anchor.payer,
        "mirror": anchor.mirror,
        "message": _text(anchor.message),
        "running_hash": _text(anchor.running_hash),
        "running_hash_version": anchor.running_hash_version,
        "segment_start": None if start is None else point_json(start),
        "segment": [
            {
                "sequence": each.sequence,
                "consensus_timestamp_ns": each.consensus_timestamp_ns,
                "payer": each.payer,
                "message": _text(each.message),
                "running_hash": _text(each.running_hash),
            }
            for each in anchor.segment
        ],
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()

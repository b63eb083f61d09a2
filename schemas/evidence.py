"""The evidence file: one JSON document from which a stranger checks a record, with a trust file of his own.

{"format": "attestream-evidence/v1", "record": {...}, "leaf": base64, "shard_proof": tlog-proof text,
"epoch_proof": tlog-proof text, "anchor": {...} | null}. Bytes are standard base64; a key, a value or a
header's value may be null. The epoch log's leaf is the signed checkpoint inside `shard_proof`, byte for byte.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import FormatError
from schemas.note import NoteError, decode_base64
from schemas.records import Headers
from schemas.strictjson import is_unicode, load_object

FORMAT = "attestream-evidence/v1"
MAX_EVIDENCE_BYTES = 8 << 20
MAX_HEADERS = 100_000


class EvidenceError(FormatError):
    """The file is not an evidence file; the message names the member at fault."""


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """The Kafka record that is proven."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    headers: Headers
    value: bytes | None


@dataclass(frozen=True, slots=True)
class AnchorReceipt:
    """Where the epoch log's root stands on the ledger, as a mirror stated it: unsigned."""

    ledger: str
    topic: str
    sequence: int
    consensus_timestamp_ns: int
    transaction_id: str
    payer: str
    running_hash: bytes
    tree_size: int
    root: bytes
    mirror: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All parts, parsed; nothing in it is verified."""

    record: EvidenceRecord
    leaf: bytes
    shard_proof: bytes
    epoch_proof: bytes
    anchor: AnchorReceipt | None

    def to_json(self) -> str:
        """Write the file."""
        record, anchor = self.record, self.anchor
        return json.dumps(
            {
                "format": FORMAT,
                "record": {
                    "topic": record.topic,
                    "partition": record.partition,
                    "offset": record.offset,
                    "timestamp_ms": record.timestamp_ms,
                    "key": _text(record.key),
                    "headers": [[name, _text(value)] for name, value in record.headers],
                    "value": _text(record.value),
                },
                "leaf": _text(self.leaf),
                "shard_proof": self.shard_proof.decode(),
                "epoch_proof": self.epoch_proof.decode(),
                "anchor": None
                if anchor is None
                else {
                    "ledger": anchor.ledger,
                    "topic": anchor.topic,
                    "sequence": anchor.sequence,
                    "consensus_timestamp_ns": anchor.consensus_timestamp_ns,
                    "transaction_id": anchor.transaction_id,
                    "payer": anchor.payer,
                    "running_hash": _text(anchor.running_hash),
                    "tree_size": anchor.tree_size,
                    "root": _text(anchor.root),
                    "mirror": anchor.mirror,
                },
            },
            indent=2,
        )


def parse_evidence(data: bytes) -> Evidence:
    """Read an untrusted evidence file strictly; raises EvidenceError."""
    if len(data) > MAX_EVIDENCE_BYTES:
        raise EvidenceError(f"evidence file of {len(data)} bytes is above the limit of {MAX_EVIDENCE_BYTES}")
    try:
        document = load_object(data)
    except ValueError as error:
        raise EvidenceError(f"evidence file is not JSON: {error}") from error
    top = _Members(document, "evidence")
    if top.text("format") != FORMAT:
        raise EvidenceError(f"format is {document['format'][:64]!a}, expected {FORMAT!r}")
    record = _Members(document.get("record"), "record")
    anchor = document.get("anchor")
    return Evidence(
        record=EvidenceRecord(
            topic=record.text("topic"),
            partition=record.number("partition"),
            offset=record.number("offset"),
            timestamp_ms=record.number("timestamp_ms"),
            key=record.data_or_null("key"),
            headers=record.headers(),
            value=record.data_or_null("value"),
        ),
        leaf=top.data("leaf"),
        shard_proof=top.text("shard_proof").encode(),
        epoch_proof=top.text("epoch_proof").encode(),
        anchor=None if anchor is None else _parse_anchor(_Members(anchor, "anchor")),
    )


def _parse_anchor(anchor: "_Members") -> AnchorReceipt:
    return AnchorReceipt(
        ledger=anchor.text("ledger"),
        topic=anchor.text("topic"),
        sequence=anchor.number("sequence"),
        consensus_timestamp_ns=anchor.number("consensus_timestamp_ns"),
        transaction_id=anchor.text("transaction_id"),
        payer=anchor.text("payer"),
        running_hash=anchor.data("running_hash"),
        tree_size=anchor.number("tree_size"),
        root=anchor.data("root"),
        mirror=anchor.text("mirror"),
    )


class _Members:
    """Typed access to a JSON object's members; every failure names the member."""

    def __init__(self, found: object, where: str) -> None:
        if not isinstance(found, dict):
            raise EvidenceError(f"{where} is not a JSON object")
        self._found: Mapping[str, Any] = found
        self._where = where

    def text(self, name: str) -> str:
        value = self._found.get(name)
        if not isinstance(value, str):
            raise EvidenceError(f"{self._where}.{name} is not a text")
        if not is_unicode(value):
            raise EvidenceError(f"{self._where}.{name} is not Unicode text")
        return value

    def number(self, name: str) -> int:
        value = self._found.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise EvidenceError(f"{self._where}.{name} is not a whole number from 0 to 2^63 - 1")
        return value

    def data(self, name: str) -> bytes:
        found = self.data_or_null(name)
        if found is None:
            raise EvidenceError(f"{self._where}.{name} is missing")
        return found

    def data_or_null(self, name: str) -> bytes | None:
        return _decode(self._found.get(name), f"{self._where}.{name}")

    def headers(self) -> Headers:
        found = self._found.get("headers")
        if not isinstance(found, list) or len(found) > MAX_HEADERS:
            raise EvidenceError(f"{self._where}.headers is not a list of at most {MAX_HEADERS}")
        headers = []
        for number, pair in enumerate(found):
            if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise EvidenceError(f"{self._where}.headers[{number}] is not [name, base64 or null]")
            headers.append(
                (
                    _Members({"name": pair[0]}, f"headers[{number}]").text("name"),
                    _decode(pair[1], f"{self._where}.headers[{number}]"),
                )
            )
        return tuple(headers)


def _text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _decode(value: object, where: str) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise EvidenceError(f"{where} is not base64 text")
    try:
        return decode_base64(value, where)
    except NoteError as error:
        raise EvidenceError(str(error)) from error

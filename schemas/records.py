"""Unsigned records of our own making: leaves, findings, anchors; and the digest of any Kafka record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

from blake3 import blake3

from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.native import CRATE
from schemas.varint import write_long

Headers = Sequence[tuple[str, bytes | None]]
_ABSENT = b"\xff\xff\xff\xff"  # in place of a length: null, as against empty


_LENGTHS = tuple(length.to_bytes(4, "big") for length in range(1024))


def _part(data: bytes | None) -> bytes:
    if data is None:
        return _ABSENT
    length = len(data)
    return (_LENGTHS[length] if length < len(_LENGTHS) else length.to_bytes(4, "big")) + data


_SHORT = 64


@lru_cache(maxsize=1024)
def _name(name: str) -> bytes:
    return _part(name.encode())


def key_digest(key: bytes | None, headers: Headers) -> bytes:
    """BLAKE3 over key, header count, and each header's name and value, all length-prefixed (u32be)."""
    parts = [_part(key), len(headers).to_bytes(4, "big")]
    for name, value in headers:
        # Names are the sender's: long ones are not kept.
        parts += (_name(name) if len(name) <= _SHORT else _part(name.encode()), _part(value))
    return blake3(b"".join(parts)).digest()


def value_digest(value: bytes | None) -> bytes:
    """BLAKE3 over the length-prefixed value."""
    return blake3(_part(value)).digest()


def record_digest(key: bytes | None, headers: Headers, value: bytes | None) -> bytes:
    """BLAKE3(key_digest ‖ value_digest): a proof can withhold the value, nobody can change a header."""
    return digest_of_parts(key_digest(key, headers), value_digest(value))


def record_digests(
    keys: Sequence[bytes | None], headers: Sequence[Headers], values: Sequence[bytes | None]
) -> list[bytes]:
    """Digest n records, as `record_digest` does each; the sequences must have one length (ValueError)."""
    if CRATE is not None:
        digests: list[bytes] = CRATE.record_digests(keys, headers, values)
        return digests
    return [record_digest(*each) for each in zip(keys, headers, values, strict=True)]


def digest_of_parts(key_part: bytes, value_part: bytes) -> bytes:
    """Make the record digest of a key digest and a value digest."""
    return blake3(key_part + value_part).digest()


_LEAF_HEADER = CODEC.header("leaf")
_DIGEST_BYTES = 32


def encode_leaf(offset: int, timestamp_ms: int, digest: bytes) -> bytes:
    """Write the leaf of one record: single-object encoded, 32-byte digest.

    The codec's bytes, written by hand because a sealer makes one for every record; a test holds the two
    equal.
    """
    if len(digest) != _DIGEST_BYTES:
        raise CodecError(f"leaf digest has {len(digest)} bytes, not {_DIGEST_BYTES}")
    return _LEAF_HEADER + write_long(offset) + _recent(timestamp_ms) + digest


_recent = lru_cache(maxsize=1024)(write_long)
"""For times: many records of a batch have the same."""


class FindingStatus(StrEnum):
    """A lasting cause is one finding: opened once, updated, cleared."""

    OPENED = "OPENED"
    UPDATED = "UPDATED"
    CLEARED = "CLEARED"


class Severity(StrEnum):
    """Severity as OCSF names it."""

    INFORMATIONAL = "INFORMATIONAL"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


SEVERITY_RANK = {severity: rank for rank, severity in enumerate(Severity)}
"""Higher is worse."""


@dataclass(frozen=True, slots=True)
class EvidenceRef:
    """A record that shows a finding; `digest` is BLAKE3 of its payload or its first 16 bytes, where known."""

    topic: str
    partition: int
    offset: int
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found. `id` follows from rule, device and first evidence, so a repeat has the same."""

    rule: str
    severity: Severity
    device_id: str
    time_us: int
    explanation: str
    evidence: tuple[EvidenceRef, ...]
    score: float = 1.0
    status: FindingStatus = FindingStatus.OPENED
    subject: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    cause: str = ""
    """Distinguishes findings of one rule about one device; empty: the first evidence does."""

    @property
    def id(self) -> bytes:
        """16 bytes of BLAKE3 over rule, device and cause."""
        cause = self.cause
        if not cause and self.evidence:
            first = self.evidence[0]
            cause = f"{first.topic}/{first.partition}/{first.offset}"
        parts = (self.rule.encode(), self.device_id.encode(), cause.encode())
        return blake3(b"".join(_part(p) for p in parts)).digest(16)

    def encode(self, salt: bytes) -> bytes:
        """Write the finding with 16 unpredictable bytes of salt."""
        return CODEC.encode(
            "finding",
            {
                "id": self.id,
                "rule": self.rule,
                "status": self.status.value,
                "severity": self.severity.value,
                "score": self.score,
                "device_id": self.device_id,
                "subject": self.subject,
                "time": self.time_us,
                "explanation": self.explanation,
                "evidence": [
                    {"topic": e.topic, "partition": e.partition, "offset": e.offset, "digest": e.digest}
                    for e in self.evidence
                ],
                "parameters": dict(self.parameters),
                "salt": salt,
            },
        )


def decode_finding(value: bytes) -> dict[str, Any]:
    """Read a finding record."""
    return CODEC.decode("finding", value)

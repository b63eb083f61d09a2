"""What processors exchange: records in, accepted events, rejections and findings out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from processors.state import DeviceState
from schemas.decisions import Decision
from schemas.events import Event
from schemas.noise import NoiseBlock
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Finding, Headers

UNREADABLE_HEADERS: Headers = (("unreadable", None),)
"""In place of headers that the client library cannot decode, such as a name that is not UTF-8."""


# Not frozen, as events are not (schemas/events.py): there is one of each for every record.
@dataclass(slots=True, unsafe_hash=True)
class RawRecord:
    """One Kafka record as consumed; `append_ms` is LogAppendTime, the broker's clock."""

    topic: str
    partition: int
    offset: int
    append_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def append_us(self) -> int:
        """LogAppendTime in microseconds."""
        return self.append_ms * 1000

    def reference(self, digest: bytes | None = None) -> EvidenceRef:
        """Cite this record as evidence."""
        return EvidenceRef(self.topic, self.partition, self.offset, digest)


@dataclass(slots=True)
class VerifiedEvent:
    """An event whose every signature verified with keys valid at `registry_offset`.

    `digest` is BLAKE3 of the payload (32 bytes), the event's identity against replay.
    """

    event: Event
    digest: bytes
    source: RawRecord
    registry_offset: int
    signers: tuple[str, ...] = ()
    """Ids of the keys of all its signatures, the device's first."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record turned away: the reason, a sentence for a person, and the registry offset that applied."""

    source: RawRecord
    reason: Reason
    detail: str
    registry_offset: int
    device_id: str | None = None
    """As far as it was read; a claim unless the signature was checked before."""


@dataclass(slots=True)
class Outcome:
    """What a batch came to, each list in the order of the batch."""

    accepted: list[VerifiedEvent] = field(default_factory=list)
    heard: dict[str, DeviceState] = field(default_factory=dict, repr=False, compare=False)
    """States of the devices of what was accepted, by device id, in the order of the first event of each."""
    rejected: list[Rejection] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    noise: list[NoiseBlock] = field(default_factory=list)


Batch = Sequence[RawRecord]
"""Records of one topic-partition, in offset order."""

"""What is remembered of a device's access: its live permits, and the detectors' state. Bounded.

It travels as the detectors' part of the device's state. Bytes of before there were permits are the detectors'
alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from processors.detect import AccessDetectors, AccessState
from processors.detect.errors import StateError
from processors.model import VerifiedEvent
from processors.splice import Splice, all_anew
from schemas.codec import CODEC
from schemas.errors import CodecError
from schemas.records import Finding

MAX_PERMITS = 32
"""Of one device at a time."""
_HEADER = CODEC.header("access_memory")


@dataclass(frozen=True, slots=True)
class LivePermit:
    """A permit that holds, with what it takes to judge it again."""

    session: str
    action: str
    resource: str
    purpose: str
    subject: str
    device_key: str
    approvals: tuple[str, ...]
    """DID URLs of the keys of all further signatures."""
    offset: int
    """Of the request in the raw partition."""
    digest: bytes
    expires_us: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What a newer permit replaces."""
        return self.session, self.action, self.resource


@dataclass(slots=True)
class AccessMemory:
    """Of one device."""

    detectors: AccessState
    permits: list[LivePermit] = field(default_factory=list)
    """Oldest first."""

    @property
    def next_expiry_us(self) -> int:
        """When the first of the permits ends; 0 where there is none."""
        return min((permit.expires_us for permit in self.permits), default=0)


class AccessMemories:
    """Reads and writes memories, and lets the detectors see their part; as a judge's detectors."""

    def __init__(self, detectors: AccessDetectors) -> None:
        self._detectors = detectors

    def new(self) -> AccessMemory:
        """Return the memory of a device not seen before."""
        return AccessMemory(self._detectors.new())

    def load(self, data: bytes) -> AccessMemory:
        """Read a memory; raises StateError for bytes that `dump` never wrote."""
        if not data.startswith(_HEADER):
            return AccessMemory(self._detectors.load(data))
        detectors, permits = _split(data)
        return AccessMemory(self._detectors.load(detectors), permits)

    def dump_all(self, memories: Sequence[AccessMemory]) -> list[bytes]:
        """Write what is remembered of each, as `dump` does."""
        return [self.dump(memory) for memory in memories]

    def dump_changes(
        self, memories: Sequence[AccessMemory], is_whole: Sequence[bool]
    ) -> list[bytes | Splice]:
        """Write memories; they are small."""
        return all_anew(self.dump_all(memories), is_whole)

    def dump(self, memory: AccessMemory) -> bytes:
        """Write a memory so that `load` gives exactly it."""
        detectors = self._detectors.dump(memory.detectors)
        if not memory.permits:
            return detectors
        return CODEC.encode(
            "access_memory",
            {
                "detectors": detectors,
                "permits": [
                    {
                        "session": each.session,
                        "action": each.action,
                        "resource": each.resource,
                        "purpose": each.purpose,
                        "subject": each.subject,
                        "device_key": each.device_key,
                        "approvals": list(each.approvals),
                        "offset": each.offset,
                        "digest": each.digest,
                        "expires": each.expires_us,
                    }
                    for each in memory.permits
                ],
            },
        )

    def process(self, events: Sequence[VerifiedEvent], state_of: Callable[[str], Any]) -> list[Finding]:
        """Let the detectors judge accepted events."""
        return self._detectors.process(events, lambda device_id: state_of(device_id).detectors)


def next_expiry_us(data: bytes) -> int:
    """Tell of a written memory when the first of its permits ends; 0 where there is none."""
    if not data.startswith(_HEADER):
        return 0
    return min((permit.expires_us for permit in _split(data)[1]), default=0)


def _split(data: bytes) -> tuple[bytes, list[LivePermit]]:
    try:
        record = CODEC.decode("access_memory", data)
    except CodecError as error:
        raise StateError(str(error)) from error
    permits = [
        LivePermit(
            each["session"],
            each["action"],
            each["resource"],
            each["purpose"],
            each["subject"],
            each["device_key"],
            tuple(each["approvals"]),
            each["offset"],
            each["digest"],
            each["expires"],
        )
        for each in record["permits"]
    ]
    return record["detectors"], permits

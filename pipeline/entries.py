"""An authority's hand: signs the next entries of a table, publishes them and reads them back.

An entry counts as done only when it was read back: had another authority been faster, ours would be ignored.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from blake3 import blake3

from pipeline import kafka
from pipeline.following import TableFollower
from pipeline.kafka import CALL_TIMEOUT_S
from pipeline.settings import PipelineError, Settings
from pipeline.trust import authority_identity
from processors.chain import SignedTable
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, SignedEnvelope, decode_envelope
from schemas.errors import CodecError
from schemas.signing import SigningIdentity

T = TypeVar("T", bound=SignedTable)
ENTRY_KINDS = (PayloadKind.REGISTRY_ENTRY, PayloadKind.POLICY_ENTRY, PayloadKind.ALERT_CONTROL)
NewEntry = tuple[str, str, Mapping[str, Any]]
"""Subject, action, and what the kind of entry has besides."""


class EntryWriteError(PipelineError):
    """An entry was published and ignored, or could not be published."""


def read_entry(value: bytes) -> tuple[PayloadKind, SignedEnvelope, dict[str, Any]]:
    """Read an entry of any table: its kind, the envelope, and what it says; checks no signature.

    Raises FormatError for bytes that are none.
    """
    envelope = decode_envelope(value)
    for kind in ENTRY_KINDS:
        if envelope.payload.startswith(CODEC.header(kind.value)):
            return kind, envelope, CODEC.decode(kind.value, envelope.payload)
    raise CodecError("signed, but no entry of a table")


def countersign(
    value: bytes, audience: str, identity: SigningIdentity
) -> tuple[SignedEnvelope, dict[str, Any]]:
    """Add a signature to an entry, in place of an earlier one of the same name; returns what it says too.

    Raises FormatError where the bytes are no entry.
    """
    kind, envelope, entry = read_entry(value)
    others = tuple(each for each in envelope.signatures if each.key_id != identity.key_id)
    ours = identity.sign(kind, audience, envelope.payload)
    return SignedEnvelope(envelope.payload, (*others, ours)), entry


class EntryWriter(Generic[T]):
    """Writes to one topic in the name of one authority key; owns the follower that it is given."""

    def __init__(
        self,
        settings: Settings,
        follower: TableFollower[T],
        kind: PayloadKind,
        identity: SigningIdentity | None = None,
    ) -> None:
        self._identity = identity or authority_identity(settings)
        self._audience, self._kind = settings.log_name, kind
        self._follower = follower
        self._producer = kafka.producer(settings)
        self._follower.catch_up()

    @property
    def table(self) -> T:
        """The table as of the last write or `refresh`."""
        return self._follower.table

    def refresh(self) -> T:
        """Read the topic to its high watermark."""
        self._follower.catch_up()
        return self._follower.table

    def write(self, entries: Iterable[NewEntry]) -> list[bytes]:
        """Sign entries and publish them with one wait; returns the envelopes. Raises EntryWriteError."""
        return self._publish([(entry[0], self.sign(*entry)) for entry in entries])

    def sign(self, subject: str, action: str, more: Mapping[str, Any]) -> SignedEnvelope:
        """Sign a subject's next entry, for more authorities to sign; it holds while no other comes first."""
        payload = self._payload(subject, action, more)
        return SignedEnvelope(payload, (self._identity.sign(self._kind, self._audience, payload),))

    def submit(self, value: bytes) -> str:
        """Publish an entry that enough authorities have signed; returns its subject.

        Raises FormatError for one that would be ignored for its form or signatures, and EntryWriteError.
        """
        envelope = decode_envelope(value)
        subject = str(CODEC.decode(self._kind.value, envelope.payload)["subject"])
        self.table.check_signatures(envelope)
        if self.table.last_entry(subject)[1] == blake3(envelope.payload).digest():
            raise EntryWriteError(f"the entry for {subject} is taken already")
        self._publish([(subject, envelope)])
        return subject

    def _publish(self, entries: Sequence[tuple[str, SignedEnvelope]]) -> list[bytes]:
        topic, published, wanted = self._follower.topic, list[bytes](), list[tuple[str, bytes]]()
        for subject, envelope in entries:
            value = envelope.encode()
            self._producer.produce(topic, key=subject.encode(), value=value, partition=0)
            published.append(value)
            wanted.append((subject, blake3(envelope.payload).digest()))
        if self._producer.flush(CALL_TIMEOUT_S):
            raise EntryWriteError(f"{topic} did not acknowledge within {CALL_TIMEOUT_S:.0f} s")
        read_before = self.table.offset
        self._follower.catch_up()
        for subject, digest in wanted:
            if self.table.last_entry(subject)[1] != digest:
                ignored = (e for e in self.table.ignored if e.source.offset >= read_before)
                why = next((e.detail for e in ignored if e.subject == subject), "another came first")
                raise EntryWriteError(f"the entry for {subject} was not taken: {why}")
        return published

    def close(self) -> None:
        """Release the clients."""
        self._producer.flush(CALL_TIMEOUT_S)
        self._follower.close()

    def _payload(self, subject: str, action: str, more: Mapping[str, Any]) -> bytes:
        version, digest = self.table.last_entry(subject)
        record = {
            "subject": subject,
            "version": version + 1,
            "previous_digest": digest,
            "action": action,
            "time": time.time_ns() // 1000,
            **more,
        }
        return CODEC.encode(self._kind.value, record)

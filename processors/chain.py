"""Tables that signed entries make: a topic of one partition, applied in order by every worker alike.

An entry signs `subject, version, previous_digest, action`. It counts only when authorities of the trust root
signed it, its version is the last + 1, and it names the entry before it: so an old entry cannot be replayed
after a later one. What breaks a rule is ignored and kept for reporting; it moves the offset and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from blake3 import blake3

from processors.model import RawRecord
from schemas.codec import CODEC
from schemas.ed25519 import verify_batch
from schemas.envelope import PayloadKind, SignedEnvelope, decode_envelope, pae, pae_prefix
from schemas.errors import FormatError
from schemas.trust import TrustRoot

MAX_IGNORED = 10_000
"""So many ignored entries are kept for reporting, the newest: a flood neither fills our memory nor hides
what comes after it."""
MAX_SHOWN_TEXT = 500
"""Texts of an ignored entry are somebody's claims, up to an envelope long."""


@dataclass(frozen=True, slots=True)
class IgnoredEntry:
    """An entry that broke a rule, to be reported; `source` says where it stands, without its bytes."""

    source: RawRecord
    detail: str
    subject: str


class EntryError(FormatError):
    """A signed entry breaks a rule."""


class SignedTable(ABC):
    """What the entries before `offset` come to; a subclass says what an entry does."""

    def __init__(self, trust: TrustRoot, kind: PayloadKind) -> None:
        self._trust, self._kind = trust, kind
        self._prefix = pae_prefix(kind, trust.log_name)
        self.offset = 0
        """Position: everything below was applied or ignored."""
        self.ignored: list[IgnoredEntry] = []
        self.forgotten_before = 0
        """Entries below this offset that were ignored are listed no longer; 0 while all are."""

    def apply(self, record: RawRecord) -> None:
        """Take the next record of the topic; a bad one only moves the offset."""
        subject = "unknown"
        try:
            envelope = decode_envelope(record.value or b"")
            entry = CODEC.decode(self._kind.value, envelope.payload)
            subject = entry["subject"]
            if record.key != subject.encode():
                message = "the Kafka key is not the subject"
                raise EntryError(message)
            self.check_signatures(envelope)
            self._apply_entry(entry, blake3(envelope.payload).digest(), record.offset)
        except FormatError as error:
            self._ignore(record, str(error), subject)
        self.offset = record.offset + 1

    @abstractmethod
    def last_entry(self, subject: str) -> tuple[int, bytes]:
        """Return version and digest of a subject's last entry; 0 and b"" where there is none."""

    @abstractmethod
    def _apply_entry(self, entry: dict[str, Any], digest: bytes, offset: int) -> None:
        """Take an entry that authorities signed, or raise FormatError and change nothing."""

    def _ignore(self, record: RawRecord, detail: str, subject: str) -> None:
        place = replace(record, key=None, value=None, headers=())
        self.ignored.append(IgnoredEntry(place, detail[:MAX_SHOWN_TEXT], subject[:MAX_SHOWN_TEXT]))
        if len(self.ignored) > MAX_IGNORED:
            self.forgotten_before = self.ignored.pop(0).source.offset + 1

    def check_signatures(self, envelope: SignedEnvelope) -> None:
        """Raise EntryError unless as many authorities signed as the trust root demands, and nobody else."""
        names = {signature.key_id for signature in envelope.signatures}
        unknown = sorted(names - self._trust.authorities.keys())
        if unknown:
            message = f"signed by {unknown[0]!r}, which is no authority of the trust root"
            raise EntryError(message)
        # Keys, not names: one key under two names is one authority.
        signers = len({self._trust.authorities[name] for name in names})
        if signers < self._trust.authority_threshold:
            message = f"{signers} authorities signed, {self._trust.authority_threshold} must"
            raise EntryError(message)
        signed = pae(self._prefix, envelope.payload)
        valid = verify_batch(
            [self._trust.authorities[s.key_id] for s in envelope.signatures],
            [signed] * len(envelope.signatures),
            [s.signature for s in envelope.signatures],
        )
        if not all(valid):
            message = f"signature of {envelope.signatures[valid.index(False)].key_id!r} does not verify"
            raise EntryError(message)

    def _check_follows(self, entry: Mapping[str, Any]) -> None:
        """Refuse an entry that does not follow its subject's last one."""
        subject = entry["subject"]
        version, digest = self.last_entry(subject)
        if entry["version"] != version + 1:
            message = f"version {entry['version']} of {subject}, expected {version + 1}"
            raise EntryError(message)
        if entry["previous_digest"] != digest:
            message = f"version {entry['version']} of {subject} does not follow the entry before it"
            raise EntryError(message)

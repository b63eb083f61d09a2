"""The registry as a table: applies signed entries in order, ignores and reports what breaks a rule.

Every worker applies the same topic, so a key is valid iff it is valid at an offset: the state after
entries [0, offset). A version other than the last + 1 is ignored, so that an old registration cannot be
replayed after a revocation.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from blake3 import blake3

from processors.model import RawRecord
from schemas.codec import CODEC
from schemas.did import decode_did_key
from schemas.ed25519 import check_public_key, verify_batch
from schemas.envelope import PayloadKind, SignedEnvelope, decode_envelope, pae, pae_prefix
from schemas.errors import FormatError
from schemas.trust import TrustRoot

MAX_IGNORED = 10_000
"""So many ignored entries are kept for reporting, the newest: a flood neither fills our memory nor hides
what comes after it."""
MAX_SHOWN_TEXT = 500
"""Texts of an ignored entry are somebody's claims, up to an envelope long."""
MAX_SUBJECT = 512
"""A longer one could not be the `device_id` of an event."""


@dataclass(slots=True)
class Key:
    """A public key of a subject; `revoked_at` is the offset of the entry that ended it."""

    key_id: str
    public_key: bytes
    purpose: str
    registered_at: int
    revoked_at: int | None = None
    compromised_since_us: int | None = None


@dataclass(slots=True)
class Subject:
    """A device, person or service with its keys, as of the registry's offset."""

    did: str
    version: int
    entry_digest: bytes
    attributes: dict[str, str]
    keys: dict[str, Key] = field(default_factory=dict)
    decommissioned_at: int | None = None

    @property
    def may_sign_events(self) -> bool:
        """Tell whether any key of the subject is good for events now."""
        return self.decommissioned_at is None and any(
            key.purpose == "EVENT" and key.revoked_at is None for key in self.keys.values()
        )


@dataclass(frozen=True, slots=True)
class IgnoredEntry:
    """An entry that broke a rule, to be reported; `source` says where it stands, without its bytes."""

    source: RawRecord
    detail: str
    subject: str


class EntryError(FormatError):
    """A registry entry breaks a rule."""


class Registry:
    """Subjects by DID after the entries before `offset`."""

    def __init__(self, trust: TrustRoot) -> None:
        self._trust = trust
        self._prefix = pae_prefix(PayloadKind.REGISTRY_ENTRY, trust.log_name)
        self._subjects: dict[str, Subject] = {}
        self._owner_of: dict[bytes, str] = dict.fromkeys(trust.authorities.values(), "an authority")
        self._owner_of |= dict.fromkeys(trust.log_keys, "the log")
        self.offset = 0
        """Position: everything below was applied or ignored."""
        self.ignored: list[IgnoredEntry] = []
        self.forgotten_before = 0
        """Entries below this offset that were ignored are listed no longer; 0 while all are."""

    def __len__(self) -> int:
        return len(self._subjects)

    def subject(self, did: str) -> Subject | None:
        """Look a subject up at the current offset."""
        return self._subjects.get(did)

    def subjects(self) -> list[Subject]:
        """List all subjects in the order of registration."""
        return list(self._subjects.values())

    def apply(self, record: RawRecord) -> None:
        """Take the next record of the registry topic; a bad one only moves the offset."""
        subject = "unknown"
        try:
            envelope = decode_envelope(record.value or b"")
            entry = CODEC.decode(PayloadKind.REGISTRY_ENTRY.value, envelope.payload)
            subject = entry["subject"]
            if record.key != subject.encode():
                message = "the Kafka key is not the subject"
                raise EntryError(message)
            self._check_signatures(envelope)
            self._apply_entry(entry, blake3(envelope.payload).digest(), record.offset)
        except FormatError as error:
            self._ignore(record, str(error), subject)
        self.offset = record.offset + 1

    def _ignore(self, record: RawRecord, detail: str, subject: str) -> None:
        place = replace(record, key=None, value=None, headers=())
        self.ignored.append(IgnoredEntry(place, detail[:MAX_SHOWN_TEXT], subject[:MAX_SHOWN_TEXT]))
        if len(self.ignored) > MAX_IGNORED:
            self.forgotten_before = self.ignored.pop(0).source.offset + 1

    def _check_signatures(self, envelope: SignedEnvelope) -> None:
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

    def _apply_entry(self, entry: dict[str, Any], digest: bytes, offset: int) -> None:
        did, action = entry["subject"], entry["action"]
        if not did.startswith("did:") or "#" in did or len(did) > MAX_SUBJECT:
            message = f"subject {did[:64]!r} is not a DID of at most {MAX_SUBJECT} characters"
            raise EntryError(message)
        known = self._subjects.get(did)
        last_version, last_digest = (known.version, known.entry_digest) if known else (0, b"")
        if entry["version"] != last_version + 1:
            message = f"version {entry['version']} of {did}, expected {last_version + 1}"
            raise EntryError(message)
        if entry["previous_digest"] != last_digest:
            message = f"version {entry['version']} of {did} does not follow the entry before it"
            raise EntryError(message)
        if (action == "REGISTER") is not (known is None):
            message = f"{action} of a subject that is {'unknown' if known is None else 'registered'}: {did}"
            raise EntryError(message)
        if known is not None and known.decommissioned_at is not None:
            message = f"{did} was decommissioned"
            raise EntryError(message)
        subject = known or Subject(did, 0, b"", {})
        if action in ("REGISTER", "ROTATE"):
            self._add_key(subject, entry, offset)
        elif action == "REVOKE":
            _revoke(subject, entry, offset)
        else:
            subject.decommissioned_at = offset
        subject.attributes = dict(entry["attributes"]) or subject.attributes
        subject.version, subject.entry_digest = entry["version"], digest
        self._subjects[did] = subject

    def _add_key(self, subject: Subject, entry: dict[str, Any], offset: int) -> None:
        key = entry["key"]
        if key is None:
            message = f"{entry['action']} of {subject.did} without a key"
            raise EntryError(message)
        public_key = key["public_key"]
        check_public_key(public_key)
        if not key["key_id"] or "#" in key["key_id"] or key["key_id"] in subject.keys:
            message = f"key id {key['key_id']!r} of {subject.did} is empty, has a '#', or was used before"
            raise EntryError(message)
        owner = self._owner_of.get(public_key)
        if owner is not None:
            message = f"the key already belongs to {owner}: one key, one purpose"
            raise EntryError(message)
        if (
            entry["action"] == "REGISTER"
            and subject.did.startswith("did:key:")
            and decode_did_key(subject.did) != public_key
        ):
            message = f"the first key of {subject.did} is not the one that its DID names"
            raise EntryError(message)
        for old in subject.keys.values():
            if old.purpose == key["purpose"] and old.revoked_at is None:
                old.revoked_at = offset
        subject.keys[key["key_id"]] = Key(key["key_id"], public_key, key["purpose"], offset)
        self._owner_of[public_key] = subject.did


def _revoke(subject: Subject, entry: dict[str, Any], offset: int) -> None:
    key = subject.keys.get(entry["revoked_key_id"] or "")
    if key is None:
        message = f"REVOKE of key {entry['revoked_key_id']!r}, which {subject.did} never had"
        raise EntryError(message)
    if key.revoked_at is None:
        key.revoked_at = offset
    marks = (key.compromised_since_us, entry["compromised_since"])
    # A later entry may widen the doubt, not lift it.
    key.compromised_since_us = min((mark for mark in marks if mark is not None), default=None)

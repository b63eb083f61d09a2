"""The registry as a table: applies signed entries in order, ignores and reports what breaks a rule.

Every worker applies the same topic, so a key is valid iff it is valid at an offset: the state after
entries [0, offset). A version other than the last + 1 is ignored, so that an old registration cannot be
replayed after a revocation.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from processors.chain import EntryError, SignedTable
from schemas.did import decode_did_key
from schemas.ed25519 import check_public_key
from schemas.envelope import PayloadKind
from schemas.trust import TrustRoot

MAX_SUBJECT = 512
"""A longer one could not be the `device_id` of an event."""
MOST_ALIKE = 4096
"""So many sets of attributes are held on to, for subjects to come that have the same."""


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
    attributes: Mapping[str, str]
    """Others may have the same object."""
    keys: dict[str, Key] = field(default_factory=dict)
    decommissioned_at: int | None = None
    changed_at: int = 0
    """Offset of the entry that last changed it."""

    @property
    def may_sign_events(self) -> bool:
        """Tell whether any key of the subject is good for events now."""
        return self._has_key_for("EVENT")

    @property
    def may_approve(self) -> bool:
        """Tell whether any key of the subject is good for approvals now: a person's credential."""
        return self._has_key_for("APPROVAL")

    def _has_key_for(self, purpose: str) -> bool:
        return self.decommissioned_at is None and any(
            key.purpose == purpose and key.revoked_at is None for key in self.keys.values()
        )


class Registry(SignedTable):
    """Subjects by DID after the entries before `offset`."""

    def __init__(self, trust: TrustRoot) -> None:
        super().__init__(trust, PayloadKind.REGISTRY_ENTRY)
        self._subjects: dict[str, Subject] = {}
        self._owner_of: dict[bytes, str] = dict.fromkeys(trust.authorities.values(), "an authority")
        self._owner_of |= dict.fromkeys(trust.log_keys, "the log")
        self._attributes: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        """One object for all subjects that are alike: a fleet's devices are of few models and wards."""

    def __len__(self) -> int:
        return len(self._subjects)

    def subject(self, did: str) -> Subject | None:
        """Look a subject up at the current offset."""
        return self._subjects.get(did)

    def last_entry(self, subject: str) -> tuple[int, bytes]:
        """Return version and digest of a subject's last entry; 0 and b"" before the first."""
        known = self._subjects.get(subject)
        return (known.version, known.entry_digest) if known else (0, b"")

    def subjects(self) -> list[Subject]:
        """List all subjects in the order of registration."""
        return list(self._subjects.values())

    def _apply_entry(self, entry: dict[str, Any], digest: bytes, offset: int) -> None:
        did, action = entry["subject"], entry["action"]
        if not did.startswith("did:") or "#" in did or len(did) > MAX_SUBJECT:
            message = f"subject {did[:64]!r} is not a DID of at most {MAX_SUBJECT} characters"
            raise EntryError(message)
        known = self._subjects.get(did)
        self._check_follows(entry)
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
        subject.attributes = self._shared(entry["attributes"]) or subject.attributes
        subject.version, subject.entry_digest, subject.changed_at = entry["version"], digest, offset
        self._subjects[did] = subject

    def _shared(self, attributes: Mapping[str, str]) -> Mapping[str, str]:
        if len(self._attributes) >= MOST_ALIKE:
            self._attributes.clear()
        return self._attributes.setdefault(tuple(attributes.items()), attributes)

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
        key_id = sys.intern(key["key_id"])  # of a fleet's keys most are named alike
        subject.keys[key_id] = Key(key_id, public_key, key["purpose"], offset)
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

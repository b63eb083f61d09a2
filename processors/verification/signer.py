"""Who signed the record: the registry entries of its signers, and every signature of its envelope.

The rules are those of ingest, applied by the same code: `Registry` to the entries of the file, `Authenticate`
to the record (ZIP 215, keys canonical and of prime order). Entries below the record's `registry.offset`
decide whether the keys were valid. Later ones decide nothing: they may tell that a key was compromised.
"""

import re
from collections.abc import Sequence

from processors.authenticate import Authenticate, TimeLimits
from processors.merkle.errors import MerkleError
from processors.model import RawRecord, Rejection, VerifiedEvent
from processors.registry import Key, Registry
from processors.verification.logproof import OpenedProof, open_under
from processors.verification.verdict import Found, VerificationError, at
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, Signature, SignedEnvelope, decode_envelope
from schemas.errors import FormatError
from schemas.events import EVENT_KINDS
from schemas.evidence import Evidence, EvidenceRecord, ProvenRecord
from schemas.trust import TrustRoot

EVENTS_TOPIC, REGISTRY_TOPIC = "device.events", "identity.registry"
OFFSET_HEADER = "registry.offset"

_OFFSET = re.compile(rb"0|[1-9][0-9]{0,18}")
_ANY_TIME = TimeLimits(max_ahead_us=2**80, max_behind_us=2**80)
"""A device's time is its claim; ingest has compared it with the broker's when both were there."""
_WITHOUT_DEVICE = {
    "device.rejected": "that this record was turned away, and why, is the pipeline's own statement",
    REGISTRY_TOPIC: "a registry entry is signed by authorities; evidence for an event checks them",
}


class SignerCheck:
    """The two steps about a device event, and what the chain leaves open."""

    def __init__(self, evidence: Evidence, trust: TrustRoot, epoch: OpenedProof) -> None:
        self._evidence, self._trust, self._epoch = evidence, trust, epoch
        self._table = Registry(trust)
        self._offset = 0
        self._keys: list[Key] = []
        self.warnings: list[str] = []
        self.not_proven: list[str] = []

    def registry_chain(self) -> Found:
        """Prove each entry in the log, and apply those that the record's keys were judged by."""
        entries = self._evidence.registry
        why_not = _not_applicable(self._evidence.record)
        if why_not is not None:
            if entries:
                raise VerificationError("registry entries that no signature in this file needs")
            return Found(f"does not apply: {why_not}", "")
        self._offset = _registry_offset(self._evidence.record)
        self._prove(entries)
        earlier = [each for each in entries if each.record.offset < self._offset]
        authorities = self._apply(earlier)
        later = f", and {len(entries) - len(earlier)} later" if len(entries) > len(earlier) else ""
        count = "1 entry" if len(earlier) == 1 else f"{len(earlier)} entries"
        detail = f"{count} before registry offset {self._offset}{later}, all in the log"
        return Found(detail, f"authorities {', '.join(authorities)}" if authorities else "")

    def signatures(self) -> Found:
        """Verify the device's signature and every approval, under keys valid at the registry offset."""
        record = self._evidence.record
        why_not = _not_applicable(record)
        if why_not is not None:
            if record.topic == EVENTS_TOPIC:
                self.not_proven.append(f"who signed it: {why_not}")
            return Found(f"does not apply: {why_not}", "")
        verified = self._authenticate(record)
        envelope = decode_envelope(record.value or b"")
        signers = _signers(verified, envelope)
        self._keys = [self._table.subject(did).keys[key_id] for did, key_id in signers]  # type: ignore[union-attr]
        self._check_subjects({did for did, _ in signers})
        self._look_back({did for did, _ in signers})
        self._apply([each for each in self._evidence.registry if each.record.offset >= self._offset])
        self._warn(verified, signers)
        event = verified.event
        more = len(signers) - 1
        approvals = f" and {more} approval{'s' if more > 1 else ''}" if more else ""
        detail = (
            f"{event.kind.value} of boot {event.boot}, sequence {event.sequence}, under key {signers[0][1]}"
            f"{approvals}, valid at registry offset {self._offset}; the device's own time is "
            f"{at(event.time_us / 1e6)}"
        )
        return Found(detail, f"device {event.device_id}")

    def _prove(self, entries: Sequence[ProvenRecord]) -> None:
        last_index, last_offset = -1, -1
        for entry in entries:
            record = entry.record
            where = f"registry entry at {record.offset}"
            if (record.topic, record.partition) != (REGISTRY_TOPIC, 0):
                raise VerificationError(f"{where}: it is a record of {record.topic}[{record.partition}]")
            try:
                index = open_under(entry, self._epoch, self._trust).proof.index
            except (FormatError, MerkleError) as error:
                raise VerificationError(f"{where}: {error}") from error
            # Offsets strictly rise from leaf to leaf, so between two leaves lie no more leaves than offsets.
            if not 0 < index - last_index <= record.offset - last_offset:
                raise VerificationError(f"{where}: it does not stand behind the entry before it")
            last_index, last_offset = index, record.offset

    def _apply(self, entries: Sequence[ProvenRecord]) -> list[str]:
        """Apply entries by the registry's rules; each must count. Returns the authorities that signed."""
        authorities: dict[str, None] = {}
        for entry in entries:
            record = entry.record
            source = (record.topic, record.partition, record.offset, record.timestamp_ms)
            self._table.apply(RawRecord(*source, record.key, record.value, record.headers))
            if self._table.ignored:
                why = self._table.ignored[0].detail
                raise VerificationError(f"registry entry at {record.offset} does not count: {why}")
            signatures = decode_envelope(record.value or b"").signatures
            authorities |= dict.fromkeys(signature.key_id for signature in signatures)
        return list(authorities)

    def _authenticate(self, record: EvidenceRecord) -> VerifiedEvent:
        envelope = decode_envelope(record.value or b"")
        name = CODEC.name_of(envelope.payload)
        if name not in {kind.value for kind in EVENT_KINDS}:
            raise VerificationError(f"a payload of kind {name} is no event")
        # How many partitions the topics have is not in the file, and the place of a raw record is ingest's
        # to judge; with one partition every key belongs to it.
        judge = Authenticate(PayloadKind(name), self._trust.log_name, 1, _ANY_TIME)
        source = (record.topic, 0, record.offset, record.timestamp_ms)
        (verdict,) = judge.process([RawRecord(*source, record.key, record.value)], self._table)
        if isinstance(verdict, Rejection):
            raise VerificationError(f"{verdict.reason.value}: {verdict.detail}")
        return verdict

    def _check_subjects(self, signers: set[str]) -> None:
        for entry in self._evidence.registry:
            subject = (entry.record.key or b"").decode(errors="replace")
            if subject not in signers:
                raise VerificationError(
                    f"registry entry at {entry.record.offset} is about {subject}, who signed nothing here"
                )

    def _look_back(self, signers: set[str]) -> None:
        """Say what a chain that somebody chose cannot show, unless nothing is left out before the offset."""
        shown = {e.record.offset for e in self._evidence.registry if e.record.offset < self._offset}
        last_of = {
            (e.record.key or b"").decode(): e.record.offset
            for e in self._evidence.registry
            if e.record.offset < self._offset
        }
        first = min(last_of[did] for did in signers)
        since = sum(1 for offset in shown if offset >= first)
        if since != self._offset - first:
            self.not_proven.append(
                f"that no other registry entry before offset {self._offset} ended these keys: whoever made "
                "this file chose its entries"
            )
        self.not_proven.append(
            f"that registry offset {self._offset} was the newest when the event was judged: the operator "
            "says so"
        )

    def _warn(self, verified: VerifiedEvent, signers: Sequence[tuple[str, str]]) -> None:
        latest_us = max(verified.event.time_us, verified.source.append_us)
        for (did, key_id), key in zip(signers, self._keys, strict=True):
            mark = key.compromised_since_us
            if mark is not None and mark <= latest_us:
                self.warnings.append(
                    f"key {key_id} of {did} is marked as compromised since {at(mark / 1e6)}, before this "
                    "event: somebody else may have signed it"
                )


def _not_applicable(record: EvidenceRecord) -> str | None:
    """Why no device signature can be checked; None where it can."""
    if record.topic != EVENTS_TOPIC:
        own = f"a record of {record.topic} is the pipeline's own statement"
        return _WITHOUT_DEVICE.get(record.topic, own)
    if record.withheld is not None:
        return "the value, which holds the signatures, is withheld"
    return None


def _registry_offset(record: EvidenceRecord) -> int:
    found = [value for name, value in record.headers if name == OFFSET_HEADER]
    if len(found) != 1 or found[0] is None or not _OFFSET.fullmatch(found[0]):
        raise VerificationError(f"the record has not one header {OFFSET_HEADER} with a number")
    return int(found[0])


def _signers(verified: VerifiedEvent, envelope: SignedEnvelope) -> list[tuple[str, str]]:
    """(DID, key id) of each signature, the device's first."""
    return [
        (verified.event.device_id, envelope.signatures[0].key_id),
        *map(_approver, envelope.signatures[1:]),
    ]


def _approver(signature: Signature) -> tuple[str, str]:
    did, _, key_id = signature.key_id.rpartition("#")
    return did, key_id

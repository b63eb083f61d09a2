"""Authenticate: which records of a batch are events that their devices signed, and why not the others.

The order of the checks is a rule: size, form, kind, fields, right place, key validity at the registry's
offset, every signature, time. Nothing that a signature does not cover is trusted before it verified, and
sequences are not looked at here: a forged high sequence must not block a valid one.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import repeat

from blake3 import blake3

from processors.model import Batch, RawRecord, Rejection, VerifiedEvent
from processors.registry import Key, Registry, Subject
from schemas.codec import CODEC
from schemas.ed25519 import verify_batch
from schemas.envelope import (
    MAX_ENVELOPE_BYTES,
    PayloadKind,
    Signature,
    decode_envelope,
    pae,
    pae_prefix,
)
from schemas.errors import CodecError, FormatError, UnknownSchemaError
from schemas.events import Event, common_of, decode_event
from schemas.native import BatchVerifier
from schemas.opening import opener
from schemas.partition import partition_of
from schemas.reasons import Reason

REGISTRY_MISSES = frozenset({Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_KEY})
"""Reasons that a newer registry may lift."""

_MAX_SEEN = 131_072

Verdict = VerifiedEvent | Rejection


class _RejectError(Exception):
    """Ends the checks of one record."""

    def __init__(self, reason: Reason, detail: str, device_id: str | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.device_id = reason, detail, device_id


@dataclass(slots=True)
class _Seen:
    """What was found of a record's key before: devices recur."""

    subject: Subject
    key: Key
    signers: tuple[str]
    public_key: bytes
    partition: int
    as_of: int
    """The registry as it stood when all this held, as `Authenticate` counts its states."""

    def holds(self, registry: Registry, as_of: int) -> bool:
        """Tell whether all checks up to the key would find the same now, and remember where they would."""
        subject, key = self.subject, self.key
        found = (
            registry.subject(subject.did) is subject
            and subject.decommissioned_at is None
            and key.revoked_at is None
            and subject.keys.get(key.key_id) is key
        )
        if found:
            self.as_of = as_of
        return found


@dataclass(slots=True)
class _Signed:
    """Signatures of a batch, for one call of the verifier; `whose`: place of the record, and the key."""

    keys: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    signatures: list[bytes] = field(default_factory=list)
    whose: list[tuple[int, str]] = field(default_factory=list)

    def add(self, key: bytes, message: bytes, signature: bytes, whose: tuple[int, str]) -> None:
        """Add one."""
        self.keys.append(key)
        self.messages.append(message)
        self.signatures.append(signature)
        self.whose.append(whose)

    def of(self, verdicts: Sequence["Verdict"]) -> "_Signed":
        """Return those of records of which no signature was found to be bad."""
        kept = _Signed()
        for each in zip(self.keys, self.messages, self.signatures, self.whose, strict=True):
            if not _is_forged(verdicts[each[3][0]]):
                kept.add(*each)
        return kept


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How far a device's clock may stand from the broker's, in microseconds."""

    max_ahead_us: int
    max_behind_us: int


class Authenticate:
    """Judges batches of one raw topic."""

    def __init__(
        self,
        kind: PayloadKind,
        audience: str,
        partitions: int,
        limits: TimeLimits,
        verify: BatchVerifier = verify_batch,
    ) -> None:
        self._kind, self._limits, self._verify = kind, limits, verify
        # Hashing a key in Python costs as much as decoding its event, and devices recur.
        self._place = lru_cache(maxsize=65_536)(lambda key: partition_of(key, partitions))
        self._prefix = pae_prefix(kind, audience)
        self._opener = opener(self._prefix) if kind is PayloadKind.TELEMETRY else None
        self._seen: dict[bytes | None, _Seen] = {}
        self._read: tuple[Registry | None, int] = (None, 0)
        self._as_of = 0

    def process(self, batch: Batch, registry: Registry) -> list[Verdict]:
        """Judge each record with the registry as it stands; the list is parallel to the batch."""
        offset = registry.offset
        if self._read != (registry, offset):
            self._read, self._as_of = (registry, offset), self._as_of + 1
        signed, approvals, verdicts, untimely = _Signed(), _Signed(), list[Verdict](), list[int]()
        ahead_us, behind_us = self._limits.max_ahead_us, self._limits.max_behind_us
        for record, verdict in zip(batch, self._common(batch, registry, signed), strict=True):
            if verdict is None:
                try:
                    verdict = self._open(record, registry, (signed, approvals), len(verdicts))  # noqa: PLW2901
                except _RejectError as cause:
                    verdicts.append(Rejection(record, cause.reason, cause.detail, offset, cause.device_id))
                    continue
            if not -behind_us <= verdict.event.time_us - 1000 * record.append_ms <= ahead_us:
                untimely.append(len(verdicts))
            verdicts.append(verdict)
        for place in untimely:
            verdicts[place] = _untimely(verdicts[place])
        self._verify_all(signed, verdicts)
        # Only of what its device signed: else whoever may write could have many looked at for each of his.
        self._verify_all(approvals.of(verdicts), verdicts)
        return verdicts

    def _verify_all(self, signed: _Signed, verdicts: list[Verdict]) -> None:
        if not signed.keys:
            return
        good = self._verify(signed.keys, signed.messages, signed.signatures)
        if not all(good):
            for (place, key_id), is_good in zip(signed.whose, good, strict=True):
                if not is_good:
                    verdicts[place] = _forged(verdicts[place], key_id)

    def _common(self, batch: Batch, registry: Registry, signed: _Signed) -> Iterator[VerifiedEvent | None]:
        """Take telemetry of the common shape of devices that were seen before; None for all else.

        Nearly all of it is, so here nothing is called that need not be. Each record is looked at when it is
        asked for: the one before may have been the first of its device.
        """
        if self._opener is None:
            yield from repeat(None, len(batch))
            return
        as_of, offset, seen_of = self._as_of, registry.offset, self._seen.get
        for place, (record, opened) in enumerate(
            zip(batch, self._opener([record.value for record in batch]), strict=True)
        ):
            seen = opened and seen_of(record.key)
            if not opened or not seen:
                yield None
                continue
            device_id, boot, sequence, time_us, codes, values, key_id, signature, message, digest = opened
            if (
                key_id != seen.key.key_id
                or device_id != seen.subject.did
                or record.partition != seen.partition
                or (seen.as_of != as_of and not seen.holds(registry, as_of))
            ):
                yield None
                continue
            signed.keys.append(seen.public_key)
            signed.messages.append(message)
            signed.signatures.append(signature)
            signed.whose.append((place, key_id))
            event = common_of(device_id, boot, sequence, time_us, codes, array("d", values))
            yield VerifiedEvent(event, digest, record, offset, seen.signers)

    def _open(
        self, record: RawRecord, registry: Registry, signed: tuple[_Signed, _Signed], place: int
    ) -> VerifiedEvent:
        """Check a record up to its signatures; the device's is added to the first of `signed`, others to the
        second.
        """
        value = record.value
        if not value:
            raise _RejectError(Reason.EMPTY, "the record has no value")
        if len(value) > MAX_ENVELOPE_BYTES:
            detail = f"value of {len(value)} bytes is above the limit of {MAX_ENVELOPE_BYTES}"
            raise _RejectError(Reason.OVERSIZED, detail)
        try:
            envelope = decode_envelope(value)
            name = CODEC.name_of(envelope.payload)
        except UnknownSchemaError as error:
            raise _RejectError(Reason.UNKNOWN_SCHEMA, str(error)) from error
        except FormatError as error:
            raise _RejectError(Reason.MALFORMED, str(error)) from error
        if name != self._kind.value:
            detail = f"a payload of kind {name} on the topic of {self._kind.value}"
            raise _RejectError(Reason.WRONG_KIND, detail)
        payload, event = envelope.payload, self._decode(envelope.payload)
        device = event.device_id
        if record.key != device.encode():
            raise _RejectError(Reason.WRONG_PARTITION, "the key is not the device id", device)
        expected = self._place(record.key)
        if record.partition != expected:
            detail = f"partition {record.partition}, the key belongs to {expected}"
            raise _RejectError(Reason.WRONG_PARTITION, detail, device)
        keys = [
            _resolve(registry, device, signature, first=index == 0)
            for index, signature in enumerate(envelope.signatures)
        ]
        message = pae(self._prefix, payload)
        for number, (key, signature) in enumerate(zip(keys, envelope.signatures, strict=True)):
            signed[number > 0].add(key.public_key, message, signature.signature, (place, signature.key_id))
        signers = tuple(signature.key_id for signature in envelope.signatures)
        subject = registry.subject(device)
        if subject is not None and len(keys) == 1:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            key = keys[0]
            self._seen[record.key] = _Seen(subject, key, (key.key_id,), key.public_key, expected, self._as_of)
        return VerifiedEvent(event, blake3(payload).digest(), record, registry.offset, signers)

    def _decode(self, payload: bytes) -> Event:
        try:
            return decode_event(self._kind, payload)
        except CodecError as error:
            raise _RejectError(Reason.MALFORMED, str(error)) from error
        except FormatError as error:
            raise _RejectError(Reason.INVALID_VALUE, str(error)) from error


def _forged(verdict: Verdict, key_id: str) -> Verdict:
    """Say that a signature of a record does not verify, whatever else is wrong with it."""
    if _is_forged(verdict):
        return verdict
    offset = verdict.registry_offset
    device = verdict.device_id if isinstance(verdict, Rejection) else verdict.event.device_id
    detail = f"the signature by key {key_id!r} does not verify"
    return Rejection(verdict.source, Reason.BAD_SIGNATURE, detail, offset, device)


def _is_forged(verdict: Verdict) -> bool:
    return isinstance(verdict, Rejection) and verdict.reason is Reason.BAD_SIGNATURE


def _untimely(verdict: Verdict) -> Verdict:
    if isinstance(verdict, Rejection):
        return verdict
    source, event = verdict.source, verdict.event
    ahead = event.time_us - source.append_us
    side = "ahead of" if ahead > 0 else "behind"
    detail = f"the device's time is {abs(ahead) // 1_000_000} s {side} the broker's"
    return Rejection(source, Reason.IMPLAUSIBLE_TIME, detail, verdict.registry_offset, event.device_id)


def _resolve(registry: Registry, device_id: str, signature: Signature, *, first: bool) -> Key:
    """Find the key of a signature: the device's own by its short id, an approver's by `did#key`."""
    did, separator, key_id = signature.key_id.rpartition("#")
    if first == bool(separator):
        detail = f"key id {signature.key_id!r}: the device's comes first and short, approvers' are DID URLs"
        raise _RejectError(Reason.UNKNOWN_KEY, detail, device_id)
    subject = registry.subject(device_id if first else did)
    if subject is None:
        detail = f"{device_id if first else did} is not registered"
        raise _RejectError(Reason.UNKNOWN_DEVICE if first else Reason.UNKNOWN_KEY, detail, device_id)
    if subject.decommissioned_at is not None:
        detail = f"{subject.did} was decommissioned at registry offset {subject.decommissioned_at}"
        raise _RejectError(Reason.DECOMMISSIONED, detail, device_id)
    key = subject.keys.get(key_id)
    if key is None or key.purpose != ("EVENT" if first else "APPROVAL"):
        detail = f"{subject.did} has no key {key_id!r} for this purpose"
        raise _RejectError(Reason.UNKNOWN_KEY, detail, device_id)
    if key.revoked_at is not None:
        detail = f"key {key_id!r} of {subject.did} ended at registry offset {key.revoked_at}"
        raise _RejectError(Reason.REVOKED_KEY, detail, device_id)
    return key

"""Authenticate: which records of a batch are events that their devices signed, and why not the others.

The order of the checks is a rule: size, form, kind, fields, right place, key validity at the registry's
offset, every signature, time. Nothing that a signature does not cover is trusted before it verified, and
sequences are not looked at here: a forged high sequence must not block a valid one.
"""

from dataclasses import dataclass
from functools import lru_cache

from blake3 import blake3

from processors.model import Batch, RawRecord, Rejection, VerifiedEvent
from processors.registry import Key, Registry
from schemas.codec import CODEC
from schemas.ed25519 import verify_batch
from schemas.envelope import (
    MAX_ENVELOPE_BYTES,
    PayloadKind,
    Signature,
    SignedEnvelope,
    decode_envelope,
    pae,
    pae_prefix,
)
from schemas.errors import CodecError, FormatError, UnknownSchemaError
from schemas.events import Event, decode_event
from schemas.native import BatchVerifier
from schemas.partition import partition_of
from schemas.reasons import Reason

REGISTRY_MISSES = frozenset({Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_KEY})
"""Reasons that a newer registry may lift."""

Verdict = VerifiedEvent | Rejection


class _RejectError(Exception):
    """Ends the checks of one record."""

    def __init__(self, reason: Reason, detail: str, device_id: str | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.device_id = reason, detail, device_id


@dataclass(slots=True)
class _Opened:
    source: RawRecord
    envelope: SignedEnvelope
    event: Event
    keys: list[bytes]


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
        self._name = kind.value  # an enumeration takes its time to say it
        # Hashing a key in Python costs as much as decoding its event, and devices recur.
        self._place = lru_cache(maxsize=65_536)(lambda key: partition_of(key, partitions))
        self._prefix = pae_prefix(kind, audience)

    def process(self, batch: Batch, registry: Registry) -> list[Verdict]:
        """Judge each record with the registry as it stands; the list is parallel to the batch."""
        offset = registry.offset
        opened: list[_Opened | Rejection] = []
        for record in batch:
            try:
                opened.append(self._open(record, registry))
            except _RejectError as cause:
                opened.append(Rejection(record, cause.reason, cause.detail, offset, cause.device_id))
        valid = self._verify_all([o for o in opened if isinstance(o, _Opened)])
        return [o if isinstance(o, Rejection) else self._conclude(o, valid, offset) for o in opened]

    def _open(self, record: RawRecord, registry: Registry) -> _Opened:
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
        if name != self._name:
            detail = f"a payload of kind {name} on the topic of {self._name}"
            raise _RejectError(Reason.WRONG_KIND, detail)
        event = self._decode(envelope.payload)
        device = event.device_id
        if record.key != device.encode():
            raise _RejectError(Reason.WRONG_PARTITION, "the key is not the device id", device)
        expected = self._place(record.key)
        if record.partition != expected:
            detail = f"partition {record.partition}, the key belongs to {expected}"
            raise _RejectError(Reason.WRONG_PARTITION, detail, device)
        keys = [
            _resolve(registry, device, signature, first=index == 0).public_key
            for index, signature in enumerate(envelope.signatures)
        ]
        return _Opened(record, envelope, event, keys)

    def _decode(self, payload: bytes) -> Event:
        try:
            return decode_event(self._kind, payload)
        except CodecError as error:
            raise _RejectError(Reason.MALFORMED, str(error)) from error
        except FormatError as error:
            raise _RejectError(Reason.INVALID_VALUE, str(error)) from error

    def _verify_all(self, opened: list[_Opened]) -> dict[int, str]:
        """Verify every signature in one call; return the offsets that failed, with the key at fault."""
        keys, messages, signatures, whose = [], [], [], []
        for item in opened:
            message = pae(self._prefix, item.envelope.payload)
            for key, signature in zip(item.keys, item.envelope.signatures, strict=True):
                keys.append(key)
                messages.append(message)
                signatures.append(signature.signature)
                whose.append((item.source.offset, signature.key_id))
        verdicts = self._verify(keys, messages, signatures)
        return {offset: key_id for (offset, key_id), good in zip(whose, verdicts, strict=True) if not good}

    def _conclude(self, item: _Opened, failed: dict[int, str], offset: int) -> Verdict:
        source, event = item.source, item.event
        key_id = failed.get(source.offset)
        if key_id is not None:
            detail = f"the signature by key {key_id!r} does not verify"
            return Rejection(source, Reason.BAD_SIGNATURE, detail, offset, event.device_id)
        ahead = event.time_us - source.append_us
        if ahead > self._limits.max_ahead_us or -ahead > self._limits.max_behind_us:
            side = "ahead of" if ahead > 0 else "behind"
            detail = f"the device's time is {abs(ahead) // 1_000_000} s {side} the broker's"
            return Rejection(source, Reason.IMPLAUSIBLE_TIME, detail, offset, event.device_id)
        digest = blake3(item.envelope.payload).digest()
        return VerifiedEvent(event, digest, source, offset, item.envelope.signatures)


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

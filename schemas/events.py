"""The three device events and the rules that any decoder must hold them to.

Telemetry, access and lifecycle share a header: who (a DID), boot, sequence, and the device's own time.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.codec import CODEC
from schemas.envelope import PayloadKind
from schemas.errors import EnvelopeError
from schemas.shortcut import read_telemetry

MAX_READINGS = 256
MAX_TEXT = 512
MAX_SEQUENCE = 2**62
MAX_CODE = 2**31 - 1
EVENT_KINDS = (PayloadKind.TELEMETRY, PayloadKind.ACCESS, PayloadKind.LIFECYCLE)

_TELEMETRY = PayloadKind.TELEMETRY  # a member of an enumeration takes its time to be looked up
_TEXT_FIELDS = {
    PayloadKind.ACCESS: ("subject", "action", "resource", "purpose", "session"),
    PayloadKind.LIFECYCLE: ("firmware", "pseudonym"),
}


# Not frozen, though nobody writes to it: to make a frozen one takes four times as long, for each record.
@dataclass(slots=True)
class Event:
    """One decoded event: the header's fields, and `body`, the whole record as the codec read it.

    Of telemetry `body["codes"]` is a tuple, which events may share, and `body["values"]` an array of doubles.
    """

    kind: PayloadKind
    device_id: str
    boot: int
    sequence: int
    time_us: int
    body: Mapping[str, Any]


def encode_event(kind: PayloadKind, record: Mapping[str, Any]) -> bytes:
    """Write an event's payload: the bytes that its device signs."""
    return CODEC.encode(kind.value, record)


def decode_event(kind: PayloadKind, payload: bytes) -> Event:
    """Read an event of `kind` and check its fields.

    Raises CodecError (or UnknownSchemaError) for bytes that are no such record and EnvelopeError for
    a field that breaks a rule.
    """
    if kind is _TELEMETRY:
        return _telemetry(payload)
    body = CODEC.decode(kind.value, payload)
    event = Event(kind, body["device_id"], body["boot"], body["sequence"], body["time"], body)
    check_header(event)
    for name in _TEXT_FIELDS[kind]:
        if body[name] is not None and len(body[name]) > MAX_TEXT:
            message = f"{name} has {len(body[name])} characters, allowed are {MAX_TEXT}"
            raise EnvelopeError(message)
    return event


def common_of(  # noqa: PLR0917 - the fields of the record, in its order
    device_id: str, boot: int, sequence: int, time_us: int, codes: tuple[int, ...], values: "array[float]"
) -> Event:
    """Return a telemetry event of fields that break no rule."""
    body = {
        "device_id": device_id, "boot": boot, "sequence": sequence, "time": time_us,
        "codes": codes, "values": values,
    }  # fmt: skip
    return Event(_TELEMETRY, device_id, boot, sequence, time_us, body)


def _telemetry(payload: bytes) -> Event:
    common = read_telemetry(payload)
    if common is not None:
        return common_of(*common)
    body = CODEC.decode("telemetry", payload)
    body["codes"], body["values"] = tuple(body["codes"]), array("d", body["values"])
    event = Event(_TELEMETRY, body["device_id"], body["boot"], body["sequence"], body["time"], body)
    check_header(event)
    check_readings(body["codes"], body["values"])
    return event


def check_header(event: Event) -> None:
    """Raise EnvelopeError for a header that breaks a rule."""
    if not event.device_id.startswith("did:") or len(event.device_id) > MAX_TEXT:
        message = f"device_id {event.device_id[:64]!r} is not a DID of at most {MAX_TEXT} characters"
        raise EnvelopeError(message)
    if not (1 <= event.boot <= MAX_SEQUENCE and 1 <= event.sequence <= MAX_SEQUENCE):
        message = f"boot {event.boot} and sequence {event.sequence} must lie in 1 to 2^62"
        raise EnvelopeError(message)


def check_readings(codes: Sequence[int], values: Sequence[float]) -> None:
    """Raise EnvelopeError for readings that break a rule."""
    if len(codes) != len(values):
        message = f"{len(codes)} codes but {len(values)} values"
        raise EnvelopeError(message)
    if len(codes) > MAX_READINGS:
        message = f"{len(codes)} readings, allowed are {MAX_READINGS}"
        raise EnvelopeError(message)
    # Avro's int has 32 bits, but not every decoder minds.
    if codes and not (min(codes) >= 0 and max(codes) <= MAX_CODE):
        message = f"a code is not between 0 and {MAX_CODE}"
        raise EnvelopeError(message)
    # One pass in C for the common case: a sum is finite iff no part is NaN or infinite (or it overflows).
    if not math.isfinite(sum(values)):
        for code, value in zip(codes, values, strict=True):
            if not math.isfinite(value):
                message = f"reading of code {code} is {value}: a missing reading is left out, not sent so"
                raise EnvelopeError(message)

"""What `attestream tail` shows of a record: severity, what happened, who and where, in one line.

Text in records may come from an attacker. Control characters are replaced before anything is printed, so
that no record writes to the terminal.
"""

import json
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.topics import ALERTS, ANCHORS, CHECKPOINTS, EVENTS, FINDINGS, INTEGRITY, REGISTRY, REJECTED
from processors.alert_rules import REJECTION_RULES
from processors.model import RawRecord
from processors.notices import read_rejection
from processors.ocsf import Activity, reading
from schemas.checkpoint import parse_checkpoint
from schemas.codec import CODEC
from schemas.envelope import PayloadKind, decode_envelope
from schemas.errors import FormatError
from schemas.events import EVENT_KINDS, decode_event
from schemas.note import parse_note
from schemas.records import Severity, decode_finding

TOPIC_OF = {
    "alerts": ALERTS,
    "findings": FINDINGS,
    "integrity": INTEGRITY,
    "rejected": REJECTED,
    "events": EVENTS,
    "anchors": ANCHORS,
    "checkpoints": CHECKPOINTS,
    "registry": REGISTRY,
}
UNREADABLE = "unreadable"
_NORMAL = Severity.INFORMATIONAL.value.lower()
_MAX_SHOWN = 240
_VERBS = {Activity.UPDATE: "again: ", Activity.CLOSE: "over: "}
# Whatever reading a stranger's bytes can raise; a JSON of a thousand brackets exceeds the stack.
_UNREADABLE_BECAUSE = (FormatError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Line:
    """One record, readable: its severity (or `unreadable`), what it says, and whom it concerns."""

    severity: str
    what: str
    who: str = ""


def line_of(record: RawRecord) -> Line:
    """Read a record of one of our topics; one that cannot be read says so and why."""
    try:
        line = _RENDERERS[record.topic](record)
    except _UNREADABLE_BECAUSE as error:
        line = Line(UNREADABLE, f"cannot be read: {error}")
    return Line(line.severity, printable(line.what), printable(line.who))


def document_of(record: RawRecord) -> dict[str, Any]:
    """Return a record as one JSON document: place, time, key, headers, and its content where readable."""
    try:
        content = _jsonable(_CONTENTS[record.topic](record))
    except _UNREADABLE_BECAUSE as error:
        content = {"unreadable": str(error), "value": (record.value or b"").hex()}
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time_ms": record.append_ms,
        "key": _jsonable(record.key),
        "headers": [[name, _jsonable(value)] for name, value in record.headers],
        "value": content,
    }


def printable(text: str) -> str:
    """Replace what a terminal might obey, and cut what nobody reads in one line."""
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: _MAX_SHOWN + 1])
    return safe if len(safe) <= _MAX_SHOWN else safe[:_MAX_SHOWN] + "…"


# ---- one function a topic ----------------------------------------------------------------------------------


def _alert(record: RawRecord) -> Line:
    found = json.loads(record.value or b"")
    activity = reading.activity(found)
    verb = _VERBS.get(activity, "") if activity else ""
    attacks = reading.techniques(found)
    what = f"{verb}{found['message']}"
    if found.get("count", 1) > 1:
        what += f" ({found['count']} records)"
    if attacks:
        what += f" [{', '.join(attacks)}]"
    who = [each for each in (reading.text(found, "device", "uid"), reading.user(found)) if each]
    return Line(str(found["severity"]).lower(), what, ", ".join(who))


def _finding(record: RawRecord) -> Line:
    found = decode_finding(record.value or b"")
    severity = _NORMAL if found["status"] == "CLEARED" else found["severity"].lower()
    who = found["device_id"] + (f", {found['subject']}" if found["subject"] else "")
    return Line(severity, f"{found['rule']} {found['status'].lower()}: {found['explanation']}", who)


def _rejected(record: RawRecord) -> Line:
    notice = read_rejection(record)
    detail = dict(record.headers).get("__streams.errors.message") or b""
    rule = REJECTION_RULES.get(notice.reason)
    severity = rule.severity.value.lower() if rule else _NORMAL
    place = notice.evidence[0]
    what = f"{notice.reason.value}: {detail.decode('utf-8', 'replace')}"
    return Line(
        severity, f"{what} ({place.topic}/{place.partition}/{place.offset})", notice.device_id or "no device"
    )


def _event(record: RawRecord) -> Line:
    event = decode_event(*_payload(record))
    number = f"boot {event.boot} number {event.sequence}"
    if event.kind is PayloadKind.TELEMETRY:
        return Line(_NORMAL, f"telemetry {number}: {len(event.body['codes'])} readings", event.device_id)
    if event.kind is PayloadKind.ACCESS:
        body = event.body
        what = f"access {number}: {body['subject']} {body['action']} {body['resource']}"
        return Line(_NORMAL, f"{what}: {body['outcome']}", event.device_id)
    return Line(_NORMAL, f"{event.kind.value} {number}", event.device_id)


def _anchor(record: RawRecord) -> Line:
    found = CODEC.decode("anchor", record.value or b"")
    what = f"{found['status'].lower()}: tree of {found['tree_size']} leaves, root {found['root'].hex()[:16]}"
    if found["sequence"] is not None:
        what += f", message {found['sequence']}"
    return Line(_NORMAL, what, f"{found['ledger']} topic {found['ledger_topic']}")


def _checkpoint(record: RawRecord) -> Line:
    note = parse_note(record.value or b"")
    try:
        tree = parse_checkpoint(note.text)
    except FormatError:
        return Line(_NORMAL, note.text.replace("\n", " "), ", ".join(s.name for s in note.signatures))
    what = f"{tree.size} leaves, root {tree.root.hex()[:16]}"
    return Line(_NORMAL, what, tree.origin)


def _registry(record: RawRecord) -> Line:
    envelope = decode_envelope(record.value or b"")
    entry = CODEC.decode("registry_entry", envelope.payload)
    key = entry["key"]["key_id"] if entry["key"] else entry["revoked_key_id"] or ""
    signers = ", ".join(each.key_id for each in envelope.signatures)
    what = f"{entry['action'].lower()} version {entry['version']} {key}".rstrip()
    return Line(_NORMAL, f"{what}, signed by {signers}", entry["subject"])


def _payload(record: RawRecord) -> tuple[PayloadKind, bytes]:
    payload = decode_envelope(record.value or b"").payload
    kind = PayloadKind(CODEC.name_of(payload))
    if kind not in EVENT_KINDS:
        message = f"a {kind.value} is no event"
        raise ValueError(message)
    return kind, payload


_RENDERERS: dict[str, Callable[[RawRecord], Line]] = {
    ALERTS: _alert,
    FINDINGS: _finding,
    INTEGRITY: _finding,
    REJECTED: _rejected,
    EVENTS: _event,
    ANCHORS: _anchor,
    CHECKPOINTS: _checkpoint,
    REGISTRY: _registry,
}


# ---- contents for --json -----------------------------------------------------------------------------------


_CONTENTS: dict[str, Callable[[RawRecord], Any]] = {
    ALERTS: lambda record: json.loads(record.value or b""),
    FINDINGS: lambda record: decode_finding(record.value or b""),
    INTEGRITY: lambda record: decode_finding(record.value or b""),
    REJECTED: lambda record: record.value,
    EVENTS: lambda record: decode_event(*_payload(record)).body,
    ANCHORS: lambda record: CODEC.decode("anchor", record.value or b""),
    CHECKPOINTS: lambda record: (record.value or b"").decode("utf-8"),
    REGISTRY: lambda record: CODEC.decode("registry_entry", decode_envelope(record.value or b"").payload),
}


def _jsonable(value: Any) -> Any:
    """Bytes become text where they are printable ASCII, else hex with a prefix that says so."""
    if isinstance(value, bytes):
        text = value.decode("ascii", "replace")
        return text if text.isprintable() and value.isascii() else f"hex:{value.hex()}"
    if isinstance(value, dict):
        return {str(name): _jsonable(each) for name, each in value.items()}
    if isinstance(value, list | tuple | array):
        return [_jsonable(each) for each in value]
    return value

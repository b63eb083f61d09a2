"""What a record of `alerts` says that it tells of, and which records are worth telling; by nothing of ours.

`unmapped.covers` is an object from `<topic>/<partition>` to offsets and ranges in rising order, `12-40,44`.
"""

import json
from dataclasses import dataclass
from typing import Any

from tests.faults.machine.oracle.formats import Place, Record, UntrueError, decode_as, place_of, spell

BY_DEVICE, SINGLE = ("device.findings", "device.rejected"), ("integrity.findings",)
SOURCES = (*BY_DEVICE, *SINGLE)
"""Topics of records that are worth an alert; by device, and of one partition."""
REJECTED = "device.rejected"
TOLD_REASONS = frozenset(
    {
        "oversized", "malformed", "unknown_schema", "wrong_kind", "invalid_value", "wrong_partition",
        "unknown_device", "unknown_key", "revoked_key", "decommissioned", "bad_signature",
        "implausible_time", "replay", "stale",
    }
)  # fmt: skip
"""Reasons that are alerts. `equivocation` is told as a finding; `empty` and `late` are everyday life."""
MAX_RANGE = 1_000_000


@dataclass(frozen=True, slots=True)
class Message:
    """A record of `alerts`, read."""

    record: Record
    uid: str
    document: dict[str, Any]
    places: tuple[Place, ...]
    """Of source topics. Empty for a message that tells of none, such as one that time alone has made."""


def read_message(record: Record) -> Message:
    """Read a record of `alerts`; raises UntrueError."""
    where = spell(record.place)
    try:
        document = json.loads(record.value or b"")
        uid, covers = document["metadata"]["uid"], document.get("unmapped", {}).get("covers")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UntrueError(f"{where} is no alert: {error!r}") from error
    ce_id = record.header("ce_id").decode(errors="replace")
    if ce_id != uid:
        raise UntrueError(f"{where} has the uid {uid!a} and the ce_id {ce_id!a}")
    try:
        told = () if covers is None else places_of(covers)
    except UntrueError as error:
        raise UntrueError(f"{where}: {error}") from error
    places = tuple(place for place in told if place[0] in SOURCES)
    if places and document.get("count") != len(places):
        raise UntrueError(f"{where} counts {document.get('count')} and covers {len(places)}")
    return Message(record, uid, document, places)


def places_of(covers: object) -> tuple[Place, ...]:
    """Read `unmapped.covers`; raises UntrueError."""
    if not isinstance(covers, dict) or not covers:
        raise UntrueError(f"covers is {covers!a}")
    found: list[Place] = []
    for partition, text in covers.items():
        last = -1
        for part in str(text).split(","):
            first, dash, end = part.partition("-")
            topic, number, low = place_of(f"{partition}/{first}")
            if dash and not (end.isascii() and end.isdecimal()):
                raise UntrueError(f"{part!a} is no range of offsets")
            high = int(end) if dash else low
            if not last < low <= high <= low + MAX_RANGE:
                raise UntrueError(f"{text!a} is not offsets in rising order")
            found += [(topic, number, offset) for offset in range(low, high + 1)]
            last = high
    return tuple(found)


def is_worth_an_alert(record: Record) -> bool:
    """Tell whether a record of a source topic must be told of; one that nobody can read must not."""
    try:
        if record.topic != REJECTED:
            decode_as("finding", record.value)
            return True
        place_of(record.header("source").decode(errors="replace"))
        return record.header("reason").decode(errors="replace") in TOLD_REASONS
    except UntrueError:
        return False

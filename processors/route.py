"""ROUTE: which party is told of which alert, each once and under a gapless number of the party's own.

An alert's id here is that of its message (`ce_id`): a finding's Create, Update and Close are three messages
of one cause, and all are told. The last `REMEMBERED` ids are kept, far more than the correlator
can hold without having acknowledged them, so whatever it publishes again after a crash is known again.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from processors.model import RawRecord
from processors.ocsf import reading
from schemas.errors import FormatError
from schemas.parties import Parties, Party
from schemas.records import Severity
from schemas.strictjson import load_object

REMEMBERED = 65_536
"""Ids in memory and in the changelog, whose records are overwritten in turn: about 64 bytes each."""
_ID_BYTES = 16
_MAX_SHOWN = 512
_SEVERITIES = {1: Severity.INFORMATIONAL, 2: Severity.LOW, 3: Severity.MEDIUM, 4: Severity.HIGH}

DeviceAttributes = Callable[[str], Mapping[str, str]]
"""From a device's DID to what the registry says of it; empty for an unknown one."""


class AlertError(FormatError):
    """A record of `alerts` cannot be read: written by a newer build, or by somebody else."""


class StateError(FormatError):
    """A record of the changelog cannot be read."""


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """What routing asks of an alert."""

    uid: str
    """Of the message: CloudEvents' id, and OCSF's `metadata.uid`."""
    severity: Severity
    class_uid: int
    rule: str
    devices: tuple[str, ...]
    """Of an incident, those that the message names."""
    ward: str
    """As the alert itself says; empty where only its device is known."""
    is_suppressed: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """One alert for one party."""

    party: str
    sequence: int
    source: RawRecord


@dataclass(slots=True)
class Routed:
    """What a batch came to: told, in the order of the batch, and the rest, so that nothing goes unseen."""

    told: list[Told] = field(default_factory=list)
    repeats: int = 0
    nobodys: int = 0
    """Alerts that no party's filter fits."""
    suppressed: int = 0
    """Held back by a silence or by another alert: nobody is told."""
    unreadable: list[tuple[RawRecord, str]] = field(default_factory=list)


class RouteState:
    """Sequences of the parties, remembered ids, and the parties file in force; valid between commits.

    Changelog records: `p/<party>` the party's last sequence; `i/<slot>` the ordinal and digest of an id, in
    slots that are overwritten in turn; `v` version and digest of the parties file.
    """

    def __init__(self, items: Iterable[tuple[bytes, bytes]] = (), *, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._sequences: dict[str, int] = {}
        self._slots: dict[int, bytes] = {}
        self._seen: set[bytes] = set()
        self._next_ordinal = 0
        self.version, self.digest = 0, b""
        self._changes: dict[bytes, bytes] = {}
        newest = -1
        for key, value in items:
            newest = max(newest, self._load(key, value))
        self._next_ordinal = newest + 1
        self._seen = set(self._slots.values())

    def _load(self, key: bytes, value: bytes) -> int:
        """Take one record; return the ordinal of an id, or -1."""
        try:
            kind, _, name = key.decode("ascii").partition("/")
            if kind == "i":
                self._slots[int(name)] = value[8:]
                return int.from_bytes(value[:8], "big")
            if kind == "p":
                self._sequences[name] = int(value)
            elif kind == "v":
                found = json.loads(value)
                self.version, self.digest = int(found["version"]), bytes.fromhex(found["digest"])
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"record {key!r} of the route's changelog cannot be read: {error}") from error
        return -1

    def sequence_of(self, party: str) -> int:
        """Return the last number that was given to a party; 0 before the first."""
        return self._sequences.get(party, 0)

    def is_repeat(self, uid: str) -> bool:
        """Remember an id; tell whether it was known."""
        digest = blake3(uid.encode("utf-8", "replace")).digest(_ID_BYTES)
        if digest in self._seen:
            return True
        slot = self._next_ordinal % self._remembered
        forgotten = self._slots.get(slot)
        if forgotten is not None:
            self._seen.discard(forgotten)
        self._slots[slot] = digest
        self._seen.add(digest)
        self._changes[b"i/%d" % slot] = self._next_ordinal.to_bytes(8, "big") + digest
        self._next_ordinal += 1
        return False

    def next_sequence(self, party: str) -> int:
        """Give a party its next number."""
        number = self._sequences[party] = self.sequence_of(party) + 1
        self._changes[f"p/{party}".encode()] = b"%d" % number
        return number

    def enforce(self, parties: Parties) -> None:
        """Note the parties file by which the next batches are routed."""
        if (parties.version, parties.digest) != (self.version, self.digest):
            self.version, self.digest = parties.version, parties.digest
            told = {"version": self.version, "digest": self.digest.hex()}
            self._changes[b"v"] = json.dumps(told).encode()

    def changes(self) -> list[tuple[bytes, bytes]]:
        """Return what the next commit must carry into the changelog."""
        return list(self._changes.items())

    def committed(self) -> None:
        """Forget what was carried."""
        self._changes.clear()


class Router:
    """Routes alerts by one parties file; deterministic in its arguments."""

    def __init__(self, parties: Parties, attributes_of: DeviceAttributes) -> None:
        self._parties: tuple[Party, ...] = parties.parties
        self._attributes_of = attributes_of

    def process(self, batch: Iterable[RawRecord], state: RouteState) -> Routed:
        """Route records of `alerts` in offset order; `state` moves along."""
        routed = Routed()
        for record in batch:
            try:
                facts = read_alert(record)
            except FormatError as error:
                routed.unreadable.append((record, str(error)))
                continue
            if state.is_repeat(facts.uid):
                routed.repeats += 1
                continue
            if facts.is_suppressed:
                routed.suppressed += 1
                continue
            names = self._told(facts)
            routed.nobodys += not names
            routed.told += [Told(name, state.next_sequence(name), record) for name in names]
        return routed

    def _told(self, facts: AlertFacts) -> list[str]:
        known = [self._attributes_of(device_id) for device_id in facts.devices] or [{}]
        places = {(facts.ward or each.get("ward", ""), each.get("manufacturer", "")) for each in known}
        return [
            party.name
            for party in self._parties
            if any(
                party.filter.fits(facts.severity, facts.class_uid, ward, maker, facts.rule)
                for ward, maker in places
            )
        ]


def read_alert(record: RawRecord) -> AlertFacts:
    """Read a record of `alerts`; raises AlertError."""
    place = f"{record.topic}/{record.partition}/{record.offset}"
    try:
        found = load_object(record.value or b"")
        uid = dict(record.headers).get("ce_id") or found["metadata"]["uid"].encode()
        facts = AlertFacts(
            uid=uid.decode("utf-8", "replace"),
            # OCSF has fatal (6) above critical; what is unknown (0) or other (99) is never held back.
            severity=_SEVERITIES.get(int(found["severity_id"]), Severity.CRITICAL),
            class_uid=int(found["class_uid"]),
            rule=reading.rule(found)[:_MAX_SHOWN],
            devices=_devices(found),
            ward=reading.text(found, "unmapped", "ward")[:_MAX_SHOWN],
            is_suppressed=bool(reading.text(found, "unmapped", "suppressed_by")),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AlertError(f"{place} is no alert of ours: {error!r}"[:_MAX_SHOWN]) from error
    if not facts.uid:
        raise AlertError(f"{place} has no id")
    return facts


def _devices(found: Mapping[str, Any]) -> tuple[str, ...]:
    named = found.get("resources")
    listed = [reading.text(each, "uid") for each in named] if isinstance(named, list) else []
    own = reading.text(found, "device", "uid")
    return tuple(each[:_MAX_SHOWN] for each in dict.fromkeys([own, *listed]) if each)

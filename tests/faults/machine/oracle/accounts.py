"""The accounts: each record sent has exactly one verdict, the right one, and nobody touched its bytes.

Invariants 1 to 3 of docs/architecture.md. Of a record that is settled one byte is remembered; of an accepted
event its number; values only of the newest accepted event of each device and kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from blake3 import blake3

from tests.faults.machine.ledger import ACCEPTED, Sent
from tests.faults.machine.oracle.findings import Cause, Evidence, Findings
from tests.faults.machine.oracle.formats import (
    Partition,
    Place,
    Record,
    UntrueError,
    decode,
    decode_as,
    part,
    partition_of,
    place_of,
    spell,
)
from tests.faults.machine.oracle.found import Found

EVENTS, REJECTED = "device.events", "device.rejected"
KIND_OF = {
    "device.telemetry.raw": "telemetry",
    "device.access.raw": "access",
    "device.lifecycle.raw": "lifecycle",
}
KEPT_VALUE, KEPT_HEAD, KEPT_KEY = 256 * 1024, 4096, 256
"""Of what a dead letter keeps of large values and keys: docs/formats.md, section 7."""
_SIZES = ("value.length", "value.blake3", "key.length", "key.blake3")
_REASON = "reason"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted event: its number, where it was sent, and its bytes."""

    boot: int
    sequence: int
    source: Place
    value: bytes


@dataclass(frozen=True, slots=True)
class _Right:
    """What must come of a record: the verdict, and a digest of what its output holds."""

    verdict: str
    output: bytes
    number: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Told:
    """What came of a record."""

    verdict: str
    output: bytes
    number: tuple[int, int]
    place: Place


class Accounts:
    """Takes what was sent and what came of it, in any order of the two."""

    def __init__(self, found: Found, findings: Findings, partitions: int) -> None:
        self._found, self._findings, self._partitions = found, findings, partitions
        self._sent: dict[Place, _Right] = {}
        self._told: dict[Place, _Told] = {}
        self._settled: dict[Partition, bytearray] = {}
        self._rows: dict[tuple[str, str], _Row] = {}
        self.outputs = 0

    def latest(self, device: str, kind: str) -> Accepted | None:
        """The newest accepted event of a device and kind."""
        row = self._rows.get((device, kind))
        return None if row is None else row.latest

    # ---- what was sent ---------------------------------------------------------------------------------

    def sent(self, each: Sent) -> None:
        """Book a record that the broker acknowledged; again does no harm."""
        source = (each.topic, each.partition, each.offset)
        if source in self._sent or self._is_settled(source):
            return
        key, value, sizes = each.key, each.value, []
        if each.verdict != ACCEPTED:
            if value is not None and len(value) > KEPT_VALUE:
                sizes += [("value.length", b"%d" % len(value)), ("value.blake3", blake3(value).digest())]
                value = value[:KEPT_HEAD]
            if key is not None and len(key) > KEPT_KEY:
                sizes += [("key.length", b"%d" % len(key)), ("key.blake3", blake3(key).digest())]
                key = None
        number = (each.boot, each.sequence) if each.verdict == ACCEPTED else (0, 0)
        right = _Right(each.verdict, _mark(key, value, sizes), number)
        told = self._told.pop(source, None)
        if told is None:
            self._sent[source] = right
        else:
            self._settle(source, right, told)

    def unjudged(self) -> Sequence[Place]:
        """What was sent and has no verdict yet."""
        return list(self._sent)

    def skipped(self) -> Sequence[Place]:
        """What has no verdict while a later record of its partition has one: judged is in order."""
        return [place for place in self._sent if place[2] < len(self._settled.get(place[:2], b""))]

    @property
    def orphans(self) -> int:
        """Verdicts on records that were not booked as sent."""
        return len(self._told)

    def complain(self) -> None:
        """Nothing more will come: what is open now is a fault."""
        for source, right in self._sent.items():
            self._found.add("accounting", f"{spell(source)} has no verdict, {right.verdict} is right")
        for source, told in self._told.items():
            what = f"{spell(told.place)} judges {spell(source)}, which nobody sent"
            self._found.add("accounting", what)

    # ---- what came of it -------------------------------------------------------------------------------

    def output(self, record: Record) -> None:
        """Take a record of `device.events` or `device.rejected`."""
        self.outputs += 1
        try:
            source = place_of(record.header("source").decode(errors="replace"))
            verdict = self._verdict(record, source)
        except UntrueError as error:
            self._found.add("accounting", f"{spell(record.place)}: {error}")
            return
        if source[1] != record.partition:
            self._found.add("accounting", f"{spell(record.place)} is of {spell(source)}: another partition")
        number = (0, 0)
        if verdict == ACCEPTED:
            number = self._accepted(record, source)
        elif verdict == "equivocation":
            self._equivocation(record, source)
        sizes = [(name, value) for name, value in record.headers if name in _SIZES]
        told = _Told(verdict, _mark(record.key, record.value, sizes), number, record.place)
        before = self._told.get(source)
        if before is not None or self._is_settled(source):
            at = "before" if before is None else f"at {spell(before.place)}"
            what = f"{spell(source)} is judged {verdict} at {spell(record.place)}, and {at}"
            self._found.add("accounting", what)
            return
        right = self._sent.pop(source, None)
        if right is None:
            self._told[source] = told
        else:
            self._settle(source, right, told)

    def _verdict(self, record: Record, source: Place) -> str:
        if not record.header("registry.offset").isdigit():
            raise UntrueError("registry.offset is no number")
        if record.topic == EVENTS:
            return ACCEPTED
        said = [record.header(f"__streams.errors.{name}") for name in ("topic", "partition", "offset")]
        if b"/".join(said).decode(errors="replace") != spell(source):
            raise UntrueError("source and __streams.errors.* name different records")
        if len(record.header("salt")) != 16:
            raise UntrueError("salt has not 16 bytes")
        reason = record.header(_REASON)
        if record.header("__streams.errors.exception") != reason:
            raise UntrueError("two reasons")
        return reason.decode(errors="replace")

    def _settle(self, source: Place, right: _Right, told: _Told) -> None:
        row = self._settled.setdefault(source[:2], bytearray())
        row.extend(bytes(max(0, source[2] + 1 - len(row))))
        row[source[2]] = 1
        where = f"{spell(source)} at {spell(told.place)}"
        if told.verdict != right.verdict:
            self._found.add("verdict", f"{where}: {told.verdict}, right is {right.verdict}")
        elif told.output != right.output:
            self._found.add("untouched", f"{where}: key or value are not what was sent")
        elif right.number[0] and told.number != right.number:
            self._found.add("verdict", f"{where}: number {told.number}, sent was {right.number}")

    def _is_settled(self, source: Place) -> bool:
        row = self._settled.get(source[:2], b"")
        return source[2] < len(row) and bool(row[source[2]])

    # ---- accepted events -------------------------------------------------------------------------------

    def _accepted(self, record: Record, source: Place) -> tuple[int, int]:
        """Book an accepted event: once, in order, in its place; returns its boot and sequence."""
        where = f"{spell(record.place)} from {spell(source)}"
        try:
            payload = decode_as("signed_envelope", record.value)["payload"]
            kind, event = decode(payload)
        except UntrueError as error:
            self._found.add("verdict", f"{where} was accepted: {error}")
            return 0, 0
        device, number = str(event.get("device_id")), (event.get("boot", 0), event.get("sequence", 0))
        if KIND_OF.get(source[0]) != kind:
            self._found.add("verdict", f"{where} was accepted: a {kind}")
        if record.key != device.encode() or self._partition_of(device) != record.partition:
            self._found.add("place", f"{where}: key or partition are not those of {device}")
        row = self._rows.setdefault((device, kind), _Row())
        if number in row.numbers:
            self._found.add("replay", f"{where}: {kind} {number} of {device} was accepted before")
        else:
            if source[2] <= row.last_offset:
                what = f"{where}: {kind} of {device} after the one from offset {row.last_offset}"
                self._found.add("order", what)
            expected = row.number[1] + 1 if number[0] == row.number[0] else 1
            if number < row.number:
                self._found.add("order", f"{where}: {kind} {number} of {device} after {row.number}")
            elif number[1] != expected:
                parameters = {
                    "boot": str(number[0]), "expected": str(expected), "received": str(number[1]),
                }  # fmt: skip
                digest = blake3(payload).digest()
                self._findings.owe("sequence_gap", Cause(device, ((source, digest),), parameters))
        row.numbers.setdefault(number, source[2])
        row.number, row.last_offset = max(number, row.number), max(source[2], row.last_offset)
        row.latest = Accepted(*number, source, record.value or b"")
        if kind == "telemetry":
            self._findings.silence.heard(device, source)
        return number

    def _equivocation(self, record: Record, source: Place) -> None:
        try:
            payload = decode_as("signed_envelope", record.value)["payload"]
            kind, event = decode(payload)
        except UntrueError as error:
            self._found.add("verdict", f"{spell(record.place)} is no equivocation: {error}")
            return
        number, device = (event["boot"], event["sequence"]), event["device_id"]
        row = self._rows.get((device, kind))
        parameters = {"boot": str(number[0]), "sequence": str(number[1])}
        evidence: Evidence = ((source, blake3(payload).digest()),)
        first = None if row is None else row.numbers.get(number)
        if first is not None:  # else the topic of accepted events was not read so far yet
            evidence += (((*source[:2], first), None),)
        self._findings.owe("equivocation", Cause(device, evidence, parameters))

    def _partition_of(self, device: str) -> int:
        return partition_of(device.encode(), self._partitions)


class _Row:
    """What was accepted of one device and kind."""

    __slots__ = ("last_offset", "latest", "number", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[tuple[int, int], int] = {}
        """Boot and sequence, and the offset from which it was accepted."""
        self.number = (0, 0)
        self.last_offset = -1
        self.latest: Accepted | None = None


def _mark(key: bytes | None, value: bytes | None, sizes: Sequence[tuple[str, bytes | None]]) -> bytes:
    """A digest of what of a record its output must hold."""
    more = b"".join(part(name.encode()) + part(data) for name, data in sizes)
    return blake3(part(key) + part(value) + more).digest(length=16)

"""A simulated fleet: bedside monitors that replay one real patient record, each from its own place in it.

Deterministic: the same seed, size and times give the same bytes. Time is an argument, in microseconds
since 1970 by the devices' clocks; nothing here reads a clock, a file or a network. Monitors also report
log-ins and turns of their life (boot, patient associated, calibration), as real ones do.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from blake3 import blake3

from loadtests.vitals import Row, rows
from schemas.did import encode_did_key
from schemas.ed25519 import public_key
from schemas.envelope import PayloadKind
from schemas.mdc import BY_NAME
from schemas.signing import SigningIdentity

KEY_ID = "1"
HR, RESP = BY_NAME["hr"].code, BY_NAME["resp"].code
WARDS = ("icu-1", "icu-2", "icu-3", "step-down")
NURSES = tuple(f"nurse-{number:02d}" for number in range(1, 13))
"""As many for each ward: who logs in at a monitor is always of its ward."""
CLEAN = "clean"
"""Meaning of a record that a healthy device sends."""

# Counted in telemetry events of a device; primes, so that the fleet's turns do not fall together.
LOGIN_EVERY = 47
MISTYPED_EVERY = 7  # of the log-ins: one failure, then the person gets in
CALIBRATION_EVERY = 331

Tamper = Callable[[Row], Row]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to publish: on the topic of `kind`, to `partition` or, when None, the key's own."""

    kind: PayloadKind
    key: bytes
    value: bytes
    device_id: str
    meaning: str = CLEAN
    partition: int | None = None


def device_identity(seed: int, index: int) -> SigningIdentity:
    """Derive the key of device `index` of a fleet; for simulation only, the seed is no secret."""
    material = blake3(b"attestream fleet %d device %d" % (seed, index)).digest()
    return SigningIdentity(encode_did_key(public_key(material)), KEY_ID, material)


def ward_of(index: int) -> str:
    """Where device or nurse `index` is: they are dealt out to the wards in turn."""
    return WARDS[index % len(WARDS)]


def again(row: Row, lap: int, place: int) -> Row:
    """Return a row for another lap: a patient never repeats himself to the tenth, and who does is replayed.

    Heart rate and respiration differ by up to half a unit, so that no six rows in a row are those of any of
    the 76 laps before.
    """
    shifts = {HR: (lap + place) % 7 - 3, RESP: (lap + place) % 11 - 5}
    return replace(
        row,
        values=tuple(
            round(value + shifts.get(code, 0) / 10, 1) if value else value
            for code, value in zip(row.codes, row.values, strict=True)
        ),
    )


class Monitor:
    """One bedside monitor: its identity, counters, and place in the record."""

    def __init__(
        self, identity: SigningIdentity, audience: str, *, place: int = 0, boot: int = 1, ward: str = ""
    ) -> None:
        self.identity, self.boot, self.ward = identity, boot, ward
        self.silenced = False
        """True: it has stopped sending, without a word."""
        self.latest: Outgoing | None = None
        """The last telemetry record that it sent."""
        self._audience, self._place = audience, place
        self._sequences = dict.fromkeys(PayloadKind, 0)
        self._tamper: tuple[str, Tamper] | None = None

    @property
    def device_id(self) -> str:
        """Its DID."""
        return self.identity.did

    @property
    def tampered(self) -> bool:
        """True while something interferes with its readings."""
        return self._tamper is not None

    def sequence(self, kind: PayloadKind) -> int:
        """The last sequence number that it used for events of `kind`; 0 before the first."""
        return self._sequences[kind]

    def skip(self, kind: PayloadKind, count: int) -> None:
        """Use up sequence numbers of `kind` without sending anything under them."""
        self._sequences[kind] += count

    def tamper(self, meaning: str, change: Tamper) -> None:
        """From now on, change every row before it is signed, and label the records with `meaning`."""
        self._tamper = (meaning, change)

    def peek(self) -> Row:
        """The row that the next reading will report."""
        record = rows()
        lap, place = divmod(self._place, len(record))
        return again(record[place], lap, place) if lap else record[place]

    def reading(self, time_us: int) -> Outgoing:
        """Report the next row of the record; after its end it begins anew, `again`."""
        row, meaning = self.peek(), CLEAN
        self._place += 1
        if self._tamper is not None:
            meaning, change = self._tamper
            row = change(row)
        return self.telemetry(time_us, row, meaning)

    def telemetry(self, time_us: int, row: Row, meaning: str = CLEAN) -> Outgoing:
        """Report any row."""
        body = {"codes": list(row.codes), "values": list(row.values)}
        sent = self._event(PayloadKind.TELEMETRY, time_us, body, meaning)
        self.latest = sent
        return sent

    def access(
        self,
        time_us: int,
        *,
        subject: str,
        outcome: str,
        action: str = "login",
        purpose: str = "TREAT",
        session: str = "",
        meaning: str = CLEAN,
    ) -> Outgoing:
        """Report that somebody asked for something; `outcome` is GRANTED, DENIED or FAILED."""
        body = {
            "subject": subject,
            "action": action,
            "resource": "monitor",
            "purpose": purpose,
            "session": session,
            "outcome": outcome,
        }
        return self._event(PayloadKind.ACCESS, time_us, body, meaning)

    def lifecycle(self, time_us: int, turn: str, *, pseudonym: str | None = None) -> Outgoing:
        """Report a turn of its life, such as BOOT or ASSOCIATE."""
        firmware = "4.2.1" if turn in ("BOOT", "FIRMWARE") else None
        body = {"kind": turn, "firmware": firmware, "pseudonym": pseudonym}
        return self._event(PayloadKind.LIFECYCLE, time_us, body, CLEAN)

    def _event(self, kind: PayloadKind, time_us: int, body: dict[str, Any], meaning: str) -> Outgoing:
        self._sequences[kind] += 1
        header = {
            "device_id": self.device_id,
            "boot": self.boot,
            "sequence": self._sequences[kind],
            "time": time_us,
        }
        value = self.identity.seal_event(kind, self._audience, {**header, **body})
        return Outgoing(kind, self.device_id.encode(), value, self.device_id, meaning)


class Fleet:
    """`size` monitors, each sending `rate_hz` readings a second, spread evenly over time and record.

    `nurses` are the subjects of their log-ins, as many as `NURSES`.
    """

    def __init__(
        self,
        size: int,
        *,
        audience: str,
        seed: int,
        start_us: int,
        rate_hz: float = 4.0,
        boot: int = 1,
        nurses: Sequence[str] = NURSES,
    ) -> None:
        self.audience, self.seed, self.size = audience, seed, size
        self._nurses = nurses
        self._period_us, self._start_us = round(1_000_000 / rate_hz), start_us
        length = len(rows())
        self.monitors: Sequence[Monitor] = tuple(
            Monitor(
                device_identity(seed, index),
                audience,
                place=index * length // size,
                boot=boot,
                ward=ward_of(index),
            )
            for index in range(size)
        )
        self._due = [(start_us + index * self._period_us // size, index, 0) for index in range(size)]
        heapq.heapify(self._due)

    def spare(self, index: int, *, boot: int = 1) -> Monitor:
        """A device with a key of its own that is not of the fleet: stolen, never enrolled, or a pump."""
        return Monitor(device_identity(self.seed, self.size + index), self.audience, boot=boot)

    def next_due_us(self) -> int:
        """When the next reading is due."""
        return self._due[0][0]

    def due(self, until_us: int) -> Iterator[Outgoing]:
        """Yield everything due before `until_us`, in order of time; call with rising times."""
        while self._due[0][0] < until_us:
            time_us, index, turn = self._due[0]
            monitor = self.monitors[index]
            if not monitor.silenced:
                yield from _turn(monitor, index, turn, time_us, self._nurses[index % len(self._nurses)])
            heapq.heapreplace(self._due, (time_us + self._period_us, index, turn + 1))


def _turn(monitor: Monitor, index: int, turn: int, time_us: int, nurse: str) -> Iterator[Outgoing]:
    """What monitor `index` sends when its reading number `turn` is due, and the reading itself."""
    if turn == 0:
        yield monitor.lifecycle(time_us, "BOOT")
        yield monitor.lifecycle(time_us, "ASSOCIATE", pseudonym=_pseudonym(monitor, index))
    # The index shifts the turns, so that log-ins come in singly and not in waves.
    logins, since_login = divmod(turn + index, LOGIN_EVERY)
    if since_login == 0:
        if logins % MISTYPED_EVERY == MISTYPED_EVERY - 1:
            yield monitor.access(time_us, subject=nurse, outcome="FAILED")
        yield monitor.access(time_us, subject=nurse, outcome="GRANTED")
    if turn and (turn + index) % CALIBRATION_EVERY == 0:
        yield monitor.lifecycle(time_us, "CALIBRATION")
    yield monitor.reading(time_us)


def _pseudonym(monitor: Monitor, index: int) -> str:
    return "patient-" + blake3(monitor.device_id.encode() + index.to_bytes(4, "big")).hexdigest()[:12]

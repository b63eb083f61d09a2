"""What deliver owes an output: every number of its party at least once, in order, a repeat as it was."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.machine.notify.routed import Stream
from tests.faults.machine.oracle.formats import Record, spell
from tests.faults.machine.oracle.found import Found


@dataclass(frozen=True, slots=True)
class Arrival:
    """One alert as it came to a receiver, whatever that answered."""

    id: str
    sequence: str
    """As it is said beside the body."""
    body: str
    is_taken: bool = True
    """The receiver has it, whether or not its answer arrived."""
    is_refused: bool = False
    """The receiver said that it will never take it."""
    fault: str = ""
    """Why the receiver does not believe it."""


class Output:
    """One receiver's arrivals, held to its party's topic."""

    def __init__(self, name: str, stream: Stream, arrivals: Sequence[Arrival], found: Found) -> None:
        self.name, self._stream, self._arrivals, self._found = name, stream, arrivals, found
        self._where = f"{stream.party}/{name}"
        self._read = 0
        self._new: list[tuple[int, Arrival]] = []
        self._firsts: dict[int, Arrival] = {}
        self._numbers: dict[str, int] = {}
        self._taken: set[int] = set()
        self._refused: set[int] = set()
        self._buried: set[int] = set()
        self._undelivered: list[Record] = []
        self._newest = 0
        self.repeats = 0

    def undelivered(self, record: Record) -> None:
        """Take a record of the party's dead letters, whoever's output it names."""
        if dict(record.headers).get("output") == self.name.encode():
            self._undelivered.append(record)

    def pending(self) -> str:
        """Say what has not arrived; empty for nothing."""
        self._read_on()
        missing = self._missing()
        return f"{len(missing)} alerts for {self._where}, as number {missing[0]}" if missing else ""

    def judge(self) -> None:
        """Say what is wrong with what arrived, and with what did not."""
        self._read_on()
        new, self._new = self._new, []
        for number, arrival in new:
            self._check(number, arrival)
        for record in self._undelivered:
            self._check_undelivered(record)
        self._undelivered = []
        for number in self._missing():
            self._found.add("not_delivered", f"number {number} never came to {self._where}")

    def _missing(self) -> list[int]:
        accounted = self._taken | self._buried | {self._number_of(each) for each in self._undelivered}
        return [number for number in range(1, len(self._stream.records) + 1) if number not in accounted]

    def _read_on(self) -> None:
        upto = len(self._arrivals)
        for arrival in self._arrivals[self._read : upto]:
            number = int(arrival.sequence) if arrival.sequence.isdecimal() else 0
            self._new.append((number, arrival))
            if arrival.is_refused:
                self._refused.add(number)
            if not arrival.is_taken:
                continue
            if number in self._taken:
                self.repeats += 1
            elif number < self._newest:
                self._found.add(
                    "delivery_order", f"{self._where}: {number} came first after {self._newest} had"
                )
            self._taken.add(number)
            self._newest = max(self._newest, number)
        self._read = upto

    def _check(self, number: int, arrival: Arrival) -> None:
        where = f"{self._where} number {arrival.sequence!a}"
        if arrival.fault:
            self._found.add("not_believed", f"{where}: {arrival.fault}")
        if not 1 <= number <= len(self._stream.records):
            self._found.add("delivery_invented", f"{where} is none of 1 to {len(self._stream.records)}")
            return
        first = self._firsts.setdefault(number, arrival)
        if (first.id, first.body) != (arrival.id, arrival.body):
            self._found.add("repeat_differs", f"{where} came again as another")
        if self._numbers.setdefault(arrival.id, number) != number:
            self._found.add("id_shared", f"{where} has the id of number {self._numbers[arrival.id]}")
        record = self._stream.records[number - 1]
        try:
            data = json.loads(arrival.body)["data"]
            place = data["place"]
            said = (
                data["sequence"], data["party"], data["id"], data["ce_id"], data["finding"],
                f"{place['topic']}/{place['partition']}/{place['offset']}",
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            self._found.add("delivered_other", f"{where} is no alert: {error!r}")
            return
        told = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
        meant = (
            number, self._stream.party, arrival.id, told.get("ce_id"), json.loads(record.value or b"null"),
            told.get("source"),
        )  # fmt: skip
        if said != meant:
            self._found.add("delivered_other", f"{where} is not what {spell(record.place)} says")

    def _check_undelivered(self, record: Record) -> None:
        number, where = self._number_of(record), spell(record.place)
        if number not in self._refused:
            self._found.add("buried", f"{where}: {self._where} never refused number {number}")
        if 1 <= number <= len(self._stream.records):
            of = self._stream.records[number - 1]
            kept = tuple(record.headers[: len(of.headers)])
            if (record.key, record.value, kept) != (of.key, of.value, tuple(of.headers)):
                self._found.add("bytes", f"{where} is not byte for byte what {spell(of.place)} is")
            self._buried.add(number)

    @staticmethod
    def _number_of(record: Record) -> int:
        text = dict(record.headers).get("party.sequence") or b""
        return int(text) if text.isdigit() else 0

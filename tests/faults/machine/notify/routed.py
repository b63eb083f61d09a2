"""What route owes a party: all that its filter fits, each once, in order, numbered, byte for byte."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.faults.machine.notify.covers import Message
from tests.faults.machine.oracle.formats import Record, spell
from tests.faults.machine.oracle.found import Found

SEVERITIES = ("informational", "low", "medium", "high", "critical")
"""From 1 on, as OCSF counts."""
SUPPRESSED = 3
"""`status_id` of an alert that stands in the log and is for nobody."""


def fits(filters: Mapping[str, Any], document: Mapping[str, Any], wards: Mapping[str, str]) -> bool:
    """Tell whether a party's filter, as its file has it, fits an alert; `wards` is by device."""
    least = SEVERITIES.index(filters.get("severity", SEVERITIES[0])) + 1
    own = document.get("unmapped", {}).get("ward")
    devices = [document.get("device"), *document.get("resources", [])]  # of an incident, several
    known = {own or wards.get(each["uid"], "") for each in devices if each} or {own or ""}
    rule = document.get("finding_info", {}).get("analytic", {}).get("uid", "")
    return (
        document["status_id"] != SUPPRESSED
        and document["severity_id"] >= least
        and not known.isdisjoint(filters.get("wards", known))
        and rule in filters.get("rules", [rule])
    )


class Stream:
    """One party's topic."""

    def __init__(
        self, party: str, filters: Mapping[str, Any], wards: Mapping[str, str], found: Found
    ) -> None:
        self.party = party
        self._filters, self._wards, self._found = filters, wards, found
        self.records: list[Record] = []
        self._due: dict[str, Message] = {}
        """By the place in `alerts`, in its order."""
        self._judged = 0
        self._ids: dict[bytes, int] = {}
        self._sources: dict[str, int] = {}
        self._newest = -1

    def expect(self, message: Message) -> None:
        """Take a message of `alerts` that is the first of its id."""
        if fits(self._filters, message.document, self._wards):
            self._due[spell(message.record.place)] = message

    def take(self, record: Record) -> None:
        """Take a record of the party's topic."""
        self.records.append(record)

    def pending(self) -> str:
        """Say what is not routed yet; empty for nothing."""
        left = len(self._due) - len(self.records)
        return f"{left} alerts to be routed to {self.party}" if left > 0 else ""

    def judge(self) -> None:
        """Say what is wrong with the records that are new, and with those that are not there."""
        for number, record in enumerate(self.records[self._judged :], self._judged + 1):
            self._check(number, record)
        self._judged = len(self.records)
        for source in self._due.keys() - self._sources.keys():
            self._found.add("not_routed", f"{source} fits {self.party} and is not there")

    def _check(self, number: int, record: Record) -> None:
        where = spell(record.place)
        told = dict(record.headers)
        sequence, source = told.get("party.sequence") or b"", (told.get("source") or b"").decode()
        if sequence != b"%d" % number:
            self._found.add("sequence", f"{where} is number {number} of {self.party} and says {sequence!a}")
        ce_id = told.get("ce_id") or b""
        if ce_id in self._ids:
            self._found.add("routed_twice", f"{where}: {ce_id!a} is number {self._ids[ce_id]} already")
        self._ids.setdefault(ce_id, number)
        due = self._due.get(source)
        if due is None:
            self._found.add("misrouted", f"{where} comes from {source!a}, which is not for {self.party}")
            return
        self._sources.setdefault(source, number)
        if due.record.offset < self._newest:
            self._found.add("route_order", f"{where}: alerts/0/{due.record.offset} after {self._newest}")
        self._newest = max(self._newest, due.record.offset)
        ours: Sequence[tuple[str, bytes | None]] = (
            *due.record.headers,
            ("party", self.party.encode()),
            ("party.sequence", sequence),
            ("source", source.encode()),
        )
        if (record.key, record.value, tuple(record.headers)) != (
            due.record.key,
            due.record.value,
            tuple(ours),
        ):
            self._found.add("bytes", f"{where} is not byte for byte what {source} is")

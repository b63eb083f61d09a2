"""Findings: each cause has its one finding, and no finding is without its cause.

docs/formats.md, section 7: `id` is a digest over rule, device and cause. For `equivocation` and
`sequence_gap` the cause is the record's place, so the accounts say which are owed. A lasting cause is opened
once, cleared at most once, and updated in between. What silence claims is checked against the times of the
raw records.
"""

from array import array
from bisect import bisect_right
from dataclasses import dataclass

from tests.faults.machine.oracle.formats import (
    Partition,
    Place,
    Record,
    UntrueError,
    decode_as,
    finding_id,
    spell,
)
from tests.faults.machine.oracle.found import Found

TOPIC = "device.findings"
TELEMETRY = "device.telemetry.raw"
OWED = ("equivocation", "sequence_gap")


Evidence = tuple[tuple[Place, bytes | None], ...]
"""Records by place, with the payload's digest where it is known."""


@dataclass(frozen=True, slots=True)
class Cause:
    """What a finding of an owed rule must say; the place of the first evidence names the cause."""

    device: str
    evidence: Evidence
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding as it was read."""

    at: Place
    id: bytes
    rule: str
    status: str
    device: str
    time_us: int
    evidence: Evidence
    parameters: dict[str, str]


class Findings:
    """Takes findings, and what is owed, in any order of the two."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self.silence = Silence(found)
        self._owed: dict[tuple[str, Place], Cause] = {}
        self._unclaimed: dict[tuple[str, Place], Finding] = {}
        self._seen: set[bytes] = set()
        self.count = 0

    def owe(self, rule: str, cause: Cause) -> None:
        """Note a cause that must have its one finding."""
        source = cause.evidence[0][0]
        finding = self._unclaimed.pop((rule, source), None)
        if finding is None:
            self._owed[rule, source] = cause
        else:
            self._compare(finding, cause)

    def take(self, record: Record) -> None:
        """Take a record of `device.findings`."""
        self.count += 1
        try:
            finding = _read(record)
        except UntrueError as error:
            self._found.add("findings", f"{spell(record.place)}: {error}")
            return
        if record.key != finding.device.encode():
            self._found.add("findings", f"{spell(record.place)}: the key is not {finding.device}")
        if not self._is_new(finding):
            return
        if finding.rule == "silence":
            self.silence.take(finding)
        elif finding.rule in OWED:
            if not finding.evidence or finding.id != _id_by_place(finding):
                self._found.add("findings", f"{_name(finding)}: the id does not follow from its cause")
                return
            key = (finding.rule, finding.evidence[0][0])
            cause = self._owed.pop(key, None)
            if cause is None:
                self._unclaimed[key] = finding
            else:
                self._compare(finding, cause)

    def missing(self) -> list[str]:
        """Causes without a finding, and findings without a cause, so far."""
        owed = [f"the {rule} at {spell(source)} has no finding" for rule, source in self._owed]
        return owed + [f"{_name(each)}: nothing such happened" for each in self._unclaimed.values()]

    def complain(self) -> None:
        """Nothing more will come: what is open now is a fault."""
        for what in self.missing():
            self._found.add("findings", what)

    def _is_new(self, finding: Finding) -> bool:
        """Hold the one way of a cause: OPENED, some different UPDATED, CLEARED; each only once."""
        is_open = finding.id + b"O" in self._seen and finding.id + b"C" not in self._seen
        mark = finding.id + finding.status[:1].encode()
        if finding.status == "UPDATED":
            mark += b"%d " % finding.time_us
            mark += " ".join(spell(place) for place, _digest in finding.evidence).encode()
        if mark in self._seen:
            self._found.add("findings", f"{_name(finding)} comes a second time")
            return False
        self._seen.add(mark)
        if finding.status != "OPENED" and not is_open:
            self._found.add("findings", f"{_name(finding)}: the cause is not open")
        return True

    def _compare(self, finding: Finding, cause: Cause) -> None:
        is_cited = len(finding.evidence) >= len(cause.evidence) and all(
            place == cited and (digest is None or digest == said)
            for (place, digest), (cited, said) in zip(cause.evidence, finding.evidence, strict=False)
        )
        if finding.device != cause.device or finding.parameters != cause.parameters or not is_cited:
            self._found.add("findings", f"{_name(finding)} says what was not: {finding} for {cause}")


class Silence:
    """Whether a device was as silent as findings say. Times are those of the raw topic."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._append_ms: dict[Partition, array[int]] = {}
        self._heard: dict[str, array[int]] = {}
        self._open: dict[str, bytes] = {}
        self._claims: list[Finding] = []
        self._last: dict[bytes, int] = {}

    def appended(self, record: Record) -> None:
        """Take a record of the raw telemetry topic, in offset order."""
        times = self._append_ms.setdefault((record.topic, record.partition), array("q"))
        times.extend([0] * (record.offset - len(times)))
        times.append(record.append_ms)

    def heard(self, device: str, source: Place) -> None:
        """Note an accepted event."""
        self._heard.setdefault(device, array("q")).append(source[2])

    def take(self, finding: Finding) -> None:
        """Take a silence; of one device they follow one another."""
        is_open = self._open.get(finding.device)
        if finding.status == "OPENED":
            if is_open is not None:
                self._found.add("silence", f"{_name(finding)}: the device is reported silent already")
            self._open[finding.device] = finding.id
        elif self._open.pop(finding.device, None) != finding.id:
            self._found.add("silence", f"{_name(finding)}: no such silence is open")
        self._claims.append(finding)

    def settle(self) -> None:
        """Judge the claims for which enough is known."""
        self._claims = [each for each in self._claims if not self._is_judged(each)]

    def _is_judged(self, finding: Finding) -> bool:
        if not finding.evidence or finding.evidence[0][0][0] != TELEMETRY:
            self._found.add("silence", f"{_name(finding)} cites no telemetry")
            return True
        topic, partition, cited = finding.evidence[0][0]
        times, heard = self._append_ms.get((topic, partition), array("q")), self._heard.get(finding.device)
        if heard is None or cited > heard[-1] or cited >= len(times):
            return False
        if finding.status == "OPENED":
            return self._is_opening_judged(finding, cited, times, heard)
        index = bisect_right(heard, cited) - 1
        first = self._last.pop(finding.id, None)
        if heard[index] != cited or (first is not None and (index == 0 or heard[index - 1] != first)):
            self._found.add("silence", f"{_name(finding)}: offset {cited} is not what ended it")
        return True

    def _is_opening_judged(
        self, finding: Finding, cited: int, times: "array[int]", heard: "array[int]"
    ) -> bool:
        index = bisect_right(heard, cited)
        if not index or heard[index - 1] != cited:
            self._found.add("silence", f"{_name(finding)}: offset {cited} is no accepted event of the device")
            return True
        if finding.id not in self._last:
            self._last[finding.id] = cited
            if finding.id != finding_id("silence", finding.device, f"after {times[cited]}"):
                self._found.add("silence", f"{_name(finding)}: the id does not follow from its cause")
            limit_us = float(finding.parameters.get("silence_after_s", "0")) * 1e6
            if finding.time_us - times[cited] * 1000 <= limit_us:
                self._found.add("silence", f"{_name(finding)}: sooner than the limit")
        if index == len(heard):
            return False
        following = heard[index]
        if following >= len(times):
            return False
        # A time in milliseconds stands for the whole millisecond.
        if times[following] * 1000 + 1000 <= finding.time_us:
            what = f"{_name(finding)}: it spoke at {times[following]} ms (offset {following})"
            self._found.add("silence", f"{what}, before {finding.time_us} us")
        return True


def _read(record: Record) -> Finding:
    fields = decode_as("finding", record.value)
    evidence = tuple(
        ((each["topic"], each["partition"], each["offset"]), each["digest"]) for each in fields["evidence"]
    )
    return Finding(
        record.place, fields["id"], fields["rule"], fields["status"], fields["device_id"], fields["time"],
        evidence, dict(fields["parameters"]),
    )  # fmt: skip


def _id_by_place(finding: Finding) -> bytes:
    return finding_id(finding.rule, finding.device, spell(finding.evidence[0][0]))


def _name(finding: Finding) -> str:
    return f"{spell(finding.at)} ({finding.rule} {finding.status} of {finding.device})"

"""What the workload sent and which verdict is right for it; what the oracle found wrong.

The books of the fault machine: they say nothing of how a verdict comes about, so that whoever checks
need not share a line with whoever judges.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """One record of a raw topic that the broker acknowledged, and the right verdict for it.

    `key` and `value` are what the record holds, byte for byte. `device` is the device id that the
    workload meant, "" if none; `kind` its kind of event ("telemetry", "access", "lifecycle"); `boot`
    and `sequence` are the event's, 0 if the value is none.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    verdict: str
    """`ACCEPTED`, or the value of the reason for which it must be rejected."""
    device: str = ""
    kind: str = ""
    boot: int = 0
    sequence: int = 0

    @property
    def source(self) -> str:
        """The record's place as the header `source` of its output spells it: topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"


ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: its short name, and what was seen where."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"

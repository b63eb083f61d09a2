"""Notices as the correlator reads them, and a correlator that is driven by hand."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from processors.correlate import CorrelateConfig, Correlator, Step
from processors.correlate.controls import ControlTable
from processors.model import RawRecord
from processors.notices import Notice, RejectionNotice, read_finding
from processors.ocsf import Alert, Reporter, encode
from schemas.reasons import Reason
from schemas.records import EvidenceRef, Finding, FindingStatus, Severity

NOW = 1_700_000_000_000
REPORTER = Reporter("attestream.test", "0.1.0")
WAIT_MS = 500
"""Of a group that is new: two steps of the tests."""


def rejection(
    offset: int, reason: Reason = Reason.BAD_SIGNATURE, device: str | None = "did:key:a", ward: str = ""
) -> Notice:
    evidence = (EvidenceRef("device.telemetry.raw", 0, offset),)
    return RejectionNotice(f"device.rejected/0/{offset}", reason, device, NOW + offset, evidence, ward)


def finding_record(
    offset: int,
    status: FindingStatus = FindingStatus.OPENED,
    cause: str = "",
    rule: str = "bounds",
    device: str = "did:key:a",
    **more: str,
) -> RawRecord:
    found = Finding(
        rule,
        Severity.MEDIUM,
        device,
        (NOW + offset) * 1000,
        "HR is outside 15 to 300 bpm",
        (EvidenceRef("device.telemetry.raw", 0, offset),),
        status=status,
        cause=cause or str(offset),
        parameters={"scope": "device"},
        **more,  # type: ignore[arg-type]
    )
    return RawRecord("device.findings", 0, offset, NOW, b"did:key:a", found.encode(bytes(16)))


def finding(
    offset: int,
    status: FindingStatus = FindingStatus.OPENED,
    cause: str = "",
    *,
    ward: str = "",
    rule: str = "bounds",
    device: str = "did:key:a",
    **more: str,
) -> Notice:
    return replace(read_finding(finding_record(offset, status, cause, rule, device, **more)), ward=ward)


class Driven:
    """A correlator with its clock; what it told is kept, and what it released is checked."""

    def __init__(self, config: CorrelateConfig | None = None) -> None:
        self.correlator: Correlator[str] = Correlator(config or CorrelateConfig(group_wait_ms=WAIT_MS))
        self.now_ms = NOW
        self.told: list[Alert] = []
        self.added: Counter[str] = Counter()
        self.released: Counter[str] = Counter()

    def add(self, *notices: Notice) -> list[Alert]:
        """Take notices at one moment."""
        for notice in notices:
            self.added[notice.position] += 1
        return self._keep(self.correlator.add(each, each.position, self.now_ms) for each in notices)

    def wait(self, seconds: float, controls: ControlTable | None = None) -> list[Alert]:
        """Let time pass, with a look four times a second."""
        steps = []
        for _ in range(round(seconds * 4)):
            self.now_ms += 250
            steps.append(self.correlator.tick(self.now_ms, controls))
        return self._keep(steps)

    def leap(self, seconds: float, controls: ControlTable | None = None) -> list[Alert]:
        """Let much time pass without a look, and then look once."""
        self.now_ms += round(seconds * 1000)
        return self._keep([self.correlator.tick(self.now_ms, controls)])

    def close(self) -> list[Alert]:
        """End it in order."""
        return self._keep([self.correlator.close(self.now_ms)])

    def _keep(self, steps: Iterable[Step[str]]) -> list[Alert]:
        told = []
        for step in steps:
            told += step.alerts
            self.released.update(step.released)
        self.told += told
        return told


def covered(alerts: Sequence[Alert]) -> Counter[str]:
    """Count in how many messages each record is told."""
    return Counter(place for alert in alerts for place in alert.covers)


def values(alerts: Sequence[Alert]) -> list[bytes]:
    """Return alerts as they stand in the topic."""
    return [encode(each, REPORTER) for each in alerts]

"""The demo's result: what a person reads at the end, and the JSON report for a machine."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.demo.access import AccessOutcome
from pipeline.demo.alerts import AlertsOutcome
from pipeline.demo.books import Balance
from pipeline.demo.show import Show
from pipeline.demo.tables import show_access, show_alerts
from pipeline.demo.tamper import Tampering
from pipeline.demo.verdicts import Verdict


@dataclass(slots=True)
class Result:
    """Everything that the demo found out. `problems` names what went wrong and where to look."""

    produced: int = 0
    balance: Balance | None = None
    clean_rejected: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, int] = field(default_factory=dict)
    false_alarms: int = 0
    """Findings about devices that nobody attacked: told, but no failure."""
    shards: int = 0
    leaves: int = 0
    submitted: int = 0
    confirmed: int = 0
    last_lag_s: float | None = None
    verdicts: Sequence[Verdict] = ()
    access: AccessOutcome | None = None
    alerts: AlertsOutcome | None = None
    evidence_verified: bool = False
    tampering: Tampering | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when nothing at all went wrong."""
        return not self.failures()

    def failures(self) -> list[str]:
        """Every reason why this run is no success, one sentence each."""
        told = list(self.problems)
        told += [
            f"the attack '{v.name}' was not found: {v.seen} was seen" for v in self.verdicts if not v.found
        ]
        told += self.access.problems() if self.access else ["the access scene was not played"]
        told += self.alerts.problems() if self.alerts else ["nobody counted the alerts"]
        if self.clean_rejected:
            examples = ", ".join(f"{s} ({r})" for s, r in list(self.clean_rejected.items())[:3])
            told.append(f"{len(self.clean_rejected)} clean events were rejected: {examples}")
        if self.balance is None:
            told.append("the books were not read")
        else:
            told += self.balance.faults()
            if self.balance.raw < self.produced:
                told.append(f"{self.produced} records were acknowledged, the topics hold {self.balance.raw}")
        if not self.confirmed:
            told.append("no anchor was confirmed")
        if not self.evidence_verified:
            told.append("no evidence was verified")
        if self.tampering is None or not self.tampering.found:
            told.append("the flipped byte was not found")
        return told

    def to_json(self) -> dict[str, Any]:
        """The report's form."""
        balance = self.balance
        return {
            "events": {
                "produced": self.produced,
                "accepted": balance.accepted if balance else 0,
                "rejected": dict(sorted(balance.rejected.items())) if balance else {},
            },
            "findings": dict(sorted(self.findings.items())),
            "log": {"shards": self.shards, "leaves": self.leaves},
            "anchors": {
                "submitted": self.submitted,
                "confirmed": self.confirmed,
                "last_lag_s": self.last_lag_s,
            },
            "attacks": [
                {
                    "name": v.name,
                    "expected": v.expected,
                    "found": v.expected if v.found else None,
                    "latency_ms": v.latency_ms,
                }
                for v in self.verdicts
            ],
            "access": self.access.to_json() if self.access else None,
            "alerts": self.alerts.to_json() if self.alerts else None,
            "evidence_verified": self.evidence_verified,
            "tamper_found": self.tampering is not None and self.tampering.found,
            "ok": self.ok,
        }

    def write(self, path: Path) -> None:
        """Write the report."""
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")


def show_result(show: Show, result: Result) -> None:
    """Print attacks, books and verdict."""
    if result.verdicts:
        rows = [
            [
                f"{show.mark(good=v.found)} {v.name}",
                v.expected.replace(", ", "\n"),
                "found" if v.found else f"[red]{v.seen}[/]",
                f"{v.latency_ms:,.0f} ms" if v.latency_ms is not None else "-",
            ]
            for v in result.verdicts
        ]
        columns = ["attack", "expected", "found", "after"]
        show.table("Attacks", columns, rows, keep_whole=["expected"])
    if result.access is not None:
        show_access(show, result.access)
    if result.alerts is not None:
        show_alerts(show, result.alerts)
    if result.balance is not None:
        _show_books(show, result, result.balance)
    show.say()
    failures = result.failures()
    for failure in failures:
        show.fault(failure)
    if not failures:
        attacks = f"all {len(result.verdicts)} attacks were found, " if result.verdicts else ""
        show.say(
            f"[bold]It holds:[/] {attacks}no clean event was rejected, access was decided by the policies, "
            f"every alert was delivered, the books balance, {result.confirmed} anchors are confirmed.",
            mark=show.mark(good=True),
        )


def _show_books(show: Show, result: Result, balance: Balance) -> None:
    rows = [
        ["records in the raw topics", f"{balance.raw:,}"],
        ["accepted once", f"{balance.accepted:,}"],
        *([f"rejected once: {reason}", f"{n:,}"] for reason, n in sorted(balance.rejected.items())),
        [f"{show.mark(good=balance.even)} difference", f"{balance.raw - balance.accepted - _sum(balance):,}"],
    ]
    show.table("Books, counted by reading the topics", ["", "records"], rows)
    lag = "-" if result.last_lag_s is None else f"{result.last_lag_s:.1f} s"
    rows = [
        ["trees", f"{result.shards:,}"],
        ["leaves", f"{result.leaves:,}"],
        ["anchors confirmed", f"{result.confirmed} of {result.submitted}"],
        ["lag of the last one", lag],
        *([f"finding: {rule}", f"{n:,}"] for rule, n in sorted(result.findings.items())),
    ]
    rows.append(["findings about devices that nobody attacked", f"{result.false_alarms:,}"])
    show.table("Log, anchors and findings", ["", ""], rows)


def _sum(balance: Balance) -> int:
    return sum(balance.rejected.values())

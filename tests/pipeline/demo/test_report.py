"""The report's form, when a run counts as a success, and what one sees."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.attacks import ATTACKS
from pipeline.demo.access import AccessOutcome, Played
from pipeline.demo.alerts import AlertsOutcome, Delivered
from pipeline.demo.books import Balance
from pipeline.demo.notified import SeenIncident
from pipeline.demo.report import Result, show_result
from pipeline.demo.show import Show, Snapshot
from pipeline.demo.tamper import Tampering
from pipeline.demo.verdicts import Verdict

BALANCE = Balance(100, 98, {"replay": 1, "bad_signature": 1}, 0, (), (), (), ())
TAMPERING = Tampering("log/x/0", "tile/0/000.p/9", 5, found=True, told="tile/0/000.p/9: does not hash")
SNAPSHOT = Snapshot(
    30.0, 60.0, 50, 6000, 200.0, 5990, {"replay": 1}, 9, 31, 4, "Farid breaks the glass", {"stuck": 3}, 5,
    {"demo-webhook": 3, "demo-sse": 5}, 25, 8000, 4, 3, 36, 2.0, (7, 9, 17),
)  # fmt: skip
ACCESS = AccessOutcome(
    [Played("Nora logs in", "permitted: policy", "permitted: policy", 41.5)], 31, 4, 240.5, 900.0
)
HOOK = Delivered("demo-webhook", 61, [], [], 20.0, 17, 1.5)
ALERTS = AlertsOutcome(
    [HOOK, replace(HOOK, output="demo-sse")], [], 63, 2, [SeenIncident("bounds", 12, frozenset(), 0, 0.0)]
)


def verdict(name: str, expected: str, latency_ms: float | None = None) -> Verdict:
    found = latency_ms is not None
    return Verdict(name, expected, found=found, latency_ms=latency_ms, seen=expected if found else "nothing")


def good() -> Result:
    return Result(
        produced=100,
        balance=BALANCE,
        findings={"stuck": 3},
        shards=25,
        leaves=120,
        submitted=4,
        confirmed=3,
        last_lag_s=3.25,
        verdicts=[verdict(a.name, str(a.expected), 12.5) for a in ATTACKS],
        access=ACCESS,
        alerts=ALERTS,
        evidence_verified=True,
        tampering=TAMPERING,
    )


def test_the_report_has_exactly_its_members(tmp_path: Path) -> None:
    good().write(tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    attacks = found.pop("attacks")
    assert found == {
        "events": {"produced": 100, "accepted": 98, "rejected": {"bad_signature": 1, "replay": 1}},
        "findings": {"stuck": 3},
        "log": {"shards": 25, "leaves": 120},
        "anchors": {"submitted": 4, "confirmed": 3, "last_lag_s": 3.25},
        "access": {
            "permitted": 31,
            "denied": 4,
            "revocation_ms": 240.5,
            "break_glass_alerted": True,
        },
        "alerts": {
            "delivered": {"demo-webhook": 61, "demo-sse": 61},
            "gaps": 0,
            "suppressed": 2,
            "incidents": 1,
        },
        "evidence_verified": True,
        "tamper_found": True,
        "ok": True,
    }
    assert len(attacks) == len(ATTACKS)
    assert attacks[0] == {
        "name": "forged signature",
        "expected": "rejected: bad_signature",
        "found": "rejected: bad_signature",
        "latency_ms": 12.5,
    }


FAULTS = {
    "a lost record": ({"balance": replace(BALANCE, unjudged=1)}, "never judged"),
    "a double": ({"balance": replace(BALANCE, judged_twice=("t/0/1",))}, "judged more than once"),
    "a stranger": ({"balance": replace(BALANCE, from_nowhere=("t/0/1",))}, "do not exist"),
    "a swap": ({"balance": replace(BALANCE, out_of_order=("t/0/1",))}, "out of order"),
    "unread books": ({"balance": None}, "books were not read"),
    "a lost acknowledged record": ({"produced": 101}, "acknowledged"),
    "a clean event rejected": ({"clean_rejected": {"t/0/1": "late"}}, "rejected: t/0/1 (late)"),
    "no anchor": ({"confirmed": 0}, "no anchor was confirmed"),
    "no evidence": ({"evidence_verified": False}, "no evidence"),
    "no tampering": ({"tampering": None}, "flipped byte"),
    "an unfound byte": ({"tampering": replace(TAMPERING, found=False)}, "flipped byte"),
    "a missed attack": ({"verdicts": [verdict("replay", "x")]}, "'replay' was not found"),
    "another answer": (
        {"access": replace(ACCESS, played=[replace(ACCESS.played[0], seen="denied: no_permit")])},
        "Nora logs in: expected permitted: policy, seen denied: no_permit",
    ),
    "a key that lives on": ({"access": replace(ACCESS, revocation_ms=None)}, "was not denied"),
    "a quiet broken glass": ({"access": replace(ACCESS, alerted_ms=None)}, "no alert told"),
    "a scene cut short": (
        {"access": replace(ACCESS, revocation_ms=None, failure="no Kafka")}, "ended early: no Kafka"
    ),
    "no scene": ({"access": None}, "access scene was not played"),
    "a lost alert": (
        {"alerts": replace(ALERTS, deliveries=[HOOK, replace(HOOK, output="demo-sse", missing=[7, 9])])},
        "demo-sse lacks 2 numbers: 7, 9",
    ),
    "a forged request": (
        {"alerts": replace(ALERTS, deliveries=[replace(HOOK, faults=["does not verify"])])}, "not verify"
    ),
    "nothing told": ({"alerts": replace(ALERTS, deliveries=[replace(HOOK, delivered=0)])}, "told of nothing"),
    "a number left out": ({"alerts": replace(ALERTS, unnumbered=[3])}, "leaves numbers out: 3"),
    "uncounted alerts": ({"alerts": None}, "nobody counted the alerts"),
    "a problem": ({"problems": ["it is on fire"]}, "on fire"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_any_one_fault_makes_a_failure_that_is_told(name: str) -> None:
    assert good().ok
    changes, told = FAULTS[name]
    result = replace(good(), **changes)  # type: ignore[arg-type]
    assert not result.ok
    assert result.to_json()["ok"] is False
    (failure,) = result.failures()
    assert told in failure


def test_a_missed_attack_has_null_in_the_report() -> None:
    result = replace(good(), verdicts=[verdict("replay", "rejected: replay")])
    (attack,) = result.to_json()["attacks"]
    assert (attack["expected"], attack["found"], attack["latency_ms"]) == ("rejected: replay", None, None)


def test_a_run_without_attacks_is_a_success() -> None:
    assert replace(good(), verdicts=[]).ok


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("terminal", [True, False])
def test_what_one_sees_fits_the_width(width: int, *, terminal: bool) -> None:
    text = io.StringIO()
    show = Show(Console(file=text, width=width, force_terminal=terminal, color_system=None))
    show.intro(50, 60.0, 17, "/data")
    with show.phase("Waiting") as phase:
        phase.update("for [nothing] in particular")
        phase.notes.append(("-", "a note"))
    with show.board("Streaming") as board:
        board.update(SNAPSHOT)
    result = replace(good(), verdicts=[*good().verdicts[:-1], verdict("x", "y")])
    show_result(show, result)
    found = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    assert all(len(line) <= 110 for line in found.splitlines())
    for part in (
        "attestream demo",
        "Waiting",
        "a note",
        "registry_rejected",
        "bad_signature",
        "25",
        "Nora logs in",
        "demo-webhook",
        "17 alerts caught up",
        "incident: bounds at 12",
    ):
        assert part in found
    assert "the attack 'x' was not found" in found
    assert ("[nothing]" in found) or terminal
    assert ("6,000" in found) is terminal  # the board; plain output waits some seconds for its first line


def test_plain_output_needs_no_unicode() -> None:
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    show = Show(Console(file=text, width=80, color_system=None))
    with show.phase("Waiting"):
        pass
    show_result(show, replace(good(), confirmed=0))
    text.flush()
    assert b"ok Waiting" in raw.getvalue()
    assert b"FAILED no anchor was confirmed" in raw.getvalue()


def test_a_failing_phase_is_marked_and_raises() -> None:
    text = io.StringIO()
    show = Show(Console(file=text, width=80, color_system=None))
    with pytest.raises(ValueError, match="broken"), show.phase("Waiting"):
        raise ValueError("broken")
    assert "✗ Waiting" in text.getvalue() or "FAILED Waiting" in text.getvalue()

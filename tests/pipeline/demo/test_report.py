"""The report's form, when a run counts as a success, and what one sees."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.attacks import ATTACKS
from pipeline.demo.books import Balance
from pipeline.demo.report import Result, show_result
from pipeline.demo.show import Show, Snapshot
from pipeline.demo.tamper import Tampering
from pipeline.demo.verdicts import Verdict

BALANCE = Balance(100, 98, {"replay": 1, "bad_signature": 1}, 0, (), (), (), ())
TAMPERING = Tampering("log/x/0", "tile/0/000.p/9", 5, found=True, told="tile/0/000.p/9: does not hash")
SNAPSHOT = Snapshot(
    30.0, 60.0, 50, 6000, 200.0, 5990, {"replay": 1}, 9, {"stuck": 3}, 5, 25, 8000, 4, 3, 36, 2.0, (7, 9, 16)
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
    show.intro(50, 60.0, 16, "/data")
    with show.phase("Waiting") as phase:
        phase.update("for [nothing] in particular")
        phase.notes.append(("-", "a note"))
    with show.board("Streaming") as board:
        board.update(SNAPSHOT)
    result = replace(good(), verdicts=[*good().verdicts[:-1], verdict("x", "y")])
    show_result(show, result)
    found = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue())
    assert all(len(line) <= 110 for line in found.splitlines())
    for part in ("attestream demo", "Waiting", "a note", "registry_rejected", "bad_signature", "25"):
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

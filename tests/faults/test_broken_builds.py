"""The script that shows broken builds to be found leaves none out, and nothing else passes for a finding."""

import io
from typing import Any

import pytest
from rich.console import Console

from tests.faults.machine import brokenrun, runner
from tests.faults.machine.__main__ import LANES
from tests.faults.machine.broken import BROKEN
from tests.faults.machine.brokenrun import CASES, Case, Outcome, controls
from tests.faults.machine.ledgers.broken import LEDGER_BROKEN
from tests.faults.machine.notify.broken import NOTIFY_BROKEN
from tests.faults.machine.runner import Tally
from tests.faults.machine.seams import SEAMS, Seam


def violation(invariant: str) -> dict[str, Any]:
    return {"seed": 1, "kinds": ["kill_seal"], "invariant": invariant, "what": "something"}


def test_every_broken_build_has_its_case() -> None:
    assert set(CASES) == {*BROKEN, *LEDGER_BROKEN, *NOTIFY_BROKEN}
    for name, case in CASES.items():
        assert case.broken == name
        assert case.by
        assert set(case.kinds) <= set(LANES[case.sort][1])
        assert set(case.seams) <= SEAMS


def test_the_right_build_goes_through_all_that_the_broken_ones_do() -> None:
    ours = controls(list(CASES.values()))
    assert all(not case.broken for case in ours)
    for case in CASES.values():
        (control,) = [each for each in ours if each.sort == case.sort]
        assert set(case.kinds) <= set(control.kinds)


def test_only_what_the_broken_rule_stands_for_counts_as_found() -> None:
    case = Case("world", ("kill_seal",), ("tiles",), broken="sign_before_publish")
    assert Outcome(case, Tally(schedules=1, violations=[violation("crash"), violation("tiles")]), 1.0).ok
    assert not Outcome(case, Tally(schedules=1, violations=[violation("crash")]), 1.0).ok
    assert not Outcome(case, Tally(schedules=6), 1.0).ok


def test_a_control_that_finds_something_or_did_not_run_is_no_control() -> None:
    control = Case("world", ("kill_seal",), schedules=1)
    assert Outcome(control, Tally(schedules=1), 1.0).ok
    assert not Outcome(control, Tally(schedules=0), 1.0).ok
    assert not Outcome(control, Tally(schedules=1, violations=[violation("stalled")]), 1.0).ok
    assert not Outcome(control, Tally(schedules=1, broken_lanes=["control ended with 1"]), 1.0).ok


def test_one_build_that_is_not_found_is_told_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(lanes: list[runner.Lane], *_arguments: Any, **_options: Any) -> Tally:
        (lane,) = lanes
        found = {"replay_check_dropped": ["verdict"], "fsync_skipped": ["crash"]}.get(lane.name, [])
        return Tally(schedules=1, violations=[violation(each) for each in found])

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(brokenrun, "is_ready", lambda _console: True)
    assert brokenrun.main(["--only", "replay_check_dropped", "--seed", "1"]) == 0
    assert brokenrun.main(["--only", "fsync_skipped", "--seed", "1"]) == 1
    assert "crash; it must be" in capsys.readouterr().out


def test_a_seam_that_nobody_comes_past_is_refused() -> None:
    with pytest.raises(ValueError, match="no seam"):
        Seam("ingest.ingest.before_flush")


def test_the_table_names_what_it_was_found_by() -> None:
    text = io.StringIO()
    outcome = Outcome(CASES["fsync_skipped"], Tally(schedules=2, violations=[violation("publication")]), 3.0)
    brokenrun.table([outcome], Console(file=text, width=120))
    assert "fsync_skipped" in text.getvalue()
    assert "publication" in text.getvalue()

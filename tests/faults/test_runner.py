"""The machine's runner: what it tallies, and that a lane which fails is never taken for a clean one."""

import io
import json
import queue
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tests.faults.machine import runner
from tests.faults.machine.__main__ import LANES, main
from tests.faults.machine.runner import Lane

CLEAN: dict[str, Any] = {
    "seed": 5, "kinds": ["kill_seal"], "records": 10, "seconds": 0.5, "violations": [],
    "faults": {"kill_seal": 2}, "restarts": 1,
}  # fmt: skip
FOUND = {**CLEAN, "seed": 6, "violations": [{"invariant": "accounting", "what": "one too many"}]}


def lane(name: str, lines: list[dict[str, Any]], end: str = "") -> Lane:
    """A lane that prints these lines and then does what `end` says."""
    program = (
        f"import sys, time\nfor line in {[json.dumps(line) for line in lines]!r}: print(line, flush=True)\n"
    )
    return Lane(name, [sys.executable, "-c", program + end], "again --replay {seed} --kinds {kinds}")


def run(*lanes: Lane, **options: Any) -> tuple[runner.Tally, str]:
    text = io.StringIO()
    return runner.run(lanes, 1.0, Console(file=text, width=200), **options), text.getvalue()


def test_what_lanes_did_is_added_up(tmp_path: Path) -> None:
    tally, _ = run(lane("a", [CLEAN, CLEAN]), lane("b", [{**CLEAN, "told_again": 4}]))
    assert tally.ok
    assert (tally.schedules, tally.records, dict(tally.faults)) == (3, 30, {"kill_seal": 6})
    assert tally.told_again == 4
    report = tmp_path / "build" / "faults.json"
    runner.report(tally, 7, report, Console(file=io.StringIO()))
    assert json.loads(report.read_text()) == {
        "schedules": 3, "faults": {"kill_seal": 6}, "records": 30, "told_again": 4, "void": 0,
        "violations": [], "seed": 7,
    }  # fmt: skip


def test_a_violation_is_told_with_what_plays_it_again() -> None:
    tally, text = run(lane("a", [CLEAN, FOUND]))
    assert not tally.ok
    assert tally.violations == [
        {"lane": "a", "seed": 6, "kinds": ["kill_seal"], "invariant": "accounting", "what": "one too many"}
    ]
    assert "one too many" in text
    assert "again --replay 6 --kinds kill_seal" in text


def test_what_a_broken_broker_shows_is_counted_and_is_no_violation() -> None:
    tally, text = run(lane("a", [CLEAN, {**CLEAN, "void": [{"invariant": "accounting", "what": "twice"}]}]))
    assert tally.ok
    assert (tally.schedules, tally.void) == (2, 1)
    assert "∅" in text


def test_what_was_found_stands_at_the_end_of_what_is_printed(tmp_path: Path) -> None:
    tally, _ = run(lane("a", [CLEAN, FOUND]), lane("b", [CLEAN], "sys.exit(3)"))
    text = io.StringIO()
    runner.report(tally, 7, tmp_path / "faults.json", Console(file=text, width=300))
    assert text.getvalue().splitlines()[-3:-1] == [
        "✗ b ended with 3",
        "✗ a seed 6 (kill_seal): 1 violations, first accounting: one too many",
    ]


def test_a_lane_that_fails_is_no_clean_one() -> None:
    tally, _ = run(lane("a", [CLEAN]), lane("b", [CLEAN], "sys.exit(3)"))
    assert not tally.ok
    assert tally.broken_lanes == ["b ended with 3"]


def test_a_lane_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "GRACE_S", 0.0)
    tally, _ = run(lane("a", [CLEAN], "time.sleep(600)"))
    assert tally.broken_lanes == ["a did not end in time: seed 0, in what does not answer"]


STANDS_STILL = """
import threading
from tests.faults.machine.lane import end_tidily, say
end_tidily()
def hang(): time.sleep(600)
def tell():
    while sys._current_frames()[threading.main_thread().ident].f_code.co_name != "hang": time.sleep(0.01)
    say(begins=9)
threading.Thread(target=tell, daemon=True).start()
hang()
"""


class LateOnceBegun(queue.SimpleQueue[Any]):
    """Time is up as soon as a lane has begun a schedule, however long that takes."""

    is_late = False

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the next line, or raise Empty once."""
        if self.is_late:
            self.is_late = False
            raise queue.Empty
        own, line = super().get(timeout=60)
        self.is_late = "begins" in (line or {})
        return own, line


def test_a_lane_that_is_ended_says_in_which_schedule_and_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "queue", SimpleNamespace(SimpleQueue=LateOnceBegun, Empty=queue.Empty))
    tally, _ = run(lane("a", [CLEAN], STANDS_STILL))
    (told,) = tally.broken_lanes
    assert told.startswith("a did not end in time: seed 9, in ")
    assert told.endswith(" hang")


def test_the_first_violation_ends_all_where_that_is_wanted() -> None:
    tally, _ = run(
        lane("a", [FOUND], "time.sleep(600)"), lane("b", [], "time.sleep(600)"), stop_at_first=True
    )
    assert [each["seed"] for each in tally.violations] == [6]


def test_a_kind_belongs_to_one_lane_and_an_unknown_one_to_none(capsys: pytest.CaptureFixture[str]) -> None:
    names = [kind for _, kinds in LANES.values() for kind in kinds]
    assert len(names) == len(set(names))
    with pytest.raises(SystemExit):
        main(["--kinds", "kill_seal,earthquake"])
    assert "no such kind of fault: earthquake" in capsys.readouterr().err

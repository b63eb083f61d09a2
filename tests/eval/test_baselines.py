"""Baselines are held to the same false-alarm rate and see the same trials; river is not needed here."""

import sys
from pathlib import Path

import pytest

from tests.eval import __main__ as command
from tests.eval import baselines, report, results, scorers
from tests.eval.anomalies import ANOMALIES
from tests.eval.baselines import Baseline, compare, openings, threshold_for
from tests.eval.record import DEVICE, HR, SPO2, Reading, clean, half
from tests.eval.scorers import Bedside, RiverMissingError, find_river
from tests.eval.trials import Grade, clean_run, run_grade


def scored(*scores: float) -> list[tuple[str, int, float]]:
    return [(DEVICE, time_us, score) for time_us, score in enumerate(scores)]


def reading(*pairs: tuple[int, float]) -> Reading:
    return Reading(DEVICE, 0, 0, 0, tuple(code for code, _ in pairs), tuple(value for _, value in pairs))


def test_an_alarm_lasts_until_the_score_was_low_for_a_while() -> None:
    quiet = [0.0] * baselines.QUIET_EVENTS
    assert [time for _, time in openings(scored(0.0, 2.0, 0.0, 2.0, 2.0), 1.0)] == [1]
    assert [time for _, time in openings(scored(2.0, *quiet, 2.0), 1.0)] == [0, 1 + len(quiet)]
    both = [("a", 0, 2.0), ("b", 1, 2.0), ("a", 2, 2.0)]
    assert list(openings(both, 1.0)) == [("a", 0), ("b", 1)]


def test_the_threshold_is_the_lowest_with_no_more_false_alarms() -> None:
    quiet = [0.0] * 5 * baselines.QUIET_EVENTS
    run = scored(9.0, *quiet, 5.0, *quiet, 7.0)
    for alarms, threshold in ((1, 9.0), (2, 7.0), (3, 5.0)):
        assert threshold_for([run], alarms) == threshold
    above = threshold_for([run], 0)
    assert above > 9.0
    assert not list(openings(run, above))


def test_bedside_limits_score_1_at_a_limit_and_leave_out_what_is_off() -> None:
    bedside = Bedside()
    assert bedside.score(reading((HR, 120.0))) == 1.0
    assert bedside.score(reading((HR, 50.0))) == 1.0
    assert bedside.score(reading((HR, 85.0), (SPO2, 82.5))) == 2.0
    assert bedside.score(reading((HR, 0.0), (SPO2, 0.0))) == 0.0


def test_a_baseline_gives_no_more_false_alarms_than_it_may() -> None:
    rates = (0.0, 1.5, 6.0, 50.0)
    baseline = Baseline(Bedside, rates)
    assert all(found <= rate for found, rate in zip(baseline.rates, rates, strict=True))
    assert baseline.thresholds == sorted(baseline.thresholds, reverse=True)
    assert baseline.thresholds[-1] < baseline.thresholds[0]


def test_a_baseline_finds_what_is_plainly_outside_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "SCORERS", (Bedside,))
    names = ("out_of_range", "clock_jump")
    ours = {name: run_grade(ANOMALIES[name], ANOMALIES[name].grades[-1], trials=3, seed=5) for name in names}
    compared = compare(
        ours, false_alarms_per_device_day=1.0, cpu_us=5.0, events=clean()[half() : half() + 50], seed=5
    )
    (found,) = compared["methods"].values()
    assert found["recall"] == found["lenient"]["recall"] == {"out_of_range": 1.0, "clock_jump": 0.0}
    assert found["lenient"]["false_alarms_per_device_day"] <= 1.0 + baselines.ONE_MORE
    assert found["cpu_us_per_event"] >= 0
    assert compared["ours"]["recall"]["out_of_range"] == 1.0


def test_the_comparison_is_shown_with_what_beats_us_in_bold() -> None:
    method = {"mean_recall": 0.5, "false_alarms_per_device_day": 0.9, "cpu_us_per_event": 100.0}
    lenient = {**method, "recall": {"a": 0.25, "b": 0.5}}
    document = {
        "baselines": {
            "ours": {**method, "recall": {"a": 0.5, "b": 1.0}},
            "methods": {"other": {**method, "recall": {"a": 0.75, "b": 0.25}, "lenient": lenient}},
        }
    }
    lines = report.baselines(document)
    assert "| `a` | 0.50 | **0.75** / 0.25 |" in lines
    assert "| `b` | 1.00 | 0.25 / 0.50 |" in lines
    assert report.baselines({}) == []


def test_without_river_there_is_one_clear_error_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "river.anomaly", None)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(RiverMissingError):
        find_river(tmp_path)
    assert command.main(["--river", str(tmp_path), "--report", str(tmp_path / "eval.json")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("eval: river is not installed")
    assert scorers.REQUIREMENTS in told
    assert told.count("\n") == 1
    assert not (tmp_path / "eval.json").exists()


def test_the_requirements_are_pinned_with_hashes() -> None:
    text = (Path(__file__).parents[2] / scorers.REQUIREMENTS).read_text(encoding="utf-8")
    packages = [block for block in text.split("\n") if "==" in block and not block.startswith(("#", " "))]
    assert any(block.startswith("river==") for block in packages)
    assert all(block.endswith("\\") for block in packages)
    assert text.count("--hash=sha256:") > len(packages)


def test_without_baselines_a_run_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "clean_run", lambda: clean_run(devices=1))
    monkeypatch.setattr(
        command,
        "run_all",
        lambda **_: {name: [Grade(each, trials=1) for each in a.grades] for name, a in ANOMALIES.items()},
    )
    path = tmp_path / "eval.json"
    assert command.main(["--no-baselines", "--report", str(path)]) == 0
    monkeypatch.setattr(results, "STORED", path)
    document = results.stored()
    for name in ("false_alarms_per_device_day", "min_recall", "cpu_us_per_event"):
        assert isinstance(document[name], float)
    for rule in document["rules"].values():
        assert {"precision", "recall", "delay_s"} <= set(rule)

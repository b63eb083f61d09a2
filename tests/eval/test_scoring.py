"""Trials are counted as the documentation says, and the documentation shows the stored run."""

import json
from pathlib import Path

import pytest

from schemas.records import EvidenceRef, Finding, FindingStatus, Severity
from tests.eval import __main__ as command
from tests.eval import report, results
from tests.eval.adapter import Alarm, Cpu, Detection
from tests.eval.anomalies import ANOMALIES
from tests.eval.record import DEVICE, INTERVAL_US, OTHER_DEVICE, TOPIC, clean, half
from tests.eval.scene import Injected
from tests.eval.trials import GRACE_US, CleanRun, Grade, clean_run, count, run_grade, warm

START_US, END_US = 1_000_000_000, 1_600_000_000
INJECTED = Injected((), START_US, END_US)


def alarm(rule: str, time_us: int, device: str = DEVICE) -> Alarm:
    finding = Finding(rule, Severity.LOW, device, time_us, "", (EvidenceRef(TOPIC, 0, 1),))
    return Alarm(rule, device, time_us, "HR", 1, finding)


def counted(*alarms: Alarm, known: tuple[Alarm, ...] = ()) -> Grade:
    grade = Grade(1.0)
    count(grade, INJECTED, alarms, is_new=lambda each: each not in known)
    return grade


def test_an_alarm_within_the_anomaly_and_its_grace_finds_it() -> None:
    for time_us in (START_US, END_US, END_US + GRACE_US):
        grade = counted(alarm("step", time_us))
        assert (grade.recall, grade.precision, grade.delay_s) == (1.0, 1.0, (time_us - START_US) / 1e6)
    for time_us in (START_US - 1, END_US + GRACE_US + 1):
        grade = counted(alarm("step", time_us))
        assert (grade.recall, grade.precision, grade.delay_s) == (0.0, 0.0, None)


def test_what_the_clean_stream_says_too_finds_nothing_and_is_a_false_alarm() -> None:
    own = alarm("step", START_US)
    grade = counted(own, known=(own,))
    assert (grade.found, grade.false_alarms) == (0, 1)
    beside = alarm("step", START_US, OTHER_DEVICE)
    grade = counted(beside, known=(beside,))
    assert (grade.found, grade.false_alarms) == (0, 0)


def test_an_anomaly_is_found_once_however_many_rules_say_so() -> None:
    grade = counted(alarm("step", START_US + 60_000_000), alarm("drift", START_US), alarm("step", END_US))
    assert grade.found == 1
    assert grade.trials_by_rule == {"step": 1, "drift": 1}
    assert grade.delays_by_rule == {"step": [60.0], "drift": [0.0]}
    assert grade.delay_s == 0.0


def test_a_rule_answers_for_what_it_leads_and_a_missed_anomaly_stands_under_its_own_name() -> None:
    names = list(ANOMALIES)
    grades = {name: [Grade(ANOMALIES[name].detectable, trials=10)] for name in names}
    led, shared = grades[names[0]][0], grades[names[1]][0]
    led.found = 9
    led.trials_by_rule.update({"step": 9, "drift": 2})
    led.delays_by_rule.update({"step": [60.0] * 9, "drift": [0.0, 0.0]})
    led.false_by_rule.update({"step": 1})
    shared.found = 5
    shared.trials_by_rule.update({"drift": 5})
    shared.delays_by_rule.update({"drift": [120.0] * 5})
    clean_one = CleanRun(4.0, [alarm("step", 0), alarm("step", 1)])
    document = results.summary(grades, clean_one, cpu=Cpu(5.0, 50.0), trials=10, seed=1, config="sha256:0")
    assert document["false_alarms_per_device_day"] == 0.5
    assert document["min_recall"] == 0.0
    step, drift = document["rules"]["step"], document["rules"]["drift"]
    assert (step["precision"], step["recall"], step["delay_s"]) == (0.9, 0.9, 60.0)
    assert (drift["precision"], drift["recall"], drift["delay_s"]) == (1.0, 0.5, 120.0)
    missed = document["rules"][names[2]]
    assert (missed["precision"], missed["recall"], missed["delay_s"]) == (None, 0.0, None)
    json.dumps(document, allow_nan=False)


def test_a_value_far_out_of_range_is_found_in_every_trial() -> None:
    anomaly = ANOMALIES["out_of_range"]
    grade = run_grade(anomaly, anomaly.grades[-1], trials=4, seed=3)
    assert grade.recall == 1.0
    assert grade.trials_by_rule["bounds"] == 4
    assert run_grade(anomaly, anomaly.grades[-1], trials=4, seed=3) == grade


def test_a_device_day_is_a_day_of_the_scored_half() -> None:
    run = clean_run(devices=2)
    assert run.device_days == pytest.approx(2 * 968 / 1440)
    begin_us = clean()[half()].time_us
    assert all(each.time_us >= begin_us for each in run.alarms)


def test_a_device_that_goes_silent_is_found_and_returns() -> None:
    readings = [*clean()[half() : half() + 20], *clean()[half() + 26 : half() + 40]]
    found = [each for each in Detection(warm()).findings(readings) if each.rule == "silence"]
    assert [each.status for each in found] == [FindingStatus.OPENED, FindingStatus.CLEARED]
    assert found[0].time_us - readings[19].time_us == 151_000_000
    assert 6 * INTERVAL_US < found[1].time_us - readings[19].time_us < 8 * INTERVAL_US


def test_the_documentation_shows_the_stored_run() -> None:
    document = results.stored()
    text = report.DOCUMENT.read_text(encoding="utf-8")
    assert report.with_section(text, document) == text, "run: python -m tests.eval --store"
    assert report.PLOT.read_text(encoding="utf-8") == report.plot(document)


def test_the_stored_run_is_of_these_anomalies() -> None:
    found = results.stored()["anomalies"]
    assert list(found) == list(ANOMALIES)
    for name, anomaly in ANOMALIES.items():
        assert [each["strength"] for each in found[name]["grades"]] == list(anomaly.grades)
        assert (found[name]["detectable"], found[name]["unit"]) == (anomaly.detectable, anomaly.unit)
        assert found[name]["what"] == anomaly.what


def test_no_trials_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--trials", "0", "--report", str(tmp_path / "eval.json")])
    assert ended.value.code == 2
    assert "--trials" in capsys.readouterr().err

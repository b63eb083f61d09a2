"""The whole demo as a user runs it: a success, and nothing left when it is cut off."""

import signal
import subprocess
import sys

import pytest

from pipeline.local.files import read_json
from pipeline.local.status import read_status
from tests.kit.demorun import Running, assert_success


@pytest.mark.parametrize("demo", [["--seconds", "10", "--devices", "20"]], indirect=True)
def test_every_attack_is_found_and_the_books_balance(demo: Running) -> None:
    report = demo.result()
    assert_success(report, demo.output)
    assert report["events"]["produced"] > 20 * 4 * 8
    assert report["log"]["leaves"] > report["events"]["produced"]
    demo.assert_nothing_is_left()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("demo", [["--seconds", "60", "--devices", "5"]], indirect=True)
def test_cut_off_in_the_middle_it_leaves_no_process(demo: Running, how: signal.Signals) -> None:
    demo.wait_for("accepted")
    assert demo.processes()
    demo.process.send_signal(how)
    code = demo.process.wait(60)
    assert code == (-how if how is signal.SIGKILL else 130)
    demo.assert_nothing_is_left()
    assert not demo.report.exists()


@pytest.mark.parametrize(
    "demo", [["--seconds", "5", "--devices", "3", "--no-attacks", "--keep"]], indirect=True
)
def test_no_attacks_and_keep(demo: Running) -> None:
    report = demo.result()
    assert report["ok"] is True, demo.output
    assert (report["attacks"], report["events"]["rejected"]) == ([], {})
    assert report["access"]["break_glass_alerted"] is True
    assert report["alerts"]["gaps"] == 0
    try:
        assert read_status(demo.data_dir).healthy
        assert read_json(demo.data_dir / "stack.json")["bootstrap_servers"]
        assert not (demo.data_dir / "parties.note").exists()  # nobody would be there to be told
    finally:
        down = [sys.executable, "-m", "pipeline.cli.main", "down", "--data-dir", str(demo.data_dir)]
        subprocess.run(down, check=True, capture_output=True, timeout=90)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--devices", "2"], "--devices 2: at least 3"),
        (["--seconds", "1"], "--seconds 1: from 5"),
        (["--rate", "0"], "--rate 0: from 0.1"),
        (["--report", "/nowhere/r.json"], "--report /nowhere/r.json: No such file"),
    ],
)
def test_wrong_arguments_are_told_before_anything_starts(arguments: list[str], told: str) -> None:
    command = [sys.executable, "-m", "pipeline.cli.main", "demo", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stdout == ""

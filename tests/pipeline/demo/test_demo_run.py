"""The whole demo as a user runs it: a success, also under kill -9, and nothing left when it is cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtests.attacks import ATTACKS
from pipeline.local.files import read_json
from pipeline.local.status import read_status

DEADLINE_S = 240.0


class Running:
    """A demo in a process of its own, with its output in a file."""

    def __init__(self, tmp_path: Path, *arguments: str) -> None:
        self.data_dir, self.report = tmp_path / "data", tmp_path / "report.json"
        self._output = tmp_path / "output.txt"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ATTESTREAM_")}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli.main", "demo", "--data-dir", str(self.data_dir),
                 "--report", str(self.report), *arguments],
                stdout=output, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str, deadline_s: float = DEADLINE_S) -> None:
        until = time.monotonic() + deadline_s
        while text not in self.output:
            assert self.process.poll() is None, f"ended before {text!r}:\n{self.output}"
            assert time.monotonic() < until, f"no {text!r} within {deadline_s:.0f} s:\n{self.output}"
            time.sleep(0.05)

    def result(self) -> dict[str, Any]:
        code = self.process.wait(DEADLINE_S)
        assert code == 0, self.output
        found: dict[str, Any] = json.loads(self.report.read_text())
        return found

    def processes(self) -> list[psutil.Process]:
        """Every process that works on this data folder."""
        found = []
        for each in psutil.process_iter():
            try:
                if each.pid != self.process.pid and str(self.data_dir) in " ".join(each.cmdline()):
                    found.append(each)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def assert_nothing_is_left(self) -> None:
        until = time.monotonic() + 60
        while left := self.processes():
            assert time.monotonic() < until, f"left behind: {[' '.join(p.cmdline())[:120] for p in left]}"
            time.sleep(0.1)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    running = Running(tmp_path, *request.param)
    yield running
    running.end()
    running.assert_nothing_is_left()


def assert_success(report: dict[str, Any], output: str) -> None:
    assert report["ok"] is True, output
    assert report["evidence_verified"] is True
    assert report["tamper_found"] is True
    events = report["events"]
    assert events["produced"] == events["accepted"] + sum(events["rejected"].values())
    assert [a["name"] for a in report["attacks"] if a["found"] != a["expected"]] == []
    assert {a["name"] for a in report["attacks"]} == {a.name for a in ATTACKS}
    assert all(a["latency_ms"] >= 0 for a in report["attacks"])
    assert report["anchors"]["confirmed"] >= 1


@pytest.mark.parametrize("demo", [["--seconds", "10", "--devices", "20"]], indirect=True)
def test_every_attack_is_found_and_the_books_balance(demo: Running) -> None:
    report = demo.result()
    assert_success(report, demo.output)
    assert report["events"]["produced"] > 20 * 4 * 8
    assert report["log"]["leaves"] > report["events"]["produced"]
    demo.assert_nothing_is_left()


@pytest.mark.parametrize("demo", [["--seconds", "35"]], indirect=True)
@pytest.mark.timeout(400)
def test_kill_9_of_each_stage_and_the_broker_in_the_middle(demo: Running) -> None:
    demo.wait_for("accepted")
    for name in ("ingest", "seal", "anchor", "kafka"):
        pid = read_status(demo.data_dir).process(name).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while True:
            row = read_status(demo.data_dir).process(name)
            if row.ready and row.pid != pid:
                break
            assert time.monotonic() < until, f"{name} is not back: {row}"
            time.sleep(0.1)
    report = demo.result()
    assert_success(report, demo.output)


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
    try:
        assert read_status(demo.data_dir).healthy
        assert read_json(demo.data_dir / "stack.json")["bootstrap_servers"]
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

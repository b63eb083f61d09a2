"""A demo in a process of its own, as a user runs it, and what a success looks like."""

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

from loadtests.attacks import ATTACKS, GUESSES
from pipeline.demo.questions import STEPS
from schemas.decisions import Effect

DEADLINE_S = 240.0
PERMITTED = sum(step.effect is Effect.PERMIT for step in STEPS)


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
                # As from a terminal: a shell's background job hands down an ignored SIGINT.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
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
    access, alerts = report["access"], report["alerts"]
    assert access["break_glass_alerted"] is True
    assert access["revocation_ms"] > 0
    assert access["permitted"] >= PERMITTED
    assert access["denied"] >= GUESSES
    webhook, sse = alerts["delivered"].values()
    assert webhook == sse > len(ATTACKS) / 2
    assert alerts["gaps"] == 0
    assert alerts["incidents"] >= 1

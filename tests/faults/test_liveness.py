"""What is said about a worker is so: ready means assigned and restored, and one that stands still is told."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import seal
from pipeline.local.stack import LocalStack
from pipeline.local.status import read_status
from pipeline.membership import GroupMember
from pipeline.recovery import Recovered, Recovery
from pipeline.settings import Settings
from pipeline.stage import Health
from tests.kit.deployment import Deployment, in_thread, wait_for

pytestmark = pytest.mark.timeout(180)


def shown(health: Health) -> str:
    return str(json.loads(health.path.read_text())["state"])


def test_ingest_is_not_ready_before_its_states_are_restored(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = Recovery.run, []

    def run(self: Recovery, member: GroupMember) -> Recovered:
        seen.append((shown(health), health.steps))
        return real(self, member)

    monkeypatch.setattr(Recovery, "run", run)
    with deployment.ingesting() as health:
        wait_for(lambda: health.steps, "it runs")
        wait_for(lambda: shown(health) == "running", "and says so")  # a beat after its first step
    assert seen == [("restoring", 0)]


def test_seal_is_not_ready_before_its_shards_are_open(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = seal.SealSession._open_shards, []

    def open_shards(self: seal.SealSession) -> None:
        seen.append((shown(health), health.steps))
        real(self)

    monkeypatch.setattr(seal.SealSession, "_open_shards", open_shards)
    with in_thread(seal.work, deployment.settings, "seal") as health:
        wait_for(lambda: health.steps, "it runs")
        wait_for(lambda: shown(health) == "running", "and says so")
    assert seen == [("restoring", 0)]


def status_command(data_dir: Path) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "status", "--json", "--data-dir", str(data_dir)],
        capture_output=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def test_a_paused_worker_is_shown_unhealthy_until_it_goes_on(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, partitions=2)
    with LocalStack(settings, stages=("ingest", "seal")):
        assert status_command(tmp_path)[0] == 0
        pid = read_status(tmp_path).process("ingest").pid
        assert pid is not None

        def ingest_is(well: bool) -> Callable[[], bool]:
            return lambda: read_status(tmp_path).process("ingest").well is well

        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(ingest_is(well=False), "the pause is noticed")
            code, told = status_command(tmp_path)
            assert code != 0
            assert told["phase"] == "unhealthy"
            rows = {row["name"]: row for row in told["processes"]}
            assert not rows["ingest"]["ready"]
            assert "stands still" in rows["ingest"]["why"]
            assert rows["seal"]["ready"]
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(ingest_is(well=True), "it is well again")
        wait_for(lambda: read_status(tmp_path).phase == "ready", "the stack is well again")
        assert read_status(tmp_path).process("ingest").pid == pid

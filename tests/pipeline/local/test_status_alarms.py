"""`attestream status` when all processes are well and one of them cannot do its work."""

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import build
from pipeline.cli.stack import UNDONE
from pipeline.local import stackfile
from pipeline.local.process import ProcessId
from pipeline.local.spec import health_file
from pipeline.local.status import read_status
from pipeline.local.supervisor import REPORT
from pipeline.settings import Settings
from pipeline.stage import Health, StageState


@pytest.fixture
def health(tmp_path: Path) -> Health:
    return Health(Settings(data_dir=tmp_path), "seal", 0)


def report(data_dir: Path, health: Health, phase: str = "ready") -> None:
    """Write what a supervisor of this very process reports of a stage."""
    found = health_file(health.path)(os.getpid())
    row = {
        "name": "seal", "pid": os.getpid(), "state": found.state, "ready": found.ready, "well": found.well,
        "beat_s": found.beat_s, "restarts": 0, "why": found.why, "alarm": found.alarm, "log": "seal.log",
    }  # fmt: skip
    now = {"phase": phase, "step": "", "message": "", "processes": [row]}
    (data_dir / "run" / REPORT).write_text(json.dumps({**now, "pid": os.getpid(), "beat_s": time.time()}))
    supervisor = ProcessId.of(os.getpid()).to_json()
    stackfile.path(data_dir).write_text(json.dumps({"supervisor": supervisor}))


def status(data_dir: Path, *options: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(build("status"), ["status", "--data-dir", str(data_dir), *options])
    return found.exit_code, found.stdout, found.stderr


def test_an_alarm_has_an_exit_code_and_a_name(tmp_path: Path, health: Health) -> None:
    health.beat(StageState.RUNNING, "4 shards")
    report(tmp_path, health)
    assert status(tmp_path)[0] == 0
    health.beat(StageState.RUNNING, "1 shards STOPPED: shard alerts[0] …", alarm="1 shards STOPPED")
    report(tmp_path, health)
    code, shown, said = status(tmp_path)
    assert (code, said) == (UNDONE, "seal: 1 shards STOPPED\n")
    assert "seal" in shown
    code, shown, _ = status(tmp_path, "--json")
    assert code == UNDONE
    assert json.loads(shown)["processes"][0]["alarm"] == "1 shards STOPPED"
    health.beat(StageState.RUNNING, "4 shards")
    report(tmp_path, health)
    assert status(tmp_path)[0] == 0


def test_what_is_not_well_counts_more(tmp_path: Path, health: Health) -> None:
    health.beat(StageState.RUNNING, alarm="1 shards STOPPED")
    report(tmp_path, health, phase="unhealthy")
    assert status(tmp_path)[0] == 1
    stackfile.path(tmp_path).unlink()
    assert status(tmp_path)[0] == 3


def test_a_report_of_an_earlier_version_has_no_alarms(tmp_path: Path, health: Health) -> None:
    health.beat(StageState.RUNNING)
    report(tmp_path, health)
    path = tmp_path / "run" / REPORT
    found = json.loads(path.read_text())
    del found["processes"][0]["alarm"]
    path.write_text(json.dumps(found))
    assert read_status(tmp_path).alarms == ()

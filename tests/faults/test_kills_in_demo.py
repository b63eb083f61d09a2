"""Kill -9 of ingest, seal, anchor and the broker in the middle of a demo: its books balance all the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.local.status import read_status
from tests.kit.deployment import wait_for

pytestmark = pytest.mark.timeout(420)

SECONDS = 40
VICTIMS = ("ingest", "seal", "anchor", "kafka")


def kill(data_dir: Path, name: str) -> int:
    """SIGKILL one process of the stack by the id that its supervisor reports."""

    def pid() -> int | None:
        rows = {row.name: row for row in read_status(data_dir).processes}
        return rows[name].pid if name in rows and rows[name].ready else None

    victim = wait_for(pid, f"{name} is ready to be killed")
    os.kill(victim, signal.SIGKILL)
    return victim


def test_kills_of_every_stage_and_the_broker_leave_the_books_balanced(tmp_path: Path) -> None:
    report, data_dir = tmp_path / "report.json", tmp_path / "data"
    command = [sys.executable, "-m", "pipeline.cli.main", "demo", "--seconds", str(SECONDS)]
    command += ["--devices", "20", "--report", str(report), "--data-dir", str(data_dir), "--seed", "11"]
    with (tmp_path / "output.txt").open("w") as output:
        demo = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        streaming = f"Streaming vitals for {SECONDS} s"

        def begun() -> bool:
            assert demo.poll() is None, (tmp_path / "output.txt").read_text()
            return streaming in (tmp_path / "output.txt").read_text()

        wait_for(begun, "the demo streams", 120)
        killed = {}
        for name in VICTIMS:
            # Spread over the run; when exactly does not matter to what must hold.
            time.sleep(SECONDS / (len(VICTIMS) + 2))
            killed[name] = kill(data_dir, name)
        code = demo.wait(300)
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait(60)
    told = (tmp_path / "output.txt").read_text()
    result = json.loads(report.read_text())
    assert code == 0, told
    assert result["ok"]
    assert len(killed) == len(VICTIMS)
    assert result["events"]["produced"] == result["events"]["accepted"] + sum(
        result["events"]["rejected"].values()
    )
    assert result["anchors"]["confirmed"] >= 1

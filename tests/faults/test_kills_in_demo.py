"""Kill -9 of ingest, seal, anchor and the broker in the middle of a demo: its books balance all the same."""

import os
import signal
import time
from pathlib import Path

import pytest

from pipeline.local.status import read_status
from tests.kit.brokerfault import has_broker_fault
from tests.kit.demorun import DEADLINE_S, Running, assert_success

MOST_RUNS = 3
"""The only broker may break its log when it is killed, and tells so: such a run counts for nothing."""


@pytest.mark.timeout(900)
def test_kill_9_of_each_stage_and_the_broker_in_the_middle(tmp_path: Path) -> None:
    for number in range(MOST_RUNS):
        folder = tmp_path / str(number)
        folder.mkdir()
        demo = Running(folder, "--seconds", "35")
        try:
            _kill_each(demo)
            demo.process.wait(DEADLINE_S)
            if demo.process.returncode == 0 or not has_broker_fault(demo.data_dir):
                assert_success(demo.result(), demo.output)
                return
        finally:
            demo.end()
            demo.assert_nothing_is_left()
    pytest.fail(f"the broker broke its own log in each of {MOST_RUNS} runs")


def _kill_each(demo: Running) -> None:
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

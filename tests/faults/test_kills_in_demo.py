"""Kill -9 of ingest, seal, anchor and the broker in the middle of a demo: its books balance all the same."""

import os
import signal
import time

import pytest

from pipeline.local.status import read_status
from tests.kit.demorun import Running, assert_success


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

"""Signs of life while the wall clock steps."""

import json
import time
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.stage import BEAT_EVERY_S, Health, StageState


@pytest.mark.parametrize("step_s", [-7200.0, 7200.0])
def test_a_step_of_the_clock_does_not_look_like_a_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    wall, steady = time.time(), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    health = Health(Settings(data_dir=tmp_path), "anchor", 0)
    health.beat(StageState.RUNNING, "well")
    wall, steady = wall + step_s, steady + BEAT_EVERY_S
    health.beat(StageState.RUNNING, "well")
    assert json.loads(health.path.read_text())["beat_s"] == wall

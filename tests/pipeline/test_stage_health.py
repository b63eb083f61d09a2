"""What a stage says of itself: its health file, its metrics, and what a full disk takes from it."""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import structlog
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import REGISTRY

from pipeline import stage as module
from pipeline.sessions import SupersededError, run_sessions
from pipeline.settings import PipelineError, Settings
from pipeline.stage import Health, StageState, Stop


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, bootstrap_servers="127.0.0.1:1")


def said(health: Health) -> dict[str, str]:
    found: dict[str, str] = json.loads(health.path.read_text())
    return found


def gauge(name: str, health: Health) -> float:
    value = REGISTRY.get_sample_value(name, {"stage": health.stage, "slot": str(health.slot)})
    assert value is not None
    return value


class Session:
    """Fails as often as it is told to, then asks to stop."""

    def __init__(self, failures: list[Exception], stop: Stop, health: Health, *, works: bool = False) -> None:
        self._failures, self._stop, self._health, self._works = failures, stop, health, works

    def run(self, stop: Stop) -> None:
        if self._works:
            self._health.progressed()
        if self._failures:
            raise self._failures.pop(0)
        self._stop.request()

    def close(self) -> None:
        pass


def run(health: Health, *failures: Exception, works: bool = False) -> None:
    stop, waiting = Stop(), list(failures)
    stop.wait = lambda seconds: False  # type: ignore[method-assign]
    run_sessions(health.stage, lambda: Session(waiting, stop, health, works=works), health, stop)


def test_a_reason_is_told_with_every_beat_until_something_gets_done(settings: Settings) -> None:
    health = Health(settings, "a", 0)
    late = KafkaException(KafkaError(KafkaError._TIMED_OUT, "late"))
    run(health, PipelineError("one"), TimeoutError(), late)
    assert gauge("attestream_failed_sessions", health) == 3
    health.beat(StageState.STARTING, "waiting")
    assert said(health)["detail"].startswith("waiting; FAILED 3 times since 20")
    assert said(health)["detail"].endswith("Z: Kafka, _TIMED_OUT: late")
    assert said(health)["alarm"] == "", "a few are everyday life"
    run(health, TimeoutError(), TimeoutError())
    assert said(health)["alarm"] == "FAILED 5 times"
    health.progressed()
    health.beat(StageState.RUNNING)
    assert said(health)["detail"] == ""
    assert gauge("attestream_failed_sessions", health) == 0


def test_a_time_out_without_a_text_is_put_in_words(settings: Settings) -> None:
    health = Health(settings, "b", 0)
    run(health, TimeoutError())
    health.beat(StageState.RUNNING)
    assert said(health)["detail"].endswith("a call did not return in time (TimeoutError)")


def test_sessions_that_work_before_they_fail_are_not_counted_up(settings: Settings) -> None:
    health = Health(settings, "c", 0)
    run(health, *[PipelineError("again") for _ in range(7)], works=True)
    assert gauge("attestream_failed_sessions", health) == 0


def test_a_worker_that_has_settled_has_got_over_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = Health(settings, "d", 0)
    run(health, PipelineError("once"))
    monkeypatch.setattr(module, "SETTLED_S", 0.0)
    health.beat(StageState.RESTORING)
    assert "once" in said(health)["detail"]
    health.beat(StageState.RUNNING)
    assert said(health)["detail"] == ""


def test_a_full_disk_begins_a_session_anew(settings: Settings) -> None:
    health = Health(settings, "e", 0)
    run(health, OSError(28, "No space left on device"))
    health.beat(StageState.RUNNING)
    assert "No space left on device" in said(health)["detail"]


@pytest.mark.parametrize(
    "error", [SupersededError("another"), KafkaException(KafkaError(KafkaError._FATAL, "fenced", fatal=True))]
)
def test_a_worker_with_a_successor_leaves(settings: Settings, error: Exception) -> None:
    with pytest.raises(type(error)):
        run(Health(settings, "f", 0), error)


def test_ready_is_running_and_nothing_else(settings: Settings) -> None:
    health = Health(settings, "g", 3)
    for state in StageState:
        health.beat(state)
        assert gauge("attestream_ready", health) == (state is StageState.RUNNING)
        assert gauge("attestream_last_beat_seconds", health) <= time.time()
    assert (REGISTRY.get_sample_value("attestream_data_free_bytes") or 0) > 0


def test_a_sign_of_life_that_cannot_be_written_costs_no_life(settings: Settings, tmp_path: Path) -> None:
    health = Health(settings, "h", 0)
    health.path.parent.rmdir()
    (tmp_path / "run").write_text("in the way")
    health.beat(StageState.RUNNING)
    assert gauge("attestream_ready", health) == 1


def test_log_lines_on_a_full_disk_are_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> float:
        return REGISTRY.get_sample_value("attestream_log_lines_lost_total") or 0.0

    before = lost()
    full = Path("/dev/full").open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 - closing it fails, too
    monkeypatch.setattr(sys, "stderr", full)
    try:
        module.configure_logging()
        structlog.get_logger().warning("nobody reads this")
    finally:
        structlog.reset_defaults()
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
    assert lost() > before

"""Sessions that fail leave nothing behind."""

import gc
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.ingest import IngestSession
from pipeline.sessions import run_sessions
from pipeline.settings import PipelineError, Settings
from pipeline.stage import Health, Stop
from pipeline.statestore import StateStore
from pipeline.trust import init_local

FAILURES = 4


@pytest.fixture
def seldom_collected() -> Iterator[None]:
    """As a stage's process is (pipeline/cli/run.py): nothing is collected by itself here."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("seldom_collected")
def test_clients_of_failed_sessions_end_without_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, log_name="gone.example", bootstrap_servers="127.0.0.1:1")
    init_local(settings)
    stop, made = Stop(), list[int]()

    def fails(_self: IngestSession) -> None:
        made.append(threading.active_count() + native_threads())
        if len(made) == FAILURES:
            stop.request()
        raise PipelineError("made to fail")

    monkeypatch.setattr(IngestSession, "step", fails)
    monkeypatch.setattr("pipeline.sessions.FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("pipeline.sessions.LONGEST_PAUSE_S", 0.0)
    health = Health(settings, "ingest", 0)
    with closing(StateStore(tmp_path / "rocksdb")) as store:
        run_sessions("ingest", lambda: IngestSession(settings, 0, health, store), health, stop)
    assert len(made) == FAILURES
    assert made[-1] <= made[0] + 2, "a session has four clients, each with threads of its own"


def native_threads() -> int:
    """Count those of this process that the kernel knows of."""
    return len(list(Path("/proc/self/task").iterdir()))

"""Helpers of the local stack's tests: poll with a deadline, and clean up by pid whatever happens."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.local import jars
from pipeline.local.process import ProcessId

DEADLINE_S = 30.0


class Eventually:
    """`eventually(f)` polls until `f()` is true, and fails with its last value after a deadline."""

    def __call__(self, condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
        end_s = time.monotonic() + deadline_s
        while not (value := condition()):
            assert time.monotonic() < end_s, f"not within {deadline_s} s; last value {value!r}"
            time.sleep(0.02)


@pytest.fixture
def eventually() -> Eventually:
    return Eventually()


@pytest.fixture
def reap() -> Iterator[Callable[[int], ProcessId]]:
    """Register a pid: it is known by identity, and killed at the end if it should still live."""
    known: list[ProcessId] = []

    def register(pid: int) -> ProcessId:
        known.append(ProcessId.of(pid))
        return known[-1]

    yield register
    for process in known:
        if process.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def own_cache(tmp_path: Path) -> Path:
    """A cache directory of the test's own that has the jars and nothing else."""
    cache_dir = tmp_path / "cache"
    cache_dir.mkdir()
    real = jars.prepare(jars.default_cache_dir())
    (cache_dir / real.name).symlink_to(real, target_is_directory=True)
    return cache_dir

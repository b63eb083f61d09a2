"""The workers of a world: one of each stage, started again when it ends, and a second slot of route."""

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.settings import Settings
from tests.faults.machine.zygote import Worker, Zygote

STAGES = ("correlate", "route", "deliver")
RESTART_AFTER_S = 0.05
Place = tuple[str, int]
EXPECTED_ENDINGS = ("SupersededError", "_FATAL", "_FENCED", "FENCED_INSTANCE_ID", "fenced", "CorrelateError")
"""What a worker may end with by itself: it has a successor, or a library under it gave up and it says so."""


class NotifyWorkers:
    """A context manager; nothing runs before `want`."""

    def __init__(
        self,
        folder: Path,
        zygote: Zygote,
        settings: Settings,
        tell: Callable[[str, str], None],
        broken: str = "",
    ) -> None:
        self._folder, self._zygote, self._settings, self._tell = folder, zygote, settings, tell
        self._broken = broken
        self._wanted: set[Place] = set()
        self._workers: dict[Place, Worker] = {}
        self.restarts = 0
        self._lock = threading.RLock()
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._supervise, name="notify-supervisor", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        with self._lock:
            self._wanted.clear()
            for worker in self._workers.values():
                worker.kill()

    def want(self, stage: str, slot: int = 0) -> None:
        """Let a place have a worker from now on."""
        with self._lock:
            self._wanted.add((stage, slot))
            if self.worker(stage, slot) is None:
                self._spawn((stage, slot))

    def worker(self, stage: str, slot: int = 0) -> Worker | None:
        """The living worker of a place, or None."""
        with self._lock:
            worker = self._workers.get((stage, slot))
            return worker if worker is not None and worker.is_alive else None

    def kill(self, stage: str, slot: int = 0) -> bool:
        """SIGKILL; False where nobody was there."""
        worker = self.worker(stage, slot)
        if worker is not None:
            worker.kill()
        return worker is not None

    def heal(self) -> None:
        """One worker of each stage, none paused, nobody else."""
        with self._lock:
            for place in [each for each in self._wanted if each[1]]:
                self._wanted.discard(place)
                self.kill(*place)
            for worker in self._workers.values():
                worker.resume()
        for stage in STAGES:
            self.want(stage)

    def says(self, stage: str, slot: int = 0) -> str:
        """A worker's state and what it adds, by its own word; empty before the first."""
        name = stage if slot == 0 else f"{stage}-{slot}"
        worker = self.worker(stage, slot)
        try:
            health = json.loads((self._settings.data_dir / "run" / f"{name}.health.json").read_text())
        except (OSError, ValueError):
            return ""
        is_its = worker is not None and health["pid"] == worker.pid
        return f"{health['state']}: {health['detail']}" if is_its else ""

    def dump(self) -> str:
        """Have every stack written to the logs; return what each worker says."""
        for worker in list(self._workers.values()):
            worker.dump()
        return "; ".join(f"{stage} {slot} {self.says(stage, slot)}" for stage, slot in sorted(self._wanted))

    def _spawn(self, place: Place) -> None:
        log = self._folder / f"{place[0]}-{place[1]}.log"
        self._workers[place] = self._zygote.spawn(
            place[0], self._settings, place[1], broken=self._broken, log=log
        )

    def _supervise(self) -> None:
        while not self._stop.wait(RESTART_AFTER_S):
            with self._lock:
                for place in sorted(self._wanted):
                    worker = self._workers[place]
                    if not worker.is_alive:
                        self._note_ending(place, worker)
                        self.restarts += 1
                        self._spawn(place)

    def _note_ending(self, place: Place, worker: Worker) -> None:
        """An ending that no fault explains is a fault of the stage."""
        if worker.exit_code in (None, 0, -signal.SIGKILL):
            return
        text = (self._folder / f"{place[0]}-{place[1]}.log").read_text(errors="replace")[-3000:]
        if not any(known in text for known in EXPECTED_ENDINGS):
            self._tell("crash", f"{place} ended with {worker.exit_code}: {text[-600:]}")

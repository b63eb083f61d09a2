"""The anchor workers of a world: one that is started again when it ends, one beside it, one elsewhere."""

import json
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.settings import Settings
from tests.faults.machine.seams import Seam
from tests.faults.machine.zygote import Worker, Zygote

RESTART_AFTER_S = 0.05


class AnchorWorkers:
    """A context manager; nothing runs before `start`."""

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
        self.first: Worker | None = None
        self.restarts = 0
        self._others: list[Worker] = []
        self._held = True
        self._is_marked = False
        self._lock = threading.RLock()
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._supervise, name="anchor-supervisor", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.kill(hold=True)
        self._end_others()

    @property
    def state(self) -> Path:
        """The first worker's folder."""
        return self._settings.data_dir / "state" / "anchor" / "0"

    def start(self, **changes: object) -> None:
        """Run a worker from now on, with these settings."""
        with self._lock:
            self._settings = self._settings.model_copy(update=changes)
            self._held = False
            if self.first is None or not self.first.is_alive:
                self._spawn()

    def kill(self, *, hold: bool = False) -> None:
        """SIGKILL; `hold` keeps it dead until `start`."""
        with self._lock:
            self._held = self._held or hold
            if self.first is not None:
                self.first.kill()

    def drain(self, deadline_s: float, *, hold: bool = False) -> None:
        """SIGTERM: it leaves by itself, in time, whatever the others do."""
        with self._lock:
            self._held = self._held or hold
            if self.first is None or not self.first.is_alive:
                return
            try:
                code = self.first.terminate(deadline_s)
            except TimeoutError as error:
                self._tell("drain", str(error))
                self.first.kill()
            else:
                if code not in (0, -signal.SIGKILL):
                    self._tell("drain", f"anchor left with code {code} after SIGTERM: {self.log_tail()}")

    def respawn(self, *, seams: Sequence[Seam] = (), clock_step_s: float = 0.0) -> Worker:
        """Kill the worker and start one with seams or a wrong clock."""
        with self._lock:
            self.kill()
            return self._spawn(seams, clock_step_s)

    def start_beside(self) -> Worker:
        """Start one more worker of the same place, which finds the database held."""
        return self._other(self._settings, "beside.log")

    def start_elsewhere(self) -> Worker:
        """Start another machine's worker: its own database, the same keys, the same published log."""
        folder, data_dir = self._folder / "elsewhere", self._settings.data_dir
        if not folder.exists():
            folder.mkdir()
            (folder / "log").symlink_to(data_dir / "log")
            (folder / "keys").symlink_to(data_dir / "keys")
        shutil.copy(data_dir / "trust.json", folder / "trust.json")
        return self._other(self._settings.model_copy(update={"data_dir": folder}), "elsewhere.log")

    def heal(self) -> None:
        """Nobody paused, nobody else, no seams, the right clock."""
        self._end_others()
        with self._lock:
            if self.first is not None:
                self.first.resume()
                if self._is_marked:
                    self.first.kill()
        self.start()

    def log_tail(self) -> str:
        """The end of the worker's log."""
        path = self._folder / "anchor.log"
        return path.read_text(errors="replace")[-700:] if path.exists() else ""

    def detail(self) -> str:
        """What the worker says about itself."""
        path = self._settings.data_dir / "run" / "anchor.health.json"
        try:
            return str(json.loads(path.read_text())["detail"])
        except (OSError, ValueError):
            return ""

    def _other(self, settings: Settings, log: str) -> Worker:
        worker = self._zygote.spawn("anchor", settings, log=self._folder / log)
        self._others.append(worker)
        return worker

    def _end_others(self) -> None:
        for worker in self._others:
            worker.kill()
        self._others.clear()

    def _spawn(self, seams: Sequence[Seam] = (), clock_step_s: float = 0.0) -> Worker:
        self._is_marked = bool(seams or clock_step_s)
        self.first = self._zygote.spawn(
            "anchor", self._settings, seams=seams, broken=self._broken, clock_step_s=clock_step_s,
            log=self._folder / "anchor.log",
        )  # fmt: skip
        return self.first

    def _supervise(self) -> None:
        while not self._stop.wait(RESTART_AFTER_S):
            with self._lock:
                if self._held or self.first is None or self.first.is_alive:
                    continue
                if self.first.exit_code not in (None, 0, -signal.SIGKILL):
                    self._tell("crash", f"anchor ended with {self.first.exit_code}: {self.log_tail()}")
                self.restarts += 1
                self._spawn()

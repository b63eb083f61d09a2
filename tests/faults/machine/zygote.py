"""A process that has imported every stage and forks workers: 20 ms and no import instead of a second of CPU.

Each worker runs the stage's real `run` in a process of its own, with its own signals, clients and RocksDB.
The zygote makes no client and no thread, so that a fork of it is clean. Requests and answers are JSON lines.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.machine.forked import become
from tests.faults.machine.seams import Seam, install

STAGES = ("ingest", "seal", "anchor", "correlate", "monitor")
FORK_DEADLINE_S = 30.0


class Worker:
    """A forked worker, as seen from the machine."""

    def __init__(self, pid: int, stage: str, slot: int) -> None:
        self.pid, self.stage, self.slot = pid, stage, slot
        self.exit_code: int | None = None
        """As subprocess gives it: negative for a signal; None while it lives."""
        self.ended = threading.Event()

    @property
    def is_alive(self) -> bool:
        """Not ended; it may be paused."""
        return not self.ended.is_set()

    @property
    def is_paused(self) -> bool:
        """Stopped by SIGSTOP."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Send a signal to it, if it lives."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.ended.wait(30)

    def pause(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def dump(self) -> None:
        """Let it write every thread's stack to its log, even if it hangs."""
        self.signal(signal.SIGUSR1)

    def terminate(self, deadline_s: float = 30.0) -> int:
        """SIGTERM, and wait; raises TimeoutError when it does not leave."""
        self.resume()
        self.signal(signal.SIGTERM)
        if not self.ended.wait(deadline_s):
            raise TimeoutError(f"{self.stage} {self.slot} did not leave within {deadline_s:.0f} s of SIGTERM")
        return self.exit_code or 0


class Zygote:
    """The machine's side: a context manager, to be used from any thread."""

    def __init__(
        self,
        stages: Sequence[str] = STAGES,
        *,
        preload: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`preload` names modules that the stages would import later, when they are first needed."""
        self._modules = [*(f"pipeline.{stage}" for stage in stages), *preload]
        self._environment = environment or {}
        self._lock = threading.Lock()
        self._workers: dict[int, Worker] = {}
        self._forked: list[int] = []
        self._has_forked = threading.Event()

    def __enter__(self) -> Self:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ATTESTREAM_", "KAFKA_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.machine.zygote", str(os.getpid()), *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**clean, **self._environment},
        )
        threading.Thread(target=self._listen, name="zygote", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in list(self._workers.values()):
            worker.kill()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(30)

    def spawn(
        self,
        stage: str,
        settings: Any,
        slot: int = 0,
        *,
        seams: Sequence[Seam] = (),
        broken: str = "",
        clock_step_s: float = 0.0,
        log: Path,
    ) -> Worker:
        """Fork a worker of a stage; `broken` names a deliberate fault of the build (broken.py)."""
        request = {
            "stage": stage,
            "settings": settings.model_dump(mode="json"),
            "slot": slot,
            "seams": [seam.to_json() for seam in seams],
            "broken": broken,
            "clock_step_s": clock_step_s,
            "log": str(log),
        }
        assert self._process.stdin is not None
        with self._lock:
            self._has_forked.clear()
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            if not self._has_forked.wait(FORK_DEADLINE_S):
                raise TimeoutError("the zygote does not answer")
            worker = self._workers[self._forked.pop()]
        worker.stage, worker.slot = stage, slot
        return worker

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            pid = told["pid"]
            if told["what"] == "forked":
                self._workers[pid] = Worker(pid, "", 0)
                self._forked.append(pid)
                self._has_forked.set()
            else:
                worker = self._workers.pop(pid)
                worker.exit_code = os.waitstatus_to_exitcode(told["status"])
                worker.ended.set()


# ---- the process itself ------------------------------------------------------------------------------------


def serve(owner: int, modules: Sequence[str]) -> None:
    """Fork on request, reap, and end with the owner."""
    for module in modules:
        import_module(module)
    if threading.active_count() != 1:
        raise RuntimeError(f"an import has started threads: {threading.enumerate()}")
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Inherited: a worker that is asked to leave before its stage listens has nothing to commit.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.set_wakeup_fd(wake_write)
    pending = b""
    while os.getppid() == owner:
        ready, _, _ = select.select([0, wake_read], [], [], 1.0)
        if wake_read in ready:
            os.read(wake_read, 4096)
        _reap()
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _fork(json.loads(line), (wake_read, wake_write))


def _tell(what: str, **more: int) -> None:
    os.write(1, json.dumps({"what": what, **more}).encode() + b"\n")


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            _tell("ended", pid=pid, status=status)


def _fork(request: dict[str, Any], descriptors: Sequence[int]) -> None:
    pid = os.fork()
    if pid:
        _tell("forked", pid=pid)
        return

    def body() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in descriptors:
            os.close(descriptor)
        _run(request)

    become(request["log"], body)


def _run(request: dict[str, Any]) -> None:
    from pipeline.settings import Settings
    from tests.faults.machine import broken

    # With the zygote it ends, however that ends (prctl(2), PR_SET_PDEATHSIG).
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if request["clock_step_s"]:
        _step_clock(request["clock_step_s"])
    if request["broken"]:
        broken.apply(request["broken"])
    stage = request["stage"]
    install(stage, [Seam(**seam) for seam in request["seams"]])
    settings = {k: v for k, v in request["settings"].items() if v is not None}
    import_module(f"pipeline.{stage}").run(Settings(**settings), request["slot"])


def _step_clock(step_s: float) -> None:
    """Let the wall clock of this process be wrong by so much; the monotonic one is untouched, as in life."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + step_s
    time.time_ns = lambda: real_ns() + round(step_s * 1e9)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])

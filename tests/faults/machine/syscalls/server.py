"""A process with the shim that has everything imported and forks one run after another."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.faults.machine.forked import become
from tests.faults.machine.syscalls.shim import Shim

RUN_DEADLINE_S = 60.0


class RunServer:
    """The machine's side: one run at a time, with a control page of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = folder.name
        self.shim = Shim(folder / "shim.page")
        self.log = folder / "stage.log"
        self.prefix: tuple[str, ...] = ()
        """A command to start the process with."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "tests.faults.machine.syscalls.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.shim.environment},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(RUN_DEADLINE_S)

    def run(self, stage: str, world: Path, broken: str = "") -> int:
        """Run a stage to its end; the exit code as subprocess gives it, negative for a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"stage": stage, "world": str(world), "broken": broken, "log": str(self.log)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process that forks runs has ended with {self._process.wait()}")
        return os.waitstatus_to_exitcode(int(answer))


# ---- the process itself ------------------------------------------------------------------------------------


def serve() -> None:
    """Fork for each line, until the owner has no more."""
    from tests.faults.machine import broken
    from tests.faults.machine.syscalls import stages

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            become(request["log"], partial(_run, request, stages, broken))
        os.write(1, b"%d\n" % _wait(pid))


def _wait(pid: int) -> int:
    until = time.monotonic() + RUN_DEADLINE_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.003)
    os.kill(pid, signal.SIGABRT)
    return os.waitpid(pid, 0)[1]


def _run(request: dict[str, Any], stages: Any, broken: Any) -> None:
    if request["broken"]:
        broken.apply(request["broken"])
    stages.STAGES[request["stage"]](Path(request["world"]))


if __name__ == "__main__":
    serve()

"""The local stack from outside: start its supervisor, wait until everything is ready, stop it.

Attached, the stack ends with the process that started it, even when that is killed. Detached, it
stays until `down`.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.local import jars, stackfile
from pipeline.local.errors import StackBusyError, StackFailedError
from pipeline.local.files import read_json
from pipeline.local.kafka import Broker
from pipeline.local.leash import LEASH_FD, Leash
from pipeline.local.plan import PYTHON, Choice
from pipeline.local.process import spawn, tail
from pipeline.local.status import StackStatus, read_status
from pipeline.local.supervisor import REPORT
from pipeline.settings import Settings

READY_DEADLINE_S = 180.0
STOP_DEADLINE_S = 60.0
POLL_S = 0.05

OnStep = Callable[[str], None]


class LocalStack:
    """One data directory's stack. As a context manager it is up inside the block and down after it."""

    def __init__(
        self,
        settings: Settings,
        *,
        kafka_port: int | None = None,
        stages: Sequence[str] | None = None,
        detached: bool = False,
        workers: int = 1,
    ) -> None:
        """`workers` are those of ingest."""
        self.data_dir = settings.data_dir.resolve()
        self._settings = settings
        self._choice = Choice(kafka_port, None if stages is None else tuple(stages), workers)
        self._detached = detached
        self._leash: Leash | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(
        self,
        on_step: OnStep = lambda _text: None,
        on_download: jars.OnProgress = lambda _done, _total: None,
    ) -> None:
        """Bring the stack up; returns when every process is ready.

        `on_step` hears in words what is being waited for. Call it, for an attached stack, from a thread
        that outlives the stack. Raises StackBusyError, JarsUnavailableError, StackFailedError.
        """
        self.check_free()
        if not self._settings.bootstrap_servers:
            jars.prepare(self._settings.cache_dir, on_download)
        for folder in (self.data_dir, self.data_dir / "keys"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.data_dir / "run" / REPORT).unlink(missing_ok=True)
        self._process = self._launch()
        try:
            self._wait_until_ready(self._process, on_step)
        except BaseException:
            self.stop()
            raise

    def check_free(self) -> None:
        """Raise StackBusyError where a stack runs in the data directory."""
        if self.alive():
            raise StackBusyError(f"a stack runs in {self.data_dir} already: see `attestream status`")

    def stop(self) -> bool:
        """Take the stack down and wait until it is; False when none was up."""
        owner = stackfile.supervisor_of(self.data_dir)
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        elif owner is not None:
            owner.end(STOP_DEADLINE_S)
        if self._leash is not None:
            self._leash.release()
            self._leash = None
        if owner is not None:  # killed, it could not take the file along
            stackfile.path(self.data_dir).unlink(missing_ok=True)
        if (self.data_dir / "kafka").exists():
            with contextlib.suppress(StackBusyError), Broker(self.data_dir).owned():
                pass  # ends a broker that a crash has left
        return owner is not None

    def status(self) -> StackStatus:
        """How the stack is now."""
        return read_status(self.data_dir)

    def alive(self) -> bool:
        """Whether the stack's supervisor runs."""
        return stackfile.supervisor_of(self.data_dir) is not None

    @property
    def _log_path(self) -> Path:
        return self.data_dir / "run" / "supervisor.log"

    def _launch(self) -> "subprocess.Popen[bytes]":
        argv = [*PYTHON, "pipeline.local", str(self.data_dir), json.dumps(asdict(self._choice))]
        environment = settings_environment(self._settings)
        if not self._detached:
            self._leash = Leash()
            return spawn(argv, self._log_path, env=environment, leash=self._leash)
        inherited = {name: value for name, value in os.environ.items() if name != LEASH_FD}
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**inherited, **environment},
                start_new_session=True,
            )

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]", on_step: OnStep) -> None:
        deadline_s = time.monotonic() + READY_DEADLINE_S
        said = ""
        while process.poll() is None and time.monotonic() < deadline_s:
            status = self.status()
            if status.phase == "ready":
                return
            text = _in_words(status)
            if text != said:
                said = text
                on_step(text)
            time.sleep(POLL_S)
        raise StackFailedError(self._why_not_ready(process, said))

    def _why_not_ready(self, process: "subprocess.Popen[bytes]", said: str) -> str:
        message = str(read_json(self.data_dir / "run" / REPORT).get("message", ""))
        if message:
            return message
        if process.poll() is None:
            return f"the stack was not ready within {READY_DEADLINE_S:.0f} s ({said})"
        return f"the supervisor ended; the end of {self._log_path}:\n{tail(self._log_path)}"


def settings_environment(settings: Settings) -> dict[str, str]:
    """The environment from which a child builds the same settings: all that were not left to default."""
    values = settings.model_dump(mode="json", include=settings.model_fields_set)
    values["data_dir"] = str(settings.data_dir.resolve())
    return {
        f"ATTESTREAM_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


def _in_words(status: StackStatus) -> str:
    step = status.step or "starting"
    if status.phase == "stopping":
        return step
    waiting = [
        f"{row.name} ({row.why.partition(';')[0]})" if row.state == "dead" else row.name
        for row in status.processes
        if not row.ready
    ]
    return f"{step}: waiting for {', '.join(waiting)}" if waiting else step

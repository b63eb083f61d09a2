"""One supervised process: started, watched, restarted with exponential back-off."""

import subprocess
from pathlib import Path
from typing import Any

from pipeline.local.leash import Leash
from pipeline.local.process import spawn
from pipeline.local.spec import ProcessSpec, Verdict

BACKOFF_FIRST_S = 0.5
BACKOFF_MOST_S = 30.0
HEALTHY_AGAIN_S = 30.0
PROBE_READY_EVERY_S = 1.0
PROBE_STARTING_EVERY_S = 0.1


class Child:
    """The life of one process; `tick` moves it on, with the monotonic time as an argument."""

    def __init__(self, spec: ProcessSpec, log_path: Path, leash: Leash) -> None:
        self.spec = spec
        self.log_path = log_path
        self.failures = 0
        """Ends in a row, none of them after a healthy while."""
        self.restarts = 0
        self.last_exit: int | None = None
        self.verdict = Verdict(ready=False, well=False, state="waiting")
        self._leash = leash
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_s = 0.0
        self._probe_at_s = 0.0
        self._ready_since_s: float | None = None

    @property
    def pid(self) -> int | None:
        """Pid while the process runs."""
        return self._process.pid if self._process is not None else None

    @property
    def done(self) -> bool:
        """A helper that has ended: there is nothing more to do."""
        return not self.spec.restart and self.last_exit is not None

    def tick(self, now_s: float) -> None:
        """Start the process if it is due, notice its end, look after it."""
        if self._process is None:
            if not self.done and now_s >= self._start_at_s:
                self._start(now_s)
            return
        code = self._process.poll()
        if code is not None:
            self._ended(code, now_s)
        elif now_s >= self._probe_at_s:
            self._look(now_s)

    def ask_to_stop(self) -> None:
        """Send SIGTERM and never start it again."""
        self._start_at_s = float("inf")
        if self._process is not None:
            self._process.terminate()

    def finish(self, patience_s: float) -> None:
        """Wait up to `patience_s` for the end, then kill; the process is gone on return."""
        self._start_at_s = float("inf")
        if self._process is None:
            return
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.last_exit, self._process = self._process.returncode, None
        self.verdict = Verdict(ready=False, well=False, state="stopped")

    def has_ended(self) -> bool:
        """Whether no process runs now."""
        return self._process is None or self._process.poll() is not None

    def report(self) -> dict[str, Any]:
        """One row of `attestream status`."""
        return {
            "name": self.spec.name,
            "pid": self.pid,
            "state": self.verdict.state,
            "ready": self.verdict.ready or not self.spec.restart,
            "well": self.verdict.well or not self.spec.restart,
            "beat_s": self.verdict.beat_s,
            "restarts": self.restarts,
            "why": self.verdict.why,
            "alarm": self.verdict.alarm,
            "log": str(self.log_path),
        }

    def _start(self, now_s: float) -> None:
        if self.last_exit is not None:
            self.restarts += 1
        self._probe_at_s = now_s
        self._ready_since_s = None
        try:
            argv = self.spec.argv(self.failures)
            self._process = spawn(
                argv, self.log_path, env=self.spec.env, leash=self._leash, niceness=self.spec.niceness
            )
            self.spec.on_start(self._process.pid)
        except OSError as error:  # a full disk, no more processes: it may pass
            self.failures += 1
            delay_s = self._wait_before_next_start(now_s)
            why = f"could not be started ({error}); next try in {delay_s:.1f} s"
            self.verdict = Verdict(ready=False, well=False, state="dead", why=why)
        else:
            self.verdict = Verdict(ready=False, well=False, state="starting")

    def _ended(self, code: int, now_s: float) -> None:
        lasted = self._ready_since_s is not None and now_s - self._ready_since_s >= HEALTHY_AGAIN_S
        self.failures = 1 if lasted else self.failures + 1
        self.last_exit, self._process = code, None
        if self.done:
            self.verdict = Verdict(
                ready=True, well=True, state="done" if code == 0 else f"gave up ({_describe(code)})"
            )
            return
        delay_s = self._wait_before_next_start(now_s)
        why = f"{_describe(code)}; next start {delay_s:.1f} s after that, see {self.log_path}"
        self.verdict = Verdict(ready=False, well=False, state="dead", why=why)

    def _wait_before_next_start(self, now_s: float) -> float:
        delay_s = backoff_s(self.failures)
        self._start_at_s = now_s + delay_s
        return delay_s

    def _look(self, now_s: float) -> None:
        assert self._process is not None  # noqa: S101 - tick has looked
        self.verdict = self.spec.probe(self._process.pid)
        if not self.verdict.ready:
            self._ready_since_s = None
        elif self._ready_since_s is None:
            self._ready_since_s = now_s
        self._probe_at_s = now_s + (PROBE_READY_EVERY_S if self.verdict.ready else PROBE_STARTING_EVERY_S)


def backoff_s(failures: int) -> float:
    """Seconds to wait before the next start after so many failures in a row."""
    return float(min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 16)))


def _describe(exit_code: int) -> str:
    return f"killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
